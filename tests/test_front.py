"""Several hosts behind HAProxy and nginx, as etc/front has them: hosts go and come, nobody notices."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import certificates
from certificates import Authority
from er import leaving
from fakes import free_port
from front import Cluster, Front, haproxy, haproxy_config, judged, nginx, nginx_config
from proxies import nginx_command, through
from running import Reply, gateway

pytestmark = pytest.mark.slow
CLIENTS = ("127.0.0.5", "127.0.0.6", "127.0.0.7", "127.0.0.8")
LIAR = "9.9.9.9"
SPOKEN: dict[str, Any] = {"proxy_protocol": True, "leave_time": "3s"}


@pytest.fixture
def spoken(tmp_path: Path) -> Iterator[Cluster]:
    """Hosts that hear the PROXY protocol."""
    with Cluster(tmp_path, **SPOKEN).running() as cluster:
        yield cluster


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
    assert "[warn]" not in said and "[emerg]" not in said, said


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


def test_haproxy_tells_the_clients_address(spoken: Cluster, tmp_path: Path) -> None:
    """By the PROXY protocol, with its checks beside; both hosts have work."""
    with haproxy(tmp_path, spoken.hosts) as front:
        believed(spoken, front)
    assert not any("is refused" in host.text() for host in spoken.hosts)


def test_haproxy_asks_the_hosts_over_tls_and_http2(tmp_path: Path) -> None:
    """The same by the commented lines: before the handshake it says who is there."""
    cluster, authority = Cluster(tmp_path, **SPOKEN), Authority()
    (tmp_path / "hosts-ca.pem").write_bytes(authority.pem)
    for host in cluster.hosts:
        host.tls = certificates.put(host.folder / "tls", authority.issue("localhost", "127.0.0.1"))
    with cluster.running(), haproxy(tmp_path, cluster.hosts, "tls") as front:
        believed(cluster, front)
        with cluster.traffic(front, rate=100.0) as load:
            load.until(100)
            cluster.stop(0)
            cluster.start(0)
            load.until(100)
    judged(load, least=200)
    assert not any("is refused" in host.text() for host in cluster.hosts)


def test_nginx_tells_the_clients_address(tmp_path: Path) -> None:
    with Cluster(tmp_path).running() as cluster, nginx(tmp_path, cluster.hosts) as front:
        believed(cluster, front)


# -- a host goes -----------------------------------------------------------------------------------


def test_readyz_says_that_a_host_is_about_to_go(tmp_path: Path) -> None:
    """Drained, while it stops, and no longer; all else is answered as ever."""
    with gateway(tmp_path, leave_time="2s") as running:
        flag = running.runtime / leaving.DRAINING

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
        running.stop()
        running.start()
        assert ready() == away("new disks")  # also after a restart
        flag.unlink()
        assert ready()[0] in (200, 503) and ready()[1]["status"] in ("ok", "down")
        assert running.process is not None
        assert running.embed().status == 200
        running.process.terminate()
        running.wait_for("for 2 s all else is served", count=2)
        assert ready() == away("this gateway stops")
        reply = running.embed()
        assert reply.status == 200 and "connection" not in reply.headers
        assert running.process.wait(15) == 0
        assert not (running.runtime / leaving.LEAVING).exists()


def test_a_second_signal_and_a_killed_gateway(tmp_path: Path) -> None:
    """Who is in a hurry does not wait; what a killed one left behind is taken away."""
    with gateway(tmp_path, leave_time="5m") as running:
        assert running.process is not None
        running.process.terminate()
        running.wait_for("for 300 s all else is served")
        running.kill()
        assert (running.runtime / leaving.LEAVING).exists()
        running.start()
        assert not (running.runtime / leaving.LEAVING).exists()
        running.process.terminate()
        running.wait_for("for 300 s all else is served", count=2)
        assert running.stop() == 0


def rolled(cluster: Cluster, front: Front, load: Any, more: int) -> None:
    """One host is drained and restarted, the other only told to stop: `leave_time` is enough."""
    load.until(more)
    cluster.drain(0)
    front.until("gpu1", "DOWN")
    cluster.stop(0)
    cluster.start(0)
    load.until(more)
    assert front.state("gpu1") == "DOWN"  # it is drained still
    cluster.undrain(0)
    front.until("gpu1", "UP")
    cluster.stop(1)
    cluster.start(1)
    front.until("gpu2", "UP")
    load.until(more)


def test_hosts_are_restarted_behind_haproxy(spoken: Cluster, tmp_path: Path) -> None:
    """No request fails, whatever its way and size; each host is asked nothing while it is away."""
    with haproxy(tmp_path, spoken.hosts) as front:
        with spoken.traffic(front) as load:
            rolled(spoken, front, load, 100)
        print(json.dumps(judged(load, least=300)))


def test_hosts_are_restarted_behind_nginx(tmp_path: Path) -> None:
    """It asks nobody how he is: a host that stops ends its connections, and the next is asked."""
    with Cluster(tmp_path).running() as cluster, nginx(tmp_path, cluster.hosts) as front:
        with cluster.traffic(front) as load:
            for number in (0, 1):
                load.until(100)
                cluster.stop(number)
                load.until(100)
                cluster.start(number)
                time.sleep(5.2)  # nginx's fail_timeout
            load.until(100)
        print(json.dumps(judged(load, least=500)))
