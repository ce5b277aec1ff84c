"""Secrets are nowhere but in a client's request: no log, record, file, argument or environment."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import re
import secrets as chance
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from er import config, journal, keys
from er.batches import Store
from er.cache import Cache
from er.gateway import Gateway as Room
from er.gateway.batches import Shelf
from er.gateway.bounded import Bounded
from er.gateway.served import Served
from er.gateway.tally import Tally
from er.gateway.work import Workshop
from er.keys import Keys, record
from er.keys.imported import Found
from er.ledger import Ledger
from er.limits import Limits
from er.usage.meter import Meter
from fakes import EngineProcess
from running import DIMENSIONS, Gateway, model_folder

TOP = Path(__file__).parent.parent
NOW = datetime.now(UTC)
ODD = "Q7/x+" + chance.token_hex(12) + "==~!$'()*,;"  # an imported key of another shape
PLAIN = "sk-" + chance.token_hex(24)  # imported
STRANGE = "pk_live_" + chance.token_hex(16)  # opens nothing here
LOUD = """
import logging, sys
before = logging.basicConfig
def loud(**_):
    before(stream=sys.stdout, level=1, force=True, format="LOUD %(name)s %(message)s")
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi", "asyncio"):
        logging.getLogger(name).setLevel(1)
logging.basicConfig = loud
"""


def take_in(path: Path) -> None:
    """ODD and PLAIN as imported keys."""
    found = [Found("line 1", "odd", ODD), Found("line 2", "plain", PLAIN)]
    how: dict[str, Any] = {"now": NOW, "expires": None, "allow_weak": False, "dry_run": False}
    keys.import_keys(path, found, fields={}, **how)


class Tapped:
    """A way to an engine on which all that the gateway says is kept."""

    def __init__(self, address: str) -> None:
        self._to = address.removeprefix("http://").split(":")
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.heard = bytearray()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                link, _ = self._listening.accept()
                engine = socket.create_connection((self._to[0], int(self._to[1])))
                for ends in ((link, engine, self.heard), (engine, link, bytearray())):
                    threading.Thread(target=self._pass, args=ends, daemon=True).start()

    def _pass(self, one: socket.socket, other: socket.socket, kept: bytearray) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                kept += data
                other.sendall(data)
        with contextlib.suppress(OSError):
            other.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._listening.close()


@pytest.fixture(scope="module")
def tapped() -> Iterator[Tapped]:
    """The one way to the engine of `running`."""
    with EngineProcess(dim=DIMENSIONS) as engine:
        tap = Tapped(engine.address)
        yield tap
        tap.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, tapped: Tapped) -> Iterator[Gateway]:
    """A gateway of two workers in which every logger says all it has to say."""
    folder = tmp_path_factory.mktemp("gw")
    (folder / "loud").mkdir()
    (folder / "loud/sitecustomize.py").write_text(LOUD)
    path = os.environ.get("PYTHONPATH", "")
    with contextlib.ExitStack() as stack:
        started = Gateway(folder, workers=2)
        started.replicas = [{"name": "e0", "model": "embed", "url": tapped.address}]
        stack.callback(started.kill)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONPATH", f"{folder / 'loud'}{os.pathsep}{path}")
            started.state.mkdir()
            take_in(started.state / "er_api_keys.json")
            started.start()
        made = keys.create(started.state / "er_api_keys.json", name="own", now=NOW)
        started.key = made.secret
        yield started


def forms(secret: str) -> list[str]:
    """As it is, and as it is written in addresses and headers."""
    basic = base64.b64encode(f"x:{secret}".encode()).decode()
    return [secret, quote(secret), quote(secret, safe=""), basic]


def found_in(text: str, secret: str) -> str:
    """Where the secret stands in the text; "" where it does not."""
    for form in forms(secret):
        at = text.find(form)
        if at >= 0:
            return text[max(0, at - 200) : at + 100]
    return ""


def raw(running: Gateway, data: bytes) -> bytes:
    """What the gateway says to bytes that no client library sends."""
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as link:
        link.sendall(data)
        link.shutdown(socket.SHUT_WR)
        said = b""
        with contextlib.suppress(OSError):
            while piece := link.recv(65536):
                said += piece
        return said


def ask_in_every_way(running: Gateway, secret: str) -> None:
    """With the key where it belongs, and where clients put it by mistake; twice for two workers."""
    query, whole = f"api_key={quote(secret, safe='')}", quote(secret, safe="")
    for _ in range(2):
        running.embed(key=secret)
        running.embed(key=secret, headers={"x-request-id": secret})
        running.ask("GET", f"/v1/models?{query}", key=None)
        running.ask("POST", f"/v1/embeddings?{query}", {"model": "embed", "input": 7}, key=None)
        running.ask("POST", "/v1/embeddings", {"model": secret, "input": "x"}, key=secret)
        running.ask("GET", f"/{whole}?{query}", key=None)
        running.ask("GET", f"/v1/models/{whole}", key=secret)
        running.ask("POST", f"/{whole}/v1/embeddings?{query}", {}, key=None)
        running.ask("GET", f"/health?{query}", key=None)
        running.ask("GET", "/v1/models", key=None, headers={"authorization": f"Basic {secret}"})
        if secret != STRANGE:  # what is no key of this server is known by its place alone
            running.ask("POST", "/v1/embeddings", {"model": secret, "input": "x"})
            running.ask("GET", f"/v1/files/{whole}")
            running.ask("POST", f"/{whole}/v1/embeddings", {}, key=None)
            running.ask("OPTIONS", f"/v1/models/{whole}", key=None)
            running.ask("DELETE", f"/v1/embeddings/{whole}", key=None)
        head = f"POST /v1/embeddings?{query} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {secret}"
        for rest in (
            "\r\nbroken\r\n\r\n",
            "\r\ncontent-length: 5, 6\r\n\r\nhello",
            "\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            f"\r\nx: {'y' * 40_000}\r\n\r\n",
            "\r\ncontent-length: 50\r\n\r\nshort",
            "\r\ncontent-length: 99999999999\r\n\r\n",
            "\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\nabcd",
        ):
            raw(running, (head + rest).encode())
        raw(running, f"{secret} / HTTP/1.1\r\n\r\n".encode())
        raw(running, f"{secret}\r\n\r\n".encode())
        raw(running, f"GET /{secret} {secret} HTTP/9.9\r\n\r\n".encode())


@pytest.mark.parametrize("which", ["own", "plain", "odd", "strange"])
def test_a_key_is_written_nowhere(running: Gateway, tapped: Tapped, which: str) -> None:
    """Not in any process's lines at any level, the audit, metrics or a file; no engine hears it."""
    secret = {"own": running.key, "plain": PLAIN, "odd": ODD, "strange": STRANGE}[which]
    before = len(running.audit())
    ask_in_every_way(running, secret)
    reader = keys.create(
        running.state / "er_api_keys.json", name=f"r {which}", now=NOW, scopes=["admin-read"]
    ).secret
    pages = [running.ask("GET", "/metrics").body]
    pages += [
        running.ask("GET", f"/v1/er/{page}", key=reader).body
        for page in ("status", "keys", "traffic?seconds=300")
    ]
    time.sleep(1.2)  # what is counted twice a second is in its files
    assert len(running.audit()) > before + 20
    assert "LOUD" in running.text()
    assert not found_in(running.text(), secret)
    assert b"POST" in tapped.heard
    assert not found_in(tapped.heard.decode("latin-1"), secret)
    for page in pages:
        assert not found_in(page.decode(), secret)
    for path in running.folder.rglob("*"):
        if path.is_file():
            assert not found_in(path.read_bytes().decode("latin-1"), secret), path


def test_a_key_stands_in_no_process_s_arguments_or_environment(running: Gateway) -> None:
    """Of the parent, its children and theirs."""
    assert running.process is not None
    pids, at = [running.process.pid], 0
    while at < len(pids):
        task = Path(f"/proc/{pids[at]}/task/{pids[at]}/children")
        pids += [int(pid) for pid in task.read_text().split()]
        at += 1
    assert len(pids) >= 5  # itself, the nest, the admin process, two workers
    for pid in pids:
        for file in ("cmdline", "environ"):
            text = Path(f"/proc/{pid}/{file}").read_bytes().decode("latin-1")
            for secret in (running.key, PLAIN, ODD):
                assert not found_in(text, secret), (pid, file)


def test_no_command_takes_a_secret_as_an_argument() -> None:
    """They are read from files and made here, so none is in a process list or a shell's history."""
    text = subprocess.run(
        [sys.executable, "-m", "er.cli", "keys", "import", "--help"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "FILE" in text
    options = re.findall(r"--[a-z-]+", text)
    assert not [o for o in options if "secret" in o or o in ("--key", "--api-key")]


# -- tracebacks --------------------------------------------------------------------------------


class Broken:
    """Engines that fail with the client's secret in the error's text."""

    async def run(self, *_: Any, **__: Any) -> Any:
        raise KeyError(f"{ODD} {STRANGE}")

    def demand(self, model: str) -> None:
        raise ValueError(STRANGE)


def fails(*_: Any, **__: Any) -> Any:
    raise RuntimeError(f"in the text: {ODD}, {PLAIN}, {STRANGE}")


LAYERS: dict[str, Callable[[Room], tuple[object, str]]] = {
    "keys": lambda room: (room._checks._keys, "check"),
    "checks": lambda room: (room._checks, "check_rate"),
    "dialects": lambda room: (room._workshop, "read"),
    "served": lambda room: (room._served, "find"),
    "prompts": lambda room: (room._workshop, "prompt"),
    "engines": lambda room: (room._workshop, "compute"),
    "writing": lambda room: (room._workshop, "write"),
}


@pytest.mark.parametrize("layer", ["replicas", *LAYERS])
@pytest.mark.parametrize("secret", [ODD, STRANGE], ids=["imported", "strange"])
async def test_a_traceback_has_no_key_in_it(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    layer: str,
    secret: str,
) -> None:
    """Whichever layer fails with the secret in the error's text."""
    monkeypatch.setattr(journal, "_mishaps", journal.Seldom())
    monkeypatch.setattr(journal, "_hide", [])
    take_in(tmp_path / "keys.json")
    known = Keys(tmp_path / "keys.json")
    journal.hide(known.blotted)
    assert known.check(ODD, NOW) and known.check(PLAIN, NOW)
    model_folder(tmp_path / "m")
    text = f'[[model]]\nname = "m"\ntask = "embed"\npath = "{tmp_path / "m"}"\n'
    served = Served(config.parse(text, tmp_path / "er.toml"))
    await served.load_once(lambda name: None)
    ledger, limits = Ledger.open(tmp_path / "ledger", []), Limits.open(tmp_path / "limits")
    ledger.claim(0)
    engines: Any = Broken()
    room = Room(
        served=served,
        keys=known,
        limits=limits,
        ledger=ledger,
        tally=Tally(ledger, limits),
        workshop=Workshop(served, engines, Cache(served.config, tmp_path / "c", tmp_path)),
        audit=journal.Audit(),
        shelf=Shelf(Store(tmp_path / "b", quota=0, keep_s=60), served.config.batches),
        bounded=Bounded(limits, Meter(tmp_path / "usage").months),
    )
    if layer != "replicas":
        place, name = LAYERS[layer](room)
        monkeypatch.setattr(place, name, fails)
    # A strange key opens nothing, so who sends it comes in by the socket that asks for none.
    client = ("uid:0", 1) if secret == STRANGE and layer != "keys" else ("10.0.0.7", 1)
    scope = {
        "type": "http",
        "method": "POST",
        "raw_path": b"/v1/embeddings",
        "query_string": f"api_key={quote(secret)}".encode(),
        "headers": [(b"authorization", f"Bearer {secret}".encode()), (b"content-length", b"14")],
        "client": client,
    }
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b'{"input": "x"}', "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await room(scope, receive, send)
    await asyncio.to_thread(room._audit.close)
    said = capfd.readouterr().out
    assert sent[0]["status"] == 500, said
    assert "unexpected" in said and '"STATUS":500' in said
    assert not found_in(said, secret)
    assert not found_in(said, ODD)
    assert not found_in(sent[1]["body"].decode(), secret)


# -- memory ------------------------------------------------------------------------------------


def test_no_process_of_the_gateway_dumps_core() -> None:
    """And its parent goes on seeing it where a unit hides others' processes."""
    code = (
        "import ctypes, inspect, resource; from er import worker; worker._keep_memory_closed(); "
        "print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), resource.getrlimit(resource.RLIMIT_CORE)); "
        "print(inspect.getsource(worker.main))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    # Not by PR_SET_DUMPABLE 0: its folder in /proc would be root's, and hidden from its parent.
    assert out[0] == "1 (0, 0)"
    assert out[3].strip() == "_keep_memory_closed()"
    for unit in ("er-gateway.service", "er-vllm@.service"):
        assert "LimitCORE=0" in (TOP / "units" / unit).read_text(), unit


# -- comparing ---------------------------------------------------------------------------------


def test_secrets_are_compared_in_constant_time_and_only_as_hashes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hmac.compare_digest, whole hashes, the old secret's too; `==` sees no two secrets."""
    path = tmp_path / "keys.json"
    take_in(path)
    made = keys.create(path, name="web", now=NOW)
    turned = keys.rotate(path, "web", grace_s=3600, now=NOW)
    real, compared = record.hmac.compare_digest, []

    def compare(one: str, other: str) -> bool:
        compared.append((one, other))
        return real(one, other)

    class Watched(str):
        """A secret that notes what it is compared with."""

        __slots__ = ()
        seen: list[object] = []  # noqa: RUF012 - of all of them
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            Watched.seen.append(other)
            return str.__eq__(self, other)

    monkeypatch.setattr(record.hmac, "compare_digest", compare)
    known = Keys(path)
    for secret in (turned.secret, made.secret, ODD, PLAIN):
        assert known.check(secret, NOW) is not None
    for right, hashes in ((turned.secret, 2), (made.secret, 2), (ODD, 0), (PLAIN, 0)):
        wrong = right[:-1] + ("A" if right[-1] != "A" else "B")
        compared.clear()
        assert known.check(Watched(wrong), NOW) is None
        # One of an id is compared with both of its hashes; of an imported one there is no id.
        assert len(compared) == hashes
        assert {len(text) for pair in compared for text in pair} <= {64}
        assert {other for _, other in compared} <= {record.digest(wrong)}
    assert not Watched.seen
    again = Keys(path)
    compared.clear()
    assert again.check(ODD, NOW) is not None
    assert compared == [(record.digest(ODD), record.digest(ODD))]
