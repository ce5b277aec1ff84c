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
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from er.job import Ids, Task
from er.upstream.answers import checked
from er.upstream.connection import Connection, Reply, UpstreamError
from er.wire import asked, heads, packed, unpacked

__all__ = ["Answered", "Call", "Connection", "Reply", "Upstream", "UpstreamError", "checked"]

CONNECT_S = 5.0  # on loopback it is immediate; a host that drops packets must not hold a batch
IDLE_S = 30.0  # vLLM's own limit is set to 75 s; 5 s by its default, which one retry covers
NOT_INSIDE_S = 60.0  # for which a 404 counts


Answered = Callable[[NDArray[np.float32] | UpstreamError], None]


class Upstream:
    """The connections to one replica."""

    checked = staticmethod(checked)  # what an answer must be
    connect_s = CONNECT_S

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

    def carry(
        self,
        task: Task,
        body: bytes,
        sequences: int,
        *,
        dimensions: int,
        headers: bytes,
        answered: Answered,
    ) -> Call:
        """What `call` does, of `sequences` that came packed."""
        columns = dimensions if task == "embed" else 0
        make = partial(self._request, task, body, headers)
        call = Call(self, make, 4 * sequences * (columns or 1), columns, answered)
        call.send()
        return call

    def _request(self, task: Task, sequences: Sequence[Ids] | bytes, headers: bytes) -> bytes:
        """The whole request, as it is made at present; `sequences` may come packed."""
        if not self.inside and asyncio.get_running_loop().time() >= self._inside_at:
            self.inside = True
        if isinstance(sequences, bytes):
            body = sequences if self.inside else asked(task, unpacked(sequences))
        else:
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
        try:
            async with asyncio.timeout(self.connect_s):
                return await self._connected()
        except TimeoutError:
            raise UpstreamError("refused", f"no connection within {self.connect_s:.0f} s") from None
        except (OSError, ValueError) as error:  # ValueError: of a host that can't be a name
            why = getattr(error, "strerror", "") or str(error) or type(error).__name__
            raise UpstreamError("refused", f"no connection ({why})") from None

    async def _connected(self) -> Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(Connection, self._host, self._port)
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
            answer: NDArray[np.float32] | UpstreamError = self._to.checked(
                reply, self._size, self._columns
            )
        except UpstreamError as error:
            answer = error
        self._ends(answer)

    def _ends(self, answer: NDArray[np.float32] | UpstreamError) -> None:
        answered, self._answered = self._answered, None
        if answered is not None:
            answered(answer)
