"""An HTTP/2 client that sends the frames it is told to, right or wrong; ER's protocol for it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import hpack
import psutil
import uvloop
from hyperframe.frame import (
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from uvicorn.server import ServerState

from er.gateway.client import Trusted
from er.gateway.exchange import Gone, Note, Request, Response, Stream
from er.http2 import Http2
from er.job import Refusal
from fakes import free_port
from worker_loop import on_the_loop

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
Fields = list[tuple[str, str]]


class Answering:
    """What the protocol needs of a gateway; answers by the path what it was asked."""

    cors = None

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.within_s = 5.0
        self.draining = False
        self.requests: list[Request] = []
        self.notes: list[int] = []  # the status of each request that is over
        self.refused: list[tuple[str, int]] = []

    def unread(self, client: str, refusal: Refusal, request_id: str) -> None:
        self.refused.append((client, refusal.status))

    def note(self, response: Response | None, note: Note) -> None:
        self.notes.append(response.status if response else 499)

    async def respond(self, note: Note) -> Response | None:
        self.requests.append(note.request)
        response: Response | None
        try:
            response = await self._answer(note.request)
        except Refusal as refusal:
            response = Response(refusal.status, b"refused", headers=[(b"connection", b"close")])
        except (Gone, asyncio.CancelledError):
            response = None
        self.note(response, note)
        return response

    async def _answer(self, request: Request) -> Response:
        """/big/N and /stream/N: N bytes; /wait: once let go; /early: no body; /guess: no."""
        name, _, size = request.head.path.lstrip("/").partition("/")
        if name == "early":
            raise Refusal(413, "body_too_large", "too large")
        if name == "guess":
            raise Refusal(401, "invalid_api_key", "too many wrong keys")
        if name == "wait":
            await self.gate.wait()
        if name == "hold":  # the body is there, and is not read for now
            await self.gate.wait()
        body = await request.body(64 << 20, self.within_s)
        if name == "big":
            return Response(200, b"x" * int(size))
        if name == "stream":
            return Stream(int(size), self._pieces(int(size)), b"text/plain")
        if name == "short":
            return Stream(int(size) + 1, self._pieces(int(size)), b"text/plain")
        return Response(200, b"%s %d" % (request.head.method.encode(), len(body)))

    async def _pieces(self, size: int) -> AsyncIterator[bytes]:
        for at in range(0, size, 50_000):
            yield b"y" * min(50_000, size - at)

    def headers(self, response: Response, _: Note) -> list[tuple[bytes, bytes]]:
        return [*response.headers, (b"content-length", b"%d" % response.size)]


class NotStraight:
    """Leaves all requests to the gateway."""

    def take(self, *_: Any) -> bool:
        return False


class Answer:
    """What has come on a stream."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.body = bytearray()
        self.ended = False
        self.reset: int | None = None
        self.informed: list[str] = []

    @property
    def status(self) -> int:
        return int(self.headers.get(":status", "0"))


class Peer:
    """A client's connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self.answers: defaultdict[int, Answer] = defaultdict(Answer)
        self.goaways: list[GoAwayFrame] = []
        self.settings: dict[int, int] = {}
        self.frames: list[Frame] = []
        self.closed = False
        self.opens_windows = self.greets = True
        self.came = asyncio.Condition()
        self.task = asyncio.get_running_loop().create_task(self._read())

    async def _read(self) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await self.reader.readexactly(9)
                frame, length = Frame.parse_frame_header(memoryview(head))
                frame.parse_body(memoryview(await self.reader.readexactly(length)))
                await self._took(frame)
        self.closed = True
        async with self.came:
            self.came.notify_all()

    async def _took(self, frame: Frame) -> None:
        self.frames.append(frame)
        answer = self.answers[frame.stream_id]
        if isinstance(frame, HeadersFrame):
            headers = {str(k): str(v) for k, v in self.decoder.decode(frame.data)}
            if headers[":status"].startswith("1"):
                answer.informed.append(headers[":status"])
            else:
                answer.headers = headers
        elif isinstance(frame, DataFrame):
            answer.body += frame.data
            if self.opens_windows and frame.data:
                self.window(0, len(frame.data))
                self.window(frame.stream_id, len(frame.data))
        elif isinstance(frame, RstStreamFrame):
            answer.reset = frame.error_code
        elif isinstance(frame, GoAwayFrame):
            self.goaways.append(frame)
        elif isinstance(frame, SettingsFrame) and "ACK" not in frame.flags:
            self.settings.update(frame.settings)
            if self.greets:
                self.send(SettingsFrame(0, flags=["ACK"]))
        answer.ended = answer.ended or "END_STREAM" in frame.flags
        async with self.came:
            self.came.notify_all()

    def send(self, *frames: Frame | bytes) -> None:
        data = [f if isinstance(f, bytes) else f.serialize() for f in frames]
        self.writer.write(b"".join(data))

    def window(self, stream: int, size: int) -> None:
        self.send(WindowUpdateFrame(stream, size))

    def head(self, stream: int, fields: Iterable[tuple[str, str]], *, end: bool = True) -> Frame:
        frame = HeadersFrame(stream, self.encoder.encode(list(fields)))
        frame.flags.add("END_HEADERS")
        if end:
            frame.flags.add("END_STREAM")
        return frame

    def get(self, stream: int, path: str = "/a", *more: tuple[str, str]) -> None:
        self.send(self.head(stream, [*fields(path), *more]))

    def post(
        self, stream: int, body: bytes, path: str = "/a", *more: tuple[str, str], end: bool = True
    ) -> None:
        self.send(self.head(stream, [*fields(path, "POST"), *more], end=False))
        data = DataFrame(stream, body)
        if end:
            data.flags.add("END_STREAM")
        self.send(data)

    async def until(self, done: Callable[[], bool], patience: float = 5.0) -> None:
        """Until frames have come that make `done` true, or the connection is closed."""
        async with asyncio.timeout(patience), self.came:
            await self.came.wait_for(lambda: self.closed or done())

    async def answer(self, stream: int, patience: float = 5.0) -> Answer:
        answer = self.answers[stream]
        await self.until(lambda: answer.ended or answer.reset is not None, patience)
        return answer

    async def end(self, patience: float = 5.0) -> int | None:
        """The code of the last GOAWAY, once the connection is closed."""
        await self.until(lambda: False, patience)
        return self.goaways[-1].error_code if self.goaways else None

    async def alive(self, patience: float = 5.0) -> bool:
        """Whether the other side still answers a PING."""
        had = sum(isinstance(f, PingFrame) for f in self.frames)
        self.send(PingFrame(0, b"12345678"))
        await self.until(lambda: sum(isinstance(f, PingFrame) for f in self.frames) > had, patience)
        return not self.closed

    def close(self) -> None:
        self.task.cancel()
        self.writer.transport.abort()


def fields(path: str = "/a", method: str = "GET") -> Fields:
    """The fields of an ordinary request's head."""
    return [(":method", method), (":scheme", "https"), (":path", path), (":authority", "er")]


class Server:
    """ER's protocol before an Answering, on a free port, without TLS."""

    def __init__(self, gateway: Answering, state: ServerState) -> None:
        self.gateway, self.state = gateway, state
        self.port = 0
        self.trusted: Trusted | None = None
        self.peers: list[Peer] = []

    async def raw(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def peer(self, settings: dict[int, int] | None = None, *, greet: bool = True) -> Peer:
        """A client that has greeted."""
        peer = Peer(*await self.raw())
        self.peers.append(peer)
        peer.greets = greet
        if greet:
            peer.send(PREFACE, SettingsFrame(0, settings or {}))
            await peer.until(lambda: bool(peer.settings))
        return peer


class Apart(Server):
    """The same in a process of its own, so that its memory and time can be told."""

    def __init__(self) -> None:
        super().__init__(Answering(), ServerState())
        self.port = free_port()
        environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
        argv = [sys.executable, __file__, str(self.port)]
        self.process = subprocess.Popen(
            argv, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"listens\n"
        self.told = psutil.Process(self.process.pid)

    def memory(self) -> int:
        """Its bytes in memory."""
        return int(self.told.memory_info().rss)

    def cpu(self) -> float:
        """Seconds of CPU so far."""
        times = self.told.cpu_times()
        return float(times.user + times.system)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


@contextlib.asynccontextmanager
async def serving(port: int = 0) -> AsyncIterator[Server]:
    """A server that ends with the test."""
    gateway: Any = Answering()
    state = ServerState()
    state.default_headers = [(b"date", b"today")]
    server = Server(gateway, state)
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(
        lambda: Http2(state, gateway, NotStraight(), server.trusted), "127.0.0.1", port
    )
    server.port = listener.sockets[0].getsockname()[1]
    yield server
    gateway.gate.set()
    for peer in server.peers:
        peer.close()
    listener.close()
    for connection in list(state.connections):
        connection.transport.abort()  # type: ignore[union-attr]


over_http2 = on_the_loop(serving)


async def _apart(port: int) -> None:
    async with serving(port):
        print("listens", flush=True)
        await asyncio.to_thread(sys.stdin.read)  # until the test is gone


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_apart(int(sys.argv[1])))
