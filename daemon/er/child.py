"""What a process that the supervisor starts is given, and how it says that it lives.

The parent hands over, through one environment variable and inherited descriptors: the text of the
configuration as it was when this generation began (a file edited since must not come in with a
respawn), the listening sockets by name, HTTPS's credentials, and one end of a socket pair. On that
line the child writes a byte a second from its event loop; when the parent dies the line breaks, and
the child ends too.

The admin process and the nest are started so. Workers are forked by the nest, which gets the same
for each of them as a message; a worker says its pid first of all.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from er import config, systemd
from er.config import Config

VARIABLE = "ER_CHILD"
BEAT_EVERY_S = 1.0
BEAT, READY = b".", b"R"
# To a worker whose successors serve already. SIGTERM is for one that nobody follows at once.
RETIRE = signal.SIGUSR1
ORDER_BYTES, ORDER_SOCKETS = 1 << 16, 250  # at most, of a message to the nest


class Given(msgspec.Struct, frozen=True):
    """The variable's content; numbers are descriptors."""

    slot: int  # a worker's slot in the ledger; or ADMIN, NEST
    generation: int
    source: str  # where the configuration was read from
    text: int  # -1: a worker has its configuration from the nest
    line: int  # the nest's is where it gets its orders
    sockets: dict[str, list[int]]
    safe: int = -1  # HTTPS's credentials, see er.tls; -1: of no concern to this process

    def descriptors(self) -> list[int]:
        """All that the child must inherit."""
        found = [
            self.text,
            self.line,
            self.safe,
            *(fd for fds in self.sockets.values() for fd in fds),
        ]
        return [fd for fd in found if fd >= 0]

    def environment(self, base: Mapping[str, str], more: Mapping[str, str]) -> dict[str, str]:
        """The child's environment: the parent's without what systemd said to the parent alone."""
        kept = {k: v for k, v in base.items() if k not in systemd.OWN_VARIABLES}
        return {**kept, **more, VARIABLE: msgspec.json.encode(self).decode()}

    def as_received(self, descriptors: Sequence[int]) -> Given:
        """The same with the numbers under which the receiver of `descriptors()` has them."""
        new = dict(zip(self.descriptors(), descriptors, strict=True))
        sockets = {name: [new[fd] for fd in fds] for name, fds in self.sockets.items()}
        safe = new.get(self.safe, -1)
        return msgspec.structs.replace(self, line=new[self.line], sockets=sockets, safe=safe)


ADMIN, NEST = -1, -2


class Child:
    """The child's side."""

    def __init__(
        self,
        slot: int,
        generation: int,
        config: Config,
        sockets: Mapping[str, Sequence[socket.socket]],
        line: socket.socket,
        safe: int = -1,
    ) -> None:
        self.slot = slot
        self.generation = generation
        self.config = config
        self.sockets = sockets
        self.safe = safe
        self._line = line
        line.setblocking(False)

    @classmethod
    def from_environment(cls) -> Child:
        """Take what the parent gave; to be called once, first of all."""
        given = msgspec.json.decode(os.environ.pop(VARIABLE), type=Given)
        for fd in given.descriptors():
            fcntl.fcntl(fd, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
        text = os.pread(given.text, os.fstat(given.text).st_size, 0).decode()
        os.close(given.text)
        return cls._of(given, config.parse(text, Path(given.source), elsewhere=True))

    @classmethod
    def _of(cls, given: Given, settings: Config) -> Child:
        return cls(
            given.slot,
            given.generation,
            settings,
            {n: [socket.socket(fileno=fd) for fd in fds] for n, fds in given.sockets.items()},
            socket.socket(fileno=given.line),
            given.safe,
        )

    def next_order(self) -> Child | None:
        """In the nest: wait for the next worker to be forked. None: the parent wants no more."""
        self._line.setblocking(True)
        try:
            data, descriptors, _, _ = socket.recv_fds(self._line, ORDER_BYTES, ORDER_SOCKETS)
        except OSError:
            return None
        if not data:
            return None
        given = msgspec.json.decode(data, type=Given)
        return Child._of(given.as_received(descriptors), self.config)

    def close(self) -> None:
        """Let go of line and sockets, as another process has them now."""
        self._line.close()
        if self.safe >= 0:
            os.close(self.safe)
        for sockets in self.sockets.values():
            for sock in sockets:
                sock.close()

    def here(self) -> None:
        """Tell the parent this process's pid; to be called first of all."""
        self._say(b"%d\n" % os.getpid())

    def ready(self) -> None:
        """Tell the parent that this process serves."""
        self._say(READY)

    async def beat(self) -> None:
        """Show the parent once a second that the event loop turns; return when the parent died."""
        loop = asyncio.get_running_loop()
        gone = asyncio.Event()
        loop.add_reader(self._line.fileno(), gone.set)  # the parent sends nothing: only its end
        try:
            while not gone.is_set() and self._say(BEAT):
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(gone.wait(), BEAT_EVERY_S)
        finally:
            loop.remove_reader(self._line.fileno())

    def _say(self, what: bytes) -> bool:
        try:
            self._line.send(what)
        except BlockingIOError:
            pass  # a parent that does not read just now is not a dead one
        except OSError:
            return False
        return True
