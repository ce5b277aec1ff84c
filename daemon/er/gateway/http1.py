"""HTTP/1.1 for the gateway: uvicorn's httptools protocol, with what it leaves open closed.

Bounds: the size of a head, the time for one, and pipelining. Errors: in ER's JSON body, and never
in the place of an answer that is due. A client that hangs up has its work cancelled. An `Upgrade:`
that nobody wants (Java's client offers h2c with each request) no longer swallows the body. A body
that is refused unread is read off for a moment, so that the answer arrives before the connection
ends.
The base class is private API: uvicorn is pinned.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import httptools
from uvicorn import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from er import dialects
from er.gateway.exchange import BROKEN, LOCAL, Head, id_of, new_id
from er.job import Refusal

HEAD_S = 10.0  # for a head, from its first byte; for the first one, from the connection on
LINGER_S = 5.0
HEAD_MAX = 32 << 10  # bytes
URL_MAX = 8 << 10
PIPELINE_MAX = 128  # requests that wait on a connection; one read can bring ten thousand
UPGRADE_HEADERS = {b"connection", b"upgrade", b"http2-settings"}
REASONS = {
    400: b"Bad Request",
    408: b"Request Timeout",
    414: b"URI Too Long",
    431: b"Request Header Fields Too Large",
}


class _Flow(FlowControl):
    """Reads on only when no pipelined request waits: so a peer that never reads fills nothing."""

    def __init__(self, transport: asyncio.Transport, waiting: deque[Any]) -> None:
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        if not self._waiting:
            super().resume_reading()


class _Exit:
    """What a cycle takes for its transport: closing goes by way of the protocol."""

    def __init__(self, protocol: Protocol) -> None:
        self.write = protocol.transport.write
        self.is_closing = protocol.transport.is_closing
        self.close = protocol.close_after_answer


class Protocol(HttpToolsProtocol):
    """One client's connection. `unread` is told of what was refused before it was a request."""

    def __init__(
        self, config: Config, state: ServerState, unread: Callable[[str, Refusal, str], None]
    ) -> None:
        super().__init__(config, state, {})
        self._unread = unread
        self.dropped: Callable[[Any], None] = lambda cycle: None  # told of those never begun

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = _Flow(transport, self.pipeline)
        self._exit = _Exit(self)
        self._answering: RequestResponseCycle | None = None
        self._task: asyncio.Task[None] | None = None
        self._wrong: Refusal | None = None  # why the input is refused, when a callback knows
        self._deaf = False  # input is thrown away
        self._in_head = self._begun = False
        self._upgrading = False
        self._raw = self._behind = 0
        self._timer: asyncio.TimerHandle | None = None
        self._expect_head()
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family == socket.AF_UNIX:
            credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            pid, uid, _ = struct.unpack("3i", credentials)
            self.client = (f"{LOCAL}{uid}", pid)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._forget_timer()
        for cycle, _ in self.pipeline:
            cycle.disconnected = True
        self._drop_pipeline()
        answering = self._answering
        if answering is not None and not answering.response_complete and self._task is not None:
            answering.disconnected = True
            # Not at once: a task that is cancelled before its first step leaves no record.
            self.loop.call_soon(self._task.cancel)

    def _drop_pipeline(self) -> None:
        """Those that wait are never begun; each is noted all the same."""
        while self.pipeline:
            self.dropped(self.pipeline.pop()[0])

    # -- what comes in -----------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._unset_keepalive_if_required()
        self._begun = False
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._without_upgrade(data[upgrade.args[0] :])
            return
        except httptools.HttpParserError:
            self._refuse_input()
            return
        if self._in_head:
            # Of what came before a head in the same piece, nothing is held against it.
            self._raw = 1 if self._begun else self._raw + len(data)
            if self._raw > HEAD_MAX:
                self._wrong = _HEAD_TOO_LARGE
                self._refuse_input()
                return
        if self.waits_for_head():
            self._expect_head()

    def waits_for_head(self) -> bool:
        """Half a head is here, or the rest of a body that was answered without it."""
        return self._in_head or self.cycle is None or self.cycle.response_complete

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.begin_head()

    def begin_head(self) -> None:
        """A head's first byte is here."""
        self._in_head = self._begun = True
        self._behind = 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > URL_MAX:
            self._wrong = Refusal(414, "invalid_request", f"the address is over {URL_MAX} bytes")
            raise ValueError

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:
            self.headers.append((name.lower(), value))
            return
        # Behind a chunked body: a key or an id there is none of the request's.
        self._behind += len(name) + len(value)
        if self._behind > HEAD_MAX:
            self._wrong = _HEAD_TOO_LARGE
            raise ValueError

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._raw = 0
        self._forget_timer()
        if sum(len(name) + len(value) for name, value in self.headers) > HEAD_MAX:
            self._wrong = _HEAD_TOO_LARGE  # it came in one piece, or it had been refused by now
            raise ValueError
        wrong = self._wrong_head()
        if wrong:
            self._wrong = Refusal(400, "invalid_request", wrong)
            raise ValueError
        if len(self.pipeline) >= PIPELINE_MAX:
            self._wrong = _TOO_MANY
            raise ValueError  # those before it are answered, then the connection ends
        if self.parser.should_upgrade():
            self._upgrading = True
            return
        self.scope["er.behind"] = self.pipeline  # type: ignore[typeddict-unknown-key]
        super().on_headers_complete()
        self.cycle.transport = self._exit  # type: ignore[assignment]

    def _wrong_head(self) -> str:
        """What makes this head one that can't be read for sure; empty: nothing."""
        version = self.parser.get_http_version()
        if version not in ("1.0", "1.1"):
            return f"this is HTTP/1.1, and the request says HTTP/{version}"
        hosts = 0
        for name, value in self.headers:
            if name == b"host":
                hosts += 1
            elif name == b"expect":
                self.expect_100_continue = value.lower() == b"100-continue"
            elif name == b"transfer-encoding" and value.strip().lower() != b"chunked":
                said = value[:40].decode("latin-1")
                return f"Transfer-Encoding is {said!r}; only chunked is understood here"
        if hosts != 1 and version == "1.1":
            return f"a request has one Host header; this one has {hosts}"
        return ""

    def on_body(self, body: bytes) -> None:
        if not self._upgrading:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._upgrading:
            super().on_message_complete()

    def _without_upgrade(self, rest: bytes) -> None:
        """Read the same request again as if it had not offered another protocol."""
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        lines = [b"%s %s HTTP/%s" % (method, self.url, version)]
        lines += [b"%s: %s" % h for h in self.headers if h[0] not in UPGRADE_HEADERS]
        if any(b"close" in v.lower() for n, v in self.headers if n == b"connection"):
            lines.append(b"connection: close")
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._upgrading = False
        if method == b"CONNECT":
            self._wrong = Refusal(400, "invalid_request", "this is no proxy: CONNECT is refused")
            self._refuse_input()
            return
        self.data_received(b"\r\n".join(lines) + b"\r\n\r\n" + rest)

    # -- what goes out -----------------------------------------------------------------------

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        self._task = task = self.loop.create_task(cycle.run_asgi(app))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.pipeline:
            self.flow.resume_reading()

    def close_after_answer(self) -> None:
        """Close; where the client is still sending, only once it has had time to read."""
        answering = self._answering
        if answering is None or not answering.more_body or self.transport.is_closing():
            self.transport.close()
            return
        self._deaf = True
        self._drop_pipeline()
        self._forget_timer()
        self._end_writing()
        self.flow.resume_reading()
        self._timer = self.loop.call_later(LINGER_S, self.transport.close)

    def shutdown(self) -> None:
        """End an idle connection now, and a busy one with its last answer.

        One on which a request is coming is busy: while the gateway drains, its answer ends it.
        """
        if self.pipeline:
            self.pipeline[0][0].keep_alive = False
        elif self._answering is not None and not self._answering.response_complete:
            self._answering.keep_alive = False
        elif not (self._deaf or self._in_head or self._close_unless_asked()):
            self.transport.close()

    def _close_unless_asked(self) -> bool:
        """Tell the client that no more is read, or find that it has just sent something.

        Closing takes a turn of the loop; what came in that time would be reset.
        """
        sock = self.transport.get_extra_info("socket")
        if sock is None or self.transport.is_closing():
            return False
        asked = select.poll()
        asked.register(sock.fileno(), select.POLLIN)
        if asked.poll(0):
            return True
        if self.transport.get_extra_info("ssl_object") is None:
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(sock.fileno())) as same:
                same.shutdown(socket.SHUT_WR)
        return False

    def _refuse_input(self) -> None:
        """Answer what is no HTTP; where an answer is due before it, only end after that one."""
        wrong = self._wrong or Refusal(
            400, "invalid_request", "this is not HTTP/1.1 as it should be"
        )
        self._deaf = True
        self._forget_timer()
        cycle, task = self.cycle, self._task
        if cycle is not None and not cycle.response_complete:
            if cycle is not self._answering or not cycle.more_body or cycle.response_started:
                cycle.keep_alive = False
                if not cycle.more_body:  # what broke is another, which gets no answer
                    self._note(wrong, new_id())
                return
            cycle.disconnected = True  # its own body broke: nobody waits for its answer
            request_id = id_of(Head("", "", dict(cycle.scope["headers"])))
            # Its record says what is said here; there is none besides.
            scope: dict[str, Any] = cast("dict[str, Any]", cycle.scope)
            scope[BROKEN] = (wrong, request_id)
            if task is not None:
                # Not at once: a task that is cancelled before its first step leaves no record.
                self.loop.call_soon(task.cancel)
            self._say(wrong, request_id)
            return
        request_id = new_id()
        self._note(wrong, request_id)
        self._say(wrong, request_id)

    def _note(self, refusal: Refusal, request_id: str) -> None:
        self._unread(self.client[0] if self.client else "unknown", refusal, request_id)

    def _say(self, refusal: Refusal, request_id: str) -> None:
        body = dialects.refuse(refusal, request_id)
        reason = REASONS.get(refusal.status, b"Bad Request")
        lines = [b"HTTP/1.1 %d %s" % (refusal.status, reason)]
        lines += [b"%s: %s" % header for header in self.server_state.default_headers]
        lines += [
            b"content-type: application/json",
            b"content-length: %d" % len(body),
            b"x-request-id: " + request_id.encode(),
            b"server-timing: total;dur=0.0",
            b"connection: close",
        ]
        self.transport.write(b"\r\n".join(lines) + b"\r\n\r\n" + body)
        self._end_writing()
        self._timer = self.loop.call_later(1.0, self.transport.close)

    def _end_writing(self) -> None:
        if self.transport.can_write_eof():  # TLS has no half end; the answer says its length
            self.transport.write_eof()

    # -- time --------------------------------------------------------------------------------

    def _expect_head(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(HEAD_S, self._head_is_late)

    def _forget_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _head_is_late(self) -> None:
        self._timer = None
        if self.transport.is_closing():
            return
        if not self._raw:
            self.transport.close()
            return
        message = f"no whole request within {HEAD_S:.0f} s"
        self._wrong = Refusal(408, "request_timeout", message)
        self._refuse_input()


_TOO_MANY = Refusal(
    400, "invalid_request", f"{PIPELINE_MAX} requests wait on this connection; read their answers"
)
_HEAD_TOO_LARGE = Refusal(
    431, "invalid_request", f"the address and headers are over {HEAD_MAX} bytes"
)
