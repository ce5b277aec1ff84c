"""ER as the benches run it: a real er-gateway with keys, limits and Qwen3's tokenizer on."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from measure import CACHE, HERE, TOP, BenchError, cpu_s, listens, process, wait_for

from fakes import free_port
from running import Gateway, model_folder

RATE = "4000000000/minute"  # high enough never to refuse; the decision is made all the same
SETTLED, SETTLE_MOST_S = 0.08, 30  # of a core while idle; seconds


class Er(Gateway):
    """er-gateway in a folder of its own; `audit`: the socket where its records go, or off."""

    def __init__(self, folder: Path, audit: Path | Literal["off"], workers: int) -> None:
        super().__init__(folder, workers=workers, rate_limit=RATE)
        self._audit_to, self.more = audit, ""
        self.key = ""

    def write_config(self) -> None:
        super().write_config()
        with self.config.open("a") as file:
            file.write(self.more)

    def environment(self) -> dict[str, str]:
        path = [str(HERE / "shim"), str(TOP / "daemon"), str(TOP / "tui")]
        more = {"ER_BENCH_AUDIT": str(self._audit_to), "PYTHONPATH": ":".join(path)}
        # With a journal's socket records are sent as under systemd; JSON lines cost more.
        more |= {"JOURNAL_STREAM": "1:1"} if self._audit_to != "off" else {}
        return super().environment() | more

    def secrets(self) -> list[str]:
        # With a journal each line begins with its level, so a key may not begin a word.
        return re.findall(r"sk-er-k[0-9A-Za-z_-]+", self.text())

    @property
    def pid(self) -> int:
        """The parent's, of which all others are children."""
        assert self.process is not None
        return self.process.pid

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    def until_it_answers(self, body: dict[str, Any], path: str, seconds: float) -> None:
        """Until the request is answered 200 and every process has settled. Raises BenchError."""
        until = time.monotonic() + seconds
        while (reply := self.ask("POST", path, body)).status != 200:
            if time.monotonic() > until:
                raise BenchError(f"ER answers {reply.status}: {reply.body[:300]!r}")
            time.sleep(0.2)
        admin = self.runtime / "admin.sock"
        while not (admin.exists() and self.children("er.admin")) and time.monotonic() < until:
            time.sleep(0.05)
        # The admin process loads for a second and more, which would be counted with the requests.
        used = cpu_s(self.pid)
        for _ in range(SETTLE_MOST_S):
            time.sleep(1.0)
            before, used = used, cpu_s(self.pid)
            if used - before < SETTLED:
                return
        print(f"bench: ER uses {used - before:.2f} of a core while idle", file=sys.stderr)


def qwen_folder(path: Path, dim: int) -> Path:
    """A model folder with Qwen3's own tokenizer, for vectors of `dim`; no weights."""
    model_folder(path, limit=32768, dimensions=dim)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(CACHE / "tiny-embed" / name, path)
    known = json.loads((path / "config.json").read_text())
    real = json.loads((CACHE / "tiny-embed" / "config.json").read_text())
    known["vocab_size"] = real["vocab_size"]
    (path / "config.json").write_text(json.dumps(known))
    return path


def sink_count(folder: Path) -> int:
    """How many audit records came into the sink of a bench's folder so far."""
    return int.from_bytes((folder / "audit.count").read_bytes(), "little")


@contextlib.contextmanager
def audit_sink(folder: Path) -> Iterator[Path]:
    """A datagram socket that takes audit records in the journal's place; its path."""
    path = folder / "audit.sock"
    argv = [sys.executable, HERE / "audit_sink.py", path, folder / "audit.count"]
    with process(argv, folder, "audit") as popen:
        wait_for(path.exists, popen, "the audit's sink", 10)
        yield path


@contextlib.contextmanager
def served(
    folder: Path,
    engines: Sequence[int],
    *,
    dim: int = 1024,
    audit: bool = True,
    workers: int = 1,
    seconds: float = 30.0,
    more: str = "",
    **gateway: Any,
) -> Iterator[Er]:
    """ER in front of the engines on those ports, serving "embed" and answering.

    `more`: further tables of er.toml; `gateway`: settings of its [gateway].
    """
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        sink: Path | Literal["off"] = stack.enter_context(audit_sink(folder)) if audit else "off"
        er = Er(folder, sink, workers)
        er.settings |= gateway
        er.more = more
        er.models = [
            {"name": "embed", "task": "embed", "path": str(qwen_folder(folder / "qwen", dim))}
        ]
        er.replicas = [
            {"name": f"e{i}", "model": "embed", "url": f"http://127.0.0.1:{port}"}
            for i, port in enumerate(engines)
        ]
        stack.callback(er.kill)
        er.start()
        stack.callback(er.stop)
        er.until_it_answers({"model": "embed", "input": "hello"}, "/v1/embeddings", seconds)
        yield er


@contextlib.contextmanager
def shared_state(folder: Path) -> Iterator[tuple[int, int]]:
    """A real server: its port and pid."""
    program = shutil.which("valkey-server") or shutil.which("redis-server")
    if program is None:
        raise BenchError("there is neither valkey-server nor redis-server")
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    options += ["--logfile", str(folder / "valkey.log")]
    with process([program, *options], folder, "valkey") as popen:
        wait_for(lambda: listens(port), popen, "the shared state")
        yield port, popen.pid
