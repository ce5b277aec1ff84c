"""A link to a replica that can be slow, cut or dead: a TCP proxy in a thread of its own."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

PIECE = 1024


class FaultyLink:
    """Passes on what comes to `address` from and to `target` (a port on loopback).

    `state`: "good"; "slow": a kilobyte each 50 ms; "cut": an answer ends after its first kilobyte;
    "dead": open, and nothing comes through either way, as behind a router that forgot it.
    """

    def __init__(self, target: int) -> None:
        self.state = "good"
        self._target = target  # 0: to be said later
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.address = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def leads_to(self, target: int) -> None:
        """Pass on to another port from now on."""
        self._target = target

    def __enter__(self) -> FaultyLink:
        return self

    def __exit__(self, *_: object) -> None:
        for sock in (self._listening, *self._open):
            sock.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:  # nobody is there just now
                client.close()
                continue
            self._open += (client, server)
            for source, to, back in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._pass, args=(source, to, back), daemon=True).start()

    def _pass(self, source: socket.socket, to: socket.socket, back: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(PIECE):
                while self.state == "dead":
                    time.sleep(0.05)
                if self.state == "slow":
                    time.sleep(0.05)
                if self.state == "cut" and back:
                    data = data[: len(data) // 2]
                to.sendall(data)
                if self.state == "cut" and back:
                    break
        for sock in (source, to):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
