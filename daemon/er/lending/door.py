"""A connection from another host's gateway: one request after the other.

POST /er/replicas/NAME/pooling for a replica, POST /er/questions of a client's things.

A protocol of its own, small as what it takes: the secret is looked at before anything of a body is,
and who has it not is answered 401 and hung up on. Each part is bounded: heads, bodies, how long one
may be on its way or nothing come, how long an answer may stay unread, how many connections.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httptools
import numpy as np
import orjson
from numpy.typing import NDArray

from er import journal, questions
from er.hosts import Hosts
from er.lending import STATUSES, Lending, Lent, RefusedError
from er.wire import BINARY, ENGINE_US, FAR, PROBE

MOST = 1024  # connections of one worker
HEAD_BYTES = 8192
BODY_BYTES = 16 << 20  # of ids: more than any call of a scheduler has
IDLE_S, HEAD_S, BODY_S, UNREAD_S = 75.0, 10.0, 30.0, 30.0
PATH = re.compile(re.escape(FAR).encode() + rb"([a-z0-9-]{1,64})/pooling\Z")
Answer = Callable[[bytes], Awaitable[tuple[int, bytes]]]  # a question's body -> status, body
PASSED_ON = (b"x-request-id", b"traceparent", b"tracestate")
REASONS = {
    200: b"OK",
    400: b"Bad Request",
    401: b"Unauthorized",
    404: b"Not Found",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    411: b"Length Required",
    413: b"Content Too Large",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
}


class House:
    """All of one worker's connections, and what they have in common."""

    def __init__(self, lending: Lending, hosts: Hosts, answer: Answer) -> None:
        """`answer` has the answers to questions."""
        self.lending, self.hosts, self.answer = lending, hosts, answer
        self.doors: set[Door] = set()
        self.closing = False
        self.seldom = journal.Seldom()

    def __len__(self) -> int:
        return len(self.doors)

    def made(self) -> Door:
        """A new connection."""
        return Door(self)

    def look(self) -> None:
        """End what takes too long; to be called twice a second."""
        now = time.monotonic()
        for door in list(self.doors):
            door.look(now)
        self.lending.look()

    def close(self) -> None:
        """Take nothing new: who is idle is hung up on, who waits gets the answer."""
        self.closing = True
        for door in list(self.doors):
            door.shutdown()


class Door(asyncio.Protocol):
    """One connection. What is odd about it ends it."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._parser = httptools.HttpRequestParser(self)
        self._transport: Any = None
        self._since = time.monotonic()  # of the present part
        self._limit_s = IDLE_S
        self._head = 0  # bytes
        self._lent: Lent | asyncio.Task[None] | None = None  # what is being answered
        self._over = False  # nothing more is read
        self._begin()

    def _begin(self) -> None:
        self._url, self._secret, self._more = b"", b"", b""
        self._length, self._named = -1, 0  # said of the body; bytes of headers
        self._probe = self._chunked = self._admitted = False
        self._name = ""
        self._body = bytearray()

    # -- asyncio -------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        house = self._house
        if house.closing or len(house.doors) >= MOST:
            if not house.closing and house.seldom.due("most"):
                told = f"other hosts have {MOST} connections to this worker; more are refused"
                journal.log("warning", told)
            self._over = True
            transport.abort()  # type: ignore[attr-defined]
            return
        house.doors.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._over = True
        self._house.doors.discard(self)
        lent, self._lent = self._lent, None
        if isinstance(lent, Lent):
            self._house.lending.cancel(lent)
        elif lent is not None:
            lent.cancel()

    def data_received(self, data: bytes) -> None:
        if self._over:
            return
        if self._lent is not None:  # no second request before the first is answered
            self._end()
            return
        if not self._admitted:
            self._head += len(data)
            if self._limit_s == IDLE_S:
                self._part(HEAD_S)
        elif self._limit_s == BODY_S:
            self._since = time.monotonic()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            if not self._over:
                cause = error.__context__ or error
                journal.mishap(cause, "reading what another host sent")
                self._end()
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if not self._over:
                self._refuse(400, "bad_request", "This is not HTTP/1.1.", end=True)
        if not self._over and not self._admitted and self._head > HEAD_BYTES:
            self._too_large()

    def _too_large(self) -> None:
        self._refuse(431, "bad_request", f"A head has at most {HEAD_BYTES} bytes.", end=True)

    def look(self, now: float) -> None:
        """End it if its present part takes too long."""
        if self._lent is not None:
            return  # Lending.look has an eye on that
        unread = self._transport.get_write_buffer_size() > 0
        if now - self._since <= (UNREAD_S if unread else self._limit_s):
            return
        if self._limit_s == IDLE_S or unread:
            self._end()
        else:
            self._refuse(408, "late", "It takes too long to come.", end=True)

    def shutdown(self) -> None:
        """Hang up, after the answer that is under way."""
        if self._lent is None and self._limit_s == IDLE_S:
            self._over = True
            self._transport.close()

    def _part(self, limit_s: float) -> None:
        self._limit_s, self._since = limit_s, time.monotonic()

    def _end(self) -> None:
        self._over = True
        self._transport.abort()

    # -- httptools -----------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._lent is not None or self._over:
            self._over = True
            self._transport.abort()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._named += len(name) + len(value)
        low = name.lower()
        if low == b"authorization":
            self._secret = value
        elif low == b"content-length" and value.isdigit() and len(value) < 12:
            self._length = int(value)
        elif low == b"transfer-encoding":
            self._chunked = True
        elif low == PROBE.encode():
            self._probe = True
        elif low in PASSED_ON:
            self._more += b"\r\n%b: %b" % (low, value)

    def on_headers_complete(self) -> None:
        if self._over:
            return
        scheme, _, secret = self._secret.partition(b" ")
        known = scheme.lower() == b"bearer" and self._house.hosts.admits(
            secret.decode("latin-1").strip()
        )
        if not known:
            self._stranger()
            return
        place = PATH.match(self._url)
        if self._named + len(self._url) > HEAD_BYTES:
            self._too_large()
        elif self._parser.get_method() != b"POST":
            self._refuse(405, "bad_request", "Only POST is taken here.", end=True)
        elif self._url == questions.PATH.encode():
            self._admit("", questions.BODY_BYTES)
        elif place is None or not self._house.lending.lends(place[1].decode()):
            self._refuse(404, "unknown", "This host has no such replica of its own.", end=True)
        else:
            self._admit(place[1].decode(), BODY_BYTES)

    def _admit(self, name: str, most: int) -> None:
        """Take a body for that replica, or a question."""
        if self._chunked or self._length < 0:
            self._refuse(411, "bad_request", "A body must say its length.", end=True)
        elif self._length > most:
            self._refuse(413, "bad_request", f"A body has at most {most} bytes.", end=True)
        else:
            self._name, self._admitted, self._head = name, True, 0
            self._part(BODY_S)

    def _stranger(self) -> None:
        peer = self._transport.get_extra_info("peername") or ("somebody",)
        if self._house.seldom.due("stranger"):
            more = self._house.seldom.held("stranger")
            told = f" ({more} more since the last time this was said)" if more else ""
            journal.log(
                "warning",
                f"{peer[0]} asked for a replica without the hosts' secret and was refused{told}; "
                "er help hosts",
            )
        self._refuse(401, "unknown", "This is not the secret of this host's members.", end=True)

    def on_body(self, body: bytes) -> None:
        if not self._over:
            self._body += body

    def on_message_complete(self) -> None:
        if self._over or not self._admitted:
            return
        name, body, more, probe = self._name, bytes(self._body), self._more, self._probe
        self._begin()
        if not name:
            self._lent = asyncio.get_running_loop().create_task(self._asked(body))
            return
        try:
            self._lent = self._house.lending.start(name, body, more, probe, self._told)
        except RefusedError as refused:
            self._answer_refused(refused)

    async def _asked(self, body: bytes) -> None:
        said: tuple[int, bytes] | None = None
        try:
            said = await self._house.answer(body)
        except Exception as error:
            journal.mishap(error, "answering another host")
        self._lent = None
        if self._over:
            return
        if said is None:
            self._refuse(500, "internal_error", "It went wrong.")
        else:
            self._write(said[0], BINARY, said[1])

    # -- back ----------------------------------------------------------------------------------

    def _told(self, answer: NDArray[np.float32] | RefusedError) -> None:
        lent, self._lent = self._lent, None
        if self._over or not isinstance(lent, Lent):
            return
        if isinstance(answer, RefusedError):
            self._answer_refused(answer)
            return
        took_us = (time.monotonic_ns() - lent.began) // 1000
        body = answer.astype("<f4", copy=False).tobytes()
        self._write(200, BINARY, body, b"\r\n%b: %d" % (ENGINE_US.encode(), took_us))

    def _answer_refused(self, refused: RefusedError) -> None:
        status = STATUSES.get(refused.kind, 502)
        self._refuse(status, refused.kind, refused.text, refused.rows)

    def _refuse(
        self, status: int, kind: str, text: str, rows: tuple[int, ...] = (), end: bool = False
    ) -> None:
        error = {"kind": kind, "message": text, "rows": rows}
        self._write(status, "application/json", orjson.dumps({"error": error}), end=end)

    def _write(
        self, status: int, kind: str, body: bytes, more: bytes = b"", *, end: bool = False
    ) -> None:
        self._part(IDLE_S)
        end = end or self._house.closing
        head = b"HTTP/1.1 %d %b\r\ncontent-type: %b\r\ncontent-length: %d%b%b\r\n\r\n" % (
            status,
            REASONS.get(status, b"Refused"),
            kind.encode(),
            len(body),
            more,
            b"\r\nconnection: close" if end else b"",
        )
        self._transport.write(head + body)
        if end:
            self._over = True
            self._transport.close()
