"""What goes out on an HTTP/2 connection: answers, by turns, as the client's windows take them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import ngh2
from ngh2 import ErrorCode
from uvicorn.server import ServerState

from er.gateway.http1 import HEAD_MAX, LINGER_S
from er.http2 import guard
from er.http2.guard import Guard
from er.http2.head import Fields
from er.http2.stream import Http2Stream

STREAMS_MAX = 100
WINDOW = 1 << 20  # bytes of a body that may come before they are read; 65,535 if nobody reads it
WRITE_MAX = 256 << 10  # bytes that are handed to the socket at a time
LIMITS = ngh2.Configuration(
    auto_window_update=False,
    max_outbound_ack=200,
    max_continuations=8,
    # Over HEAD_MAX is answered with 431; over this the connection ends.
    max_inbound_header_list_size=4 * HEAD_MAX,
    max_inbound_header_count=1000,
)


class Outgoing(asyncio.Protocol):
    """One client's connection, as far as it is written to."""

    transport: asyncio.Transport

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._loop = asyncio.get_running_loop()
        self._h2 = ngh2.Connection(ngh2.Role.SERVER, LIMITS)
        self._sending: dict[int, Http2Stream] = {}  # those with something to send, by turns
        self._parked = 0  # bytes of answers that wait for the client
        self._paused = self._flushing = self._ending = self._dead = False
        self._buffered = 0  # bytes the socket had not taken when last looked at
        self._moved_at = 0.0
        self._guard = Guard(self._loop.time())

    def handle(self, events: Sequence[ngh2.Event]) -> None:
        """What came of receiving or sending."""
        raise NotImplementedError

    def last_words(self, events: Sequence[ngh2.Event]) -> bool:
        """Whether more is to be said in the same breath as what made `events`."""
        raise NotImplementedError

    def broken(self, error: ngh2.NGH2Error) -> None:
        """It can't be gone on with."""
        raise NotImplementedError

    def unpark(self, size: int) -> None:
        """The client has taken so many bytes of its answers."""
        self._parked -= size

    # -- a stream's wishes ---------------------------------------------------------------------

    def wants_body(self, stream: Http2Stream) -> None:
        """Its body is read: let more of it come at a time."""
        try:
            self._h2.set_local_window_size(WINDOW, stream_id=stream.id)
            if b"expect" in stream.head.headers:
                self._h2.send_informational_response(stream.id, [(b":status", b"100")])
        except ngh2.NGH2Error:
            return
        self.moved()

    def consumed(self, stream_id: int, size: int) -> None:
        """So many bytes of a body are read, or thrown away: as many more may come."""
        if size and not self._dead:
            try:
                self._h2.acknowledge_received_data(size, stream_id)
            except (ngh2.NGH2Error, ValueError):
                return  # the connection is being ended
            self.moved()

    def sends(self, stream: Http2Stream) -> None:
        """It has something to send."""
        stream.moved_at = self._loop.time()
        self._sending[stream.id] = stream
        self._parked += len(stream.out)
        self.moved()

    # -- what goes out -------------------------------------------------------------------------

    def send(self, stream: Http2Stream, fields: Fields, body: bytes, bare: bool) -> bool:
        """Begin to send an answer; `bare`: its head is all. Whether the client is there."""
        if stream.gone or self._dead:
            return False
        stream.forget_body()
        try:
            self._h2.send_response(stream.id, fields, end_stream=bare)
        except ngh2.NGH2Error:
            return False  # the connection is being ended
        self._state.total_requests += 1
        self._guard.earn(guard.A_REQUEST)
        if stream.more:
            self._loop.call_later(LINGER_S, self._hear_no_more, stream)
        if body and not bare:
            stream.out = memoryview(body)
            self.sends(stream)
        else:
            self.moved()
        return True

    def _hear_no_more(self, stream: Http2Stream) -> None:
        """Its answer is out since a while, and it still sends its request."""
        if stream.out and not stream.gone:
            self._loop.call_later(LINGER_S, self._hear_no_more, stream)
        elif stream.more:
            self.reset(stream, ErrorCode.NO_ERROR)

    def reset(self, stream: Http2Stream, code: ErrorCode) -> None:
        if stream.gone or self._dead:
            return
        self._sending.pop(stream.id, None)
        self.unpark(len(stream.out))
        stream.out = stream.out[:0]
        stream.forget_body()
        try:
            self._h2.reset_stream(stream.id, code)
        except ngh2.NGH2Error:
            return  # the connection is being ended
        self.moved()

    def moved(self) -> None:
        """There may be something to send: once in a turn of the event loop."""
        if not (self._flushing or self._paused or self._dead):
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if self._paused or self._dead or self.transport.is_closing():
            return
        try:
            self._fill()
            data = self._h2.data_to_send()
            events = self._h2.events()
            if events and self.last_words(events):
                data += self._h2.data_to_send()
                events += self._h2.events()
        except ngh2.NGH2Error as error:
            self.broken(error)
            return
        if data:
            self._guard.earn(len(data) * guard.A_BYTE)
            self.transport.write(data)
            if self._sending:
                self.moved()
        if events:
            self.handle(events)

    def _fill(self) -> None:
        """Hand over of each answer what its client's windows take now, so that nothing waits."""
        sending = self._sending
        if not sending or self._ending:
            return
        now = self._loop.time()
        room = min(WRITE_MAX, self._h2.remote_window_size)
        share = max(WRITE_MAX // len(sending), 16 << 10)
        for stream in list(sending.values()):
            if room <= 0:
                return
            take = min(room, share, self._h2.stream_remote_window_size(stream.id))
            if take <= 0:
                continue
            piece, last = stream.next_piece(take)
            self._h2.send_data(stream.id, piece, end_stream=last)
            room -= len(piece)
            stream.moved_at = now
            del sending[stream.id]
            if stream.out:
                sending[stream.id] = stream  # behind the others
            self.unpark(len(piece))

    def pause_writing(self) -> None:
        """The client does not read: then it is not read from either."""
        self._paused, self._moved_at = True, self._loop.time()
        self._buffered = self.transport.get_write_buffer_size()
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """It reads again."""
        self._paused = False
        if not self.transport.is_closing():
            self.transport.resume_reading()
            self.moved()
