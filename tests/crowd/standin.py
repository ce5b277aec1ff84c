"""One engine process of the crowd: an embedding and a scoring replica that can misbehave at random.

    python -m crowd.standin --embed 12001 --score 12002 --tally FILE --chance 0.004 --seed 1
                            [--pooling-only] [--swaps]

Both ways in: the path inside vLLM (er/wire.py) and vLLM's own /pooling; with --pooling-only the
first is answered 404. With `chance` a call meets one of PASSING. POST /_fault {"kind", "count"}
orders one of all kinds for the next calls. --swaps exchanges two answers of a call now and then,
which no gateway can notice and the crowd must.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
from pathlib import Path
from typing import Any

import httptools
import numpy as np
import orjson
import uvloop
from numpy.typing import NDArray

from crowd import right
from crowd.tally import Tally
from er.wire import BINARY, INSIDE, MAGIC

PASSING = ("500", "503", "reset", "cut", "slow")  # a replica gets over these
WRONG = ("nan", "infinity", "zero", "tiny", "long vector", "too few", "too many", "wrong type")
DEADLY = ("exit", "hang")
KINDS = (*PASSING, *WRONG, *DEADLY)
NAMES = (*KINDS, "poisoned", "not a number", "calls", "sequences", "swapped")
SLOW_S = (0.02, 0.4)


class Engine:
    """What both ports have in common."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.tally = Tally(given.tally, NAMES)
        self.pick = random.Random(given.seed + os.getpid())
        self.chance, self.inside, self.swaps = given.chance, not given.pooling_only, given.swaps
        self.ordered: list[str] = []

    def fault(self) -> str:
        """What goes wrong with this call, "" for nothing."""
        if self.ordered:
            return self.ordered.pop()
        return self.pick.choice(PASSING) if self.pick.random() < self.chance else ""


def unpacked(body: bytes) -> tuple[bool, list[bytes]]:
    """(whether it is embed, the ids of each sequence as bytes) of the path inside."""
    words = np.frombuffer(body, "<u4")
    assert words[0] == MAGIC
    ends = np.cumsum(words[3 : 3 + words[2]], dtype=np.int64) * 4 + 4 * (3 + int(words[2]))
    starts = [4 * (3 + int(words[2])), *ends[:-1].tolist()]
    return words[1] == 0, [body[a:b] for a, b in zip(starts, ends.tolist(), strict=True)]


def asked(body: bytes) -> tuple[bool, list[bytes]]:
    """The same of /pooling."""
    given = orjson.loads(body)
    sequences = [np.array(ids, "<u4").tobytes() for ids in given["input"]]
    return given["task"] == "embed", sequences


class Connection(asyncio.Protocol):
    """One connection; one request at a time."""

    def __init__(self, engine: Engine, embeds: bool) -> None:
        self._engine, self._embeds = engine, embeds
        self._parser = httptools.HttpRequestParser(self)
        self._transport: Any = None
        self._busy = False  # with a slow answer, behind which others wait
        self._waiting: list[tuple[str, bytes]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._url, self._body = b"", []

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        body, url = b"".join(self._body), self._url.decode()
        if self._busy:
            self._waiting.append((url, body))
        else:
            self._serve(url, body)

    def _serve(self, url: str, body: bytes) -> None:
        if url == "/_fault":
            order = orjson.loads(body)
            self._engine.ordered += [order["kind"]] * order["count"]
            self._say(200, b"{}")
        elif url == INSIDE and self._engine.inside:
            self._compute(*unpacked(body))
        elif url == "/pooling":
            self._compute(*asked(body))
        else:
            self._say(404, b'{"detail":"Not Found"}')

    def _compute(self, embed: bool, sequences: list[bytes]) -> None:
        engine, tally = self._engine, self._engine.tally
        if embed != self._embeds:
            self._say(400, b'{"error":{"message":"Unsupported task"}}')
            return
        tally.add("calls")
        tally.add("sequences", len(sequences))
        fault = engine.fault()
        if fault:
            tally.add(fault)
        if fault == "exit":
            os._exit(1)
        if fault == "hang":
            return
        if fault == "reset":
            self._transport.abort()
            return
        if fault in ("500", "503"):
            self._say(int(fault), b'{"error":{"message":"EngineCore has an issue"}}')
            return
        ids = [np.frombuffer(sequence, "<u4") for sequence in sequences]
        if (np.concatenate(ids) == right.POISONED).any():
            tally.add("poisoned")
            self._say(400, b'{"error":{"message":"Token id 7 is out of vocabulary"}}')
            return
        digests = [right.digest(sequence) for sequence in sequences]
        values = right.vectors(digests) if embed else right.scores(digests)
        for i, row in enumerate(ids):
            if (row == right.NOT_A_NUMBER).any():
                tally.add("not a number")
                values[i] = np.nan
        if engine.swaps and len(values) > 1 and engine.pick.random() < 0.01:
            tally.add("swapped")
            values[[0, -1]] = values[[-1, 0]]
        self._answer(fault, values)

    def _answer(self, fault: str, values: NDArray[np.float32]) -> None:
        spoil(fault, values, self._engine.pick)
        body, kind = values.astype("<f4").tobytes(), BINARY
        if fault in ("too few", "too many"):
            row = len(body) // len(values)
            body = body[:-row] if fault == "too few" else body + body[:row]
        if fault == "wrong type":
            kind = "text/html"
        whole = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n%b"
        data = whole % (kind.encode(), len(body), body)
        if fault == "cut":
            self._transport.write(data[: len(data) // 2])
            self._transport.close()
        elif fault == "slow":
            wait, self._busy = self._engine.pick.uniform(*SLOW_S), True
            asyncio.get_running_loop().call_later(wait, self._late, data)
        else:
            self._transport.write(data)

    def _late(self, data: bytes) -> None:
        if not self._transport.is_closing():  # or the gateway has hung up
            self._transport.write(data)
            self._busy = False
            while self._waiting and not self._busy:
                self._serve(*self._waiting.pop(0))

    def _say(self, status: int, body: bytes) -> None:
        head = b"HTTP/1.1 %d x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        self._transport.write(head % (status, len(body)) + body)


def spoil(fault: str, values: NDArray[np.float32], pick: random.Random) -> None:
    """Make one of the vectors or scores impossible."""
    row = pick.randrange(len(values))
    vectors = values.ndim == 2
    if fault == "nan":
        values[row] = np.nan
    elif fault == "infinity":
        values[row] = pick.choice((np.inf, -np.inf))
    elif fault == "zero":
        values[row] = 0 if vectors else -1e-3
    elif fault == "tiny":
        values[row] *= 1e-40 if vectors else 0
        values[row] += 0 if vectors else -1
    elif fault == "long vector":
        values[row] *= 3 if vectors else 0
        values[row] += 0 if vectors else 1.5


async def serve(given: argparse.Namespace) -> None:
    """Until it is killed."""
    loop, engine = asyncio.get_running_loop(), Engine(given)
    for port, embeds in ((given.embed, True), (given.score, False)):
        await loop.create_server(lambda e=embeds: Connection(engine, e), "127.0.0.1", port)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--embed", type=int, required=True)
    parser.add_argument("--score", type=int, required=True)
    parser.add_argument("--tally", type=Path, required=True)
    parser.add_argument("--chance", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pooling-only", action="store_true")
    parser.add_argument("--swaps", action="store_true")
    uvloop.run(serve(parser.parse_args()))
