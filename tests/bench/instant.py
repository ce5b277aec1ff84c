"""An engine that answers at once, so that what stands in front of it is all that is measured.

    python tests/bench/instant.py --port 8201 [--dim 1024] [--by-ids] [--step-ms 0] [--token-us 0]
                                   [--step-tokens 0]

POST /pooling with ids, or /er/pooling with the same as one array (er/wire.py), gives one and the
same unit vector for each sequence (or 0.5 each, task classify); with --by-ids each sequence's own
one, `row_of(ids)` of `table(dim)`, so that who knows the ids can tell a wrong answer.
POST /v1/embeddings gives one vector as base64 or floats, as OpenAI writes it. GET anything is 200.
With --step-ms or --token-us it computes for that long, as a card does: one call after the other, or
with --step-tokens as vLLM does, in steps of so many tokens of all the calls that wait, in their
order. For figures only: it checks nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import signal
import zlib
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import httptools
import numpy as np
import orjson
import uvloop

JSON, BINARY = b"application/json", b"application/octet-stream"
ROWS = 16_381  # a prime: two sequences share a vector once in that many


def table(dim: int) -> list[bytes]:
    """The vectors of --by-ids: ROWS float32 unit vectors as bytes."""
    vectors = np.random.default_rng(2).standard_normal((ROWS, dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return [row.tobytes() for row in vectors]


def row_of(ids: Sequence[int]) -> int:
    """Which row of the table a sequence gets."""
    return zlib.crc32(array("i", ids).tobytes()) % ROWS


def answers(dim: int) -> tuple[bytes, dict[str, bytes]]:
    """The vector as bytes, and the whole /v1/embeddings answers by encoding_format."""
    vector = np.random.default_rng(1).standard_normal(dim).astype(np.float32)
    vector /= np.linalg.norm(vector)
    texts: dict[str, Any] = {
        "base64": orjson.dumps(base64.b64encode(vector.tobytes()).decode()),
        "float": orjson.dumps(vector, option=orjson.OPT_SERIALIZE_NUMPY),
    }
    whole = {
        name: b'{"object":"list","data":[{"object":"embedding","index":0,"embedding":%b}],'
        b'"model":"embed","usage":{"prompt_tokens":16,"total_tokens":16}}' % text
        for name, text in texts.items()
    }
    return vector.tobytes(), whole


class Card:
    """Computes what it is given, step by step."""

    def __init__(self, step_s: float, token_s: float, step_tokens: int) -> None:
        self._step_s, self._token_s, self._step_tokens = step_s, token_s, step_tokens
        self._calls: deque[tuple[deque[int], Callable[[], None]]] = deque()
        self._busy = False

    def add(self, sequences: Iterable[int], tell: Callable[[], None]) -> None:
        """A call with sequences of so many tokens; `tell` once all are computed."""
        self._calls.append((deque(sequences), tell))
        if not self._busy:
            self._step()

    def _step(self) -> None:
        """Begin the next one: a whole call, or what fits of all."""
        calls, tokens, done = self._calls, 0, []
        most = self._step_tokens or sum(calls[0][0])
        while calls:
            sequences = calls[0][0]
            while sequences and (not tokens or tokens + sequences[0] <= most):
                tokens += sequences.popleft()
            if sequences:
                break
            done.append(calls.popleft()[1])
            if not self._step_tokens:
                break
        self._busy = True
        seconds = self._step_s + tokens * self._token_s
        asyncio.get_running_loop().call_later(seconds, self._ends, done)

    def _ends(self, done: Sequence[Callable[[], None]]) -> None:
        for tell in done:
            tell()
        self._busy = False
        if self._calls:
            self._step()


class Engine:
    """What all connections share: the answers, and the card."""

    def __init__(self, dim: int, *, by_ids: bool, card: Card | None) -> None:
        self._vector, self.whole = answers(dim)
        self._table = table(dim) if by_ids else None
        self.card = card

    def pooling(self, body: bytes) -> tuple[bytes, list[int]]:
        """(answer, tokens of each sequence)."""
        asked = orjson.loads(body)
        return self.computed(asked["task"] == "embed", asked["input"])

    def inside(self, body: bytes) -> tuple[bytes, list[int]]:
        """The same for a batch as er/engine/inside.py takes it."""
        words = array("I", body)
        n, at = words[2], 3 + words[2]
        sequences = []
        for length in words[3:at]:
            sequences.append(words[at : at + length])
            at += length
        assert len(sequences) == n
        return self.computed(words[1] == 0, sequences)

    def computed(self, embed: bool, sequences: Sequence[Sequence[int]]) -> tuple[bytes, list[int]]:
        if not embed:
            answer = np.float32(0.5).tobytes() * len(sequences)
        elif self._table is not None:
            answer = b"".join([self._table[row_of(ids)] for ids in sequences])
        else:
            answer = self._vector * len(sequences)
        return answer, list(map(len, sequences))


class Connection(asyncio.Protocol):
    """One connection; answers each request as soon as it is whole and due."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._url, self._body = b"", b""

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        kind, body, sequences = JSON, b"{}", list[int]()
        if self._url == b"/pooling":
            kind = BINARY
            body, sequences = self._engine.pooling(self._body)
        elif self._url == b"/er/pooling":
            kind = BINARY
            body, sequences = self._engine.inside(self._body)
        elif self._url.endswith(b"/embeddings"):
            body = self._engine.whole["base64" if b"base64" in self._body else "float"]
        whole = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n%b"
        data = whole % (kind, len(body), body)
        if sequences and self._engine.card is not None:
            self._engine.card.add(sequences, partial(self._transport.write, data))
        else:
            self._transport.write(data)


async def serve(port: int, engine: Engine) -> None:
    """Answer until SIGTERM."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(engine), "127.0.0.1", port)
    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    server.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--by-ids", action="store_true")
    parser.add_argument("--step-ms", type=float, default=0.0, help="what a call costs")
    parser.add_argument("--token-us", type=float, default=0.0, help="what a token costs")
    parser.add_argument("--step-tokens", type=int, default=0, help="in one step; 0: a whole call")
    given = parser.parse_args()
    card = None
    if given.step_ms or given.token_us:
        card = Card(given.step_ms / 1e3, given.token_us / 1e6, given.step_tokens)
    made = Engine(given.dim, by_ids=given.by_ids, card=card)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(given.port, made))
