"""`er check` on [state]: a real server in every state that it should say something of."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from er import keys
from er.cli import check_state
from er.cli.check_state import Odd
from er.config import parse
from er.shared_state import rights
from state_server import StateServer

TOP = Path(__file__).parent.parent / "daemon/er"
CPU = '[[model]]\nname = "m"\ntask = "embed"\npath = "/m"\n'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StateServer]:
    running = StateServer(tmp_path_factory.mktemp("server"))
    yield running
    running.kill()


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))


def found(url: str, shared: int = 0, **more: object) -> list[Odd]:
    table = "".join(f'{k} = "{v}"\n' for k, v in {"url": url, **more}.items())
    cache = "".join(f'[{t}]\nshared = "{shared}B"\n' for t in ("cache", "batches") if shared)
    return check_state.findings(parse(f"{cache}[state]\n{table}{CPU}", Path("/er.toml")))


def test_nothing_is_wrong(server: StateServer) -> None:
    assert found(server.url) == []
    assert check_state.findings(parse(CPU, Path("/er.toml"))) == []
    assert not server.client().keys()


def test_the_user_that_the_help_makes_may_all_that_is_needed(
    server: StateServer, tmp_path: Path
) -> None:
    """And each right is asked for: a user without one is told the line that gives it."""
    password = tmp_path / "password"
    password.write_text("sesame\n")
    password.chmod(0o640)
    client = server.client()
    words = rights.line("er", "er").replace("PASSWORD", "sesame").split()
    assert client.execute_command(*words) == b"OK"
    url = server.url.replace("://", "://er@")
    assert found(url, password_file=password) == []
    for lacking in ("zadd", "evalsha", "hmget"):
        client.execute_command("ACL", "SETUSER", "er", f"-{lacking}")
        (odd,) = found(url, password_file=password)
        assert odd.message.startswith(f"user er may not: {lacking}. On the server: ACL SETUSER er")
        client.execute_command(*words)
    (odd,) = found(url, password_file=password, name="other")
    assert odd.level == "error" and "~er:{other}:*" in odd.message
    client.execute_command("ACL", "DELUSER", "er")
    (odd,) = found(url, password_file=password)
    assert "neither user nor password" in odd.message and "sesame" not in odd.message
    client.close()


def test_what_scripts_and_clients_ask_for_is_listed() -> None:
    """Each command that the source calls stands in `rights.CALLS`."""
    called: set[str] = set()
    for path in (*TOP.rglob("*.py"), *TOP.rglob("*.lua")):
        text = path.read_text("utf-8")
        called |= {word.lower() for word in re.findall(r"""redis\.p?call\(['"](\w+)""", text)}
        if "shared_state" in text and "cli" not in path.parts:
            called |= set(re.findall(r"\bclient\.([a-z]+)\(", text))
    assert {"hget", "hset", "zadd", "set", "unlink"} <= called
    assert called - set(rights.CALLS) - {"close", "aclose"} == set()


def test_a_server_that_throws_away(server: StateServer) -> None:
    client = server.client()
    client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        (odd,) = found(server.url)
        assert odd.level == "warning" and "maxmemory-policy allkeys-lru would" in odd.message
        client.config_set("maxmemory", "1gb")
        (odd,) = found(server.url)
        assert odd.level == "error" and "noeviction" in odd.message
    finally:
        client.config_set("maxmemory-policy", "noeviction")
    client.config_set("maxmemory", "1500mb")
    assert found(server.url) == []
    (odd,) = found(server.url, shared=1 << 30)
    assert odd.level == "warning" and "CONFIG SET maxmemory 3221225472" in odd.message
    client.config_set("maxmemory", "1")
    (odd,) = found(server.url)
    assert "has no memory left" in odd.message
    client.config_set("maxmemory", "0")
    client.close()


def test_a_server_that_keeps_nothing_and_one_that_is_a_copy(
    server: StateServer, tmp_path: Path
) -> None:
    one = StateServer(tmp_path / "one", kept=False)
    try:
        (odd,) = found(one.url)
        assert odd.level == "warning" and "keeps nothing on a disk" in odd.message
        one.client().config_set("save", "3600 1")
        assert found(one.url) == []
        one.client().execute_command("REPLICAOF", "127.0.0.1", str(server.port))
        assert any("is a copy" in odd.message for odd in found(one.url))
    finally:
        one.kill()
    (odd,) = found(one.url)
    assert "is not reached" in odd.message and "goes on with what it knows" in odd.message


def test_clocks_and_versions(server: StateServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_state.time, "time", lambda now=check_state.time.time: now() + 60)
    (odd,) = found(server.url)
    assert odd.level == "warning" and "-60 s apart from this host's" in odd.message
    monkeypatch.undo()
    monkeypatch.setattr(rights, "LEAST", (99, 1))
    assert any("ER needs 99.1 at least" in odd.message for odd in found(server.url))


def test_files(server: StateServer, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("x")
    password.chmod(0o644)
    said = [odd for odd in found(server.url, password_file=password) if odd.key != "url"]
    assert said == [
        Odd(
            "password_file",
            f"every user of this machine can read {password}; chmod 0640 {password}",
            "warning",
        )
    ]
    password.write_text("\n")
    assert any("it is empty" in odd.message for odd in found(server.url, password_file=password))
    missing = found(server.url, password_file=tmp_path / "none")
    assert [odd.key for odd in missing] == ["password_file"]
    assert "no such file" in missing[0].message
    tls = server.url.replace("valkey://", "valkeys://")
    (odd,) = found(tls, ca=tmp_path / "none")
    assert odd.key == "ca"
    (odd,) = found(tls)
    assert odd.key == "url" and odd.level == "error"
    assert any(
        "without TLS" in odd.message for odd in check_state._plain(_state("valkey://8.8.8.8"))
    )
    assert not check_state._plain(_state("valkeys://8.8.8.8"))
    assert not check_state._plain(_state("valkey://10.0.0.5"))


def _state(url: str) -> object:
    return parse(f'[state]\nurl = "{url}"\n{CPU}', Path("/er.toml")).state


def test_keys_that_were_not_moved(server: StateServer, tmp_path: Path) -> None:
    from datetime import UTC, datetime

    keys.create(tmp_path / "er_api_keys.json", name="web", now=datetime.now(UTC))
    (odd,) = found(server.url)
    assert odd.level == "warning" and "sudo er state move" in odd.message
    assert os.listdir(tmp_path)  # noqa: PTH208


def test_the_help_shows_the_line() -> None:
    """In a shell's words."""
    page = (TOP / "help/hosts.md").read_text("utf-8")
    shown = re.search(r"valkey-cli (ACL SETUSER (?:.*\\\n)*.*)", page)
    assert shown is not None
    assert shlex.split(shown[1].replace("\\\n", " ")) == rights.line("er", "er").split()
