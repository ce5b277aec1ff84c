"""Two front machines with keepalived and HAProxy, by etc/front's files as they are: one goes.

Real processes in network namespaces; the address moves, and clients go on.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from certificates import Authority
from front import FOLDER, PATIENCE_S, Cluster, certificate, put
from front_lan import CLIENT, FRONTS, HOSTS, SHARED, Machine, network
from running import Gateway

pytestmark = pytest.mark.slow
MOVED_S = 15.0  # on a busy machine; 2 to 4 s otherwise


class Host(Gateway):
    """A gateway on an address of the network's own, at the port that etc/front names."""

    number = 0

    def __init__(self, folder: Path, engines: Any = (), **gateway: Any) -> None:
        super().__init__(folder, engines, **gateway)
        self.address = HOSTS[Host.number]
        Host.number = 1 - Host.number

    def write_config(self) -> None:
        super().write_config()
        text = self.config.read_text()
        self.config.write_text(put(text, (f"127.0.0.1:{self.port}", f"{self.address}:2048")))


def waited(until: Callable[[], bool], within_s: float = MOVED_S) -> float:
    """Wait for it; how long that took."""
    began = time.monotonic()
    while not until():
        assert time.monotonic() - began < within_s
        time.sleep(0.05)
    return time.monotonic() - began


def embeds(key: str) -> int:
    """One request to the shared address: its status, 0 where nobody answers."""
    link = http.client.HTTPConnection(SHARED, 2048, timeout=2)
    try:
        body = json.dumps({"model": "embed", "input": "who is there?"})
        link.request("POST", "/v1/embeddings", body, {"authorization": f"Bearer {key}"})
        return link.getresponse().status
    except OSError:
        return 0
    finally:
        link.close()


def start_haproxy(machine: Machine, folder: Path) -> None:
    own = folder / machine.name
    if not own.exists():
        pair = certificate(own, Authority())
        (own / "er.pem").write_bytes(b"".join(path.read_bytes() for path in pair))
        text = put(
            (FOLDER / "haproxy.cfg").read_text(),
            ("/etc/haproxy/er.pem", f"{own}/er.pem"),
            ("/run/haproxy/admin.sock", f"{own}/admin.sock"),
        )
        (own / "haproxy.cfg").write_text(text)
    command = ["haproxy", "-db", "-f", f"{own}/haproxy.cfg"]
    machine.start("haproxy", command, folder / f"{machine.name}.haproxy")


def start_keepalived(machine: Machine, folder: Path) -> None:
    file, own = FOLDER / "keepalived.conf", folder / machine.name
    machine.run("keepalived", "--config-test", "-i", machine.name, "-f", str(file))
    command = ["keepalived", "-n", "-l", "-G", "-P", "-i", machine.name, "-f", str(file)]
    command += ["-p", f"{own}/keepalived.pid", "-r", f"{own}/vrrp.pid"]
    machine.start("keepalived", command, folder / f"{machine.name}.keepalived")


def clients(cluster: Cluster) -> set[str]:
    """Who was answered, by the audit."""
    records = [r for host in cluster.hosts for r in host.audit()]
    return {r["CLIENT"] for r in records if r["PATH"] == "/v1/embeddings" and r["STATUS"] == 200}


def test_the_address_moves_when_a_front_goes(tmp_path: Path) -> None:
    """A dead HAProxy, one that is back, a dead machine: the other has the address at once."""
    settings = {"trusted_proxies": list(FRONTS.values()), "proxy_protocol": True}
    with network() as machines, Cluster(tmp_path, Host, **settings).running() as cluster:
        first, second = machines.values()
        key = cluster.hosts[0].key

        def holds(holder: Machine) -> bool:
            return [m.has_address() for m in machines.values()] == [
                m is holder for m in machines.values()
            ]

        for machine in machines.values():
            start_haproxy(machine, tmp_path)
            start_keepalived(machine, tmp_path)
        waited(lambda: holds(first), PATIENCE_S)
        waited(lambda: embeds(key) == 200, PATIENCE_S)
        waited(lambda: clients(cluster) == {CLIENT}, PATIENCE_S)
        first.kill("haproxy")
        took = [waited(lambda: holds(second)), waited(lambda: embeds(key) == 200)]
        assert [embeds(key) for _ in range(20)] == [200] * 20
        start_haproxy(first, tmp_path)
        took += [waited(lambda: holds(first)), waited(lambda: embeds(key) == 200)]
        first.unplug()
        took += [waited(lambda: embeds(key) == 200)]
        assert second.has_address()
        assert [embeds(key) for _ in range(20)] == [200] * 20
        print(json.dumps([round(seconds, 1) for seconds in took]))
