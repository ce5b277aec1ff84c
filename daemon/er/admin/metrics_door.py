"""The metrics listener: GET /metrics in Prometheus' text on [gateway].metrics, without a key."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

from er.journal import log
from er.metrics import CONTENT_TYPE
from er.ports import holder, split

HEAD_MAX = 8192
PATIENCE_S = 10.0  # for a request's head
CACHED_S = 1.0  # one reading serves all scrapers of a second


class MetricsDoor:
    """Serves `render()`; every connection is one request and one answer."""

    def __init__(self, render: Callable[[], bytes]) -> None:
        self._render = render
        self._text, self._rendered = b"", float("-inf")
        self._rendering = asyncio.Lock()
        self._server: asyncio.Server | None = None

    async def open(self, address: str) -> bool:
        """Listen on `address`. False, with a warning in the journal, when that can't be."""
        host, port = split(address)
        try:
            self._server = await asyncio.start_server(self._serve, host, port, limit=HEAD_MAX)
        except OSError as error:
            held = await asyncio.to_thread(holder, port)
            who = f"{held} has it" if held else (error.strerror or str(error))
            log(
                "warning",
                f"no metrics on {address}: {who}; the gateway goes on. Name another address in "
                'er.toml: [gateway] metrics = "127.0.0.1:PORT", or "" for none',
            )
            return False
        return True

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()

    async def text(self) -> bytes:
        """The metrics, at most CACHED_S old."""
        async with self._rendering:
            if time.monotonic() - self._rendered > CACHED_S:
                self._text = await asyncio.to_thread(self._render)
                self._rendered = time.monotonic()
            return self._text

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A head that is too long, cut short or late: nobody who scrapes sends one.
        wrong = (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError)
        with contextlib.closing(writer), contextlib.suppress(*wrong):
            async with asyncio.timeout(PATIENCE_S):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(await self._answer(head))
                await writer.drain()

    async def _answer(self, head: bytes) -> bytes:
        method, _, rest = head.partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        if path.rstrip(b"/") not in (b"", b"/metrics"):
            return _answer(b"404 Not Found", b"only /metrics is here\n")
        if method not in (b"GET", b"HEAD"):
            return _answer(b"405 Method Not Allowed", b"GET /metrics\n")
        body = await self.text()
        return _answer(b"200 OK", body, CONTENT_TYPE.encode(), empty=method == b"HEAD")


def _answer(
    status: bytes, body: bytes, kind: bytes = b"text/plain; charset=utf-8", empty: bool = False
) -> bytes:
    head = b"HTTP/1.1 %s\r\ncontent-type: %s\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
    return head % (status, kind, len(body)) + (b"" if empty else body)
