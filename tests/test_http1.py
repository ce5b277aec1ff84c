"""HTTP/1.1 over real sockets: odd and hostile input gets its answer, honest clients theirs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from er.gateway import http1
from er.gateway.http1 import Protocol
from er.job import Refusal
from worker_loop import on_the_loop

GET = b"GET /a HTTP/1.1\r\nHost: er\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: er\r\nContent-Length: 5\r\n\r\nhello"


class App:
    """Says back what it was asked; /wait waits to be let go, /early answers without the body."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.cancelled = 0
        self.clients: list[Any] = []
        self.headers: list[list[tuple[bytes, bytes]]] = []
        self.unread: list[tuple[str, int, str]] = []

    def note(self, client: str, refusal: Refusal, request_id: str) -> None:
        self.unread.append((client, refusal.status, request_id))

    async def __call__(
        self,
        scope: Mapping[str, Any],
        receive: Callable[[], Awaitable[Mapping[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        self.clients.append(scope["client"])
        self.headers.append(scope["headers"])
        path, body = scope["path"], b""
        headers = []
        try:
            if path != "/early":
                more = True
                while more:
                    message = await receive()
                    body += message.get("body", b"")
                    more = message.get("more_body", False)
            else:
                headers = [(b"connection", b"close")]
            if path == "/wait":
                await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            return
        text = f"{scope['method']} {path} {len(body)}\n".encode()
        headers.append((b"content-length", b"%d" % len(text)))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": text})


class Server:
    """The protocol in front of an App, on a free port."""

    def __init__(self, app: App, port: int, state: ServerState) -> None:
        self.app, self.port, self.state = app, port, state

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def say(self, data: bytes, *, patience: float = 3.0) -> bytes:
        """All that comes back for `data`, until the server closes or `patience` is over."""
        reader, writer = await self.open()
        writer.write(data)
        got = b""
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(patience):
                while chunk := await reader.read(65536):
                    got += chunk
        writer.close()
        return got


def settings(app: App) -> uvicorn.Config:
    config = uvicorn.Config(
        app, http=Protocol, ws="none", lifespan="off", log_config=None, access_log=False,
        proxy_headers=False, interface="asgi3",
    )  # fmt: skip
    config.load()
    return config


def made(app: App, config: uvicorn.Config, state: ServerState) -> Protocol:
    """The protocol of a new connection; test_door.py has another one here."""
    return Protocol(config, state, app.note)


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    """A server that ends with the test."""
    app, state = App(), ServerState()
    config = settings(app)
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(lambda: made(app, config, state), "127.0.0.1", 0)
    yield Server(app, listener.sockets[0].getsockname()[1], state)
    app.gate.set()
    listener.close()
    for connection in list(state.connections):
        connection.transport.abort()  # type: ignore[union-attr]


on_uvloop = on_the_loop(serving)


def statuses(data: bytes) -> list[int]:
    return [int(s) for s in re.findall(rb"HTTP/1\.1 (\d+)", data)]


HOSTILE = {
    "junk": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 4, 400),
    "words": (b"hello there\r\n\r\n", 400),
    "no host": (b"GET /a HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET /a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    "length and chunked": (
        POST.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n"),
        400,
    ),
    "two lengths": (POST.replace(b"\r\n\r\n", b"\r\nContent-Length: 6\r\n\r\n"), 400),
    "signed length": (POST.replace(b"Length: 5", b"Length: +5"), 400),
    "bad name": (GET.replace(b"Host", b"Ho st"), 400),
    "nul in value": (GET.replace(b"er\r", b"e\0r\r"), 400),
    "folded header": (GET.replace(b"\r\n\r\n", b"\r\nA: b\r\n c\r\n\r\n"), 400),
    "not ascii": (b"GET /\xff HTTP/1.1\r\nHost: er\r\n\r\n", 400),
    "compressed chunks": (
        b"POST /a HTTP/1.1\r\nHost: er\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "compressed, then chunks": (
        b"POST /a HTTP/1.1\r\nHost: er\r\nTransfer-Encoding: gzip\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "another version": (GET.replace(b"/1.1", b"/2.0"), 400),
    "connect": (b"CONNECT er:80 HTTP/1.1\r\nHost: er\r\n\r\n", 400),
    "long url": (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: er\r\n\r\n", 414),
    "large head": (GET.replace(b"\r\n\r\n", b"\r\nA: " + b"a" * 40_000 + b"\r\n\r\n"), 431),
    "many headers": (GET.replace(b"\r\n\r\n", b"\r\n" + b"Abc: defghij\r\n" * 4000 + b"\r\n"), 431),
    "endless header": (b"GET /a HTTP/1.1\r\nA: " + b"a" * 2_000_000, 431),
    "bad chunk": (
        b"POST /a HTTP/1.1\r\nHost: er\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        400,
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
@on_uvloop
async def test_hostile_input_gets_one_refusal(server: Server, name: str) -> None:
    """In the one error body, with an id, and then the connection ends."""
    data, status = HOSTILE[name]
    answer = await server.say(data)
    assert statuses(answer) == [status], answer[:300]
    head, _, body = answer.partition(b"\r\n\r\n")
    error = json.loads(body)
    assert error["error"]["message"] == error["message"] == error["detail"]
    if name == "bad chunk":  # it is a request, whose own record says it
        assert not server.app.unread
        return
    ((client, noted, request_id),) = server.app.unread
    assert (client, noted) == ("127.0.0.1", status)
    assert b"x-request-id: " + request_id.encode() in head
    assert b"connection: close" in head


@on_uvloop
async def test_a_request_may_come_in_any_pieces(server: Server) -> None:
    """Split at every byte."""
    for at in range(1, len(POST)):
        reader, writer = await server.open()
        writer.write(POST[:at])
        await asyncio.sleep(0)
        writer.write(POST[at:])
        assert b"200 OK" in await reader.readuntil(b"POST /a 5\n")
        writer.close()


@on_uvloop
async def test_pipelined_requests_are_answered_in_order(server: Server) -> None:
    """A hundred in one packet."""
    data = b"".join(b"GET /%d HTTP/1.1\r\nHost: er\r\n\r\n" % i for i in range(100))
    got = await server.say(data, patience=1.0)
    assert re.findall(rb"GET /(\d+) 0\n", got) == [b"%d" % i for i in range(100)]


@on_uvloop
async def test_a_peer_that_never_reads_fills_nothing(server: Server) -> None:
    """Pipelined requests beyond the first packets are not even read."""
    reader, writer = await server.open()
    writer.write(b"GET /wait HTTP/1.1\r\nHost: er\r\n\r\n")
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1.0):
            while True:
                writer.write(GET * 1000)
                await writer.drain()
    (connection,) = server.state.connections
    assert len(connection.pipeline) < 30_000  # type: ignore[union-attr]
    assert connection.flow.read_paused  # type: ignore[union-attr]
    writer.transport.abort()
    del reader


@on_uvloop
async def test_junk_behind_an_answer_that_is_due_does_not_take_its_place(server: Server) -> None:
    """The answer comes first, then the connection ends."""
    for first in (GET, GET.replace(b"/a", b"/wait")):
        task = asyncio.ensure_future(server.say(first + b"\x00\x01junk\r\n\r\n"))
        await asyncio.sleep(0.05)
        server.app.gate.set()
        assert statuses(await task)[0] == 200


@pytest.mark.parametrize("method", [b"POST", b"GET"])
@on_uvloop
async def test_an_offer_of_http2_does_not_swallow_the_body(server: Server, method: bytes) -> None:
    """As Java's client sends with each request, the body in the same packet or a later one."""
    head = method + (
        b" /a HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nHost: er\r\n"
        b"HTTP2-Settings: AAM\r\nUpgrade: h2c\r\nContent-Length: 5\r\n\r\n"
    )
    for late in (False, True):
        reader, writer = await server.open()
        writer.write(head if late else head + b"hello")
        if late:
            await asyncio.sleep(0.05)
            writer.write(b"hello")
        for _ in range(2):
            assert await reader.readuntil(method + b" /a 5\n")
            writer.write(head + b"hello")  # and the connection goes on
        writer.close()


@on_uvloop
async def test_hanging_up_cancels_the_work(server: Server) -> None:
    """Nobody is left to read the answer."""
    _, writer = await server.open()
    writer.write(GET.replace(b"/a", b"/wait"))
    await asyncio.sleep(0.05)
    writer.transport.abort()
    await asyncio.sleep(0.05)
    assert server.app.cancelled == 1
    assert not server.state.tasks


@on_uvloop
async def test_a_request_whose_client_is_gone_before_it_began_is_seen_all_the_same(
    server: Server,
) -> None:
    """Else it would leave no record."""
    reader, writer = await server.open()
    writer.write(GET)
    await reader.readuntil(b"GET /a 0\n")
    (connection,) = server.state.connections
    connection.data_received(GET.replace(b"/a", b"/wait"))  # type: ignore[union-attr]
    connection.connection_lost(None)  # type: ignore[union-attr]
    await asyncio.sleep(0.05)
    assert len(server.app.clients) == 2
    assert server.app.cancelled == 1
    assert not server.state.tasks
    writer.close()


@on_uvloop
async def test_an_early_answer_arrives_although_the_client_still_sends(server: Server) -> None:
    """A refused body is read off for a moment: closing at once would reset the connection."""
    reader, writer = await server.open()
    writer.write(b"POST /early HTTP/1.1\r\nHost: er\r\nContent-Length: 50000000\r\n\r\n")
    for _ in range(100):
        writer.write(b"x" * 100_000)
        await asyncio.sleep(0)
    assert b"200 OK" in await reader.readuntil(b"POST /early 0\n")
    assert await reader.read() == b""
    writer.close()


@on_uvloop
async def test_the_body_may_wait_to_be_asked_for(server: Server) -> None:
    """Expect: 100-continue, as curl sends it."""
    reader, writer = await server.open()
    head, body = POST.split(b"\r\n\r\n")
    writer.write(head + b"\r\nExpect: 100-continue\r\n\r\n")
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(body)
    assert await reader.readuntil(b"POST /a 5\n")
    writer.close()


@on_uvloop
async def test_what_stands_behind_a_chunked_body_is_no_header(server: Server) -> None:
    """A key there, or another's id, would be taken for the request's own. Nor may it be endless."""
    head = b"POST /a HTTP/1.1\r\nHost: er\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = b"5\r\nhello\r\n0\r\n"
    reader, writer = await server.open()
    for _ in range(2):
        writer.write(head + body + b"Authorization: Bearer x\r\nHost: b\r\n\r\n")
        assert await reader.readuntil(b"POST /a 5\n")
    assert [dict(h) for h in server.app.headers] == [
        {b"host": b"er", b"transfer-encoding": b"chunked"}
    ] * 2
    writer.close()
    answer = await server.say(head + body + b"Abc: defghij\r\n" * 4000)
    assert statuses(answer) == [431]


@on_uvloop
async def test_slow_heads_are_not_waited_for(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No byte: closed. Half a head: told so. A byte now and then does not help."""
    monkeypatch.setattr(http1, "HEAD_S", 0.2)
    assert await server.say(b"", patience=2) == b""
    assert statuses(await server.say(b"GET /a HT", patience=2)) == [408]
    reader, writer = await server.open()
    began = asyncio.get_running_loop().time()
    with contextlib.suppress(ConnectionError):
        for byte in GET[:-1]:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.03)
    assert statuses(await reader.read()) == [408]
    assert asyncio.get_running_loop().time() - began < 2
    writer.close()


@on_uvloop
async def test_half_a_head_behind_a_long_request_does_not_take_its_answers_place(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer that is due comes, then the end."""
    monkeypatch.setattr(http1, "HEAD_S", 0.1)
    reader, writer = await server.open()
    writer.write(GET.replace(b"/a", b"/wait") + b"GET /a HT")
    await asyncio.sleep(0.3)
    server.app.gate.set()
    assert statuses(await reader.read()) == [200]
    writer.close()


@on_uvloop
async def test_a_head_is_not_blamed_for_the_body_before_it(server: Server) -> None:
    """A long body and the beginning of the next head may come in one piece."""
    head = b"POST /a HTTP/1.1\r\nHost: er\r\nContent-Length: 40000\r\n\r\n"
    reader, writer = await server.open()
    writer.write(head)
    await asyncio.sleep(0.05)
    writer.write(b"x" * 40_000 + GET[:9])
    await asyncio.sleep(0.05)
    writer.write(GET[9:])
    await asyncio.sleep(0.2)
    writer.write_eof()
    assert statuses(await reader.read()) == [200, 200]
    writer.close()


@on_uvloop
async def test_only_so_many_requests_may_wait_on_a_connection(server: Server) -> None:
    """Those within the bound are answered, then the connection ends."""
    got = await server.say(GET * 5000, patience=5)
    assert 2 <= len(statuses(got)) <= http1.PIPELINE_MAX + 1
    assert set(statuses(got)) == {200}


@on_uvloop
async def test_an_idle_connection_is_kept_beyond_the_time_for_a_head(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time for a head begins with its first byte."""
    monkeypatch.setattr(http1, "HEAD_S", 0.1)
    reader, writer = await server.open()
    for _ in range(2):
        writer.write(GET)
        await reader.readuntil(b"GET /a 0\n")
        await asyncio.sleep(0.3)
    writer.write(GET)
    assert await reader.readuntil(b"GET /a 0\n")
    writer.close()


@on_uvloop
async def test_the_caller_on_a_unix_socket_is_known_by_uid(tmp_path: Path) -> None:
    """From the kernel, not from anything the caller says."""
    app, state = App(), ServerState()
    config = settings(app)
    loop = asyncio.get_running_loop()
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(tmp_path / "s"))
    listener = await loop.create_server(lambda: Protocol(config, state, app.note), sock=sock)
    reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
    writer.write(GET)
    await reader.readuntil(b"GET /a 0\n")
    writer.close()
    listener.close()
    assert app.clients == [(f"uid:{os.getuid()}", os.getpid())]


@on_uvloop
async def test_shutting_down_ends_idle_connections_and_lets_busy_ones_answer(
    server: Server,
) -> None:
    """What the drain does after its two seconds."""
    idle_reader, idle = await server.open()
    idle.write(GET)
    await idle_reader.readuntil(b"GET /a 0\n")
    busy_reader, busy = await server.open()
    busy.write(GET.replace(b"/a", b"/wait"))
    await asyncio.sleep(0.05)
    for connection in list(server.state.connections):
        connection.shutdown()
    assert await idle_reader.read() == b""
    server.app.gate.set()
    answer = await busy_reader.read()
    assert statuses(answer) == [200]
    assert b"connection: close" in answer
    idle.close()
    busy.close()


@on_uvloop
async def test_a_request_that_comes_with_the_shutdown_is_answered(server: Server) -> None:
    """Whether all of it has just arrived, unread so far, or half of its head."""
    whole_reader, whole = await server.open()
    half_reader, half = await server.open()
    for reader, writer in ((whole_reader, whole), (half_reader, half)):
        writer.write(GET)
        await reader.readuntil(b"GET /a 0\n")
    half.write(GET[:20])
    await asyncio.sleep(0.1)
    whole.write(GET)
    for connection in list(server.state.connections):
        connection.shutdown()
    half.write(GET[20:])
    for reader, writer in ((whole_reader, whole), (half_reader, half)):
        assert b"HTTP/1.1 200" in await reader.readuntil(b"GET /a 0\n")
        writer.close()
