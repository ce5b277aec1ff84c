"""One stream of a connection: a request whose body comes in, an answer whose body goes out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol

from er.gateway.exchange import Head


class Cancellable(Protocol):
    """What works on a request."""

    def cancel(self) -> Any:
        """Nobody waits for it any more."""


class Link(Protocol):
    """What a stream asks of its connection."""

    def wants_body(self, stream: Http2Stream) -> None:
        """Its body is read: the client may send more at a time."""

    def consumed(self, stream_id: int, size: int) -> None:
        """So many bytes of a body were read: the client may send as many more."""

    def sends(self, stream: Http2Stream) -> None:
        """There is something to send."""


class Http2Stream:
    """What is there of a stream from its head until it is closed."""

    __slots__ = (
        "_body", "_link", "_read", "_reads", "_wakes", "begun", "client", "deaf", "gone", "head",
        "id", "last", "more", "moved_at", "out", "work",
    )  # fmt: skip

    def __init__(self, link: Link, stream_id: int, head: Head, client: str, *, more: bool) -> None:
        """`client`: whose it is; `more`: its body is to come."""
        self.id, self.head, self.client = stream_id, head, client
        self.more, self._link = more, link
        self._body = bytearray()  # came, and was not read yet
        self._read = False
        self._reads: asyncio.Future[None] | None = None
        self._wakes: asyncio.Future[None] | None = None
        self.gone = False  # closed; nobody is there
        self.deaf = False  # what comes is thrown away: it is answered
        self.begun = False  # it is being answered, and will be in the audit
        self.work: Cancellable | None = None
        self.out = memoryview(b"")  # of the answer's body, what is still to be sent
        self.last = True  # `out` is all the rest
        self.moved_at = 0.0  # when some of it was sent, or there was nothing to send

    # -- the request's body --------------------------------------------------------------------

    def took(self, data: bytes, *, more: bool) -> None:
        """A piece of its body has come."""
        self._body += data
        self.more = more
        if self._reads is not None and not self._reads.done():
            self._reads.set_result(None)

    def whole(self) -> bytes:
        """All of its body, which has come."""
        return self._take()

    async def receive(self) -> Mapping[str, Any]:
        """The next piece of its body, as ASGI has it; `http.disconnect` where nobody is there."""
        if not self._read:
            self._read = True
            if self.more:
                self._link.wants_body(self)
        while self.more and not self._body and not self.gone:
            self._reads = asyncio.get_running_loop().create_future()
            await self._reads
        if self.gone:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": self._take(), "more_body": self.more}

    def forget_body(self) -> None:
        """What has come, and comes, is not read any more."""
        self.deaf = True
        self._take()

    def _take(self) -> bytes:
        body = bytes(self._body)
        self._body.clear()
        if body:
            self._link.consumed(self.id, len(body))
        return body

    # -- the answer's body ---------------------------------------------------------------------

    def next_piece(self, room: int) -> tuple[memoryview, bool]:
        """At most `room` bytes of what is to be sent, and whether these are the last ever."""
        piece = self.out[:room]
        self.out = self.out[len(piece) :]
        if not self.out and self._wakes is not None and not self._wakes.done():
            self._wakes.set_result(None)
        return piece, self.last and not self.out

    async def pour(self, pieces: AsyncIterator[bytes], size: int) -> bool:
        """Send `pieces`, `size` bytes in all, each when the one before is out.

        Returns whether all were sent.
        """
        async for piece in pieces:
            if not piece:
                continue
            size -= len(piece)
            self.out, self.last = memoryview(piece), size <= 0
            self._wakes = asyncio.get_running_loop().create_future()
            self._link.sends(self)
            await self._wakes
            if self.gone:
                return False
        return size == 0

    def close(self) -> None:
        """Nobody is there any more: wake what waits for the client."""
        self.gone = True
        self.forget_body()
        self.out = self.out[:0]
        for waits in (self._reads, self._wakes):
            if waits is not None and not waits.done():
                waits.set_result(None)
