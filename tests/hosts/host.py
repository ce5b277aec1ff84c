"""One host of ER in a namespace: er-gateway over stand-in engines, its own folders and clock."""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fakes import EngineProcess
from faulty_link import FaultyLink
from hosts.clocks import Clock
from hosts.network import Namespace, Place
from launched import until
from running import DIMENSIONS, Gateway

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def _with_us() -> None:
    """In a child before its program: it ends when the tests' process does, however that ends."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Connection(http.client.HTTPConnection):
    """HTTP from somewhere to an address."""

    def __init__(self, source: Place, address: str, port: int, timeout: float) -> None:
        super().__init__(address, port, timeout=timeout)
        self._source = source

    def connect(self) -> None:
        with self._source.entered():
            super().connect()


class Host(Gateway):
    """er-gateway on one of several hosts that share a state; `folder` has its name.

    `shared` is the table [state], without password_file: that is written where `password` is
    given. All times that its gateway knows are those of `clock`. What other hosts send to it comes
    over `link`.
    """

    def __init__(
        self,
        folder: Path,
        place: Place,
        shared: dict[str, Any],
        *,
        password: str = "",
        engines: int = 1,
        ahead_s: int = 0,
        **gateway: Any,
    ) -> None:
        folder.mkdir(parents=True)
        with place.entered():
            stand_ins = [EngineProcess(dim=DIMENSIONS) for _ in range(engines)]
        super().__init__(folder, stand_ins, **gateway)
        self.name, self.place, self.listen = folder.name, place, place.address
        self.port, self.inner_port = place.port(2048), place.port(2049)
        self.clock = Clock(folder, ahead_s)
        with place.entered():
            self.link = FaultyLink((place.address, self.inner_port), place.address)
        self.shared = {"state": dict(shared), "host": {"name": self.name}}
        self.shared["host"]["listen"] = [f"{place.address}:{self.inner_port}"]
        self.shared["host"]["address"] = f"{place.address}:{self.link.port}"
        if password:
            self.password_file = folder / "valkey.password"
            self.shared["state"]["password_file"] = str(self.password_file)
            self.set_password(password)

    def set_password(self, password: str) -> None:
        """What its user at the shared state has from now on, as an operator writes it."""
        self.password_file.write_text(password + "\n")
        self.password_file.chmod(0o600)

    def environment(self) -> dict[str, str]:
        return {**super().environment(), **self.clock.told}

    def start(self, *, wait: bool = True, **more: Any) -> Host:
        """Start its engines and its gateway (again); with `wait`, until that says it answers."""
        self.start_engines()
        with self.place.entered():
            super().start(wait=wait, preexec_fn=_with_us, **more)
        return self

    def start_engines(self) -> None:
        """Start those that do not run."""
        with self.place.entered():
            for engine in self.engines:
                if engine.process is None or engine.process.poll() is not None:
                    engine.start()

    def kill(self) -> None:
        """All processes of the host end at once, and the kernel says so to whoever asks.

        As if it lost its power, when nobody is told: take it off the network before.
        """
        if isinstance(self.place, Namespace):
            self.place.kill()
        super().kill()
        for engine in self.engines:
            engine.kill()

    def connection(self, timeout: float = 20.0, source: Place | None = None) -> Connection:
        """A connection to its gateway, from the host itself or from `source`."""
        return Connection(source or self.place, self.place.address, self.port, timeout)

    def health(self) -> dict[str, Any]:
        """What GET /health says, without a key."""
        found: dict[str, Any] = self.ask("GET", "/health", key=None).json
        return found

    def up(self) -> set[str]:
        """The replicas that answer, as it knows them: e0, and e0@HOST of another host."""
        time.sleep(0.2)  # who waits for them asks again and again
        models = self.health()["models"]
        return {r["name"] for m in models for r in m["replicas"] if r["state"] == "up"}

    def end(self) -> str:
        """The end of its journal, but for the audit; what a test that fails shows."""
        lines = [line for line in self.text().splitlines() if not line.startswith("{")]
        return f"{self.name}, {self.health()['models'][0]}:\n" + "\n".join(lines[-20:])

    def er(self, *words: str) -> Any:
        """What that command of er prints as JSON there. Raises RuntimeError with what it says."""
        command = [sys.executable, "-m", "er.cli", *words, "--json"]
        with self.place.entered():
            done = subprocess.run(
                command, env=self.environment(), capture_output=True, text=True, timeout=60
            )
        if done.returncode:
            raise RuntimeError(f"er {' '.join(words)}: {done.returncode} {done.stderr}")
        return json.loads(done.stdout)

    def made_key(self) -> Any:
        """A new key, as `er keys create` shows it; None where none can be made."""
        with contextlib.suppress(RuntimeError):
            return self.er("keys", "create", "--name", f"k{time.monotonic_ns()}")
        return None

    def says(self, what: str) -> Callable[[], bool]:
        """Whether its journal has said that since now."""
        before = self.text().count(what)
        return lambda: self.text().count(what) > before


@contextlib.contextmanager
def together(hosts: Sequence[Host]) -> Iterator[Sequence[Host]]:
    """These hosts started, with the one key that they share; killed at the end."""
    try:
        for host in hosts:
            host.start(wait=False)
        for host in hosts:
            host.wait_for("answers at", 40)
        key = next(secret for host in hosts for secret in host.secrets())
        for host in hosts:
            host.key = key
            until(lambda h=host: h.embed().status == 200, 40, host.end)
        yield hosts
    finally:
        for host in hosts:
            host.kill()
            host.link.__exit__()
