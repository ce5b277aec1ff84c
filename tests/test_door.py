"""The hot paths' door: what holds of HTTP/1.1 elsewhere holds there, and answers are the same.

The tests of test_http1.py are run again here, with their POSTs taken by the door.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Mapping
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

import test_http1
from er import dialects
from er.gateway.door import BODY_MAX, Door, Drive, Heads
from er.gateway.exchange import Note, Response
from test_http1 import *  # noqa: F403 - its tests, to be collected here too
from test_http1 import App, Server, on_uvloop, statuses

HOT = {f"/{name}".encode(): f"/{name}" for name in ("a", "wait", "early", "slow")}


class Behind:
    """What the door needs of a gateway, with the App of test_http1 behind it."""

    def __init__(self, app: App) -> None:
        self.app, self.unread = app, app.note
        self.taken = 0
        self.cors = None
        self.dropped = list[Any]().append

    async def respond(self, note: Note) -> Response | None:
        self.taken += 1
        request, sent = note.request, list[Mapping[str, Any]]()
        body = await request.body(10**9, 30)
        scope = {
            "method": request.head.method,
            "path": request.head.path,
            "headers": list(request.head.headers.items()),
            "client": (request.client, 0),
        }
        parts = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Mapping[str, Any]:
            return parts.pop()

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        if not sent:
            return None
        response = Response(sent[0]["status"], sent[1]["body"])
        response.headers = [h for h in sent[0]["headers"] if h[0] != b"content-length"]
        return response

    def headers(
        self, response: Response, _: Note, behind: bool = False
    ) -> list[tuple[bytes, bytes]]:
        return [*response.headers, (b"content-length", b"%d" % len(response.body))]


class NotStraight:
    """Leaves all requests to the gateway."""

    def take(self, *_: Any) -> bool:
        return False


BEHIND: list[Behind] = []
HEADS = Heads()


@pytest.fixture(autouse=True)
def through_the_door(monkeypatch: pytest.MonkeyPatch) -> None:
    def made(app: App, config: uvicorn.Config, state: ServerState) -> Door:
        if not BEHIND or BEHIND[-1].app is not app:
            BEHIND.append(Behind(app))
        behind: Any = BEHIND[-1]
        return Door(config, state, behind, heads=HEADS, straight=NotStraight())

    monkeypatch.setattr(test_http1, "made", made)
    monkeypatch.setattr(dialects, "HOT", HOT)
    BEHIND.clear()


def post(path: str = "/a", body: bytes = b"hello", *more: str) -> bytes:
    head = [f"POST {path} HTTP/1.1", "Host: er", f"Content-Length: {len(body)}", *more]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


@on_uvloop
async def test_what_it_takes_and_what_it_leaves_to_asgi(server: Server) -> None:
    """Whole and plain requests; all are answered alike."""
    plain = [
        post(),
        post("/a", b"x" * BODY_MAX),
        post("/a", b"x", "X-Other: 1"),
        post("/a", b"hello", "Connection: Upgrade", "Upgrade: h2c"),  # read again without it
    ]
    others = [
        post("/a", b"x" * (BODY_MAX + 1)),
        post("/a?b=1"),
        post("/other"),
        post("/a", b"hello", "A: 1", "A: 2"),
        post("/a", b"hello", "Expect: 100-continue"),
        post("/a", b"hello", "Content-Encoding: identity"),
        post("/a", b""),
        post().replace(b"/1.1", b"/1.0"),
        post("/a", b"", "Transfer-Encoding: chunked").replace(b"Content-Length: 0\r\n", b"")
        + b"5\r\nhello\r\n0\r\n\r\n",
    ]
    for taken, requests in ((1, plain), (0, others)):
        for request in requests:
            before = BEHIND[-1].taken if BEHIND else 0
            answer = await server.say(request, patience=0.3)
            assert statuses(answer)[-1] == 200, request[:60]
            assert BEHIND[-1].taken - before == taken, request[:60]


@on_uvloop
async def test_a_body_that_comes_in_pieces_is_given_to_asgi(server: Server) -> None:
    reader, writer = await server.open()
    for piece in (post()[:-3], b"l", b"lo"):
        writer.write(piece)
        await asyncio.sleep(0.05)
    assert b"POST /a 5" in await asyncio.wait_for(reader.read(1000), 3)
    assert BEHIND[-1].taken == 0
    writer.write(post())
    assert b"POST /a 5" in await asyncio.wait_for(reader.read(1000), 3)
    assert BEHIND[-1].taken == 1
    writer.close()


@on_uvloop
async def test_nothing_is_begun_behind_the_answer_that_ends_the_connection(server: Server) -> None:
    """Its key would pay for it, and nobody would get the answer."""
    answer = await server.say(post("/early") + post())
    assert statuses(answer) == [200]
    assert BEHIND[-1].taken == 1


@on_uvloop
async def test_an_idle_connection_keeps_nothing_of_what_it_read(server: Server) -> None:
    """A piece may have 256 KB, and there may be thousands of connections."""
    reader, writer = await server.open()
    writer.write(post("/a", b"x" * 60_000))
    await asyncio.wait_for(reader.readuntil(b"POST /a 60000\n"), 3)
    (connection,) = server.state.connections
    kept = [value for value in vars(connection).values() if isinstance(value, bytes)]
    assert max(map(len, kept)) < 1000
    writer.close()


@on_uvloop
async def test_an_idle_connection_ends_only_after_its_time(server: Server) -> None:
    """The timer is set once and looks for itself whether it is time."""
    reader, writer = await server.open()
    writer.write(post())
    await asyncio.wait_for(reader.readuntil(b"POST /a 5\n"), 3)
    (connection,) = server.state.connections
    assert isinstance(connection, Door)
    connection.timeout_keep_alive = 0.4
    assert connection.timeout_keep_alive_task is not None
    connection.timeout_keep_alive_task.cancel()
    connection.timeout_keep_alive_handler()
    for _ in range(3):
        await asyncio.sleep(0.25)
        writer.write(post())
        await asyncio.wait_for(reader.readuntil(b"POST /a 5\n"), 3)
    began = asyncio.get_running_loop().time()
    assert await asyncio.wait_for(reader.read(), 3) == b""
    assert asyncio.get_running_loop().time() - began > 0.3
    writer.close()


@on_uvloop
async def test_a_request_that_a_busy_loop_has_not_read_is_answered(server: Server) -> None:
    """The connection's time is over, but it is not idle; later it is."""
    reader, writer = await server.open()
    writer.write(post())
    await asyncio.wait_for(reader.readuntil(b"POST /a 5\n"), 3)
    (connection,) = server.state.connections
    assert isinstance(connection, Door) and connection.timeout_keep_alive_task is not None
    connection.timeout_keep_alive = 0.2
    connection.timeout_keep_alive_task.cancel()
    connection.timeout_keep_alive_handler()
    ours, theirs = socket.socketpair()

    def busy() -> None:  # with another's data: it comes to the timer before it reads anew
        asyncio.get_running_loop().remove_reader(ours.fileno())
        os.write(writer.get_extra_info("socket").fileno(), post())
        time.sleep(0.5)

    with ours, theirs:
        asyncio.get_running_loop().add_reader(ours.fileno(), busy)
        theirs.send(b"x")
        await asyncio.wait_for(reader.readuntil(b"POST /a 5\n"), 3)
    assert await asyncio.wait_for(reader.read(), 3) == b""
    writer.close()


async def test_a_drive_waits_yields_and_is_cancelled() -> None:
    drives: set[Any] = set()
    said: list[str] = []
    gate: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def work() -> None:
        await asyncio.sleep(0)
        said.append(await gate)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            said.append("cancelled")
            await asyncio.sleep(0)
            said.append("cleaned up")
            raise

    drive = Drive(work(), drives)
    drives.add(drive)
    drive.step()
    await asyncio.sleep(0.01)
    gate.set_result("opened")
    await asyncio.sleep(0.01)
    assert (said, drive.over) == (["opened"], False)
    drive.cancel()
    await asyncio.sleep(0.01)
    assert (said, drive.over, drives) == (["opened", "cancelled", "cleaned up"], True, set())
    drive.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(0)


async def test_a_drive_is_cancelled_although_what_it_waits_for_has_just_come() -> None:
    """As a task is: its client may be gone by then, and more work would be ahead."""
    gates = [asyncio.get_running_loop().create_future() for _ in range(2)]
    said: list[str] = []

    async def work(gate: asyncio.Future[None]) -> None:
        await gate
        await asyncio.sleep(0)
        said.append("goes on")

    drives = [Drive(work(gate), set()) for gate in gates]
    for drive, gate in zip(drives, gates, strict=True):
        drive.step()
        gate.set_result(None)
    drives[0].cancel()  # not told yet
    asyncio.get_running_loop().call_soon(drives[1].cancel)  # in its sleep(0)
    await asyncio.sleep(0.01)
    assert (said, [drive.over for drive in drives]) == ([], [True, True])
