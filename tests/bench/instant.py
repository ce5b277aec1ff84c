"""An engine that answers at once, so that what stands in front of it is all that is measured.

    python tests/bench/instant.py --port 8201 [--dim 1024] [--by-ids] [--step-ms 0] [--token-us 0]

POST /pooling with ids, or /er/pooling with the same as one array (er/wire.py), gives one and the
same unit vector for each sequence (or 0.5 each, task classify); with --by-ids each sequence's own
one, `row_of(ids)` of `table(dim)`, so that who knows the ids can tell a wrong answer.
POST /v1/embeddings gives one vector as base64 or floats, as OpenAI writes it. GET anything is 200.
With --step-ms or --token-us it computes one call after the other, each for that long, as a card
does. For figures only: it checks nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import signal
import zlib
from array import array
from collections.abc import Sequence
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


class Engine:
    """What all connections share: the answers, and the time at which the card is free again."""

    def __init__(self, dim: int, *, by_ids: bool, step_s: float, token_s: float) -> None:
        self._vector, self.whole = answers(dim)
        self._table = table(dim) if by_ids else None
        self._step_s, self._token_s = step_s, token_s
        self._free_at = 0.0

    def pooling(self, body: bytes) -> tuple[bytes, float]:
        """(answer, the loop's time at which it is due; 0 = now)."""
        asked = orjson.loads(body)
        return self.computed(asked["task"] == "embed", asked["input"])

    def inside(self, body: bytes) -> tuple[bytes, float]:
        """The same for a batch as er/engine/inside.py takes it."""
        words = array("I", body)
        n, at = words[2], 3 + words[2]
        sequences = []
        for length in words[3:at]:
            sequences.append(words[at : at + length])
            at += length
        assert len(sequences) == n
        return self.computed(words[1] == 0, sequences)

    def computed(self, embed: bool, sequences: Sequence[Sequence[int]]) -> tuple[bytes, float]:
        if not embed:
            answer = np.float32(0.5).tobytes() * len(sequences)
        elif self._table is not None:
            answer = b"".join([self._table[row_of(ids)] for ids in sequences])
        else:
            answer = self._vector * len(sequences)
        if not (self._step_s or self._token_s):
            return answer, 0.0
        tokens = sum(map(len, sequences))
        now = asyncio.get_running_loop().time()
        self._free_at = max(now, self._free_at) + self._step_s + tokens * self._token_s
        return answer, self._free_at


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
        kind, body, due = JSON, b"{}", 0.0
        if self._url == b"/pooling":
            kind = BINARY
            body, due = self._engine.pooling(self._body)
        elif self._url == b"/er/pooling":
            kind = BINARY
            body, due = self._engine.inside(self._body)
        elif self._url.endswith(b"/embeddings"):
            body = self._engine.whole["base64" if b"base64" in self._body else "float"]
        whole = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n%b"
        data = whole % (kind, len(body), body)
        if due:
            asyncio.get_running_loop().call_at(due, self._transport.write, data)
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
    given = parser.parse_args()
    made = Engine(
        given.dim,
        by_ids=given.by_ids,
        step_s=given.step_ms / 1e3,
        token_s=given.token_us / 1e6,
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(given.port, made))
