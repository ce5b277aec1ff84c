"""An HTTP/2 connection: what comes in on it, how long it lasts, how it ends.

libnghttp2, by way of ngh2, does frames, header compression, windows and the order of things. Here
is what it leaves open: a body is taken in no faster than it is read, an answer handed over no
faster than the client's windows and its socket take it, and nothing is waited for without end.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence

import ngh2
from ngh2 import ErrorCode, Setting
from uvicorn.server import ServerState

from er.gateway.client import Trusted
from er.gateway.exchange import STALL_S, Head, new_id, plain_address
from er.gateway.http1 import HEAD_MAX, HEAD_S, LINGER_S
from er.http2 import guard
from er.http2.frames import Frames
from er.http2.head import read
from er.http2.outgoing import STREAMS_MAX, Outgoing
from er.http2.stream import Http2Stream
from er.job import Refusal

# The streams' windows bound what may come; the connection's one is there to be out of the way.
ALL_WINDOWS = 1 << 30
IDLE_S = 75.0
LULL_S = 2.0  # how long a moment without a stream is waited for when the connection is to end
NOTICE_S = 0.1  # between the word that the connection ends and its end: a request may be on its way
READ_S = 1.0  # to read why the connection ends
TICK_S = 1.0
# More streams than the client is told it may have: with its own limit libnghttp2 would end the
# connection of who opens one too many, and tell nobody; so that stream alone is refused.
BEYOND = 1000
SETTINGS = {
    Setting.MAX_CONCURRENT_STREAMS: BEYOND,
    Setting.MAX_HEADER_LIST_SIZE: HEAD_MAX,
    Setting.ENABLE_PUSH: 0,
}
FAULTS = (ErrorCode.PROTOCOL_ERROR, ErrorCode.FLOW_CONTROL_ERROR, ErrorCode.STREAM_CLOSED)
BROKEN = Refusal(400, "invalid_request", "the client broke a rule of HTTP/2")
CROWDED = Refusal(503, "overloaded", f"over {STREAMS_MAX} requests at once on a connection")
LATE = Refusal(408, "request_timeout", f"no whole frame within {HEAD_S:.0f} s")


class Connection(Outgoing):
    """One client's connection; what its requests ask for is `begin`'s matter."""

    def __init__(
        self,
        state: ServerState,
        unread: Callable[[str, Refusal, str], None],
        trusted: Trusted | None = None,
    ) -> None:
        """`unread` is told of what was refused before it was a request.

        `trusted` proxies say whom they ask for.
        """
        super().__init__(state)
        self._unread, self._trusted = unread, trusted
        self._streams: dict[int, Http2Stream] = {}
        self._latest = 0  # the highest stream
        self._leaving = self._left = self._parting = False
        self._quiet_since = self._loop.time()
        self._frames = Frames()
        self._partial_since: float | None = None
        self._heard = False
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, stream: Http2Stream) -> None:
        """Its head is here: it is to be answered."""
        raise NotImplementedError

    def refuse(self, stream: Http2Stream, refusal: Refusal) -> None:
        """Its head is no request's."""
        raise NotImplementedError

    def gone(self, stream: Http2Stream) -> None:
        """It is closed."""
        raise NotImplementedError

    # -- the connection ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """`transport` is open; nothing of the client's was read from it."""
        self.transport = transport
        self.client = transport.get_extra_info("peername")  # as uvicorn's protocols have it
        self._come_from(self.client[0] if self.client else "unknown")
        self._state.connections.add(self)  # type: ignore[arg-type]
        self._h2.initiate_connection(SETTINGS)
        self._h2.set_local_window_size(ALL_WINDOWS)
        self._timer = self._loop.call_later(TICK_S, self._tick)
        meant, said = (ngh2.pack_settings_payload({3: n}) for n in (BEYOND, STREAMS_MAX))
        transport.write(self._h2.data_to_send().replace(meant, said, 1))

    def introduced(self, client: str) -> None:
        """The connection is `client`'s, as a trusted proxy says."""
        self.client = (client, 0)
        self._come_from(client)

    def _come_from(self, client: str) -> None:
        self._address = plain_address(client)
        self._fronted = self._trusted is not None and self._trusted.has(self._address)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone: so is who asked for what is being worked on."""
        self._dead = True
        self._state.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        for stream in list(self._streams.values()):
            self._gone(stream)

    def shutdown(self) -> None:
        """End: no new request, those that are there are answered.

        At the first moment without a stream, in the bytes behind the last answer: who asks one
        thing after the other knows in time, and clients on the Python library h2 give up what is
        not answered when they are told. Where no such moment comes, in the two steps of RFC 9113.
        """
        if self._leaving or self._dead:
            return
        self._leaving = True
        if self._streams:
            self._loop.call_later(LULL_S, self._warn)
        else:
            self._leave()

    def _warn(self) -> None:
        if not (self._dead or self._left):
            with contextlib.suppress(ngh2.NGH2Error):  # it may be ending anyway
                self._h2.send_shutdown_notice()
            self._loop.call_later(NOTICE_S, self._leave)
            self.moved()

    def _leave(self) -> None:
        if not (self._dead or self._left):
            self._left = True
            with contextlib.suppress(ngh2.NGH2Error):
                self._h2.send_goaway()
            self.moved()

    def last_words(self, events: Sequence[ngh2.Event]) -> bool:
        """Whether what is to be written has the connection's end behind it, as `events` tell."""
        if self._left or not self._leaving:
            return False
        closed = {e.stream_id for e in events if isinstance(e, ngh2.StreamClosed)}
        if not closed.issuperset(self._streams):
            return False
        self._leave()
        return True

    def _close(self, after_s: float = 0.0) -> None:
        """Close the socket once what is written is out, but don't wait long for that.

        Who is still sending gets `after_s` to read why it is closed: until then what comes is
        thrown away. Data that nobody has read would make the kernel throw away what was written.
        """
        self._dead = True
        for stream in list(self._streams.values()):
            self._gone(stream)
        if after_s:
            self._loop.call_later(after_s, self._close)
        elif not self.transport.is_closing():
            self.transport.close()
            self._loop.call_later(LINGER_S, self.transport.abort)

    # -- what comes in -------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Bytes of the client's, in any pieces."""
        if self._dead or self._ending:
            return
        frames = self._frames
        wrong = frames.see(data)
        try:
            self._h2.receive_data(data)
        except ngh2.NGH2Error as error:
            self.broken(error)
            return
        events = self._h2.events()
        if events:
            self._heard = True
            self._partial_since = None
            self.handle(events)
        if not frames.partial:
            self._partial_since = None
        elif self._partial_since is None:
            self._partial_since = self._loop.time()
        if wrong is not None:
            self._end(wrong)
        self.moved()

    def handle(self, events: Sequence[ngh2.Event]) -> None:
        """Do what `events`, in their order, ask for; requests are begun when all are known."""
        fresh: list[Http2Stream] = []
        idle = 0  # frames that ask for nothing
        for event in events:
            kind = type(event)
            if kind is ngh2.RequestReceived:
                self._request(event, fresh)  # type: ignore[arg-type]
            elif kind is ngh2.DataReceived:
                idle += self._data(event)  # type: ignore[arg-type]
            elif kind is ngh2.TrailersReceived:
                stream = self._streams.get(event.stream_id)  # type: ignore[attr-defined]
                if stream is not None:
                    stream.took(b"", more=False)
            elif kind is ngh2.StreamClosed:
                self._closed(event)  # type: ignore[arg-type]
            elif kind is ngh2.GoAwayReceived:
                self._parting = True
            elif kind is ngh2.ConnectionClosed:
                if event.error_code and not self._parting:  # type: ignore[attr-defined]
                    self._unread(self._address, BROKEN, new_id())
                self._close(READ_S)
            else:
                idle += 1
        for stream in fresh:
            if not stream.gone:
                self.begin(stream)
        if idle and self._guard.spent(idle, self._loop.time()):
            self._end(ErrorCode.ENHANCE_YOUR_CALM)

    def _request(self, event: ngh2.RequestReceived, fresh: list[Http2Stream]) -> None:
        self._latest = max(self._latest, event.stream_id)
        more = not event.end_stream
        if len(self._streams) >= STREAMS_MAX:
            with contextlib.suppress(ngh2.NGH2Error):  # where it is being ended, it is anyway
                self._h2.reset_stream(event.stream_id, ErrorCode.REFUSED_STREAM)
            self._fault(CROWDED)
            return
        try:
            head = read(event.headers)
        except Refusal as refusal:
            method = dict(event.headers).get(b":method", b"").decode("latin-1")
            stream = Http2Stream(
                self, event.stream_id, Head(method, "", {}), self._address, more=more
            )
            self._streams[stream.id] = stream
            self.refuse(stream, refusal)
            return
        stream = Http2Stream(self, event.stream_id, head, self._address, more=more)
        if self._fronted and self._trusted is not None:
            stream.client = self._trusted.forwarded(event.headers) or self._address
        self._streams[stream.id] = stream
        fresh.append(stream)

    def _data(self, event: ngh2.DataReceived) -> int:
        """1 where the frame brought nothing."""
        stream, data = self._streams.get(event.stream_id), event.data
        if stream is None or stream.deaf:
            self.consumed(event.stream_id, len(data))
            if stream is not None:
                stream.more = not event.end_stream
        else:
            stream.took(data, more=not event.end_stream)
        return 0 if data or event.end_stream else 1

    def _closed(self, event: ngh2.StreamClosed) -> None:
        stream = self._streams.get(event.stream_id)
        self._frames.closed(event.stream_id, event.error_code)
        if stream is not None:
            self._gone(stream)
            if event.error_code in FAULTS and self._guard.spent(guard.FAULT, self._loop.time()):
                self._end(ErrorCode.ENHANCE_YOUR_CALM)
        elif event.error_code == ErrorCode.PROTOCOL_ERROR:  # its head was none
            self._fault(BROKEN)

    def _fault(self, refusal: Refusal) -> None:
        """The client made us reset a stream."""
        self._unread(self._address, refusal, new_id())
        if self._guard.spent(guard.FAULT, self._loop.time()):
            self._end(ErrorCode.ENHANCE_YOUR_CALM)

    def _gone(self, stream: Http2Stream) -> None:
        """The stream is over."""
        self._streams.pop(stream.id, None)
        self._sending.pop(stream.id, None)
        self.unpark(len(stream.out))
        stream.close()
        if not self._streams:
            self._quiet_since = self._loop.time()
            if self._leaving:
                self._leave()
        self.gone(stream)

    def broken(self, error: ngh2.NGH2Error) -> None:
        """What came can't be read on; ngh2 has forgotten all by now, also what it had to send."""
        self._dead = True
        self.handle(self._h2.events())
        flood = isinstance(error, ngh2.DenialOfServiceError)
        code = ErrorCode.ENHANCE_YOUR_CALM if flood else ErrorCode.PROTOCOL_ERROR
        last = self._latest.to_bytes(4, "big")
        self.transport.write(b"\0\0\x08\x07\0\0\0\0\0" + last + int(code).to_bytes(4, "big"))
        self._unread(self._address, BROKEN, new_id())
        self._close(READ_S)

    def _end(self, code: ErrorCode) -> None:
        """End the connection for what the client does."""
        if not (self._dead or self._ending):
            self._ending = True
            with contextlib.suppress(ngh2.NGH2Error):  # it may be ending by now
                self._h2.terminate_connection(code)
            self.moved()

    # -- time ----------------------------------------------------------------------------------

    def _tick(self) -> None:
        """Look whether the client does what is waited for."""
        if self._dead:
            return
        now = self._loop.time()
        self._timer = self._loop.call_later(TICK_S, self._tick)
        if self._paused:
            left = self.transport.get_write_buffer_size()
            if left != self._buffered:
                self._buffered, self._moved_at = left, now
            elif now - self._moved_at > STALL_S:
                self.transport.abort()
            return
        for stream in list(self._sending.values()):
            if now - stream.moved_at > STALL_S:
                self.reset(stream, ErrorCode.CANCEL)
        if self._streams:
            return
        since = self._partial_since
        if since is not None and now - since > HEAD_S:
            self._unread(self._address, LATE, new_id())
            self._close()
        elif not self._heard and now - self._quiet_since > HEAD_S:
            self._close()
        elif now - self._quiet_since > IDLE_S:
            self.shutdown()
