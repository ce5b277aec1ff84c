"""HTTPS behind proxies that pass connections through: the PROXY protocol before the handshake.

What a trusted proxy says of its client is read from the socket before TLS begins there; everybody
else begins with TLS at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from er import journal

PREAMBLE_S = 10.0
LONGEST = 8192  # bytes that are looked at
AGAIN_S = 0.02
AT_ONCE, PAUSE_S = 100, 0.2


class Announcing(NamedTuple):
    """Who announces clients, and how that is read.

    `parse`: (bytes that it takes, the client's address or None) from the first bytes, None while
    there are too few. It raises `wrong` for what is no announcement.
    """

    trusted: Callable[[str], bool]
    parse: Callable[[bytes], tuple[int, str | None] | None]
    wrong: type[Exception]


class Doorman:
    """Accepts on some sockets, and hands each connection on with who it is from.

    `connect` is given the socket and the client's address, None where its own is the right one.
    """

    def __init__(
        self, proxies: Announcing, connect: Callable[[socket.socket, str | None], Awaitable[None]]
    ) -> None:
        self._proxies, self._connect = proxies, connect
        self._sockets: list[socket.socket] = []
        self._coming: set[asyncio.Task[None]] = set()
        self._complaints = journal.Seldom()

    def __len__(self) -> int:
        return len(self._coming)

    def open(self, sockets: Sequence[socket.socket]) -> None:
        """Begin to accept."""
        self._sockets = [sock.dup() for sock in sockets]
        for sock in self._sockets:
            sock.setblocking(False)
            self._listen(sock)

    def close(self) -> None:
        """Accept no more; who is here already goes on."""
        for sock in self._sockets:
            asyncio.get_running_loop().remove_reader(sock.fileno())
            sock.close()
        self._sockets = []

    def _listen(self, sock: socket.socket) -> None:
        if sock in self._sockets:
            asyncio.get_running_loop().add_reader(sock.fileno(), self._accept, sock)

    def _accept(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            for _ in range(AT_ONCE):
                link, address = sock.accept()
                link.setblocking(False)
                task = loop.create_task(self._introduce(link, str(address[0])))
                self._coming.add(task)
                task.add_done_callback(self._coming.discard)
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:  # no descriptor is free: it would be asked without end
            if self._complaints.due("accept"):
                journal.log("err", f"no connection of HTTPS can be accepted: {error.strerror}")
            loop.remove_reader(sock.fileno())
            loop.call_later(PAUSE_S, self._listen, sock)

    async def _introduce(self, link: socket.socket, address: str) -> None:
        client = None
        try:
            if self._proxies.trusted(address):
                async with asyncio.timeout(PREAMBLE_S):
                    client = await self._announced(link)
        except self._proxies.wrong as wrong:
            if self._complaints.due(address):
                journal.log("warning", f"{address}, a trusted proxy, is refused: {wrong}")
            link.close()
        except (OSError, TimeoutError):
            link.close()
        else:
            with contextlib.suppress(OSError):  # a handshake that failed is counted elsewhere
                await self._connect(link, client)

    async def _announced(self, link: socket.socket) -> str | None:
        """Take the announcement off the connection, and nothing of what stands behind it."""
        await _readable(link)
        while True:
            data = link.recv(LONGEST, socket.MSG_PEEK)
            if not data:
                raise ConnectionResetError
            found = self._proxies.parse(data)
            if found is not None:
                link.recv(found[0])
                return found[1]
            await asyncio.sleep(AGAIN_S)  # a part of it is here, so the socket stays readable


async def _readable(link: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    there = asyncio.Event()
    loop.add_reader(link.fileno(), there.set)
    try:
        await there.wait()
    finally:
        loop.remove_reader(link.fileno())
