"""The metrics listener: GET /metrics on [gateway].metrics without a key, in either text format."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

from er import exposition
from er.journal import log
from er.ports import holder, split

HEAD_MAX = 8192
PATIENCE_S = 10.0  # for a request's head
CACHED_S = 1.0  # one reading serves all scrapers of a second


class MetricsDoor:
    """Serves `render(openmetrics)`; every connection is one request and one answer."""

    def __init__(self, render: Callable[[bool], bytes]) -> None:
        self._render = render
        self._rendered: dict[bool, tuple[float, bytes]] = {}  # by format: when, and what
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

    async def text(self, openmetrics: bool) -> bytes:
        """The metrics in that format, at most CACHED_S old."""
        async with self._rendering:
            at, text = self._rendered.get(openmetrics, (float("-inf"), b""))
            if time.monotonic() - at > CACHED_S:
                text = await asyncio.to_thread(self._render, openmetrics)
                self._rendered[openmetrics] = time.monotonic(), text
            return text

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
        openmetrics = exposition.wants_openmetrics(_accept(head))
        kind = exposition.content_type(openmetrics).encode()
        return _answer(b"200 OK", await self.text(openmetrics), kind, empty=method == b"HEAD")


def _accept(head: bytes) -> str:
    """What a request's head says of the formats that are wanted."""
    lines = (line.partition(b":") for line in head.splitlines())
    said = [value for name, _, value in lines if name.strip().lower() == b"accept"]
    return b",".join(said).decode("latin-1")


def _answer(
    status: bytes, body: bytes, kind: bytes = b"text/plain; charset=utf-8", empty: bool = False
) -> bytes:
    head = b"HTTP/1.1 %s\r\ncontent-type: %s\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
    return head % (status, kind, len(body)) + (b"" if empty else body)
