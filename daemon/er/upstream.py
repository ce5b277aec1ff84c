"""One upstream call: a batch of token ids to vLLM, over kept-alive connections of our own.

It goes to the path that er-vllm puts inside vLLM (engine/inside.py). One that answers 404 gets POST
/pooling, and is asked again a minute later: it may have been restarted with the path.

A small HTTP/1.1 client on asyncio.Protocol and httptools: one request at a time on a connection,
no redirects, no pipelining, no cookies; general clients cost many times as much of a core. Nothing
leaves here unchecked: status, content type, exact size, lengths of vectors, range of scores.
A connection that has seen anything odd is closed for good: no answer can reach the wrong call.
Cancelling a call closes its connection, on which vLLM stops computing for it.
Answers come by callback: a call on a kept connection costs no task, no future and no timer.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

import httptools
import numpy as np
import orjson
from numpy.typing import NDArray

from er import vectors
from er.job import Ids, Task
from er.wire import BINARY, asked, heads, packed

ErrorKind = Literal["refused", "broken", "busy", "bad_request", "wrong", "late"]

CONNECT_S = 5.0  # on loopback it is immediate; a host that drops packets must not hold a batch
IDLE_S = 30.0  # vLLM's own limit is set to 75 s; 5 s by its default, which one retry covers
NOT_INSIDE_S = 60.0  # for which a 404 counts
ERROR_BODY_BYTES = 64 << 10


class UpstreamError(Exception):
    """A call that gave nothing usable.

    refused: no connection. broken: it died, or an answer 5xx. busy: 503. bad_request: 400, some
    sequence is at fault. wrong: an answer that must not be believed, for `rows` of it that can't be
    right, or as a whole. late: out of time.
    """

    def __init__(self, kind: ErrorKind, text: str, rows: Sequence[int] = ()) -> None:
        super().__init__(text)
        self.kind: ErrorKind = kind
        self.text, self.rows = text, rows


class Reply(NamedTuple):
    status: int
    content_type: str
    body: bytes


Heard = Callable[[Reply | UpstreamError], None]
Answered = Callable[[NDArray[np.float32] | UpstreamError], None]


class Connection(asyncio.Protocol):
    """One kept-alive connection; `ask` sends a request and has its reply told."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._heard: Heard | None = None  # who waits for a reply
        self._whole: Reply | None = None  # the reply, until the parser is done with its bytes
        self._body: list[bytes] = []
        self._room = 0  # bytes that may come still
        self._content_type = ""
        self.open = False
        self.begun = False  # whether any byte of the current reply has come
        self.idle_since = 0.0  # the loop's time

    def ask(self, request: bytes, limit: int, heard: Heard) -> None:
        """Send `request`; a body of more than `limit` bytes (64 KiB for errors) is an error.

        `heard` gets the reply or an UpstreamError (broken or wrong), once, from the event loop.
        """
        assert self._transport is not None and self._heard is None
        self._room = max(limit, ERROR_BODY_BYTES)
        self._body = []
        self._content_type = ""
        self.begun = False
        self._heard = heard
        self._transport.write(request)

    def close(self) -> None:
        """Close at once. What is on its way is lost."""
        self.open = False
        if self._transport is not None:
            self._transport.abort()

    def forget(self) -> None:
        """Close, and tell nobody."""
        self._heard = None
        self.close()

    def _fail(self, kind: ErrorKind, text: str) -> None:
        self.close()
        heard, self._heard = self._heard, None
        if heard is not None:
            heard(UpstreamError(kind, text))

    # -- asyncio -------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self.open = True

    def data_received(self, data: bytes) -> None:
        if self._heard is None:
            self.close()  # nobody asked
            return
        self.begun = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            if self._whole is None:
                self._fail("wrong", f"an answer that is not HTTP ({error})")
                return
            self.close()  # a good answer, and rubbish behind it
        # Told only now: who is told may ask again, and must not be given what else was in `data`.
        whole, self._whole = self._whole, None
        if whole is not None:
            heard, self._heard = self._heard, None
            if heard is not None:
                heard(whole)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail("broken", f"the connection broke ({exc})" if exc else "the connection broke")

    # -- httptools -----------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._heard is None or self._whole is not None:
            self.close()  # a second answer behind the first

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"content-type" and self._whole is None:
            kind = value.decode("latin-1").partition(";")[0]
            self._content_type = kind.strip().lower()

    def on_body(self, body: bytes) -> None:
        if self._heard is None or self._whole is not None:
            return
        self._room -= len(body)
        if self._room < 0:
            self._fail("wrong", "an answer that is far too long")
            return
        self._body.append(body)

    def on_message_complete(self) -> None:
        if self._heard is None or self._whole is not None:
            self.close()
            return
        if not self._parser.should_keep_alive():
            self.close()
        self._whole = Reply(
            self._parser.get_status_code(), self._content_type, b"".join(self._body)
        )


class Upstream:
    """The connections to one replica."""

    def __init__(self, address: str, secret: Callable[[], str] = str) -> None:
        """`address`: http://HOST:PORT. `secret` gives what its guard asks for, "" for none."""
        parts = urlsplit(address)
        assert parts.hostname is not None
        self.address = address
        self._host, self._port = parts.hostname, parts.port or 80
        self.inside = True  # not for a while after that path answered 404
        self._inside_at = 0.0  # the loop's time, from which on it is asked again
        self._secret, self._heads = secret, heads(self._host, self._port, secret())
        self._idle: deque[Connection] = deque()
        self._sweep: asyncio.TimerHandle | None = None

    def call(
        self,
        task: Task,
        sequences: Sequence[Ids],
        *,
        dimensions: int,
        headers: bytes,
        answered: Answered,
    ) -> Call:
        """Compute `sequences`: float32 (n, dimensions) for embed, (n,) for score; all possible.

        `headers`: more of them, each behind a line break.
        `answered` gets them or an UpstreamError, once, from the event loop and not from in here.
        There is no limit of time but for connecting: who has waited long enough cancels.
        """
        columns = dimensions if task == "embed" else 0
        size = 4 * len(sequences) * (columns or 1)
        make = partial(self._request, task, sequences, headers)
        call = Call(self, make, size, columns, answered)
        call.send()
        return call

    def _request(self, task: Task, sequences: Sequence[Ids], headers: bytes) -> bytes:
        """The whole request, as it is made at present."""
        if not self.inside and asyncio.get_running_loop().time() >= self._inside_at:
            self.inside = True
        body = packed(task, sequences) if self.inside else asked(task, sequences)
        return b"%b%b\r\ncontent-length: %d\r\n\r\n%b" % (
            self._heads[self.inside],
            headers,
            len(body),
            body,
        )

    def learns(self, status: int, inside: bool) -> bool:
        """Whether a call, to the path inside or not, that got `status` is worth another try."""
        if status == 404 and inside:
            self.inside = False
            self._inside_at = asyncio.get_running_loop().time() + NOT_INSIDE_S
            return True
        before = self._heads
        if status == 401:  # the secret's file may have been made anew
            with contextlib.suppress(OSError):
                self._heads = heads(self._host, self._port, self._secret())
        return self._heads != before

    def kept(self) -> Connection | None:
        """An idle connection that is good, and no longer among the idle ones."""
        while self._idle:
            connection = self._idle.pop()
            if connection.open and not self._stale(connection):
                return connection
            connection.close()
        return None

    async def connect(self) -> Connection:
        """A fresh connection. Raises UpstreamError (refused)."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_S):
                _, connection = await loop.create_connection(Connection, self._host, self._port)
        except TimeoutError:
            raise UpstreamError("refused", f"no connection within {CONNECT_S:.0f} s") from None
        except (OSError, ValueError) as error:  # ValueError: of a host that can't be a name
            why = getattr(error, "strerror", "") or str(error) or type(error).__name__
            raise UpstreamError("refused", f"no connection ({why})") from None
        return connection

    # -- idle connections ----------------------------------------------------------------------

    def keep(self, connection: Connection) -> None:
        """Have `connection` for a later call."""
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
        """Close every idle connection. Calls on their way are whoever's who made them."""
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for connection in self._idle:
            connection.close()
        self._idle.clear()


class Call:
    """One call on its way: on a kept connection, or on a fresh one."""

    __slots__ = (
        *("_answered", "_columns", "_connecting", "_connection", "_fresh", "_inside", "_make"),
        *("_request", "_size", "_to"),
    )

    def __init__(
        self,
        to: Upstream,
        make: Callable[[], bytes],
        size: int,
        columns: int,
        answered: Answered,
    ) -> None:
        """`size`: the answer's bytes; `columns`: of its rows, 0: it is a list of numbers."""
        self._to, self._make, self._size, self._columns = to, make, size, columns
        self._request = make()
        self._inside = to.inside
        self._answered: Answered | None = answered
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._fresh = False

    def send(self) -> None:
        """Send it; to be called once."""
        self._connection = self._to.kept()
        if self._connection is None:
            self._connect()
        else:
            self._connection.ask(self._request, self._size, self._heard)

    def cancel(self) -> None:
        """Hang up. Nobody is told anything any more."""
        self._answered = None
        if self._connecting is not None:
            self._connecting.cancel()
        if self._connection is not None:
            self._connection.forget()

    def _connect(self) -> None:
        self._fresh = True
        self._connecting = asyncio.get_running_loop().create_task(self._connected())

    async def _connected(self) -> None:
        try:
            connection = await self._to.connect()
        except UpstreamError as error:
            self._ends(error)
            return
        finally:
            self._connecting = None
        self._connection = connection
        connection.ask(self._request, self._size, self._heard)

    def _heard(self, reply: Reply | UpstreamError) -> None:
        connection, self._connection = self._connection, None
        assert connection is not None
        if isinstance(reply, UpstreamError):
            if reply.kind == "broken" and not self._fresh and not connection.begun:
                self._connect()  # it may have been closed just as we wrote
            else:
                self._ends(reply)
            return
        if connection.open:
            self._to.keep(connection)
        if reply.status != 200 and self._to.learns(reply.status, self._inside):
            self._inside = self._to.inside
            self._request = self._make()
            self._connect()
            return
        try:
            answer: NDArray[np.float32] | UpstreamError = checked(reply, self._size, self._columns)
        except UpstreamError as error:
            answer = error
        self._ends(answer)

    def _ends(self, answer: NDArray[np.float32] | UpstreamError) -> None:
        answered, self._answered = self._answered, None
        if answered is not None:
            answered(answer)


def checked(reply: Reply, size: int, columns: int) -> NDArray[np.float32]:
    """The numbers of a reply, shape (n, columns), or (n,) for 0 columns, if they can be right.

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
    values = np.frombuffer(body, "<f4").astype(np.float32, copy=False)
    values = values.reshape(-1, columns) if columns else values
    if rows := vectors.wrong_rows(values):
        raise UpstreamError("wrong", f"it {vectors.fault(values[rows[0]])}", rows)
    return values


def _message(body: bytes) -> str:
    """The sentence in an error body of any of vLLM's three shapes; else its beginning."""
    text = body[:300].decode(errors="replace")
    with contextlib.suppress(orjson.JSONDecodeError, AttributeError):
        value = orjson.loads(body)
        error = value.get("error", value.get("detail"))
        text = str(error["message"] if isinstance(error, dict) else error)[:300]
    return " ".join(text.split())
