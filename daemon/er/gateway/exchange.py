"""One HTTP exchange as the gateway sees it: the request, what is noted of it, the response."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qs

from er import dialects, journal
from er.fingerprint import HEADER
from er.gateway.durations import go_duration
from er.job import Refusal
from er.journal import Value
from er.keys import Identity
from er.limits import Held, Taken
from er.quantities import bytes_text
from er.traces.context import UNCHOSEN, Context

Receive = Callable[[], Awaitable[Mapping[str, Any]]]

SANE_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}\Z")
STALL_S = 30.0  # without a byte of the body, the client is taken for gone
JOINED_ASIDE = 1 << 20  # bytes of a body; to put its parts together others would wait for
JSON = b"application/json"
LOCAL = "uid:"
BROKEN = "er.broken"  # in ASGI's scope: what was said to a body that broke off, and the id with it


_id_start = os.urandom(8).hex()  # of this process
_id_count = itertools.count(1)


def new_id() -> str:
    """A request id that no other process, and none before, has given."""
    return f"req-{_id_start}{next(_id_count):08x}"


class Gone(Exception):  # noqa: N818 - nobody is left to be told
    """The client hung up."""


class BrokenOff(Exception):  # noqa: N818 - as Gone
    """The rest of an answer is not to be had; who found that has told the operator."""


class Head:
    """What stands before a request's body. Clients send the same again and again, so what follows
    from it is found out once and kept with it.
    """

    __slots__ = (
        "chunked", "client", "headers", "length", "method", "path", "query", "route", "secret"
    )  # fmt: skip

    def __init__(
        self, method: str, path: str, headers: dict[bytes, bytes], query: bytes = b""
    ) -> None:
        """`path` as sent, percent signs and all."""
        self.method, self.path, self.query, self.headers = method, path, query, headers
        declared = headers.get(b"content-length", b"")
        # Zeros may stand before it, more than int() takes; the rest is short, as llhttp sees to.
        self.length = int(declared.lstrip(b"0") or b"0") if declared.isdigit() else None
        self.chunked = b"transfer-encoding" in headers
        self.secret = self._secret()
        self.route: dialects.Route | None = None  # where it is known
        self.client: str | None = None  # its address, where a trusted proxy has put it there

    def _secret(self) -> str | None:
        """The API key as sent; the header counts where the query has one too. None: neither."""
        header = self.headers.get(b"authorization")
        if header is not None:
            scheme, _, value = header.decode("latin-1").partition(" ")
            return value.strip() if scheme.lower() == "bearer" else ""
        if b"api_key=" in self.query:
            values = parse_qs(self.query.decode("latin-1")).get("api_key", [""])
            return values[0]
        return None


class Request:
    """What a client sent. Its body is there already, or read only when asked for."""

    __slots__ = ("_receive", "client", "head", "id", "read", "whole")

    def __init__(
        self, head: Head, client: str, *, whole: bytes | None = None, receive: Receive | None = None
    ) -> None:
        """Of its body either all, or what `receive` gives."""
        self.head, self.client = head, client
        self.whole, self._receive = whole, receive
        self.id = id_of(head)
        self.read = whole is not None or (head.length in (0, None) and not head.chunked)

    @classmethod
    def asgi(cls, scope: Mapping[str, Any], receive: Receive) -> Request:
        """From ASGI's scope."""
        path, headers = scope["raw_path"].decode("ascii"), dict(scope["headers"])
        head = Head(scope["method"], path, headers, scope["query_string"])
        client = plain_address((scope.get("client") or ("unknown",))[0])
        return cls(head, client, receive=receive)

    def check_length(self, limit: int) -> None:
        """Refuse a body that its header already says is too long. Raises Refusal 413."""
        length = self.head.length if self.whole is None else len(self.whole)
        if length is not None and length > limit:
            raise _too_large(f"is {length} bytes ({bytes_text(length)})", limit)

    def check_coding(self) -> None:
        """Refuse a body that is compressed. Raises Refusal 415."""
        coding = self.head.headers.get(b"content-encoding", b"").decode("latin-1").strip().lower()
        if coding not in ("", "identity"):
            raise Refusal(
                415,
                "unsupported_encoding",
                f"Content-Encoding is {coding[:40]!r}; send the body as plain JSON, uncompressed",
                headers={"accept-encoding": "identity"},
            )

    async def body(self, limit: int, within_s: float) -> bytes:
        """The whole body, at most `limit` bytes, all of it `within_s` seconds.

        Raises Refusal 413 as soon as it is too long, 415 when it is compressed, 408 when no more
        comes; Gone.
        """
        self.check_length(limit)
        self.check_coding()
        if self.whole is not None:
            return self.whole
        assert self._receive is not None
        loop = asyncio.get_running_loop()
        end = loop.time() + within_s
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout_at(min(end, loop.time() + STALL_S)) as patience:
                while True:
                    message = await self._receive()
                    if message["type"] != "http.request":
                        raise Gone
                    part = message["body"]
                    size += len(part)
                    if size > limit:
                        raise _too_large(f"has {size} bytes so far and goes on", limit)
                    parts.append(part)
                    if not message["more_body"]:
                        self.read = True
                        if size < JOINED_ASIDE:
                            return parts[0] if len(parts) == 1 else b"".join(parts)
                        return await asyncio.to_thread(b"".join, parts)
                    patience.reschedule(min(end, loop.time() + STALL_S))
        except TimeoutError:
            if loop.time() >= end:
                why = f"only {size} bytes of the body came within the timeout of {within_s:g} s"
            else:
                why = (
                    f"the body stopped after {size} bytes; send all of it without a pause of "
                    f"{STALL_S:.0f} s"
                )
            closing = {"connection": "close"}
            raise Refusal(408, "request_timeout", why, headers=closing) from None

    async def pieces(self, within_s: float) -> AsyncIterator[bytes]:
        """The body as it comes, for what is too large for the memory; its size is not checked.

        Raises Refusal 415 when it is compressed, 408 when no more comes; Gone.
        """
        self.check_coding()
        if self.whole is not None:
            yield self.whole
            return
        assert self._receive is not None
        size, end = 0, time.monotonic() + within_s
        while True:
            try:
                left = min(STALL_S, end - time.monotonic())
                message = await asyncio.wait_for(self._receive(), left)
            except TimeoutError:
                why = f"the body stopped after {size} bytes, or took over {within_s:.0f} s in all"
                closing = {"connection": "close"}
                raise Refusal(408, "request_timeout", why, headers=closing) from None
            if message["type"] != "http.request":
                raise Gone
            size += len(message["body"])
            self.read = not message["more_body"]
            yield message["body"]
            if self.read:
                return


def plain_address(address: str) -> str:
    """The address without what marks an IPv4 one on an IPv6 socket."""
    return address.removeprefix("::ffff:")


def id_of(head: Head) -> str:
    """The client's own id; another one where it sent none, or one that is none.

    Whoever puts a key there by mistake must not find it in the audit and the engine's log.
    """
    sent = head.headers.get(b"x-request-id")
    if sent is None or not SANE_ID.match(sent) or journal.SECRET.search(said := sent.decode()):
        return new_id()
    secret = head.secret or ""
    return new_id() if journal.without(said, secret) != said else said


def _too_large(what: str, limit: int) -> Refusal:
    return Refusal(
        413,
        "body_too_large",
        f"the body {what}; this server takes at most {limit} bytes ({bytes_text(limit)}). Send "
        "fewer texts in one request, or raise max_body in er.toml",
        headers={"connection": "close"},
    )


class Note:
    """What becomes known of an exchange on its way, for its audit record, headers and metrics."""

    # Defaults of the class, so that a request sets only what becomes known.
    who: Identity | None = None
    dialect = replica = code = ""
    model = ""  # as asked for; the configured name once it is found
    path = ""  # as it may be shown, where it is no address of a model's
    served = ""  # the configured name
    status = 0
    items = tokens = cut = 0
    known = 0  # sequences that the cache answered
    fingerprint = b""  # of the model that answered
    queue_ns = tokenise_ns = engine_ns = encode_ns = 0
    total_ns = 0
    context: Context | None = UNCHOSEN  # its place in a trace, where it has one
    engine_span, onward = 0, b""  # the parent of its calls' spans; their headers that say so
    trace_id = ""  # of the trace that it belongs to, where there is one
    begun = False  # its client left, and an engine had begun or computed it by then
    taken: Taken | None = None
    scope: Mapping[str, Any] = {}  # ASGI's, where it came that way
    taken_tokens: Taken | None = None
    held: Held | None = None

    refuse: Callable[[Refusal, str], bytes] = staticmethod(dialects.refuse)  # the dialect's no
    request: Request
    id: str

    def __init__(self, request: Request) -> None:
        self.request, self.id = request, request.id
        self.began = time.monotonic_ns()

    def record(self) -> dict[str, Value]:
        """The audit record; no field ever holds a secret or a text."""
        request, who = self.request, self.who
        fields: dict[str, Value] = {
            "REQUEST_ID": request.id,
            "KEY_ID": who.id if who else "",
            "CLIENT": request.client,
            "METHOD": request.head.method,
            "PATH": (self.path or request.head.path)[:256],
            "DIALECT": self.dialect,
            "MODEL": printable(self.model[:128]),
            "REPLICA": self.replica,
            "STATUS": self.status,
            "CODE": self.code,
            "ITEMS": self.items,
            "TOKENS": self.tokens,
            "QUEUE_MS": _ms(self.queue_ns),
            "ENGINE_MS": _ms(self.engine_ns),
            "TOTAL_MS": _ms(self.total_ns),
        }
        if self.trace_id:
            fields["TRACE_ID"] = self.trace_id
        if who is not None and who.marks:
            fields.update(who.marks)
        return fields

    def headers(self) -> list[tuple[bytes, bytes]]:
        """The headers that every answer carries, and those of a limited one."""
        timing = b"queue;dur=%.2f, tokenise;dur=%.2f, engine;dur=%.2f, total;dur=%.2f" % (
            self.queue_ns / 1e6,
            self.tokenise_ns / 1e6,
            self.engine_ns / 1e6,
            self.total_ns / 1e6,
        )
        if self.known:
            timing += b', cache;desc="%d known"' % self.known
        found = [
            (b"x-request-id", self.request.id.encode()),
            (b"server-timing", timing),
            (b"openai-processing-ms", b"%d" % round(self.total_ns / 1e6)),
        ]
        if self.fingerprint:
            found.append((HEADER, self.fingerprint))
        if self.cut:
            found.append((b"x-er-texts-cut", b"%d" % self.cut))
        taken = self.taken
        if taken is not None:
            found += [
                (b"x-ratelimit-limit-requests", b"%d" % taken.limit),
                (b"x-ratelimit-remaining-requests", b"%d" % taken.remaining),
                (b"x-ratelimit-reset-requests", go_duration(taken.reset_s)),
            ]
        taken = self.taken_tokens
        if taken is not None:
            found += [
                (b"x-ratelimit-limit-tokens", b"%d" % taken.limit),
                (b"x-ratelimit-remaining-tokens", b"%d" % taken.remaining),
                (b"x-ratelimit-reset-tokens", go_duration(taken.reset_s)),
            ]
        return found

    def head_of(self, dated: bytes, length: int) -> bytes:
        """All of a good answer's head, from its first line, `dated`, to the empty one.

        The same headers as `headers` gives, with those of a JSON body of `length` bytes.
        """
        taken, total_ms = self.taken, self.total_ns / 1e6
        limit = b"" if taken is None else _LIMIT % (taken[1], taken[2], go_duration(taken[4]))
        return _HEAD % (
            dated,
            self.request.id.encode(),
            self.queue_ns / 1e6,
            self.tokenise_ns / 1e6,
            self.engine_ns / 1e6,
            total_ms,
            b', cache;desc="%d known"' % self.known if self.known else b"",
            round(total_ms),
            self.fingerprint,
            limit,
            length,
        )


_HEAD = (
    b"%bx-request-id: %b\r\nserver-timing: queue;dur=%.2f, tokenise;dur=%.2f, engine;dur=%.2f, "
    b"total;dur=%.2f%b\r\nopenai-processing-ms: %d\r\nx-er-model-fingerprint: %b\r\n"
    b"%bcontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
)
_LIMIT = (
    b"x-ratelimit-limit-requests: %d\r\nx-ratelimit-remaining-requests: %d\r\n"
    b"x-ratelimit-reset-requests: %b\r\n"
)


class Response:
    """What is sent back."""

    __slots__ = ("body", "headers", "kind", "status")

    def __init__(
        self,
        status: int,
        body: bytes,
        kind: bytes = JSON,
        headers: list[tuple[bytes, bytes]] | None = None,
    ) -> None:
        self.status, self.body, self.kind, self.headers = status, body, kind, headers or []

    @property
    def size(self) -> int:
        """Bytes of the body."""
        return len(self.body)


class Stream(Response):
    """A body that is read while it is sent."""

    __slots__ = ("_size", "pieces")

    def __init__(self, size: int, pieces: AsyncIterator[bytes], kind: bytes) -> None:
        """`pieces` give `size` bytes in all."""
        super().__init__(200, b"", kind)
        self._size, self.pieces = size, pieces

    @property
    def size(self) -> int:
        return self._size


def printable(text: str) -> str:
    """`text` without line breaks and commands to a terminal: a client must not write records."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _ms(ns: int) -> float:
    return round(ns / 1e6, 2)
