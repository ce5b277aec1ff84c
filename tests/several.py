"""Several hosts on one machine: real gateways with their own folders, that know of each other."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx

from er.tls import made_own, own
from fakes import EngineProcess, free_port
from running import DIMENSIONS, Gateway, Reply

SECRET = "of-all-hosts"


class Host(Gateway):
    """One host: a gateway with [state] and [host]. Nobody is at that Valkey: its files are here."""

    def __init__(
        self, folder: Path, name: str, engines: Sequence[EngineProcess] = (), **settings: Any
    ) -> None:
        folder.mkdir()
        super().__init__(folder, engines, **settings)
        self.name, self.host_port = name, free_port()
        self.reached = f"127.0.0.1:{self.host_port}"  # what others are told; a test may change it
        self.state.mkdir()
        self.runtime.mkdir()
        made_own.care(self.state, name)

    def write_config(self) -> None:
        super().write_config()
        text = '\n[state]\nurl = "valkey://127.0.0.1:1"\n'
        text += f'\n[host]\nname = "{self.name}"\nlisten = ["127.0.0.1:{self.host_port}"]\n'
        self.config.write_text(self.config.read_text() + text)

    def certificates(self) -> list[str]:
        return own.announced(self.state)

    def knows(self, others: Sequence[Host], secret: Sequence[str] = (SECRET,)) -> None:
        """Have it use all replicas of `others` from its next generation on."""
        known = {
            "form": 1,
            "secret": list(secret),
            "hosts": {
                host.name: {"address": host.reached, "certificates": host.certificates()}
                for host in others
            },
        }
        _put(self.runtime / "hosts.json", json.dumps(known), 0o600)
        text = ""
        for host in others:
            for replica in host.replicas:
                name, model = f"{replica['name']}@{host.name}", replica["model"]
                text += f'[[replica]]\nname = "{name}"\nmodel = "{model}"\n'
                text += f'url = "https://{host.reached}"\n\n'
        _put(self.runtime / "members.toml", text, 0o644)

    def reload(self) -> None:
        """A new generation, as for who joined or left."""
        assert self.process is not None
        said = self.runtime / "generation.json"
        before = json.loads(said.read_text())["served"]
        self.process.send_signal(signal.SIGHUP)
        until = time.monotonic() + 20
        while json.loads(said.read_text())["served"] == before:
            assert time.monotonic() < until, self.text()[-3000:]
            time.sleep(0.02)

    def states(self) -> dict[str, str]:
        """Of each replica of its model, by name, as /health has them."""
        models = json.loads(self.ask("GET", "/health", key=None).body)["models"]
        return {r["name"]: r["state"] for m in models for r in m["replicas"]}

    def admin(self, method: str, path: str) -> int:
        """One request to the admin API; returns its status."""
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(self.runtime / "admin.sock"))) as c:
            return c.request(method, f"http://er{path}", timeout=20).status_code

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
        return str(rows[replica].get("reason", ""))

    def until_up(self, *replicas: str, state: str = "up") -> None:
        until = time.monotonic() + 40
        while any(self.states().get(name) != state for name in replicas):
            assert time.monotonic() < until, (self.states(), [self.why(r) for r in replicas])
            time.sleep(0.05)


def _put(path: Path, text: str, mode: int) -> None:
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text)
    fresh.chmod(mode)
    fresh.replace(path)


@contextlib.contextmanager
def hosts(
    folder: Path, engines: Sequence[int], *, start: bool = True, **settings: Any
) -> Iterator[list[Host]]:
    """Running hosts gpu1, gpu2, …, each with that many stand-in engines, that know of each other.

    Without `start` they don't run yet.
    """
    with contextlib.ExitStack() as stack:
        found: list[Host] = []
        for number, count in enumerate(engines, 1):
            started = [stack.enter_context(EngineProcess(dim=DIMENSIONS)) for _ in range(count)]
            host = Host(folder / f"gpu{number}", f"gpu{number}", started, **settings)
            found.append(host)
            stack.callback(host.kill)
        for host in found:
            host.knows([other for other in found if other is not host])
            if start:
                host.start(wait=False)
        for host in found if start else ():
            host.wait_for("answers at")
            host.key = (host.secrets() or [""])[-1]
        for host in found if start else ():
            host.until_up(*host.states())
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
