"""What hosts share: the tables of er.toml, a real server's connections, and what its errors say."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from er import shared_state
from er.config import ConfigError, State, parse
from er.config.render import render
from er.config.state import address, host_name
from er.shared_state import Away
from er.units import takeup

CPU = '[[model]]\nname = "m"\ntask = "embed"\npath = "/m"\n'


def parsed(text: str) -> tuple[list[str], State | None]:
    try:
        return [], parse(text + CPU, Path("/etc/er/er.toml")).state
    except ConfigError as error:
        return [f"{f.line}: {f.message}" for f in error.findings], None


def test_what_an_address_may_be() -> None:
    one = address("valkey://er@10.0.0.5:6380/2")
    assert one == ("single", (("10.0.0.5", 6380),), "er", 2, "", False)
    assert address("rediss://[fd00::1]")[1:2] == ((("fd00::1", 6379),),)
    assert (
        address("rediss://[fd00::1]").tls and str(address("redis://[fd00::1]")) == "[fd00::1]:6379"
    )
    found = address("valkeys+sentinel://a,b:1/mymaster/3")
    assert found == ("sentinel", (("a", 26379), ("b", 1)), None, 3, "mymaster", True)
    assert str(found) == "mymaster at a:26379, b:1"
    assert address("valkey+cluster://a:1,b:2").nodes == (("a", 1), ("b", 2))


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://a", "must begin with valkey://"),
        ("10.0.0.5:6379", "must begin with valkey://"),
        ("valkey://er:sesame@a", "password_file"),
        ("valkey://a,b", "valkey+sentinel://"),
        ("valkey+sentinel://a", "what the Sentinels call it"),
        ("valkey+cluster://a/1", "number of a database or nothing"),
        ("valkey://a/x", "number of a database or nothing"),
        ("valkey://a:0", "HOST:PORT"),
        ("valkey://", "HOST:PORT"),
        ("valkey://a:70000", "HOST:PORT"),
        ("valkey://a?db=1", "more behind the address"),
    ],
)
def test_what_it_may_not_be(url: str, says: str) -> None:
    with pytest.raises(ValueError) as error:
        address(url)
    assert says in str(error.value) and "sesame" not in str(error.value)
    findings, _ = parsed(f'[state]\nurl = "{url}"\n')
    assert [f for f in findings if f.startswith("2: url ")], findings


def test_the_tables() -> None:
    findings, found = parsed('[state]\nurl = "valkeys://er@a"\npassword_file = "/etc/er/p"\n')
    assert not findings and found == State(url="valkeys://er@a", password_file=Path("/etc/er/p"))
    for text, line in (
        ("[state]\n", "1: url is missing"),
        ('[state]\nurl = "valkey://er@a"\n', "1: password_file is missing"),
        ('[state]\nurl = "valkey://a"\nca = "/x"\n', "2: url asks for no TLS"),
        ('[state]\nurl = "valkeys://a"\nkey = "/x"\n', "1: certificate and key belong"),
        ('[state]\nurl = "valkey://a"\nname = "A b"\n', "3: name is 'A b'"),
        ('[state]\nurl = "valkey://a"\npasswort = "x"\n', "3: unknown key 'passwort'"),
        ('[host]\nname = "a"\n', "1: [host] is for machines that share"),
        ('[state]\nurl = "valkey://a"\n[host]\nname = "A"\n', "4: name is 'A'"),
        ('[state]\nurl = "valkey://a"\n[host]\naddress = "a"\n', "4: address is 'a'"),
        ("state = 1\n", "1: state must be a [state] table"),
    ):
        findings, _ = parsed(text)
        assert any(f.startswith(line) for f in findings), (text, findings)


def test_they_are_kept_and_wait_for_apply() -> None:
    text = '[state]\nurl = "valkey://a"\nname = "b"\n[host]\nname = "c"\nlisten = ["1.2.3.4:5"]\n'
    config = parse(text + CPU, Path("/e"))
    assert parse(render(config), Path("/e")) == config
    plain = parse(CPU, Path("/e"))
    merged = takeup.merge(plain, config)
    assert merged.held == ("[state]: changed", "[host]: changed")
    assert merged.config.state is None and merged.config.host == plain.host
    assert host_name(config.host) == "c" and host_name(plain.host)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Callable[..., tuple[int, subprocess.Popen[bytes]]]]:
    """Starts a real server with these options; gives its port."""
    program = shutil.which("valkey-server") or shutil.which("redis-server")
    assert program is not None
    started: list[subprocess.Popen[bytes]] = []

    def start(*options: str, port: int = 0) -> tuple[int, subprocess.Popen[bytes]]:
        port = port or _free_port()
        fixed = ("--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path))
        log = (tmp_path / "server.log").open("ab")
        process = subprocess.Popen([program, *fixed, *options], stdout=log, stderr=log)
        started.append(process)
        for _ in range(500):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return port, process
            time.sleep(0.02)
        raise AssertionError((tmp_path / "server.log").read_text())

    yield start
    for process in started:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def away(state: State) -> Away:
    with pytest.raises(Away) as error, shared_state.once(state) as client:
        client.set(shared_state.key(state.name, "x"), "1")
    return error.value


async def test_both_kinds_of_client(server: Callable[..., tuple[int, object]]) -> None:
    port, _ = server()
    state = State(url=f"valkey://127.0.0.1:{port}/3")
    now, later = shared_state.connect_now(state), shared_state.connect(state)
    with shared_state.asked(state):
        now.set(shared_state.key("er", "a", "b"), "there")
        assert await later.get("er:{er}:a:b") == b"there"
    now.close()
    await later.aclose()


def test_errors_say_what_to_do(
    server: Callable[..., tuple[int, subprocess.Popen[bytes]]], tmp_path: Path
) -> None:
    port, process = server("--requirepass", "sesame")
    file = tmp_path / "password"
    file.write_text("wrong\n")
    url = f"valkey://127.0.0.1:{port}"
    found = away(State(url=url, password_file=file))
    assert found.cause == "refused" and str(file) in found.text and "wrong" not in found.text
    assert away(State(url=url)).cause == "refused"
    # A password that is put right is taken by the next connection of the same client.
    state = State(url=url, password_file=file)
    client = shared_state.connect_now(state)
    file.write_text("sesame")
    with shared_state.asked(state):
        client.config_set("maxmemory", "1")
        assert client.ping()
    full = away(state)
    assert full.cause == "full" and "maxmemory" in full.text
    process.send_signal(19)  # SIGSTOP: it takes connections and says nothing
    assert away(state).cause == "late"
    process.kill()
    process.wait()
    gone = away(state)
    assert gone.cause == "unreachable" and f"127.0.0.1:{port}" in gone.text
    client.close()


async def test_a_cluster_that_is_not_there() -> None:
    """Whose error has another root in the library, and comes with the first client already."""
    state = State(url="valkey+cluster://127.0.0.1:1,127.0.0.1:2")
    assert away(state).cause == "unreachable"
    later = shared_state.connect(state)
    with pytest.raises(Away, match="is not reached: ") as error, shared_state.asked(state):
        await later.get("x")
    assert error.value.cause == "unreachable"
    await later.aclose()


def test_a_copy_and_an_acl(server: Callable[..., tuple[int, object]], tmp_path: Path) -> None:
    first, _ = server("--user", "default", "on", "nopass", "~*", "+@all")
    copy, _ = server("--replicaof", f"127.0.0.1 {first}")
    found = away(State(url=f"valkey://127.0.0.1:{copy}"))
    assert found.cause in ("read_only", "starting", "unreachable"), found
    state = State(url=f"valkey://127.0.0.1:{first}")
    client = shared_state.connect_now(state)
    client.acl_setuser(
        "er", enabled=True, passwords=["+sesame"], keys=["other:*"], commands=["+set"]
    )
    file = tmp_path / "password"
    file.write_text("sesame\n")
    refused = away(State(url=f"valkey://er@127.0.0.1:{first}", password_file=file))
    assert refused.cause == "refused" and "er help hosts" in refused.text
    assert away(State(url="valkey+sentinel://127.0.0.1:1/x")).cause == "unreachable"
    client.close()


async def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    state = State(url="valkey://127.0.0.1:1", password_file=tmp_path / "none")
    found = await asyncio.to_thread(away, state)
    assert found.cause == "unreachable"
    assert os.fspath(tmp_path) in found.text or "refused" in found.text
