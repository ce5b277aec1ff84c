"""Clients that never read what they are answered are let go of; slow ones that do read are not."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from er.gateway.http1 import Protocol
from er.gateway.stalled import LEAST, PATIENCE_S, Stalled
from test_http1 import GET, on_uvloop

ANSWER = b"x" * (24 << 20)  # more than two kernels' buffers hold


async def app(
    scope: Mapping[str, Any],
    receive: Callable[[], Awaitable[Mapping[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """Answers much; at /little little."""
    body = b"x" if scope["path"] == "/little" else ANSWER
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[tuple[int, ServerState]]:
    state = ServerState()
    config = uvicorn.Config(
        app, http=Protocol, ws="none", lifespan="off", log_config=None, access_log=False,
        proxy_headers=False, interface="asgi3",
    )  # fmt: skip
    config.load()
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(
        lambda: Protocol(config, state, lambda *_: None), "127.0.0.1", 0
    )
    yield listener.sockets[0].getsockname()[1], state
    listener.close()
    for connection in list(state.connections):
        connection.transport.abort()  # type: ignore[union-attr]


async def asked(port: int, path: bytes = b"/a", times: int = 1) -> socket.socket:
    """A connection that has asked, and has read nothing."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, ("127.0.0.1", port))
    await loop.sock_sendall(sock, GET.replace(b"/a", path) * times)
    await asyncio.sleep(0.2)
    return sock


@on_uvloop
async def test_who_never_reads_is_hung_up_on(capfd: pytest.CaptureFixture[str]) -> None:
    """With one answer or with many that wait; the idle one and the one that reads stay."""
    async with serving() as (port, state):
        idle = await asked(port, b"/little")
        deaf, eager = await asked(port), await asked(port, times=50)
        reading = await asked(port)
        looker, cut, now = Stalled(), 0, 1000.0
        assert len(state.connections) == 4
        for _ in range(int(PATIENCE_S / 5) + 2):
            now += 5
            cut += looker.look(state.connections, now)
            with contextlib.suppress(BlockingIOError):
                for _ in range(4):
                    reading.recv(LEAST)
                    await asyncio.sleep(0.005)
        assert cut == 2
        await asyncio.sleep(0.05)
        assert len(state.connections) == 2 and not looker._debts.keys() - state.connections
        assert idle.recv(1000).endswith(b"\r\n\r\nx")
        deaf.setblocking(True)
        deaf.settimeout(5)
        got = 0
        with contextlib.suppress(ConnectionResetError):
            while piece := deaf.recv(1 << 20):
                got += len(piece)
        assert got < len(ANSWER)
        said = capfd.readouterr().out
        assert "127.0.0.1 was hung up on: it did not read its answer for 60 s, 2" in said
        for sock in (idle, deaf, eager, reading):
            sock.close()


@on_uvloop
async def test_a_connection_that_is_closed_but_not_read_does_not_stay() -> None:
    """Its end waits for its last bytes; not for ever."""
    async with serving() as (port, state):
        sock = await asked(port)
        (connection,) = state.connections
        connection.transport.close()  # type: ignore[union-attr]
        await asyncio.sleep(0.05)
        assert state.connections
        looker = Stalled()
        assert looker.look(state.connections, 0.0) == 0
        assert looker.look(state.connections, PATIENCE_S - 1) == 0
        assert looker.look(state.connections, PATIENCE_S + 1) == 1
        await asyncio.sleep(0.05)
        assert not state.connections
        sock.close()
