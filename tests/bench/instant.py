"""An engine that answers at once, so that what stands in front of it is all that is measured.

    python tests/bench/instant.py --port 8201 [--dim 1024]

POST /pooling with ids gives one and the same unit vector for each sequence (or 0.5 each, task
classify); POST /v1/embeddings gives one such vector as base64 or floats, as OpenAI writes it. GET
anything is 200. For figures only: it checks nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import signal
from typing import Any

import httptools
import numpy as np
import orjson
import uvloop

JSON, BINARY = b"application/json", b"application/octet-stream"


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


class Connection(asyncio.Protocol):
    """One connection; answers each request as soon as it is whole."""

    def __init__(self, vector: bytes, whole: dict[str, bytes]) -> None:
        self._vector, self._whole = vector, whole
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
        kind, body = JSON, b"{}"
        if self._url == b"/pooling":
            asked = orjson.loads(self._body)
            one = self._vector if asked["task"] == "embed" else np.float32(0.5).tobytes()
            kind, body = BINARY, one * len(asked["input"])
        elif self._url.endswith(b"/embeddings"):
            body = self._whole["base64" if b"base64" in self._body else "float"]
        self._transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n%b"
            % (kind, len(body), body)
        )


async def serve(port: int, dim: int) -> None:
    """Answer until SIGTERM."""
    loop = asyncio.get_running_loop()
    vector, whole = answers(dim)
    server = await loop.create_server(lambda: Connection(vector, whole), "127.0.0.1", port)
    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    server.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--dim", type=int, default=1024)
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(options.port, options.dim))
