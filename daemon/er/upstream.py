"""One upstream call: POST /pooling with token ids, over kept-alive connections of our own.

A small HTTP/1.1 client on asyncio.Protocol and httptools: one request at a time on a connection,
no redirects, no pipelining, no cookies; general clients cost many times as much of a core. Nothing
leaves here unchecked: status, content type, exact size and finiteness. A connection that has seen
anything odd is closed and not used again, so no answer can reach the wrong call.
Cancelling a call closes its connection, on which vLLM stops computing for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import deque
from collections.abc import Sequence
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

import httptools
import numpy as np
import orjson
from numpy.typing import NDArray

from er.job import Ids, Task

ErrorKind = Literal["refused", "broken", "busy", "bad_request", "wrong", "late"]

CONNECT_S = 5.0  # on loopback it is immediate; a host that drops packets must not hold a batch
IDLE_S = 30.0  # vLLM's own limit is set to 75 s; 5 s by its default, which one retry covers
ERROR_BODY_BYTES = 64 << 10
TASKS: dict[Task, str] = {"embed": "embed", "score": "classify"}  # vLLM's words
BINARY = "application/octet-stream"
UNSAFE = re.compile(r"[^!-~]")  # what may not stand in a header's value


class UpstreamError(Exception):
    """A call that gave nothing usable.

    refused: no connection. broken: it died, or an answer 5xx. busy: 503. bad_request: 400, some
    sequence is at fault. wrong: an answer that must not be believed. late: out of time.
    """

    def __init__(self, kind: ErrorKind, text: str) -> None:
        super().__init__(text)
        self.kind: ErrorKind = kind
        self.text = text


class Reply(NamedTuple):
    status: int
    content_type: str
    body: bytes


class Connection(asyncio.Protocol):
    """One kept-alive connection; `ask` sends a request and gives the future of its reply."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._reply: asyncio.Future[Reply] | None = None
        self._body = bytearray()
        self._content_type = ""
        self._limit = 0
        self.open = False
        self.heard = False  # whether any byte of the current reply has come
        self.idle_since = 0.0  # the loop's time

    def ask(self, request: bytes, limit: int) -> asyncio.Future[Reply]:
        """Send `request`; a body of more than `limit` bytes (64 KiB for errors) is an error.

        The future fails with UpstreamError (broken or wrong).
        """
        assert self._transport is not None and self._reply is None
        self._limit = max(limit, ERROR_BODY_BYTES)
        self._body.clear()
        self._content_type = ""
        self.heard = False
        self._reply = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._reply

    def close(self) -> None:
        """Close at once. What is on its way is lost."""
        self.open = False
        if self._transport is not None:
            self._transport.abort()

    def _fail(self, kind: ErrorKind, text: str) -> None:
        self.close()
        reply, self._reply = self._reply, None
        if reply is not None and not reply.done():
            reply.set_exception(UpstreamError(kind, text))

    # -- asyncio -------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self.open = True

    def data_received(self, data: bytes) -> None:
        if self._reply is None:
            self.close()  # nobody asked
            return
        self.heard = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail("wrong", f"an answer that is not HTTP ({error})")

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail("broken", f"the connection broke ({exc})" if exc else "the connection broke")

    # -- httptools -----------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._reply is None:
            self.close()  # a second answer behind the first

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"content-type":
            kind = value.decode("latin-1").partition(";")[0]
            self._content_type = kind.strip().lower()

    def on_body(self, body: bytes) -> None:
        if self._reply is None:
            return
        if len(self._body) + len(body) > self._limit:
            self._fail("wrong", f"an answer of more than {self._limit} bytes")
            return
        self._body += body

    def on_message_complete(self) -> None:
        reply, self._reply = self._reply, None
        if reply is None or reply.done():
            self.close()
            return
        if not self._parser.should_keep_alive():
            self.close()
        status = self._parser.get_status_code()
        reply.set_result(Reply(status, self._content_type, bytes(self._body)))


class Upstream:
    """The connections to one replica."""

    def __init__(self, address: str) -> None:
        """`address`: http://HOST:PORT."""
        parts = urlsplit(address)
        assert parts.hostname is not None
        self.address = address
        self._host, self._port = parts.hostname, parts.port or 80
        host = f"[{self._host}]" if ":" in self._host else self._host
        self._head = (
            f"POST /pooling HTTP/1.1\r\nhost: {host}:{self._port}\r\n"
            "content-type: application/json\r\n"
        ).encode()
        self._idle: deque[Connection] = deque()
        self._busy: set[Connection] = set()
        self._sweep: asyncio.TimerHandle | None = None

    async def pooling(
        self,
        task: Task,
        sequences: Sequence[Ids],
        *,
        timeout_s: float,
        dimensions: int,
        request_id: str,
    ) -> NDArray[np.float32]:
        """Compute `sequences`: float32 (n, dimensions) for embed, (n,) for score; all finite.

        Raises UpstreamError. Cancelling closes the connection.
        """
        width = dimensions if task == "embed" else 1
        size = len(sequences) * width * 4
        body = orjson.dumps(
            {
                "task": TASKS[task],
                "input": sequences,
                "encoding_format": "bytes_only",
                "endianness": "little",
            }
        )
        head = f"x-request-id: {UNSAFE.sub('', request_id)}\r\ncontent-length: {len(body)}\r\n\r\n"
        try:
            async with asyncio.timeout(timeout_s):
                reply = await self._exchange(self._head + head.encode() + body, size)
        except TimeoutError:
            raise UpstreamError("late", f"no answer within {timeout_s:.1f} s") from None
        values = checked(reply, size)
        return values.reshape(-1, width) if task == "embed" else values

    async def _exchange(self, request: bytes, size: int) -> Reply:
        """Send and receive, once more on a fresh connection if a kept one had died unnoticed."""
        while self._idle:
            connection = self._idle.pop()
            if connection.open and not self._stale(connection):
                try:
                    return await self._on(connection, request, size)
                except UpstreamError as error:
                    if error.kind != "broken" or connection.heard:
                        raise
                    break  # it may have been closed just as we wrote
            connection.close()
        return await self._on(await self._connect(), request, size)

    async def _on(self, connection: Connection, request: bytes, size: int) -> Reply:
        self._busy.add(connection)
        try:
            reply = await connection.ask(request, size)
        except BaseException:
            connection.close()
            raise
        finally:
            self._busy.discard(connection)
        if connection.open:
            self._keep(connection)
        return reply

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_S):
                _, connection = await loop.create_connection(Connection, self._host, self._port)
        except TimeoutError:
            raise UpstreamError("refused", f"no connection within {CONNECT_S:.0f} s") from None
        except OSError as error:
            why = error.strerror or str(error) or type(error).__name__
            raise UpstreamError("refused", f"no connection ({why})") from None
        return connection

    # -- idle connections ----------------------------------------------------------------------

    def _keep(self, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        connection.idle_since = loop.time()
        self._idle.append(connection)
        if self._sweep is None:
            self._sweep = loop.call_later(IDLE_S, self._close_stale)

    def _stale(self, connection: Connection) -> bool:
        return asyncio.get_running_loop().time() - connection.idle_since >= IDLE_S

    def _close_stale(self) -> None:
        while self._idle and (not self._idle[0].open or self._stale(self._idle[0])):
            self._idle.popleft().close()
        self._sweep = None
        if self._idle:
            loop = asyncio.get_running_loop()
            self._sweep = loop.call_at(self._idle[0].idle_since + IDLE_S, self._close_stale)

    def close(self) -> None:
        """Close every connection; calls on their way fail as broken."""
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for connection in (*self._idle, *self._busy):
            connection.close()
        self._idle.clear()


def checked(reply: Reply, size: int) -> NDArray[np.float32]:
    """The numbers of a reply, shape (size / 4,), if it is what was asked for.

    Raises UpstreamError: busy, bad_request, broken or wrong.
    """
    status, content_type, body = reply
    if status != 200:
        text = f"it answered {status}: {_message(body)}"
        if status in (400, 413, 422):
            raise UpstreamError("bad_request", _message(body))
        if status == 503:
            raise UpstreamError("busy", text)
        # 4xx otherwise: whoever listens there, it is not the engine that was configured.
        raise UpstreamError("broken" if status >= 500 else "wrong", text)
    if content_type != BINARY:
        raise UpstreamError("wrong", f"it answered {content_type or 'no type'}, not {BINARY}")
    if len(body) != size:
        raise UpstreamError("wrong", f"it answered {len(body)} bytes in place of {size}")
    values = np.frombuffer(body, "<f4")
    if not np.isfinite(values).all():
        raise UpstreamError("wrong", "it answered numbers that are not finite (NaN or infinity)")
    return values.astype(np.float32, copy=False)


def _message(body: bytes) -> str:
    """The sentence in an error body of any of vLLM's three shapes; else its beginning."""
    text = body[:300].decode(errors="replace")
    with contextlib.suppress(orjson.JSONDecodeError, AttributeError):
        value = orjson.loads(body)
        error = value.get("error", value.get("detail"))
        text = str(error["message"] if isinstance(error, dict) else error)[:300]
    return " ".join(text.split())
