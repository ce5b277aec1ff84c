"""A gateway whose sockets somebody else holds, as systemd does: they stay while it is stopped."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fakes import EngineProcess
from running import Gateway

BACKLOG = 4096
CODE = (
    "import os, sys; os.environ['LISTEN_PID'] = str(os.getpid()); "
    "os.execv(sys.executable, [sys.executable, '-m', 'er.supervisor', *sys.argv[1:]])"
)


def handing_over(sockets: dict[str, socket.socket]) -> Callable[[], None]:
    """What systemd does between fork and exec: descriptors from 3 on."""

    def prepare() -> None:
        high = [os.dup2(s.fileno(), 200 + i) for i, s in enumerate(sockets.values())]
        for i, fd in enumerate(high):
            os.dup2(fd, 3 + i)
            os.close(fd)

    return prepare


class Held(Gateway):
    """`start`, `stop` and `restart` leave the port and the local sockets as they are."""

    def __init__(self, folder: Path, engines: Sequence[EngineProcess] = (), **gateway: Any) -> None:
        super().__init__(folder, engines, **gateway)
        self.runtime.mkdir(mode=0o750, exist_ok=True)
        self.sockets = {
            "http": socket.create_server(("127.0.0.1", self.port), backlog=BACKLOG),
            "https": socket.create_server(("127.0.0.1", self.https_port), backlog=BACKLOG),
            **{name: self._local(name) for name in ("gateway", "admin")},
        }

    def _local(self, name: str) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.bind(str(self.runtime / f"{name}.sock"))
        sock.listen(BACKLOG)
        return sock

    def start(self, *, wait: bool = True, **more: Any) -> Held:
        self.write_config()
        before = self.text().count("answers at") if self.log.exists() else 0
        told = {"LISTEN_FDS": str(len(self.sockets)), "LISTEN_FDNAMES": ":".join(self.sockets)}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", CODE, "--config", str(self.config)],
                env={**self.environment(), **told},
                stdout=log,
                stderr=log,
                preexec_fn=handing_over(self.sockets),
                close_fds=False,
                **more,
            )
        if wait:
            self.wait_for("answers at", timeout=90.0, count=before + 1)
            self.key = self.key or (self.secrets() or [""])[-1]
        return self

    def restart(self, within_s: float = 90.0) -> float:
        """Stop it and start it, as `systemctl restart`. Returns the seconds until it answers."""
        began = time.monotonic()
        assert self.stop(signal.SIGTERM, within_s) == 0, self.text()[-3000:]
        self.start()
        return time.monotonic() - began

    def close(self) -> None:
        """End it, and let go of the sockets."""
        self.kill()
        for sock in self.sockets.values():
            sock.close()
