"""HTTP/2 for the gateway: each stream is a request to the gateway's own `respond`.

Streams of a connection are answered side by side, in the order in which they are ready. A small
request goes the straight way where that takes it, as at the door.
"""

from __future__ import annotations

import asyncio
from functools import partial

from ngh2 import ErrorCode
from uvicorn.server import ServerState

from er import dialects, journal
from er.gateway import CLOSE, Gateway
from er.gateway.client import Trusted
from er.gateway.door import BODY_MAX, Answers
from er.gateway.drive import Drive
from er.gateway.exchange import BrokenOff, Note, Request, Response, Stream, new_id
from er.gateway.insistent import Insistent
from er.gateway.straight import Passage
from er.http2.connection import Connection
from er.http2.head import fields_of
from er.http2.stream import Http2Stream
from er.job import Refusal

PARKED_MAX = 16 << 20  # bytes of answers that wait for the client; beyond, no request is begun


class _Asked(Passage):
    """A request that is whole, and its stream."""

    stream: Http2Stream


class Http2(Connection):
    """One client's connection, once its TLS handshake has chosen h2."""

    def __init__(
        self,
        state: ServerState,
        gateway: Gateway,
        straight: Answers,
        trusted: Trusted | None = None,
    ) -> None:
        super().__init__(state, gateway.unread, trusted)
        self._gateway, self._straight = gateway, straight
        self._insistent = Insistent()
        self._held: dict[int, Http2Stream] = {}  # until the client has read its answers

    # -- a request's work ----------------------------------------------------------------------

    def begin(self, stream: Http2Stream) -> None:
        """Have it answered, unless too much waits for the client by now."""
        if self._dead:
            self._gone(stream)
            return
        if self._parked > PARKED_MAX:
            self._held[stream.id] = stream
            return
        stream.begun = True
        head, tasks = stream.head, self._state.tasks
        # A body that is compressed is refused where one is read in pieces.
        whole = None if stream.more or b"content-encoding" in head.headers else stream.whole()
        if whole is not None and head.route is not None and len(whole) <= BODY_MAX:
            asked = _Asked(head, stream.client, whole)
            asked.stream = stream
            took = self._straight.take(asked, self._answered)
            if took is None:
                self._straight.wait(asked, partial(self._again, stream, asked))
                return
            if took:
                stream.work = asked
                tasks.add(asked)  # type: ignore[arg-type]
                return
            stream.work = drive = Drive(self._answer(stream, asked), tasks)
            tasks.add(drive)  # type: ignore[arg-type]
            drive.step()
            return
        request = Request(head, stream.client, whole=whole, receive=stream.receive)
        stream.work = task = self._loop.create_task(self._answer(stream, Note(request)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def _again(self, stream: Http2Stream, asked: _Asked) -> None:
        if stream.gone or self._dead:
            self._gateway.note(None, asked)
        else:
            self.begin(stream)

    async def _answer(self, stream: Http2Stream, note: Note) -> None:
        response = await self._gateway.respond(note)
        if response is None:
            self.reset(stream, ErrorCode.CANCEL)
            return
        if held_s := self._insistent.hold_s(response.status, self._loop.time()):
            await asyncio.sleep(held_s)
        if not self._say(stream, response, note) or not isinstance(response, Stream):
            return
        whole = False
        try:
            whole = await stream.pour(response.pieces, response.size)
        except BrokenOff:
            pass
        except Exception as error:
            journal.mishap(error, "sending an answer", note.id)
        finally:
            if not whole:
                self.reset(stream, ErrorCode.INTERNAL_ERROR)

    def _answered(self, said: bytes | Response | None, note: Note) -> None:
        """Send what the straight way says: the body of a good answer, or a response."""
        assert isinstance(note, _Asked)
        self._state.tasks.discard(note)
        if said is None:
            self.reset(note.stream, ErrorCode.CANCEL)
        else:
            response = said if isinstance(said, Response) else Response(200, said)
            if held_s := self._insistent.hold_s(response.status, self._loop.time()):
                self._loop.call_later(held_s, self._say, note.stream, response, note)
            else:
                self._say(note.stream, response, note)

    def _say(self, stream: Http2Stream, response: Response, note: Note) -> bool:
        """Send the head and, where it is there, the body; whether there is a body to be sent."""
        headers = [*self._state.default_headers, *self._gateway.headers(response, note)]
        bare = stream.head.method == "HEAD" or not response.size
        stream.last = not isinstance(response, Stream)
        if stream.last:
            stream.work = None  # there is nothing left to cancel
        sent = self.send(stream, fields_of(response.status, headers), response.body, bare)
        if self._gateway.draining:
            self.shutdown()
        elif response.status == 401 and CLOSE in response.headers and not self._fronted:
            # Who guesses keys by many streams comes as far as by many connections. A proxy's
            # connection is others' too.
            self._end(ErrorCode.ENHANCE_YOUR_CALM)
        return sent and not bare

    def refuse(self, stream: Http2Stream, refusal: Refusal) -> None:
        """Answer what is not to become a request."""
        request_id = new_id()
        self._unread(self._address, refusal, request_id)
        body = dialects.refuse(refusal, request_id)
        headers = [
            *self._state.default_headers,
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"x-request-id", request_id.encode()),
            (b"server-timing", b"total;dur=0.0"),
        ]
        stream.begun = True
        bare = stream.head.method == "HEAD"
        self.send(stream, fields_of(refusal.status, headers), body, bare)

    def gone(self, stream: Http2Stream) -> None:
        """It is closed; if it is not answered, nobody waits for that any more."""
        self._held.pop(stream.id, None)
        if not stream.begun:
            stream.begun = True
            self._gateway.note(None, Note(Request(stream.head, stream.client, whole=b"")))
        elif stream.work is not None:
            # Not at once: a task that is cancelled before its first step leaves no record.
            self._loop.call_soon(stream.work.cancel)

    def unpark(self, size: int) -> None:
        """The client has taken so many bytes of its answers; others may be begun."""
        super().unpark(size)
        while self._held and self._parked <= PARKED_MAX:
            self.begin(self._held.pop(next(iter(self._held))))
