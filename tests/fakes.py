"""What tests put in place of the outside: a clock they move, engines as processes of their own."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ENGINE = Path(__file__).with_name("engine.py")
SECOND_NS = 1_000_000_000


class Clock:
    """A clock of nanoseconds that stands still until a test moves it."""

    def __init__(self, now: int = 1_000 * SECOND_NS) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += int(seconds * SECOND_NS)


# Ports below those that the kernel gives to clients, and for each process that runs tests side by
# side its own: a port given away twice, or to a client while its server restarts, was seen.
_PORTS_EACH = 1_500
_base = 12_000 + int(os.environ.get("PYTEST_XDIST_WORKER", "gw12")[2:]) % 13 * _PORTS_EACH
_ports = itertools.count(random.SystemRandom().randrange(_PORTS_EACH))


def free_port() -> int:
    """A TCP port on loopback that was free a moment ago, and that this process gave to nobody."""
    while True:
        port = _base + next(_ports) % _PORTS_EACH
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


async def until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Wait until another process has come to `condition`. Raises TimeoutError."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - nothing in this process will tell us
            await asyncio.sleep(0.01)


class EngineProcess:
    """tests/engine.py as a process; `with EngineProcess(task="classify") as engine: …`."""

    def __init__(
        self,
        *,
        task: str = "embed",
        dim: int = 64,
        name: str = "model",
        port: int | None = None,
        env: dict[str, str] | None = None,
    ) -> None:
        self.port = port or free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.argv = [sys.executable, str(ENGINE), "--port", str(self.port), "--task", task]
        self.argv += ["--dim", str(dim), "--name", name]
        self.env = {**os.environ, **(env or {})}
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> EngineProcess:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it (again, on the same port) and wait until it listens."""
        assert self.process is None or self.process.poll() is not None
        self.process = subprocess.Popen(self.argv, env=self.env, stdout=subprocess.DEVNULL)
        until = time.monotonic() + 20
        while time.monotonic() < until:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise TimeoutError("the stand-in engine did not come up")

    def fresh(self) -> EngineProcess:
        """As new: running, without faults, counting from 0. Much sooner done than a start."""
        if self.process is None or self.process.poll() is not None:
            self.start()
        self.signal(signal.SIGCONT)
        try:
            self.fault("fresh")
        except OSError:  # the last test had it exit, and it was still at that
            self.kill()
            self.start()
        return self

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"content-type": "application/json"})
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def fault(self, kind: str, count: int | None = None, **more: Any) -> None:
        """Switch a misbehaviour on for the next `count` calls; None: until fault("none")."""
        self.ask("POST", "/_fault", {"kind": kind, "count": count, **more})

    def seen(self) -> dict[str, int]:
        """How it was called; see SEEN in engine.py."""
        answer: dict[str, int] = self.ask("GET", "/_seen")
        return answer

    def named(self) -> list[dict[str, str]]:
        """The last calls' request id, and traceparent and tracestate where they had these."""
        calls: list[dict[str, str]] = self.ask("GET", "/_named")["calls"]
        return calls
