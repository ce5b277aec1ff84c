"""Several hosts behind HAProxy and nginx, as etc/front has them: one goes, and nobody notices."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import certificates
from certificates import Authority
from er import leaving
from fakes import free_port
from front import (
    NAMES,
    PATIENCE_S,
    Cluster,
    Front,
    haproxy,
    haproxy_config,
    judged,
    nginx,
    nginx_config,
)
from proxies import nginx_command, through
from running import Reply, gateway

pytestmark = pytest.mark.slow
RATE, LONG_RATE = 20.0, 50.0  # requests a second through each front
CLIENTS = ("127.0.0.5", "127.0.0.6", "127.0.0.7", "127.0.0.8")
LIAR, NGINX = "9.9.9.9", "127.0.0.2"
SPOKEN: dict[str, Any] = {"proxy_protocol": True, "leave_time": "4s"}


class Fronts(NamedTuple):
    """Both before the same hosts."""

    haproxy: Front
    nginx: Front


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two hosts that hear the PROXY protocol from HAProxy."""
    with Cluster(tmp_path_factory.mktemp("hosts"), **SPOKEN).running() as made:
        yield made


@pytest.fixture(scope="module")
def fronts(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fronts]:
    """nginx is no proxy that they trust: it can't speak the PROXY protocol."""
    folders = [tmp_path_factory.mktemp(name) for name in ("haproxy", "nginx")]
    with (
        haproxy(folders[0], cluster.hosts) as one,
        nginx(folders[1], cluster.hosts, NGINX) as other,
    ):
        yield Fronts(one, other)


# -- the files themselves --------------------------------------------------------------------------


def checked(command: list[str]) -> str:
    """What a program says of a configuration that it finds good."""
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("marks", [(), ("tls",), ("again",), ("tls", "again")])
def test_haproxy_finds_nothing_to_say(tmp_path: Path, marks: tuple[str, ...]) -> None:
    """Not even a warning, whichever of the commented lines are in force."""
    (tmp_path / "hosts-ca.pem").write_bytes(Authority().pem)
    front = Front(free_port(), free_port(), tmp_path / "haproxy.sock")
    text = haproxy_config(tmp_path, ["127.0.0.1:1", "127.0.0.1:2"], front, *marks)
    (tmp_path / "haproxy.cfg").write_text(text)
    said = checked(["haproxy", "-c", "-f", str(tmp_path / "haproxy.cfg")])
    assert "WARNING" not in said and "ALERT" not in said, said


def test_nginx_finds_nothing_to_say(tmp_path: Path) -> None:
    front = Front(free_port(), free_port(), tmp_path)
    text = nginx_config(tmp_path, ["127.0.0.1:1", "127.0.0.1:2"], front)
    (tmp_path / "nginx.conf").write_text(text)
    said = checked([*nginx_command(tmp_path, tmp_path / "nginx.conf"), "-t"])
    # Newer ones have another word for `listen … http2`, and take this one.
    assert all("http2" in line for line in said.splitlines() if "[warn]" in line), said


# -- whose a request is ----------------------------------------------------------------------------


def said_of(cluster: Cluster, reply: Reply) -> tuple[int, dict[str, Any]]:
    """Which host answered, and its record."""
    name = f'"REQUEST_ID":"{reply.headers["x-request-id"]}"'
    end = time.monotonic() + 10
    while time.monotonic() < end:
        for number, host in enumerate(cluster.hosts):
            if name in host.text():
                (record,) = (r for r in host.audit() if name[14:-1] == r["REQUEST_ID"])
                return number, record
        time.sleep(0.02)
    raise AssertionError(f"nobody has a record of {name}")


def believed(cluster: Cluster, front: Front) -> None:
    """Every client by its own address in the audit, on both hosts, whatever it claims."""
    told: set[int] = set()
    for source in CLIENTS * 2:
        link = through(front.port, source)
        for text in ("a", ["a", "b" * 3000]):
            body = {"model": "embed", "input": text}
            reply = cluster.hosts[0].ask(
                "POST", "/v1/embeddings", body, connection=link, headers={"x-forwarded-for": LIAR}
            )
            number, record = said_of(cluster, reply)
            told.add(number)
            assert record["CLIENT"] == source, record
        link.close()
    assert told == {0, 1}


def test_haproxy_tells_the_clients_address(cluster: Cluster, fronts: Fronts) -> None:
    """By the PROXY protocol, with its checks beside; both hosts have work."""
    believed(cluster, fronts.haproxy)
    assert not any("is refused" in host.text() for host in cluster.hosts)


@pytest.mark.long
def test_nginx_tells_the_clients_address(tmp_path: Path) -> None:
    with Cluster(tmp_path).running() as made, nginx(tmp_path, made.hosts) as front:
        believed(made, front)


# -- a host goes -----------------------------------------------------------------------------------


def test_readyz_says_that_a_host_is_about_to_go(tmp_path: Path) -> None:
    """Drained, and while it stops; all else is answered as ever. A second signal waits no more."""
    with gateway(tmp_path, leave_time="5m") as running:
        flag, stops = (running.runtime / name for name in (leaving.DRAINING, leaving.LEAVING))

        def ready() -> tuple[int, Any]:
            reply = running.ask("GET", "/readyz", key=None)
            return reply.status, reply.json

        def away(why: str) -> tuple[int, Any]:
            return 503, {"status": "leaving", "reason": why}

        assert running.embed().status == 200
        assert ready() == (200, {"status": "ok"})
        flag.touch()
        assert ready() == away("this host is drained")
        assert running.ask("GET", "/readyz", key=None).headers["retry-after"] == "5"
        flag.write_text("new disks\nuntil noon\n")
        assert ready() == away("new disks")
        assert running.embed().status == 200
        assert running.ask("GET", "/health", key=None).json["status"] == "ok"
        flag.unlink()
        assert ready() == (200, {"status": "ok"})
        assert running.process is not None
        running.process.terminate()
        running.wait_for("leaving: /readyz says 503, for 300.0 s all else is served")
        assert ready() == away("this gateway stops")
        reply = running.embed()
        assert reply.status == 200 and "connection" not in reply.headers
        assert stops.exists()
        assert running.stop() == 0  # at once
        assert not stops.exists()
        stops.touch()  # as one that is killed leaves it
        flag.touch()
        running.start()
        assert ready() == away("this host is drained") and not stops.exists()
        flag.unlink()
        stops.symlink_to("/dev/null/no folder")  # it can't be written
        assert running.stop() == 0
        assert "WARNING stopping at once, as /readyz can't say so before" in running.text()


def test_a_file_that_says_too_much_or_nothing_readable(tmp_path: Path) -> None:
    """It is there, so it counts."""
    assert leaving.reason(tmp_path) == ""
    flag = tmp_path / leaving.DRAINING
    flag.write_bytes(b"x" * 5000)
    assert leaving.reason(tmp_path) == "x" * leaving.REASON_MOST
    flag.write_bytes(b"\xff\n")
    assert leaving.reason(tmp_path) == "\ufffd"
    flag.unlink()
    flag.mkdir()
    assert leaving.reason(tmp_path) == leaving.DRAINED
    leaving.leave(tmp_path)
    flag.rmdir()
    assert leaving.reason(tmp_path) == leaving.STOPS
    leaving.stay(tmp_path)
    leaving.stay(tmp_path)
    assert leaving.reason(tmp_path) == ""
    assert leaving.drained_s(tmp_path, 5.0) == 0.0
    flag.touch()
    os.utime(flag, (1000.0, 1000.0))
    assert leaving.drained_s(tmp_path, 1030.0) == 30.0
    assert leaving.drained_s(tmp_path, 900.0) == 0.0  # the clock was set back


def asked_by_nginx(cluster: Cluster, number: int) -> int:
    return cluster.hosts[number].text().count(f'"CLIENT":"{NGINX}"')


def restarted(cluster: Cluster, fronts: Fronts, number: int, *, drained: bool) -> None:
    """A host stops and starts: after it was drained, or with `leave_time` alone.

    HAProxy sees it go and come; nginx, which asks nobody how he is, asks it again by and by.
    """
    name = NAMES[number]
    if drained:
        cluster.drain(number)
        fronts.haproxy.until(name, "DOWN")
    cluster.stop(number)
    cluster.start(number)
    if drained:
        assert fronts.haproxy.state(name) == "DOWN"
        cluster.undrain(number)
    fronts.haproxy.until(name, "UP")
    known = asked_by_nginx(cluster, number)
    end = time.monotonic() + PATIENCE_S
    while asked_by_nginx(cluster, number) == known:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_hosts_are_restarted_and_no_request_fails(fronts: Fronts, cluster: Cluster) -> None:
    """Behind HAProxy and nginx, one drained before, the other only told to stop."""
    ways = [cluster.traffic(front, rate=RATE) for front in fronts]
    with ways[0] as one, ways[1] as other:
        restarted(cluster, fronts, 0, drained=True)
        cluster.stop(1)
        one.until(20)
        other.until(20)
    cluster.start(1)
    for load in (one, other):
        print(json.dumps(judged(load, least=100)))


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_ten_restarts_of_each_host(fronts: Fronts, cluster: Cluster) -> None:
    """The same at 200 requests a second."""
    ways = [cluster.traffic(front, rate=LONG_RATE) for front in fronts]
    with ways[0] as one, ways[1] as other:
        for turn in range(20):
            restarted(cluster, fronts, turn % 2, drained=turn % 4 < 2)
    for load in (one, other):
        print(json.dumps(judged(load, least=5000)))


@pytest.mark.long
def test_where_no_host_is_ready_all_are_asked(fronts: Fronts, cluster: Cluster) -> None:
    """All of them drained: they are still there, and say more than HAProxy's own page."""
    for number, name in enumerate(NAMES):
        cluster.drain(number)
        fronts.haproxy.until(name, "DOWN")
    believed(cluster, fronts.haproxy)
    reply = cluster.hosts[0].ask("GET", "/readyz", connection=through(fronts.haproxy.port))
    assert (reply.status, reply.json["status"]) == (503, "leaving")
    for number, name in enumerate(NAMES):
        cluster.undrain(number)
        fronts.haproxy.until(name, "UP")


@pytest.mark.long
@pytest.mark.timeout(600)
def test_haproxy_asks_the_hosts_over_tls_and_http2(tmp_path: Path) -> None:
    """By the commented lines: before the handshake it says who is there; restarts lose nothing."""
    made, authority = Cluster(tmp_path, **SPOKEN), Authority()
    (tmp_path / "hosts-ca.pem").write_bytes(authority.pem)
    for host in made.hosts:
        host.tls = certificates.put(host.folder / "tls", authority.issue("localhost", "127.0.0.1"))
    with made.running(), haproxy(tmp_path, made.hosts, "tls") as front:
        believed(made, front)
        with made.traffic(front, rate=LONG_RATE) as load:
            for number in (0, 1):
                load.until(100)
                made.stop(number)
                made.start(number)
                front.until(NAMES[number], "UP")
            load.until(100)
    judged(load, least=300)
    assert not any("is refused" in host.text() for host in made.hosts)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("marks", [(), ("again",)])
def test_a_host_that_is_killed(tmp_path: Path, marks: tuple[str, ...]) -> None:
    """What was under way there is lost, and nothing after it; with `again` not even that, if it
    had come in whole and is no larger than a buffer.
    """
    made = Cluster(tmp_path, **SPOKEN)
    with made.running(), haproxy(tmp_path, made.hosts, *marks) as front:
        with made.traffic(front, rate=LONG_RATE) as load:
            load.until(300)
            made.hosts[0].kill()
            while listens(made.hosts[0].port):  # until the kernel has taken its sockets away
                time.sleep(0.01)
            killed = time.monotonic()
            load.until(500)
            made.start(0)
            front.until("gpu1", "UP")
            load.until(300)
        made.stop(0)
    report = load.report()
    late = [one for one in load.unhappy if one.sent > killed]
    assert not late, (killed, late)
    if marks:
        assert all("(upload" in told or "(pieces" in told for told in load.said), report
    assert len(load.unhappy) < 40, report
    print(json.dumps(report))
