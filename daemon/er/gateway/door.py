"""The door for the hot paths: a POST that arrives whole is answered without ASGI, task or scope.

`Door` takes a request itself when its address is one of the few in `dialects.HOT`, its head has
nothing out of the ordinary and its body is small and already here. It then runs the gateway's own
`respond`, as ASGI does, so no answer can differ; everything else goes the way of `Protocol`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from typing import Protocol as Shape

from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from er import dialects
from er.gateway import CLOSE, Gateway
from er.gateway.drive import Drive
from er.gateway.exchange import LOCAL, Head, Note, Response, plain_address
from er.gateway.http1 import HEAD_MAX, PIPELINE_MAX, Protocol
from er.gateway.insistent import Insistent
from er.gateway.straight import Passage

END = b"\r\n\r\n"
HEADS_KEPT, HEAD_KEPT = 1024, 2048  # how many, and the bytes of each
BODY_MAX = 4096  # bytes; what is larger is tokenised aside, where a task's price is nothing
LENGTH_MAX = 8  # digits; zeros may stand before it, more than int() takes
# What makes a head one for ASGI: bodies in other forms, and talk about the connection.
ONCE = frozenset((b"x-request-id", b"traceparent"))  # in a head that does not come again
UNUSUAL = frozenset((b"expect", b"transfer-encoding", b"upgrade", b"content-encoding"))
REASONS = {
    200: b"OK",
    400: b"Bad Request",
    401: b"Unauthorized",
    403: b"Forbidden",
    404: b"Not Found",
    413: b"Content Too Large",
    429: b"Too Many Requests",
    500: b"Internal Server Error",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
}


class _Nothing:
    """Where ASGI's cycle has an event that somebody waits for."""

    def set(self) -> None:
        pass


class Exchange(Passage):
    """A request that the door answers itself; looks like uvicorn's cycle to its protocol."""

    message_event = _Nothing()
    keep_alive = True
    more_body = disconnected = response_complete = response_started = False


class Answers(Shape):
    """What answers a request at once or leaves it to `Gateway.respond`, as `Straight` does."""

    def take(self, passage: Any, answered: Callable[[Any, Any], None]) -> bool | None:
        """Whether it answers `passage`; None: its key has had its part of this turn of the loop."""

    def wait(self, passage: Any, again: Callable[[], None]) -> None:
        """Call `again` when the turn of one for which `take` said None has come."""


class Heads:
    """Heads that were read before, by their bytes: who sends the same again is read at once.

    What a head means depends on nothing but its bytes, so one table serves all connections.
    """

    def __init__(self) -> None:
        self.known: dict[bytes, Head] = {}
        self._dated: tuple[Any, bytes] = (None, b"")

    def dated(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        """The lines that all good answers begin with, with the protocol's own `headers`."""
        if self._dated[0] is not headers:
            lines = b"".join([b"%b: %b\r\n" % header for header in headers])
            self._dated = headers, b"HTTP/1.1 200 OK\r\n" + lines
        return self._dated[1]

    def add(self, data: bytes, head: Head) -> None:
        """Remember the head of `data`, which is one whole request from its first byte on."""
        end = data.find(END) + len(END)
        if (
            end > HEAD_KEPT
            or not data.startswith(b"POST ")
            or len(data) != end + (head.length or 0)
            or not ONCE.isdisjoint(head.headers)
        ):
            return
        if len(self.known) >= HEADS_KEPT:
            self.known.clear()
        self.known[data[:end]] = head


class Door(Protocol):
    """One client's connection."""

    def __init__(
        self,
        config: Config,
        state: ServerState,
        gateway: Gateway,
        *,
        heads: Heads,
        straight: Answers,
    ) -> None:
        super().__init__(config, state, gateway.unread)
        self._gateway, self._heads, self._straight = gateway, heads, straight
        self.dropped = gateway.dropped
        self._known = heads.known
        # Answers to pages of other origins carry more than the straight way writes.
        self._unusual = UNUSUAL if gateway.cors is None else UNUSUAL | {b"origin"}
        self._exchange: Exchange | None = None  # begun, its body not whole yet
        # Until the peer has read what was answered before, or until its key's turn.
        self._held: Exchange | None = None
        self._insistent = Insistent()
        self._data = b""  # the piece that is read
        self._first = False  # a message begins with it
        self._quiet_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._address = plain_address(self.client[0] if self.client else "unknown")
        self._local = self._address.startswith(LOCAL)

    def shutdown(self) -> None:
        if self._held is not None:
            self._held.keep_alive = False
        else:
            super().shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._held is not None:
            self.dropped(self._held)
            self._held = None
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()

    # -- what comes in -----------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        cycle = self.cycle
        idle = cycle is None or (cycle.response_complete and not cycle.more_body)
        if idle and not (self._in_head or self._exchange or self._deaf):
            # Nothing is begun or owed on this connection: all of this is about a new request.
            end = data.find(END) + len(END)
            head = self._known.get(data[:end])
            if head is not None and len(data) - end == head.length:
                if self._timer is not None:
                    self._forget_timer()
                exchange = Exchange(head, self._address, data[end:])
                self.cycle = exchange  # type: ignore[assignment]
                self._start(exchange)
                return
            self._first = True
        self._data = data
        super().data_received(data)
        self._first, self._data = False, b""
        if self._exchange is not None and not self._deaf:
            self._give_to_asgi(self._exchange)

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self.begin_head()

    def on_headers_complete(self) -> None:
        exchange = self._hot()
        if exchange is None:
            self._make_scope()
            super().on_headers_complete()
            return
        self._in_head = False
        self._raw = 0
        self._forget_timer()
        self._exchange = exchange

    def _hot(self) -> Exchange | None:
        """The exchange, if this head is one for the hot path."""
        first, self._first = self._first, False
        path = dialects.HOT.get(self.url)
        if path is None or not self._begun or len(self._data) > HEAD_MAX:
            return None
        headers = dict(self.headers)
        length = headers.get(b"content-length", b"")
        if (
            len(headers) != len(self.headers)
            or b"host" not in headers
            or not (len(length) <= LENGTH_MAX and length.isdigit())
            or not 0 < int(length) <= BODY_MAX
            or not self._unusual.isdisjoint(headers)
            or len(self.pipeline) >= PIPELINE_MAX
            or self.parser.get_method() != b"POST"
            or self.parser.get_http_version() != "1.1"
        ):
            return None
        head = Head("POST", path, headers)
        route = dialects.find("POST", path)
        head.route = route if isinstance(route, dialects.Route) else None
        keep = self.parser.should_keep_alive()
        if first and keep:
            self._heads.add(self._data, head)
        exchange = Exchange(head, self._address, b"")
        exchange.keep_alive, exchange.more_body = keep, True
        return exchange

    def _make_scope(self) -> None:
        """What uvicorn makes at the begin of each message, for the head that is known by now."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        HttpToolsProtocol.on_message_begin(self)
        self.url, self.expect_100_continue = url, expects
        self.headers = self.scope["headers"] = headers
        self.scope["er.hold"] = self._hold_s  # type: ignore[typeddict-unknown-key]

    def on_body(self, body: bytes) -> None:
        exchange = self._exchange
        if exchange is None:
            super().on_body(body)
        else:
            exchange.whole = (exchange.whole or b"") + body

    def on_message_complete(self) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            super().on_message_complete()
            return
        exchange.more_body = False
        if self.transport.is_closing():
            self.dropped(exchange)
            return  # it came with one whose answer has ended the connection
        before, self.cycle = self.cycle, exchange  # type: ignore[assignment]
        if before is None or before.response_complete:
            self._start(exchange)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((exchange, self.app))  # type: ignore[arg-type]

    def _give_to_asgi(self, exchange: Exchange) -> None:
        """Its body comes in pieces: ASGI has the patience for that."""
        self._exchange = None
        self._make_scope()
        try:
            super().on_headers_complete()
        except ValueError:
            self._refuse_input()
            return
        if exchange.whole:
            super().on_body(exchange.whole)

    # -- what goes out -----------------------------------------------------------------------

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        if isinstance(cycle, Exchange):
            self._start(cycle)
        else:
            super()._start_asgi_task(cycle, app)

    def _start(self, exchange: Exchange) -> None:
        if self.flow.write_paused:
            self._held = exchange
            return
        self._answering = exchange  # type: ignore[assignment]
        if not self._local and (took := self._straight.take(exchange, self._answered)) is not False:
            if took is None:
                self._held = exchange
                self._straight.wait(exchange, self._go_on)
                return
            self._task = exchange  # type: ignore[assignment]
            self.tasks.add(exchange)  # type: ignore[arg-type]
            return
        self._task = drive = Drive(self._answer(exchange), self.tasks)  # type: ignore[assignment]
        self.tasks.add(drive)  # type: ignore[arg-type]
        drive.step()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._go_on()

    def _go_on(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            self._start(held)

    async def _answer(self, exchange: Exchange) -> None:
        response = await self._gateway.respond(exchange)
        if response is not None and (held_s := self._hold_s(response.status)):
            await asyncio.sleep(held_s)
        self._say_response(response, exchange)

    def _hold_s(self, status: int) -> float:
        """How long the answer to the latest request is held, s."""
        return 0.0 if self._local else self._insistent.hold_s(status, self.loop.time())

    def _answered(self, said: bytes | Response | None, note: Note) -> None:
        """Send what the straight way says: the body of a good answer, or a response."""
        exchange = note
        assert isinstance(exchange, Exchange)
        self.tasks.discard(exchange)
        if not isinstance(said, bytes):
            if said is not None and (held_s := self._hold_s(said.status)):
                self.loop.call_later(held_s, self._say_response, said, exchange)
            else:
                self._say_response(said, exchange)
            return
        self._insistent.refused = 0
        if exchange.keep_alive and not self._gateway.draining:
            exchange.response_started = exchange.response_complete = True
            if not (exchange.disconnected or self.transport.is_closing()):
                dated = self._heads.dated(self.server_state.default_headers)
                self.transport.write(exchange.head_of(dated, len(said)) + said)
                self.on_response_complete()
        else:
            self._say_response(Response(200, said), exchange)

    def _say_response(self, response: Response | None, exchange: Exchange) -> None:
        exchange.response_started = exchange.response_complete = True
        if response is None or exchange.disconnected or self.transport.is_closing():
            return
        if not exchange.keep_alive and CLOSE not in response.headers:
            response.headers.append(CLOSE)
        self._write(response, exchange)
        self.on_response_complete()

    def _write(self, response: Response, note: Note) -> None:
        headers = self._gateway.headers(response, note, bool(self.pipeline))
        lines = [b"HTTP/1.1 %d %b" % (response.status, REASONS.get(response.status, b"Refused"))]
        lines += [b"%b: %b" % header for header in self.server_state.default_headers]
        lines += [b"%b: %b" % header for header in headers]
        lines += (b"", response.body)
        self.transport.write(b"\r\n".join(lines))
        if CLOSE in headers:
            self.transport.close()

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.pipeline:
            # Not at once: a hundred answers in a row would stand on each other's frames.
            self.loop.call_soon(self._next)
            return
        if self.flow.read_paused:
            self.flow.resume_reading()
        self._quiet_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._wait_for_more(self.timeout_keep_alive)

    def _next(self) -> None:
        if self.pipeline and not self.transport.is_closing():
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)

    # -- time: one timer for a connection's whole life, moved when it rings ---------------------

    def _unset_keepalive_if_required(self) -> None:
        """Not with each request: the handler looks whether it is time."""

    def waits_for_head(self) -> bool:
        # An answer may be out by now; then the timer for idle connections runs.
        return (
            self._in_head
            or self.cycle is None
            or (self.cycle.response_complete and self.cycle.more_body)
        )

    def _wait_for_more(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(
            seconds, self.timeout_keep_alive_handler
        )

    def timeout_keep_alive_handler(self) -> None:
        self.timeout_keep_alive_task = None
        if self.cycle is not None and not self.cycle.response_complete:
            return  # its answer starts the timer anew
        left = self._quiet_since + self.timeout_keep_alive - self.loop.time()
        if left > 0.001:
            self._wait_for_more(left)
        elif not self._in_head and self._close_unless_asked():
            self._wait_for_more(1.0)  # a busy loop has not read it yet
        elif not self._in_head:
            self.transport.close()
