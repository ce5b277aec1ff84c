"""Two gateways behind HAProxy or nginx as etc/front has them, and what is done to one of them."""

from __future__ import annotations

import contextlib
import re
import socket
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from certificates import Authority
from crowd.asking import Asker
from crowd.replica import Replica
from crowd.steady import Steady
from er import keys, leaving
from fakes import free_port
from proxies import front_running, nginx_command, whole_nginx
from running import Gateway, model_folder

FOLDER = Path(__file__).parent.parent / "etc/front"
ADDRESS = "127.0.0.1"
NAMES = ("gpu1", "gpu2")
PATIENCE_S = 90.0
PROCESSES = "worker_processes 2;"  # of nginx, so that they have something to tell one another


class Front(NamedTuple):
    """A front that runs: its ports, and HAProxy's own socket."""

    port: int
    https: int
    admin: Path

    def state(self, host: str) -> str:
        """What HAProxy holds that host for: "UP", "DOWN", or either on its way to the other."""
        with socket.socket(socket.AF_UNIX) as link:
            if not self.admin.exists():
                return "not there yet"  # its ports are, a moment before
            link.connect(str(self.admin))
            link.sendall(b"show stat\n")
            text = b"".join(iter(lambda: link.recv(65536), b"")).decode()
        head, *lines = (line.split(",") for line in text.splitlines() if line)
        (row,) = (line for line in lines if line[:2] == ["er", host])
        return row[head.index("status")]

    def until(self, host: str, state: str) -> None:
        """Wait until HAProxy holds it for that."""
        end = time.monotonic() + PATIENCE_S
        while self.state(host) != state:
            assert time.monotonic() < end, f"{host} is {self.state(host)}, not {state}"
            time.sleep(0.05)


def put(text: str, *changes: tuple[str, str]) -> str:
    """The text with these words replaced, each of which stands there once."""
    for old, new in changes:
        assert text.count(old) == 1, f"{old!r}: {text.count(old)} times"
        text = text.replace(old, new)
    return text


def certificate(folder: Path, authority: Authority) -> tuple[Path, Path]:
    """A front's own: (certificate, key)."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "er.crt", folder / "er.key"
    for path, pem in zip(paths, authority.issue("localhost", ADDRESS), strict=True):
        path.write_bytes(pem)
    return paths


SERVERS = "".join(f"    server {name} 10.0.0.1{n}:2048\n" for n, name in enumerate(NAMES, 1))


def haproxy_config(folder: Path, to: Sequence[str], front: Front, *marks: str) -> str:
    """etc/front/haproxy.cfg before the hosts at these addresses.

    `marks`: which of its commented lines are in force, "tls" and "again".
    """
    both = certificate(folder, Authority("a front's authority"))
    (folder / "er.pem").write_bytes(b"".join(path.read_bytes() for path in both))
    text = (FOLDER / "haproxy.cfg").read_text(encoding="utf-8")
    assert text.count(SERVERS) == 2
    servers = SERVERS
    if "tls" in marks:
        text, _, lines = text.partition("\n# Over TLS")
        servers = "".join(re.findall(r"^#( .*\n)", lines, re.MULTILINE)[-3:])
        servers = put(servers, ("/etc/haproxy/er-ca.pem", str(folder / "hosts-ca.pem")))
        text = text.replace(SERVERS, servers)
    if "again" in marks:
        assert text.count("    #again ") == 2
        text = text.replace("    #again ", "    ")
    port = 2443 if "tls" in marks else 2048
    here = servers
    for n, address in enumerate(to, 1):
        here = put(here, (f"10.0.0.1{n}:{port}", address))
    assert text.count(servers) == 2
    changes = [("/etc/haproxy/er.pem", str(folder / "er.pem"))]
    changes += [("/run/haproxy/admin.sock", str(front.admin))]
    changes += [("bind :2048", f"bind :{front.port}"), ("bind :2443", f"bind :{front.https}")]
    return put(text.replace(servers, here), *changes)


@contextlib.contextmanager
def haproxy(folder: Path, hosts: Sequence[Gateway], *marks: str) -> Iterator[Front]:
    """HAProxy before these; `marks`: which of its commented lines are in force."""
    front = Front(free_port(), free_port(), folder / "haproxy.sock")
    to = [f"{ADDRESS}:{h.https_port if 'tls' in marks else h.port}" for h in hosts]
    config = folder / "haproxy.cfg"
    config.write_text(haproxy_config(folder, to, front, *marks))
    with front_running(["haproxy", "-db", "-f", str(config)], front.port, folder / "haproxy.log"):
        for name in NAMES:
            front.until(name, "UP")
        yield front


def nginx_config(folder: Path, to: Sequence[str], front: Front, source: str = "") -> str:
    """etc/front/nginx.conf before the hosts at these addresses; it asks them from `source`."""
    crt, key = certificate(folder, Authority("a front's authority"))
    text = (FOLDER / "nginx.conf").read_text(encoding="utf-8")
    changes = [(f"10.0.0.1{n}:2048", address) for n, address in enumerate(to, 1)]
    changes += [("/etc/nginx/er.crt", str(crt)), ("/etc/nginx/er.key", str(key))]
    changes += [("listen 2048", f"listen {front.port}"), ("listen 2443", f"listen {front.https}")]
    if source:
        changes += [("proxy_pass http://er;", f"proxy_pass http://er; proxy_bind {source};")]
    text = whole_nginx(folder, put(text, *changes))
    return put(text, ("master_process off;", PROCESSES))


@contextlib.contextmanager
def nginx(folder: Path, hosts: Sequence[Gateway], source: str = "") -> Iterator[Front]:
    """nginx before these; it asks them from `source`, an address of the loopback."""
    front = Front(free_port(), free_port(), folder)
    config = folder / "nginx.conf"
    to = [f"{ADDRESS}:{host.port}" for host in hosts]
    config.write_text(nginx_config(folder, to, front, source))
    with front_running(nginx_command(folder, config), front.port, folder / "nginx.log"):
        yield front


def _bound(port: int) -> socket.socket:
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind((ADDRESS, port))
    return held


class Mixed(Asker):
    """Mostly small requests, some batches."""

    def _size(self) -> int:
        return self._pick.randint(1, self._pick.choices((1, 4, 16, 64), (76, 14, 8, 2))[0])


class Cluster:
    """Two hosts of the same models and keys; `behind` them traffic through a front."""

    def __init__(self, folder: Path, kind: type[Gateway] = Gateway, **settings: Any) -> None:
        self.engines = [Replica(i, folder, 0, pooling_only=False, swaps=False) for i in range(2)]
        self.models = model_folder(folder / "embed"), model_folder(folder / "rank", limit=1024)
        settings = {"max_concurrency": 10_000, "trusted_proxies": [ADDRESS], **settings}
        self.hosts = [kind(folder / name, **settings) for name in NAMES]
        for host in self.hosts:
            host.models[0]["path"] = str(self.models[0])
            host.models.append({"name": "rank", "task": "score", "path": str(self.models[1])})
            for engine in self.engines:
                for name, model, port in zip(
                    engine.names, ("embed", "rank"), engine.ports, strict=True
                ):
                    url = f"http://{ADDRESS}:{port}"
                    host.replicas.append({"name": name, "model": model, "url": url})
        self._share_key()
        # Bound, so that no other test takes a port while a host is down, and not listening.
        self._held = [_bound(port) for h in self.hosts for port in (h.port, h.https_port)]

    def _share_key(self) -> None:
        """One key that both hosts know."""
        first, second = (host.state / "er_api_keys.json" for host in self.hosts)
        for path in (first, second):
            path.parent.mkdir(parents=True)
        made = keys.ensure_first(first, now=datetime.now(UTC))
        assert made is not None
        second.write_bytes(first.read_bytes())
        for host in self.hosts:
            host.key = made.secret

    @contextlib.contextmanager
    def running(self) -> Iterator[Cluster]:
        """All of it; ended after."""
        try:
            for engine in self.engines:
                engine.start()
            for number in range(len(self.hosts)):
                self.start(number, wait=False)
            for number in range(len(self.hosts)):
                self.until_answering(number)
            yield self
            for host in self.hosts:
                assert not host.mishaps(), host.text()[-3000:]
        finally:
            for host in self.hosts:
                host.kill()
            for held in self._held:
                held.close()
            for engine in self.engines:
                engine.kill()

    def traffic(self, front: Front, **more: Any) -> Steady:
        """Through the front, by all the ways that clients have but the local socket."""
        asker = Mixed(*self.models, seed=7, poisoned=0.0)
        key = self.hosts[0].key
        return Steady(front.port, [key], asker.make, unix=None, https=front.https, **more)

    # -- what is done to a host --------------------------------------------------------------

    def drain(self, number: int, why: str = "") -> None:
        """As `er drain HOST`."""
        (self.hosts[number].runtime / leaving.DRAINING).write_text(why)

    def undrain(self, number: int) -> None:
        (self.hosts[number].runtime / leaving.DRAINING).unlink()

    def stop(self, number: int) -> None:
        assert self.hosts[number].stop(timeout=PATIENCE_S) == 0, self.hosts[number].text()[-3000:]

    def start(self, number: int, *, wait: bool = True) -> None:
        self.hosts[number].start(wait=False)
        if wait:
            self.until_answering(number)

    def until_answering(self, number: int) -> None:
        """Wait until it says so, since its last start; a busy machine takes its time."""
        host = self.hosts[number]
        host.wait_for("answers at", PATIENCE_S, host.text().count("stopped") + 1)


def judged(load: Steady, *, least: int) -> dict[str, object]:
    """The report of traffic that lost nothing."""
    report = load.report()
    assert not report["said"], report
    assert report["sent"] == report["right"] and load.counts["right"] >= least, report
    return report
