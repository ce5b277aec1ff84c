"""A real Valkey (or Redis) for tests, that may be stopped, killed and started again on its port."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from fakes import free_port


class Server:
    """One server, without persistence: killed, it has lost all."""

    def __init__(self, folder: Path, *options: str) -> None:
        program = shutil.which("valkey-server") or shutil.which("redis-server")
        assert program is not None, "neither valkey-server nor redis-server is installed"
        folder.mkdir(parents=True, exist_ok=True)
        self.port, self._folder = free_port(), folder
        fixed = (
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
            str(folder),
        )
        self._argv = [program, *fixed, *options]
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"valkey://127.0.0.1:{self.port}"

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.kill()

    def start(self) -> None:
        with (self._folder / "log").open("ab") as log:
            self.process = subprocess.Popen(self._argv, stdout=log, stderr=log)
        until = time.monotonic() + 20
        while time.monotonic() < until:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise AssertionError((self._folder / "log").read_text())

    def pause(self, on: bool) -> None:
        """It takes connections and says nothing, until it goes on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP if on else signal.SIGCONT)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
