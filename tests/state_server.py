"""A real Valkey or Redis for tests, as a process: started, paused, killed, started again."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import valkey

from fakes import free_port


class StateServer:
    """Of one folder; what it holds is there again after a start, as with appendonly."""

    def __init__(self, folder: Path, *options: str, kept: bool = True) -> None:
        program = shutil.which("valkey-server") or shutil.which("redis-server")
        assert program is not None, "neither valkey-server nor redis-server is installed"
        folder.mkdir(parents=True, exist_ok=True)
        self.port, self._folder = free_port(), folder
        disk = ("--appendonly", "yes", "--appendfsync", "always") if kept else ("--save", "")
        self._command = [program, "--bind", "127.0.0.1", "--dir", str(folder), *disk, *options]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"valkey://127.0.0.1:{self.port}"

    def start(self, *more: str) -> StateServer:
        """Start it, until it takes connections."""
        with (self._folder / "log").open("ab") as log:
            command = [*self._command, "--port", str(self.port), *more]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        for _ in range(500):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return self
            time.sleep(0.02)
        raise AssertionError((self._folder / "log").read_text())

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def pause(self) -> None:
        """It takes connections and says nothing."""
        self.signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def client(self, **more: Any) -> valkey.Valkey:
        """One without a user of its own."""
        return valkey.Valkey(port=self.port, socket_timeout=5, **more)
