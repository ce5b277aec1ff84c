"""Closed-loop load for embedding and rerank servers, from several processes.

Raw HTTP/1.1 over kept-alive connections, so that the generator needs a small part of what the
measured server needs. Each text begins with random words: no two share a block of a prefix cache.

kinds: embed   POST /v1/embeddings, text        pool    POST /pooling, task embed, token ids, base64
       rerank  POST /v1/rerank, query and documents
       raw     as pool, but raw numbers back      inside  the same batches to er/engine/inside.py
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import multiprocessing
import random
import re
import socket
import struct
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvloop

PATHS = {
    "embed": "/v1/embeddings",
    "pool": "/pooling",
    "raw": "/pooling",
    "inside": "/er/pooling",
    "rerank": "/v1/rerank",
}
ENCODINGS = {"pool": "base64", "raw": "bytes_only"}
DRAIN_S = 6.0
TAILS = 200
WIDTH = 1024  # numbers of a vector


@dataclasses.dataclass
class Case:
    """What is asked of whom."""

    url: str
    kind: str = "embed"
    model: str = "m"
    tokens: int = 128  # of each text or document
    batch: int = 1  # texts (documents) in a request
    clients: int = 256  # each with one request on its way
    warm: float = 0.5  # seconds before the window
    secs: float = 2.0
    key: str = ""


def words(folder: str, limit: int = 6000) -> list[tuple[str, int]]:
    """Words that are one token when a blank stands before them, with their ids."""
    vocabulary = json.loads((Path(folder) / "tokenizer.json").read_text())["model"]["vocab"]
    found = [(k[1:], v) for k, v in vocabulary.items() if re.fullmatch("\u0120[a-z]{3,8}", k)]
    return sorted(found, key=lambda w: w[1])[:limit]


class Bodies:
    """Makes a case's request bodies cheaply: a random head, a tail from a small store."""

    def __init__(self, case: Case, known: list[tuple[str, int]], seed: int) -> None:
        self._case, self._random = case, random.Random(seed)
        self._ids = [n for _, n in known]
        if case.kind == "inside":
            rest = range(max(case.tokens - 4, 1))
            self._packed = [self._words_of(len(rest)) for _ in range(TAILS)]
            return
        ids = case.kind in ENCODINGS
        self._words = [str(n) for _, n in known] if ids else [w for w, _ in known]
        self._by = "," if ids else " "
        rest = max(case.tokens - 4, 1)
        self._tails = [self._by.join(self._pick(rest)) for _ in range(TAILS)]

    def _pick(self, n: int) -> list[str]:
        return self._random.choices(self._words, k=n)

    def _text(self) -> str:
        return self._by.join((*self._pick(4), self._random.choice(self._tails)))

    def _words_of(self, n: int) -> bytes:
        return struct.pack(f"<{n}I", *self._random.choices(self._ids, k=n))

    def _inside(self) -> bytes:
        parts = []
        for _ in range(self._case.batch):
            parts += [self._words_of(4), self._random.choice(self._packed)]
        lengths = [(len(parts[0]) + len(parts[1])) // 4] * self._case.batch
        head = struct.pack(f"<{3 + len(lengths)}I", 0x31545245, 0, len(lengths), *lengths)
        return head + b"".join(parts)

    def make(self) -> bytes:
        case = self._case
        if case.kind == "inside":
            return self._inside()
        texts = [self._text() for _ in range(case.batch)]
        if case.kind == "rerank":
            query, documents = " ".join(self._pick(16)), '","'.join(texts)
            body = f'{{"model":"{case.model}","query":"{query}","documents":["{documents}"]}}'
        elif case.kind in ENCODINGS:
            lists = ",".join(f"[{text}]" for text in texts)
            encoding = ENCODINGS[case.kind]
            body = f'{{"task":"embed","input":[{lists}],"encoding_format":"{encoding}"}}'
        else:
            asked = ",".join(f'"{text}"' for text in texts)
            asked = f"[{asked}]" if case.batch > 1 else asked
            body = f'{{"model":"{case.model}","input":{asked},"encoding_format":"base64"}}'
        return body.encode()


class Client(asyncio.Protocol):
    """One client: sends the next request as soon as the last is answered."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._send()

    def _send(self) -> None:
        if self._transport.is_closing() or time.monotonic() >= self._run.until:
            self._over()
            self._transport.close()
            return
        body = self._run.bodies.make()
        self._head, self._needs, self._chunked, self._body = b"", -1, False, bytearray()
        self._began = time.monotonic()
        self._transport.write(self._run.head % len(body) + body)

    def _over(self) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def data_received(self, data: bytes) -> None:
        if self._needs < 0 and not self._chunked:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            head, data = self._head[:end].lower(), self._head[end + 4 :]
            self._status = int(head[9:12])
            at = head.find(b"\r\ncontent-length:")
            if at >= 0:
                self._needs = int(head[at + 17 :].split(b"\r\n", 1)[0])
            else:
                self._chunked = True
        self._body += data
        whole = self._body.endswith(b"0\r\n\r\n") if self._chunked else None
        if whole or (whole is None and len(self._body) >= self._needs):
            self._answered()

    def _answered(self) -> None:
        now, run = time.monotonic(), self._run
        if self._status != 200:
            run.error(str(self._status), bytes(self._body[:200]).decode("latin1"))
            asyncio.get_running_loop().call_later(0.02, self._send)
            return
        if run.sample is None:
            run.sample = bytes(self._body)
        if run.since <= now < run.until:
            run.took.append(now - self._began)
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self._run.error("closed" if exc is None else type(exc).__name__)
            self._over()


class Run:
    """One process's part of a case."""

    def __init__(self, case: Case, known: list[tuple[str, int]], n: int, at: float, seed: int):
        key = f"Authorization: Bearer {case.key}\r\n" if case.key else ""
        self.head = (
            f"POST {PATHS[case.kind]} HTTP/1.1\r\nHost: x\r\n{key}"
            "Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        ).encode()
        self.bodies = Bodies(case, known, seed)
        self.begins, self.since = at, at + case.warm
        self.until = self.since + case.secs
        self._case, self._n = case, n
        self.took: list[float] = []
        self.errors: dict[str, int] = {}
        self.said, self.sample = "", None

    def error(self, kind: str, said: str = "") -> None:
        self.errors[kind] = self.errors.get(kind, 0) + 1
        self.said = self.said or said

    async def go(self) -> dict[str, Any]:
        loop, where = asyncio.get_running_loop(), urlsplit(self._case.url)
        await asyncio.sleep(max(self.begins - time.monotonic(), 0))
        clients = []
        for _ in range(self._n):
            try:
                made = await loop.create_connection(
                    lambda: Client(self), where.hostname, where.port
                )
                clients.append(made[1])
            except OSError as error:
                self.error(type(error).__name__)
        if clients:
            left = self.until + DRAIN_S - time.monotonic()
            _, late = await asyncio.wait([c.done for c in clients], timeout=left)
            for _ in late:
                self.error("no answer")
        return {
            "took": self.took,
            "errors": self.errors,
            "said": self.said,
            "items": items(self.sample, self._case.kind),
        }


def items(sample: bytes | None, kind: str) -> int | None:
    """How many vectors or scores the first answer held."""
    if kind == "inside" and sample:
        return len(sample) // 4 // WIDTH
    try:
        value = json.loads(sample or b"")
        return len(value.get("results") or value["data"])
    except (ValueError, KeyError):
        return None


def _serve(pipe: Any, folder: str, number: int) -> None:
    known = words(folder)
    pipe.send("ready")
    while (asked := pipe.recv()) is not None:
        case, n, at = asked
        run = Run(case, known, n, at, seed=(number << 24) + time.time_ns() % 10_000_019)
        cpu = time.process_time()
        out = uvloop.run(run.go())
        out["cpu"] = time.process_time() - cpu
        pipe.send(out)


class Generators:
    """The processes."""

    def __init__(self, n: int, folder: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Any] = []
        for number in range(n):
            ours, theirs = context.Pipe()
            context.Process(target=_serve, args=(theirs, folder, number), daemon=True).start()
            self._pipes.append(ours)
        for pipe in self._pipes:
            assert pipe.recv() == "ready"

    def start(self, case: Case) -> tuple[float, float]:
        """Begin; returns the window's ends on the monotonic clock. `finish` must follow."""
        self._used = self._pipes[: min(len(self._pipes), case.clients)]
        at, k = time.monotonic() + 0.05, len(self._used)
        for i, pipe in enumerate(self._used):
            pipe.send((case, case.clients // k + (i < case.clients % k), at))
        return at + case.warm, at + case.warm + case.secs

    def finish(self, case: Case) -> dict[str, Any]:
        """The figures: sequences/s, latencies in ms, errors, the busiest generator's CPU in %."""
        outs = [pipe.recv() for pipe in self._used]
        took = sorted(t for out in outs for t in out["took"])
        found: dict[str, Any] = {
            "seq_s": round(len(took) * case.batch / case.secs),
            "p50_ms": _at(took, 0.5),
            "p99_ms": _at(took, 0.99),
            "n": len(took),
            "generator": round(100 * max(out["cpu"] for out in outs) / (case.warm + case.secs)),
        }
        errors: dict[str, int] = {}
        for out in outs:
            for kind, n in out["errors"].items():
                errors[kind] = errors.get(kind, 0) + n
        got = next((out["items"] for out in outs if out["items"] is not None), None)
        if got is not None and got != case.batch:
            errors["wrong number of items"] = got
        if errors:
            found["errors"] = errors
            found["said"] = next((out["said"] for out in outs if out["said"]), "")
        return found

    def close(self) -> None:
        for pipe in self._pipes:
            pipe.send(None)


def _at(values: list[float], share: float) -> float | None:
    return (
        round(values[min(int(len(values) * share), len(values) - 1)] * 1e3, 2) if values else None
    )
