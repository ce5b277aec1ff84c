"""One kept-alive connection to an engine or another host's gateway: a request, then its reply."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import httptools

ErrorKind = Literal["refused", "broken", "busy", "bad_request", "wrong", "late"]

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
