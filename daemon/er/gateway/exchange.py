"""One HTTP exchange as the gateway sees it: the request, what is noted of it, the response."""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qs

from er import dialects, journal
from er.job import Refusal
from er.journal import Value
from er.keys import Identity
from er.limits import Taken
from er.quantities import bytes_text

Receive = Callable[[], Awaitable[Mapping[str, Any]]]

SANE_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}\Z")
STALL_S = 30.0  # without a byte of the body, the client is taken for gone
JSON = b"application/json"
LOCAL = "uid:"


_id_start = os.urandom(8).hex()  # of this process
_id_count = itertools.count(1)


def new_id() -> str:
    """A request id that no other process, and none before, has given."""
    return f"req-{_id_start}{next(_id_count):08x}"


class Gone(Exception):  # noqa: N818 - nobody is left to be told
    """The client hung up."""


class Request:
    """What a client sent. Its body is there already, or read only when asked for."""

    __slots__ = (
        *("_receive", "_whole", "client", "headers", "id", "length", "method", "path", "query"),
        "read",
    )

    def __init__(
        self,
        method: str,
        path: str,
        headers: dict[bytes, bytes],
        client: str,
        *,
        query: bytes = b"",
        body: bytes | None = None,
        receive: Receive | None = None,
    ) -> None:
        """`path` as sent, percent signs and all; `body` whole, or else what `receive` gives."""
        self.method, self.path, self.query = method, path, query
        self.headers, self.client = headers, client
        self._whole, self._receive = body, receive
        sent = headers.get(b"x-request-id")
        self.id = new_id() if sent is None else _sane_id(sent)
        self.length: int | None
        if body is not None:
            self.length, self.read = len(body), True
            return
        declared = headers.get(b"content-length", b"")
        self.length = int(declared) if declared.isdigit() else None
        self.read = self.length in (0, None) and b"transfer-encoding" not in headers

    @classmethod
    def asgi(cls, scope: Mapping[str, Any], receive: Receive) -> Request:
        """From ASGI's scope."""
        return cls(
            scope["method"],
            scope["raw_path"].decode("ascii"),
            dict(scope["headers"]),
            plain_address((scope.get("client") or ("unknown",))[0]),
            query=scope["query_string"],
            receive=receive,
        )

    @property
    def local_uid(self) -> int | None:
        """The caller's uid on the local socket; None for one that came over TCP."""
        if not self.client.startswith(LOCAL):
            return None
        return int(self.client.removeprefix(LOCAL))

    def secret(self) -> str | None:
        """The API key as sent; the header counts where the query has one too. None: neither."""
        header = self.headers.get(b"authorization")
        if header is not None:
            scheme, _, value = header.decode("latin-1").partition(" ")
            return value.strip() if scheme.lower() == "bearer" else ""
        if b"api_key=" in self.query:
            values = parse_qs(self.query.decode("latin-1")).get("api_key", [""])
            return values[0]
        return None

    def check_length(self, limit: int) -> None:
        """Refuse a body that its header already says is too long. Raises Refusal 413."""
        if self.length is not None and self.length > limit:
            raise _too_large(f"is {self.length} bytes ({bytes_text(self.length)})", limit)

    def check_coding(self) -> None:
        """Refuse a body that is compressed. Raises Refusal 415."""
        coding = self.headers.get(b"content-encoding", b"").decode("latin-1").strip().lower()
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
        if self._whole is not None:
            return self._whole
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
                        return parts[0] if len(parts) == 1 else b"".join(parts)
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


def plain_address(address: str) -> str:
    """The address without what marks an IPv4 one on an IPv6 socket."""
    return address.removeprefix("::ffff:")


def _sane_id(sent: bytes) -> str:
    """The client's own id; another one where it is none.

    Whoever puts a key there by mistake must not find it in the audit and the engine's log.
    """
    if SANE_ID.match(sent) and not journal.SECRET.search(sent.decode()):
        return sent.decode()
    return new_id()


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
    dialect = ""
    model = ""  # as asked for; the configured name once it is found
    served = ""  # the configured name
    replica = ""
    code = ""
    status = 0
    items = tokens = cut = 0
    known = 0  # sequences that the cache answered
    queue_ns = tokenise_ns = engine_ns = encode_ns = 0
    total_ns = 0
    taken: Taken | None = None

    def __init__(self, request: Request) -> None:
        self.request = request
        self.began = time.monotonic_ns()
        self.refuse = dialects.refuse  # how the client's dialect says no

    def record(self) -> dict[str, Value]:
        """The audit record; no field ever holds a secret or a text."""
        request, who = self.request, self.who
        fields: dict[str, Value] = {
            "REQUEST_ID": request.id,
            "KEY_ID": who.id if who else "",
            "CLIENT": request.client,
            "METHOD": request.method,
            "PATH": journal.blotted(request.path)[:256],
            "DIALECT": self.dialect,
            "MODEL": journal.blotted(_printable(self.model[:128])),
            "REPLICA": self.replica,
            "STATUS": self.status,
            "CODE": self.code,
            "ITEMS": self.items,
            "TOKENS": self.tokens,
            "QUEUE_MS": _ms(self.queue_ns),
            "ENGINE_MS": _ms(self.engine_ns),
            "TOTAL_MS": _ms(self.total_ns),
        }
        if who is not None and who.local_uid is not None:
            fields["UID"] = who.local_uid
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
        taken = self.taken
        if taken is not None:
            found += [
                (b"x-ratelimit-limit-requests", b"%d" % taken.limit),
                (b"x-ratelimit-remaining-requests", b"%d" % taken.remaining),
                (b"x-ratelimit-reset-requests", go_duration(taken.reset_s)),
            ]
        return found


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


def _printable(text: str) -> str:
    """`text` without line breaks and commands to a terminal: a client must not write records."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


@lru_cache(64)  # an allowed request's is the whole period
def go_duration(seconds: float) -> bytes:
    """Seconds as Go writes them: 120ms, 1s, 6m0s, 1h2m3.5s; to the millisecond, rounded up."""
    ms = max(0, math.ceil(seconds * 1000 - 1e-6))
    if ms < 1000:
        return b"%dms" % ms if ms else b"0s"
    minutes, rest = divmod(ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{rest / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    if hours:
        text = f"{hours}h{minutes}m{text}"
    elif minutes:
        text = f"{minutes}m{text}"
    return text.encode()


def _ms(ns: int) -> float:
    return round(ns / 1e6, 2)
