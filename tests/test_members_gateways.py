"""Hosts that share a Valkey: real gateways that find, drain, miss and forget each other."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from er import shared_state
from er.config import State
from er.ledger import Ledger
from er.tls import own
from fakes import EngineProcess, free_port
from hosts.valkeys import Valkey
from running import DIMENSIONS, Gateway

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
PATIENCE_S = 60.0  # of a machine with other work, too


def until(what: Callable[[], Any], why: str, patience_s: float = PATIENCE_S) -> Any:
    """What it comes to, once that is something."""
    end = time.monotonic() + patience_s
    while not (found := what()):
        assert time.monotonic() < end, why
        time.sleep(0.05)
    return found


def er(host: Gateway, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "er.cli", *words]
    return subprocess.run(command, env=host.environment(), capture_output=True, text=True)


def rows(host: Gateway) -> dict[str, dict[str, Any]]:
    """GET /hosts there, by name, as `er hosts` asks for it; nothing while nobody answers."""
    try:
        _, answer = ask(host, "admin.sock", "GET", "/hosts")
    except OSError:
        return {}
    return {row["name"]: row for row in answer["hosts"]}


def ask(host: Gateway, sock: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """One request to a unix socket of the host's."""
    link = http.client.HTTPConnection("er", timeout=10)
    link.sock = socket.socket(socket.AF_UNIX)
    with contextlib.closing(link.sock):
        link.sock.connect(str(host.runtime / sock))
        link.request(method, path, None if body is None else json.dumps(body))
        answer = link.getresponse()
        return answer.status, json.loads(answer.read())


def answers(host: Gateway) -> bool:
    body = {"model": "embed", "input": "hello"}
    return ask(host, "gateway.sock", "POST", "/v1/embeddings", body)[0] == 200


def states(host: Gateway) -> dict[str, str]:
    return {name: row["state"] for name, row in rows(host).items()}


def members(host: Gateway) -> list[str]:
    """Whose replicas the workers there are given."""
    with contextlib.suppress(OSError):
        tables = tomllib.loads((host.runtime / "members.toml").read_text())
        return [table["name"] for table in tables.get("replica", [])]
    return []


def secret(host: Gateway) -> list[str]:
    return list(json.loads((host.runtime / "hosts.json").read_text())["secret"])


def file(host: Gateway, name: str) -> str:
    with contextlib.suppress(OSError):
        return (host.runtime / name).read_text().strip()
    return ""


def quiet(host: Gateway) -> bool:
    """Whether all new workers that were asked for serve, and its replica is well."""
    asked = host.text().count("new workers take them up")
    served = host.text().count(" serves\n")
    own = rows(host).get(host.shared["host"]["name"])
    well = own is not None and own["replicas"][0]["state"] in ("up", "drained")
    return asked == served and well


class Hosts:
    """Two hosts and their Valkey, made once: a start takes seconds."""

    def __init__(self, folder: Path, server: Valkey, engines: list[EngineProcess]) -> None:
        self.server, self.folder = server, folder
        self.all: list[Gateway] = []
        for number, engine in enumerate(engines, start=1):
            self.all.append(self.made(f"gpu{number}", engine))

    def made(self, name: str, engine: EngineProcess, folder: str = "") -> Gateway:
        where = self.folder / (folder or name)
        where.mkdir()
        found = Gateway(where, [engine])
        address = f"127.0.0.1:{free_port()}"
        found.shared = {
            "state": {"url": self.server.url},
            "host": {"name": name, "address": address, "listen": [address]},
        }
        return found

    def settled(self) -> tuple[Gateway, Gateway]:
        """Both run and are members to each other."""
        if self.server.process is None or self.server.process.poll() is not None:
            self.server.start()
        self.server.resume()
        for host in self.all:
            if host.process is None or host.process.poll() is not None:
                host.start(wait=False)
        one, two = self.all
        for here, there in ((one, "gpu2"), (two, "gpu1")):
            until(lambda here=here: (here.runtime / "admin.sock").exists(), "no admin socket")
            until(lambda here=here, there=there: states(here).get(there) == "up", here.text())
            until(lambda here=here, there=there: members(here) == [f"e0@{there}"], here.text())
            until(lambda here=here: quiet(here), here.text())
        return one, two


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    folder = tmp_path_factory.mktemp("hosts")
    with contextlib.ExitStack() as stack:
        server = Valkey(folder / "valkey")
        server.start()
        stack.callback(server.kill)
        engines = [stack.enter_context(EngineProcess(dim=DIMENSIONS)) for _ in range(2)]
        found = Hosts(folder, server, engines)
        for host in found.all:
            stack.callback(host.kill)
        found.settled()
        yield found


def test_they_find_each_other(hosts: Hosts) -> None:
    one, two = hosts.settled()
    for host, other in ((one, two), (two, one)):
        name = other.shared["host"]["name"]
        table = tomllib.loads((host.runtime / "members.toml").read_text())["replica"][0]
        address = other.shared["host"]["address"]
        assert table == {"name": f"e0@{name}", "model": "embed", "url": f"https://{address}"}
        known = json.loads((host.runtime / "hosts.json").read_text())
        shown = own.announced(other.state)
        assert known["hosts"] == {name: {"address": address, "certificates": shown}}
        assert (host.runtime / "hosts.json").stat().st_mode & 0o777 == 0o600
        until(lambda host=host: file(host, "members") == "2", "the fair share is of two")
        host.wait_for(f"other hosts' replicas are now: e0@{name}; new workers take them up")
        host.wait_for("generation 2 serves")
        assert host.mishaps() == []
    assert secret(one) == secret(two) and len(secret(one)[0]) == 43
    row = rows(one)["gpu2"]
    assert row["replicas"][0] | {"in_flight_tokens": 0} == {
        "name": "e0",
        "model": "embed",
        "task": "embed",
        "engine": "",
        "state": "up",
        "fingerprint": "unknown-unknown-unknown",
        "reason": "",
        "used": True,
        "in_flight_tokens": 0,
        "budget_tokens": 16384,
    }
    assert abs(row["clock_s"]) < 5 and row["odd"] == [] and row["version"]


def test_a_certificate_is_announced_when_there_is_one(hosts: Hosts) -> None:
    """The one in force, and its successor as soon as it is made."""
    one, two = hosts.settled()
    pem = own.announced(two.state)[0]
    (two.state / "host-next.pem").write_text(pem.replace("A", "B"))

    def told() -> list[str]:
        known = json.loads((one.runtime / "hosts.json").read_text())["hosts"]
        return list(known["gpu2"]["certificates"])

    until(lambda: told() == [pem, pem.replace("A", "B")], "not both were told")
    (two.state / "host-next.pem").unlink()
    until(lambda: told() == [pem], "it is announced on")


def test_a_drain_holds_on_all(hosts: Hosts) -> None:
    one, two = hosts.settled()
    done = er(one, "drain", "gpu2", "--wait")
    assert done.returncode == 0, done.stderr
    assert "gets nothing new from the others. Back with: er undrain gpu2" in done.stdout
    assert "host gpu2 has nothing left to do" in done.stdout
    assert file(two, "draining") and not file(one, "draining")
    assert states(one)["gpu2"] == states(two)["gpu2"] == "drained"
    assert {"ACTION": "hosts.drain", "TARGET": "gpu2", "UID": str(os.geteuid())}.items() <= (
        one.audit()[-1].items()
    )
    # It stays so over its own restart, and over the shared state's.
    two.stop()
    until(lambda: states(one)["gpu2"] == "silent", "a gateway that stops says so")
    without_a_gateway(one, two)
    hosts.server.kill()
    hosts.server.forget()
    without_either(one, two)
    hosts.server.start()
    two.start()
    until(lambda: rows(two)["gpu2"]["knows_drain"], "it forgot that it is drained")
    assert file(two, "draining")
    until(lambda: states(one).get("gpu2") == "drained", "the others forgot it")
    done = er(two, "undrain", "gpu2")
    assert done.returncode == 0 and "host gpu2 is in use again" in done.stdout, done.stderr
    until(lambda: not file(two, "draining"), "it is drained on")
    until(lambda: states(one)["gpu2"] == "up", "for the others, too")


def without_a_gateway(one: Gateway, two: Gateway) -> None:
    """On `two` no gateway runs: the shared state itself is asked, and told."""
    done = er(two, "hosts")
    assert "this is the shared state's own" in done.stdout and "gpu1" in done.stdout
    assert er(two, "drain", "gpu1").returncode == 0
    until(lambda: states(one)["gpu1"] == "drained", "the other did not hear of it")
    assert er(two, "undrain", "gpu1").returncode == 0
    assert "no host 'gpu9'; there are: gpu1, gpu2" in er(two, "drain", "gpu9").stderr
    assert "no host 'gpu9'; there are: gpu1, gpu2" in er(one, "undrain", "gpu9").stderr


def without_either(one: Gateway, two: Gateway) -> None:
    """The shared state is away, too: what was known last."""
    until(lambda: "away" in er(one, "hosts").stdout, "nobody says that it is away")
    assert list(states(one)) == ["gpu1", "gpu2"]
    done = er(two, "hosts")
    assert done.returncode == 1 and "this is what was heard last" in done.stdout
    assert "gpu1" in done.stdout and "is not reached" in done.stdout
    refused = er(one, "drain", "gpu2")
    assert refused.returncode == 1 and "nothing was changed" in refused.stderr
    assert "nothing was changed" in er(two, "drain", "gpu1").stderr


def test_one_that_is_killed_is_silent(hosts: Hosts) -> None:
    one, two = hosts.settled()
    assert er(one, "hosts").returncode == 0
    two.kill()
    until(lambda: states(one)["gpu2"] == "silent", "nobody missed it")
    done = er(one, "hosts")
    assert done.returncode == 1 and "silent" in done.stdout and "heard" in done.stdout
    assert members(one) == ["e0@gpu2"], "it stays, marked down"
    until(lambda: file(one, "members") == "1", "the fair share is of one")
    refused = er(one, "hosts", "forget", "gpu1")
    assert refused.returncode == 1 and "host gpu1 is announced at present" in refused.stderr
    assert er(one, "hosts", "forget", "gpu2").returncode == 0
    assert list(states(one)) == ["gpu1"]
    until(lambda: members(one) == [], "its replicas stay")
    hosts.settled()


@pytest.mark.long
def test_the_shared_state_comes_back(hosts: Hosts) -> None:
    """Away, lost and late: the members stay, no workers change, and the secret is the same."""
    one, two = hosts.settled()
    before, generation = secret(one), one.text().count("new workers take them up")
    hosts.server.kill()
    hosts.server.forget()
    until(lambda: "away" in er(one, "hosts").stdout, "nobody says that it is away")
    time.sleep(6)  # longer than anybody may be unheard
    assert answers(one) and answers(two)
    assert members(one) == ["e0@gpu2"] and states(one)["gpu2"] == "up"
    assert file(one, "members") == "2"
    hosts.server.start()
    hosts.settled()
    hosts.server.pause()
    until(lambda: "does not answer in time" in er(one, "hosts").stdout, "it is only late")
    hosts.server.resume()
    hosts.settled()
    assert secret(one) == secret(two) == before
    assert one.text().count("new workers take them up") == generation, "no reason for any"
    assert one.mishaps() == two.mishaps() == []


def test_the_secret_changes_while_traffic_runs(hosts: Hosts) -> None:
    one, two = hosts.settled()
    before = secret(one)
    until(lambda: er(one, "hosts", "rotate").returncode == 0, "it was never changed", 10.0)
    assert secret(one)[1] == before[0] and secret(one)[0] != before[0]
    until(lambda: secret(two) == secret(one), "the other does not know it")
    again = er(two, "hosts", "rotate")
    assert again.returncode == 1 and "was changed a moment ago" in again.stderr
    assert answers(one) and answers(two)
    for host in (one, two):
        for word in secret(host):
            assert word not in host.text() and word not in er(host, "hosts", "--json").stdout
        assert host.audit()[-1]
    # After a day whoever looks first changes it.
    client = shared_state.connect_now(State(url=hosts.server.url))
    key = shared_state.key("er", "secret")
    client.hset(key, "made", str(int((time.time() - 86_401) * 1000)))
    client.close()
    old = secret(one)[0]
    until(lambda: secret(one)[0] != old and secret(one)[1] == old, "it is not changed")
    until(lambda: secret(two) == secret(one), "the other does not know it")


@pytest.mark.long
def test_two_of_one_name_and_a_third(hosts: Hosts) -> None:
    one, two = hosts.settled()
    with EngineProcess(dim=DIMENSIONS) as engine:
        third = hosts.made("gpu2", engine, "again")
        try:
            third.start()
            one.wait_for("two hosts are called gpu2: that at")
            until(
                lambda: "give one of them another [host] name" in er(third, "hosts").stdout,
                "not told",
            )
            assert members(one) == ["e0@gpu2"] and members(third) == ["e0@gpu1"]
            third.stop()
            third.shared["host"]["name"] = "gpu3"
            third.start()
            until(lambda: members(one) == ["e0@gpu2", "e0@gpu3"], one.text())
            until(lambda: members(two) == ["e0@gpu1", "e0@gpu3"], two.text())
            until(lambda: file(two, "members") == "3", "the fair share is of three")
        finally:
            third.kill()
    until(lambda: states(one)["gpu3"] == "silent", "it is heard on")
    assert er(one, "hosts", "forget", "gpu3").returncode == 0
    until(lambda: members(two) == ["e0@gpu1"], "the other did not hear of it")


def test_the_others_replicas_in_the_ledger(hosts: Hosts) -> None:
    """A host's silence and drains stand in the rows of its replicas, where workers look."""
    one, two = hosts.settled()
    one.wait_for("generation 2 serves")

    def row() -> Any:
        ledger = Ledger.open(one.runtime / "ledger", ["e0", "e0@gpu2"], make=False)
        with contextlib.closing(ledger):
            return ledger.verdict("e0@gpu2")

    assert er(one, "drain", "gpu2").returncode == 0
    until(lambda: row().drained_by == ("host",), f"{row()}")
    assert er(one, "undrain", "gpu2").returncode == 0
    until(lambda: not row().drained_by, f"{row()}")
    assert er(two, "drain", "e0").returncode == 0, "a replica that its own host has drained"
    until(lambda: row().drained_by == ("host",), f"{row()}")
    assert er(two, "resume", "e0").returncode == 0
    until(lambda: not row().drained_by, f"{row()}")
    assert two.process is not None
    two.stop(signal.SIGTERM)
    until(lambda: "has not been heard for" in row().reason, f"{row()}")
    assert row().health == "down"
    hosts.settled()


def test_a_machine_alone_says_so(tmp_path: Path) -> None:
    with EngineProcess(dim=DIMENSIONS) as engine:
        alone = Gateway(tmp_path, [engine])
        alone.runtime.mkdir(parents=True)
        (alone.runtime / "members.toml").write_text("")
        (alone.runtime / "draining").write_text("")
        try:
            alone.start()
            for words in (("hosts",), ("undrain", "gpu2"), ("drain", "gpu2", "--host")):
                done = er(alone, *words)
                assert done.returncode == 1 and "this machine is alone" in done.stderr, done
            assert "no replica 'gpu2'" in er(alone, "drain", "gpu2").stderr
            until(lambda: not (alone.runtime / "draining").exists(), "what others left stays")
            assert not (alone.runtime / "members.toml").exists()
        finally:
            alone.kill()
