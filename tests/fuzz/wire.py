"""Bytes into a gateway's connection without a socket: what was asked, what was answered."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from random import Random
from typing import Any, NamedTuple, cast

import h11
import uvicorn
from uvicorn.server import ServerState

from er.gateway.client import Trusted
from er.gateway.door import Door, Heads
from er.gateway.exchange import Note, Response
from er.gateway.fronted import Fronted, Proxies
from er.job import Refusal

PEER = ("127.0.0.1", 1234)
TURNS = 6  # of the event loop, until all is done that can be


class Asked(NamedTuple):
    """A request as the gateway was given it."""

    method: bytes
    target: bytes
    client: str
    body: bytes


class Transport:
    """A connection whose peer reads everything at once."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.closing = self.ended = False

    def write(self, data: bytes) -> None:
        if not (self.closing or self.ended):
            self.written += data

    def write_eof(self) -> None:
        self.ended = True

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        self.closing = True

    abort = close

    def is_closing(self) -> bool:
        return self.closing

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": PEER, "sockname": ("127.0.0.1", 2048)}.get(name, default)

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


class Behind:
    """What the protocols need of a gateway: notes what it is asked, and says 200."""

    cors = None
    draining = False

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.refused: list[int] = []

    def dropped(self, _: Note) -> None:
        """Its own body broke, or its client is gone, before it was begun."""

    def unread(self, _: str, refusal: Refusal, __: str) -> None:
        self.refused.append(refusal.status)

    async def respond(self, note: Note) -> Response:
        request = note.request
        head = request.head
        body = await request.body(1 << 20, 30)
        self.asked.append(Asked(b"POST", head.path.encode(), request.client, body))
        return Response(200, b"{}")

    def headers(
        self, response: Response, _: Note, waiting: bool = False
    ) -> list[tuple[bytes, bytes]]:
        return [*response.headers, (b"content-length", b"%d" % response.size)]

    async def __call__(
        self,
        scope: Mapping[str, Any],
        receive: Callable[[], Awaitable[Mapping[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        body, more = b"", True
        while more:
            try:
                message = await receive()
            except asyncio.CancelledError:
                message = {"type": "http.disconnect"}
            if message["type"] == "http.disconnect":
                self.refused.append(499)  # its body broke off, which is answered without us
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        query = scope["query_string"]
        target = scope["raw_path"] + (b"?" + query if query else b"")
        method = scope["method"].encode()
        self.asked.append(Asked(method, target, scope["client"][0], body))
        headers = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"{}"})


class NotStraight:
    """Leaves all requests to the gateway."""

    def take(self, *_: Any) -> bool:
        return False


class Connections:
    """Makes connections to one gateway of each kind, on a loop that goes round when told to."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        self.loop.set_exception_handler(self._mishap)
        self.mishaps: list[str] = []
        self.config = uvicorn.Config(
            cast(Any, Behind()), http=Door, ws="none", lifespan="off", log_config=None,
            access_log=False, proxy_headers=False, interface="asgi3",
        )  # fmt: skip
        self.config.load()
        self.heads = Heads()
        trusted = Trusted([PEER[0]])
        self.fronts = [Proxies(trusted, protocol) for protocol in (False, True)]

    def _mishap(self, _: Any, context: dict[str, Any]) -> None:
        self.mishaps.append(str(context))

    def answered(self, kind: int, pieces: Sequence[bytes]) -> tuple[Behind, bytes]:
        """What a connection of that kind asks and answers for `pieces`, until its end.

        Kinds: 0 anybody's, 1 a trusted proxy's, 2 one that must speak the PROXY protocol.
        """
        behind, state, transport = Behind(), ServerState(), Transport()
        self.config.loaded_app = behind
        known = cast(Any, behind)
        both: dict[str, Any] = {"heads": self.heads, "straight": NotStraight()}
        if kind:
            front = self.fronts[kind - 1]
            link: Door = Fronted(self.config, state, known, proxies=front, **both)
        else:
            link = Door(self.config, state, known, **both)
        link.connection_made(cast(Any, transport))
        for piece in pieces:
            if transport.closing:
                break
            link.data_received(piece)
            self.turn(3)
        while link.pipeline and not transport.closing:
            self.turn(1)  # one is answered in each
        self.turn(TURNS)
        link.connection_lost(None)
        self.turn(TURNS)
        assert not state.tasks and not state.connections, "something goes on behind the end"
        timers = (link._timer, link.timeout_keep_alive_task)
        assert all(timer is None or timer.cancelled() for timer in timers), "a timer is left"
        assert not self.mishaps, self.mishaps
        return behind, bytes(transport.written)

    def turn(self, times: int) -> None:
        """The loop goes round that often."""
        for _ in range(times):
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()


def pieces(data: bytes, seed: int) -> list[bytes]:
    """`data` in odd pieces; few of them, as each costs a turn of the loop."""
    random = Random(seed)
    cuts = sorted({random.randrange(len(data) + 1) for _ in range(random.choice((1, 1, 2, 4)))})
    return [p for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True) if (p := data[a:b])]


ABSOLUTE = re.compile(rb"\A[A-Za-z][A-Za-z0-9+.-]*://[^/?]*")
ANSWER = re.compile(rb"HTTP/1\.1 (\d{3}) [ -~]+\r\n((?:[!-9;-~]+: ?[ -~]*\r\n)*)\r\n")


def answers(said: bytes, asked: Sequence[Asked]) -> list[int]:
    """The statuses of whole answers to `asked` behind each other; nothing else may stand there."""
    at, found = 0, []
    while at < len(said):
        top = ANSWER.match(said, at)
        assert top, said[at : at + 200]
        length = re.search(rb"content-length: (\d+)\r\n", top[2])
        head = len(found) < len(asked) and asked[len(found)].method == b"HEAD"
        at = top.end() + (int(length[1]) if length and not head else 0)
        assert at <= len(said), "an answer is cut"
        if top[1] != b"100":
            found.append(int(top[1]))
    return found


def _path(target: bytes) -> bytes:
    """What of a target says where: no scheme and host, no fragment, no query without a letter."""
    path, mark, query = ABSOLUTE.sub(b"", target, 1).partition(b"#")[0].partition(b"?")
    return path + mark + query if query else path


def by_h11(data: bytes) -> tuple[list[tuple[bytes, bytes, bytes]], bool]:
    """The requests that another reader of HTTP finds, and whether it found no fault."""
    reader = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    reader.receive_data(data)
    found: list[tuple[bytes, bytes, bytes]] = []
    try:
        while True:
            event = reader.next_event()
            if isinstance(event, h11.Request):
                method, target, body = event.method, event.target, b""
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                found.append((bytes(method), _path(bytes(target)), body))
                reader.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                reader.send(h11.EndOfMessage())
                reader.start_next_cycle()
            else:
                return found, event is h11.NEED_DATA
    except (h11.RemoteProtocolError, h11.LocalProtocolError):
        return found, False
