"""A link to a server that can be slow, cut or dead: a TCP proxy in threads of its own."""

from __future__ import annotations

import contextlib
import queue
import random
import socket
import struct
import threading
import time

PIECE = 1024
WINDOW = 1024  # pieces on their way before the sender waits
RESET = struct.pack("ii", 1, 0)  # SO_LINGER by which a close is a reset


class FaultyLink:
    """Passes on what comes to `address` from and to `target`: a port on loopback, or HOST, PORT.

    `state`: "good"; "slow": a kilobyte each 50 ms; "cut": an answer ends after its first kilobyte;
    "dead": open, and nothing comes through either way, not even an end, as behind a router that
    forgot it; "reset" (`reset()`): what is open ends with a reset now, what is opened at once.
    `delay_s`: each byte arrives so much later, either way.
    `lost`: of so many pieces each waits another `again_s`, and all behind it, as for a lost packet
    that is sent again. Made in a namespace, it passes on there (hosts/network.py, `entered`).
    """

    def __init__(self, target: int | tuple[str, int], at: str = "127.0.0.1", port: int = 0) -> None:
        self.state = "good"
        self.delay_s = self.lost = 0.0
        self.again_s = 0.2
        self.leads_to(target)
        self._listening = socket.create_server((at, port))
        self._open: list[socket.socket] = []
        self._random = random.Random(7)
        self.port: int = self._listening.getsockname()[1]
        self.address = f"http://{at}:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def leads_to(self, target: int | tuple[str, int]) -> None:
        """Pass on to another port from now on."""
        self._target = ("127.0.0.1", target) if isinstance(target, int) else target

    def suffers(self, fault: str) -> None:
        """Have that fault: a `state`, "late" (each byte by 50 ms) or "stalls" (a fifth is lost)."""
        if fault == "late":
            self.delay_s = 0.05
        elif fault == "stalls":
            self.lost = 0.2
        elif fault == "reset":
            self.reset()
        else:
            self.state = fault

    def __enter__(self) -> FaultyLink:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)  # or the thread that accepts would go on
        for sock in (self._listening, *self._open):
            sock.close()

    def reset(self) -> None:
        """Every connection there is and will be ends with a reset, until `state` is another."""
        self.state = "reset"
        for sock in self._open:
            with contextlib.suppress(OSError):
                sock.shutdown(
                    socket.SHUT_RD
                )  # wakes who reads it, and tells the other side nothing

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            try:
                if self.state == "reset":
                    raise ConnectionResetError
                server = socket.create_connection(self._target)
            except OSError:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                client.close()
                continue
            self._open = [sock for sock in self._open if sock.fileno() >= 0]
            self._open += (client, server)
            for source, to, back in ((client, server, False), (server, client, True)):
                coming: queue.Queue[tuple[float, bytes]] = queue.Queue(WINDOW)
                for work in ((self._read, source, coming), (self._pass, source, to, back, coming)):
                    threading.Thread(target=work[0], args=work[1:], daemon=True).start()

    def _read(self, source: socket.socket, coming: queue.Queue[tuple[float, bytes]]) -> None:
        """What comes, with the time when it has arrived; an end is b""."""
        data = b"-"
        while data:
            try:
                data = source.recv(PIECE)
            except OSError:
                data = b""
            coming.put((time.monotonic() + self.delay_s, data))

    def _pass(
        self,
        source: socket.socket,
        to: socket.socket,
        back: bool,
        coming: queue.Queue[tuple[float, bytes]],
    ) -> None:
        with contextlib.suppress(OSError):
            while True:
                due, data = coming.get()
                time.sleep(max(0.0, due - time.monotonic()))
                while self.state == "dead":
                    time.sleep(0.05)
                if not data or self.state == "reset":
                    break
                if self.state == "slow":
                    time.sleep(0.05)
                if self.lost and self._random.random() < self.lost:
                    time.sleep(self.again_s)
                if self.state == "cut" and back:
                    data = data[: len(data) // 2]
                to.sendall(data)
                if self.state == "cut" and back:
                    break
        for sock in (source, to):
            with contextlib.suppress(OSError):
                if self.state == "reset":
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    sock.close()
                else:
                    sock.shutdown(socket.SHUT_RDWR)
