"""er-vllm as a real process over the stand-in engine, before a systemd that takes notes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fake_vllm
from fakes import free_port

RUNNER = """
import asyncio, sys
from pathlib import Path
from er.engine.watch import Patience
from er.launcher import find, keep
found = find(Path(sys.argv[1]), sys.argv[2])
sys.exit(asyncio.run(keep(*found, patience=Patience(**eval(sys.argv[3])))))
"""


def until(
    true: Callable[[], Any], seconds: float = 15.0, what: str | Callable[[], Any] = ""
) -> Any:
    """The first true value of `true()`; fails, and says `what`, when none comes in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = true()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s: {what() if callable(what) else what or true}")


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


class Launched:
    """A folder with er.toml, a tiny model and a fake vLLM; `start` runs er-vllm in it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.vllm = folder / "vllm"
        self.runtime = folder / "run"
        self.model = fake_vllm.tiny_model(folder / "model")
        self.env = {
            **{k: v for k, v in os.environ.items() if k != "JOURNAL_STREAM"},
            "ER_VLLM_PYTHON": str(fake_vllm.install(self.vllm)),
            "RUNTIME_DIRECTORY": str(self.runtime),
            "STATE_DIRECTORY": str(folder / "state"),
            "CACHE_DIRECTORY": str(folder / "cache"),
            "CONFIGURATION_DIRECTORY": str(folder),
        }
        self.configure()
        self.log = folder / "log"
        self.heard: list[str] = []
        self.process: subprocess.Popen[bytes] | None = None

    def configure(self, more: str = "", task: str = "embed") -> None:
        """Write er.toml: one replica "one" of the tiny model."""
        self.config = self.folder / "er.toml"
        self.config.write_text(
            f'[[model]]\nname = "tiny"\ntask = "{task}"\npath = "{self.model}"\nmax_tokens = 256\n'
            f'[[replica]]\nname = "one"\nmodel = "tiny"\ngpu = "cpu"\nport = {self.port}\n{more}'
        )

    def systemd(self, watchdog_s: float = 3.0) -> None:
        """From the next start on there is a systemd, which watches with that limit."""
        path = self.folder / "notify.sock"
        heard = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        heard.bind(str(path))
        threading.Thread(target=self._listen, args=(heard,), daemon=True).start()
        self.env["NOTIFY_SOCKET"] = str(path)
        self.env["WATCHDOG_USEC"] = str(int(watchdog_s * 1e6))

    def _listen(self, heard: socket.socket) -> None:
        # Few datagrams fit the kernel's queue; a sender waits when nobody takes them.
        while True:
            self.heard += heard.recv(65536).decode().splitlines()

    def messages(self) -> list[str]:
        """Every line that systemd was told so far."""
        return list(self.heard)

    def start(self, *args: str, patience: dict[str, float] | None = None) -> None:
        """Run `er-vllm one --config er.toml`, or with a `patience` of the test's own."""
        command = [sys.executable, "-m", "er.launcher", *(args or ("one", "--config", "er.toml"))]
        if patience is not None:
            command = [sys.executable, "-c", RUNNER, str(self.config), "one", repr(patience)]
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                command, cwd=self.folder, env=self.env, stdout=out, stderr=out
            )

    def text(self) -> str:
        """What it logged."""
        return self.log.read_text() if self.log.exists() else ""

    def said(self, text: str, seconds: float = 15.0) -> None:
        """Wait until its log has `text`."""
        try:
            until(lambda: text in self.text(), seconds)
        except AssertionError:
            raise AssertionError(f"{text!r} not in the log:\n{self.text()}") from None

    def ready(self, times: int = 1) -> None:
        """Wait until it was READY that often."""
        try:
            until(lambda: self.text().count(": READY after") >= times)
        except AssertionError:
            raise AssertionError(f"not READY:\n{self.text()}") from None

    def sample(self) -> dict[str, Any]:
        """The launcher's own sample, {} while there is none."""
        path = self.runtime / "replicas" / "one" / "sample.json"
        return dict(json.loads(path.read_text())) if path.exists() else {}

    def starts(self) -> list[dict[str, Any]]:
        """What each engine was given."""
        return fake_vllm.starts(self.vllm)

    @property
    def engine(self) -> int:
        """The process id of the newest engine."""
        return int(self.starts()[-1]["pid"])

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def ended(self, seconds: float = 15.0) -> int:
        """Wait for its end; the exit code."""
        assert self.process is not None
        return self.process.wait(seconds)

    def close(self) -> None:
        """End everything, however the test went."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for start in self.starts():
            for pid in (start["pid"], start.get("child", 0)):
                if pid and alive(pid):
                    os.kill(pid, signal.SIGKILL)
