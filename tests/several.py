"""Several hosts on one machine: real gateways with their own folders, that know of each other."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from fakes import EngineProcess, free_port
from faulty_link import FaultyLink
from hosts.valkeys import Valkey
from running import DIMENSIONS, Gateway, Reply


class Host(Gateway):
    """One host: a gateway with [state] and [host]."""

    def __init__(
        self, folder: Path, name: str, server: Valkey, engines: Sequence[EngineProcess]
    ) -> None:
        folder.mkdir()
        super().__init__(folder, engines)
        self.name, self.host_port = name, free_port()
        address = f"127.0.0.1:{self.host_port}"
        self.shared = {
            "state": {"url": server.url},
            "host": {"name": name, "listen": [address], "address": address},
        }

    def states(self) -> dict[str, str]:
        """Of each replica of its model, by name, as /health has them."""
        models = json.loads(self.ask("GET", "/health", key=None).body)["models"]
        return {r["name"]: r["state"] for m in models for r in m["replicas"]}

    def admin(self, method: str, path: str) -> int:
        """One request to the admin API; returns its status."""
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(self.runtime / "admin.sock"))) as c:
            return c.request(method, f"http://er{path}", timeout=20).status_code

    def create_key(self, name: str = "clients", **more: Any) -> str:
        """A new key's secret."""
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(self.runtime / "admin.sock"))) as c:
            answer = c.post("http://er/keys", json={"name": name, **more}, timeout=20)
        return str(answer.json()["secret"])

    def status_of(self, replica: str) -> dict[str, Any]:
        """What GET /status of the admin API says of a replica."""
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(self.runtime / "admin.sock"))) as c:
            models = c.get("http://er/status", timeout=20).json()["models"]
        rows = {r["name"]: r for m in models for r in m["replicas"]}
        found: dict[str, Any] = rows[replica]
        return found

    def why(self, replica: str) -> str:
        models = json.loads(self.ask("GET", "/health", key=None).body)["models"]
        rows = {r["name"]: r for m in models for r in m["replicas"]}
        return str(rows.get(replica, {}).get("reason", ""))

    def until_up(self, *replicas: str, state: str = "up") -> None:
        until = time.monotonic() + 40
        while any(self.states().get(name) != state for name in replicas):
            assert time.monotonic() < until, (self.states(), [self.why(r) for r in replicas])
            time.sleep(0.05)


class Several(list[Host]):
    """Hosts gpu1, gpu2, …, and the Valkey that they share."""

    server: Valkey

    def known(self) -> None:
        """Wait until each uses the replicas of all."""
        for host in self:
            wanted = {f"{r['name']}@{o.name}" for o in self if o is not host for r in o.replicas}
            host.until_up(*wanted, *(str(r["name"]) for r in host.replicas))

    def one_key(self) -> None:
        """Give them a key that all of them know: of those that each made, one host's may count."""
        until = time.monotonic() + 40
        made = self[0].create_key()
        while any(host.ask("GET", "/v1/models", key=made).status != 200 for host in self):
            assert time.monotonic() < until, "the key does not come to all hosts"
            time.sleep(0.1)
        for host in self:
            host.key = made


@contextlib.contextmanager
def hosts(
    folder: Path,
    engines: Sequence[int],
    *,
    links: Mapping[str, FaultyLink] | None = None,
    batches: Mapping[str, Any] | None = None,
) -> Iterator[Several]:
    """Running hosts, each with that many stand-in engines, that use each other's replicas.

    `links`: by which the others reach a host, by its name; `batches`: what er.toml says of them.
    """
    with contextlib.ExitStack() as stack:
        found = Several()
        found.server = Valkey(folder / "valkey")
        found.server.start()
        stack.callback(found.server.kill)
        for number, count in enumerate(engines, 1):
            started = [stack.enter_context(EngineProcess(dim=DIMENSIONS)) for _ in range(count)]
            name = f"gpu{number}"
            host = Host(folder / name, name, found.server, started)
            if (link := (links or {}).get(name)) is not None:
                link.leads_to(host.host_port)
                host.shared["host"]["address"] = link.address.removeprefix("http://")
            host.batches = dict(batches or {})
            found.append(host)
            stack.callback(host.kill)
            host.start(wait=False)
        for host in found:
            host.wait_for("answers at")
        found.known()
        found.one_key()
        yield found


class Clients:
    """Threads that ask one host for embeddings of texts, and keep the replies."""

    def __init__(self, host: Host, count: int, texts: Sequence[str], items: int = 1) -> None:
        self.host, self.items = host, items
        self.replies: dict[int, Reply | Exception] = {}
        self._left = iter(range(0, len(texts), items))
        self._texts, self._lock = texts, threading.Lock()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(count)]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.join(120)
            assert not thread.is_alive()

    def _work(self) -> None:
        link = self.host.connection(60.0)
        while True:
            with self._lock:
                at = next(self._left, None)
            if at is None:
                link.close()
                return
            texts = list(self._texts[at : at + self.items])
            try:
                self.replies[at] = self.host.embed(texts, connection=link)
            except Exception as error:  # told by the test
                self.replies[at] = error
                link.close()
                link = self.host.connection(60.0)


def end_at_once(host: Host) -> None:
    """As when its power goes: nothing is said to anyone."""
    assert host.process is not None
    children = host.children()
    for pid in [host.process.pid, *children]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    host.process.wait()
