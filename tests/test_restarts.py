"""Restarts and changes under 200 requests a second of mixed traffic: not one request fails.

Without systemd: the test holds the sockets, as systemd does. tests/whole has the same with it.
"""

from __future__ import annotations

import base64
import http.client
import json
import platform
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from crowd import steady
from crowd.asking import Asker
from crowd.replica import Replica
from crowd.steady import RATE, Steady
from er import __version__
from er.cli.generations import RELOAD_S
from er.tls import made
from held import Held
from running import model_folder

pytestmark = pytest.mark.slow
REPORT = Path(__file__).parent / "reports" / "restarts.json"


class Refused(Exception):  # noqa: N818 - an answer
    """The admin API's, of 4xx or 5xx."""


class Mixed(Asker):
    """Mostly small requests, some batches."""

    def _size(self) -> int:
        return self._pick.randint(1, self._pick.choices((1, 4, 16, 64), (76, 14, 8, 2))[0])


class World:
    """A gateway with stand-in engines, traffic, and everything that is done to it."""

    def __init__(self, folder: Path) -> None:
        self.engines = [Replica(i, folder, 0, pooling_only=False, swaps=False) for i in range(2)]
        self.gateway = Held(folder, workers=2, max_concurrency=10_000)
        ranker = model_folder(folder / "ranker", limit=1024)
        self.gateway.models.append({"name": "rank", "task": "score", "path": str(ranker)})
        for engine in self.engines:
            self._add(engine)
        certificate, key = folder / "tls/cert.pem", folder / "tls/key.pem"
        self.gateway.tls = {"certificate": str(certificate), "key": str(key)}
        self.pair = certificate, key
        made.write(made.self_signed(["localhost"], 30), *self.pair, force=True)
        asker = Mixed(folder / "model", ranker, seed=7, poisoned=0.0)
        self.keys: list[str] = []
        unix = self.gateway.runtime / "gateway.sock"
        https = self.gateway.https_port
        self.load = Steady(self.gateway.port, self.keys, asker.make, unix=unix, https=https)
        self.done: Counter[str] = Counter()
        self.took: dict[str, float] = {}  # the longest
        self._number = 0

    def _add(self, engine: Replica) -> None:
        for name, model, port in zip(engine.names, ("embed", "rank"), engine.ports, strict=True):
            url = f"http://127.0.0.1:{port}"
            self.gateway.replicas.append({"name": name, "model": model, "url": url})

    @contextmanager
    def running(self) -> Iterator[World]:
        """All of it; ended after, and then every request is judged."""
        try:
            for engine in self.engines:
                engine.start()
            while not all(engine.listens() for engine in self.engines):
                time.sleep(0.02)
            self.gateway.start()
            self.keys.append(self.gateway.key)
            self._change_key()
            with self.load:
                self.load.until(50)
                yield self
                self.load.until(50)
            assert self.gateway.stop() == 0
            assert not self.gateway.mishaps()
        finally:
            self.gateway.close()
            for engine in self.engines:
                engine.kill()

    def do(self, kind: str) -> None:
        """One change, and some more answers."""
        began = time.monotonic()
        KINDS[kind](self)
        self.done[kind] += 1
        self.took[kind] = max(self.took.get(kind, 0.0), time.monotonic() - began)
        self.load.until(20)
        judge(self)

    # -- what is done ------------------------------------------------------------------------

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the admin API, as patiently as `er reload` does. Raises Refused."""
        link = http.client.HTTPConnection("er", timeout=RELOAD_S)
        link.sock = socket.socket(socket.AF_UNIX)
        link.sock.settimeout(RELOAD_S)
        link.sock.connect(str(self.gateway.runtime / "admin.sock"))
        try:
            data = None if body is None else json.dumps(body)
            link.request(method, path, data, {"content-type": "application/json"})
            answer = link.getresponse()
            text = answer.read()
            if answer.status >= 300:
                raise Refused(text.decode())
            return json.loads(text) if text else None
        finally:
            link.close()

    def _restart(self) -> None:
        self.gateway.restart()

    def _interrupt(self) -> None:
        """A restart while new workers come up."""
        assert self.gateway.process is not None
        self.gateway.write_config()
        self.gateway.process.send_signal(signal.SIGHUP)
        time.sleep(0.3)
        self.gateway.restart()

    def _reload(self) -> Any:
        """As `er reload`."""
        self._number += 1
        self.gateway.write_config()
        return self.admin("POST", "/reload")

    def _workers(self) -> None:
        self.gateway.settings["workers"] = 3 - int(self.gateway.settings["workers"])  # type: ignore[call-overload]
        assert self._reload()["taken"]

    def _limits(self) -> None:
        """Of everything that a request is held against, larger than any here."""
        n = self._number
        self.gateway.settings |= {
            "max_concurrency": 10_000 + n,
            "rate_limit": f"{100_000 + n}/second",
        }
        self.gateway.settings |= {"max_body": f"{32 + n}MiB", "timeout": f"{600 + n}s"}
        self.gateway.settings |= {"max_inputs": 2048 + n, "max_documents": 10_000 + n}
        assert self._reload()["taken"]

    def _models(self) -> None:
        for model in self.gateway.models:
            model["aliases"] = [f"{model['name']}-{self._number}"]
        assert self._reload()["taken"]

    def _replicas(self) -> None:
        """The second of each model goes, or comes back."""
        names = self.engines[1].names
        kept = [r for r in self.gateway.replicas if r["name"] not in names]
        if len(kept) == len(self.gateway.replicas):
            self._add(self.engines[1])
        else:
            self.gateway.replicas = kept
        assert self._reload()["taken"]

    def _pages(self) -> None:
        settings = self.gateway.settings
        settings["docs"] = not settings.get("docs", True)
        settings["cors"] = ["https://app.example"] if not settings.get("cors") else []
        assert self._reload()["taken"]

    def _bad(self) -> None:
        """An er.toml that can't be used changes nothing."""
        self.gateway.write_config()
        good = self.gateway.config.read_text()
        self.gateway.config.write_text(good + "\n[gatway]\nx = 1\n")
        with pytest.raises(Refused, match="nothing was changed"):
            self.admin("POST", "/reload")
        self.gateway.config.write_text(good)

    def _storm(self) -> None:
        """Two reloads at once, and signals besides."""
        self.gateway.write_config()
        answers: list[Any] = []

        def ask() -> None:
            try:
                answers.append(self.admin("POST", "/reload"))
            except Refused as refused:
                answers.append(str(refused))

        asking = [threading.Thread(target=ask) for _ in range(2)]
        for thread in asking:
            thread.start()
        assert self.gateway.process is not None
        for _ in range(10):
            self.gateway.process.send_signal(signal.SIGHUP)
            time.sleep(0.02)
        for thread in asking:
            thread.join()
        assert any(isinstance(answer, dict) for answer in answers), answers
        refused = [answer for answer in answers if isinstance(answer, str)]
        assert all("another reload is under way" in answer for answer in refused), answers

    def _certificate(self) -> None:
        """As `er tls renew`."""
        pair = made.self_signed(["localhost", "127.0.0.1"], 30)
        made.write(pair, *self.pair, force=True)
        body = {k: base64.b64encode(getattr(pair, k)).decode() for k in pair.__struct_fields__}
        # The admin process looks at the files as well, as no systemd does.
        assert "fingerprint" in self.admin("POST", "/tls", body)

    def _change_key(self) -> None:
        """A key is made and used, another is rotated; what is taken away nobody uses any more."""
        self._number += 1
        new = self.admin("POST", "/keys", {"name": f"k{self._number}", "rate_limit": "off"})
        self.keys.append(new["secret"])
        rotated = self.admin("POST", f"/keys/{new['id']}/rotate", {"grace": "1h"})
        self.keys.append(rotated["secret"])
        self.admin(
            "PATCH", f"/keys/{new['id']}", {"rate_limit": f"{200_000 + self._number}/second"}
        )
        other = self.admin("POST", "/keys", {"name": f"gone{self._number}"})
        self.admin("DELETE", f"/keys/{other['id']}")


KINDS: dict[str, Callable[[World], Any]] = {
    "restart": World._restart,
    "restart amid a reload": World._interrupt,
    "reload": World._reload,
    "keys": World._change_key,
    "certificate": World._certificate,
    "workers": World._workers,
    "limits": World._limits,
    "models": World._models,
    "replicas": World._replicas,
    "pages": World._pages,
    "reloads at once": World._storm,
    "a bad er.toml": World._bad,
}


def judge(world: World) -> None:
    """Every request was answered, and right."""
    report = world.load.report()
    assert not report["said"], report


def done(folder: Path, kinds: Sequence[str]) -> dict[str, Any]:
    """The report of these changes, one after the other."""
    with World(folder).running() as world:
        for kind in kinds:
            world.do(kind)
    judge(world)
    report = world.load.report()
    assert report["sent"] == report["right"] > 1000, report
    assert sum(world.done.values()) == len(kinds)
    longest = {kind: round(seconds, 1) for kind, seconds in world.took.items()}
    return {"done": dict(world.done), "longest_s": longest, "requests_s": RATE} | report


class Plain(NamedTuple):
    """A request whose every answer is right."""

    path: str = "/"
    body: bytes = b"{}"

    @staticmethod
    def check(_: object) -> str | None:
        return None


class Endings:
    """A server that answers each connection once. Then it ends it, before the next request comes
    (`look` is that moment) or, if it `drops`, when that has come."""

    def __init__(self, unix: Path, *, drops: bool) -> None:
        self._drops, self._idle, self._lock = drops, list[socket.socket](), threading.Lock()
        self._local = socket.socket(socket.AF_UNIX)
        self._local.bind(str(unix))
        self._local.listen(100)
        self._tcp = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.port = int(self._tcp.getsockname()[1])
        for server in (self._local, self._tcp):
            threading.Thread(target=self._accept, args=(server,), daemon=True).start()

    def _accept(self, server: socket.socket) -> None:
        with suppress(OSError):  # it is closed
            while True:
                link = server.accept()[0]
                threading.Thread(target=self._serve, args=(link,), daemon=True).start()

    def _serve(self, link: socket.socket) -> None:
        whole = b""
        while not whole.endswith((b"{}", b"0\r\n\r\n")):
            whole += link.recv(65536)
        with self._lock:  # who has the answer finds the connection idle
            link.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
            if not self._drops:
                self._idle.append(link)
                return
        link.recv(65536)
        link.close()

    def look(self, _: object) -> bool:
        """What a client sees that looks just before the ends come."""
        with self._lock:
            for link in self._idle:
                link.close()
            self._idle.clear()
        return False

    def close(self) -> None:
        for server in (self._local, self._tcp):
            server.shutdown(socket.SHUT_RDWR)
            server.close()


@pytest.mark.parametrize("drops", [False, True])
def test_only_what_the_server_never_had_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drops: bool
) -> None:
    """The traffic itself: a request that a server drops is lost, however it ends."""
    server = Endings(tmp_path / "er.sock", drops=drops)
    monkeypatch.setattr(steady, "_readable", server.look)
    monkeypatch.setattr(steady, "MODES", {"kept": 50, "unix": 50})
    with Steady(server.port, ["key"], Plain, unix=tmp_path / "er.sock") as load:
        load.until(100)
    server.close()
    report = load.report()
    assert (report["again"] == 0, report["failed"] == 0) == (drops, not drops), report


@pytest.mark.timeout(600)
def test_twenty_changes_lose_nothing(tmp_path: Path) -> None:
    again = ("restart", "replicas", "certificate", "workers", *["keys"] * 4)
    print(json.dumps(done(tmp_path, (*KINDS, *again))))


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_two_hundred_changes_lose_nothing(tmp_path: Path) -> None:
    report = done(tmp_path, ([*KINDS] * 200)[:200])
    made_with = {"er": __version__, "python": platform.python_version()}
    finished = datetime.now(UTC).isoformat(timespec="seconds")
    report |= {"finished": finished, "versions": made_with}
    REPORT.write_text(json.dumps(report, indent=1) + "\n")
