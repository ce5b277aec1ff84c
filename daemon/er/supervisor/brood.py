"""The supervisor's processes: started, heard, found hung or dead, started again with a back-off.

The admin process is started here; a worker is forked by its generation's nest and says its pid on
its line. Until then what it is to be sent is kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from er import journal
from er.child import ADMIN, READY, Given
from er.config import Config
from er.supervisor.nests import Nests, bury
from er.tls import Safe

HUNG_S = 10.0  # ten heartbeats
ADMIN_HUNG_S = 30.0  # it reads tokenizers while it serves, and no client waits for it
START_S = 60.0  # the same, until it serves
STEADY_S = 60.0  # who lived that long may be started again at once
PAUSE_MAX_S = 30.0
ADMIN_PROCESS = "er.admin"


class Generation(NamedTuple):
    """One reading of the configuration. `text` is a descriptor that children read it from."""

    number: int
    config: Config
    text: int

    @classmethod
    def make(cls, number: int, config: Config, text: str) -> Generation:
        """Keep `text` where this generation's children find it, whatever becomes of the file."""
        file = os.memfd_create("er.toml", os.MFD_CLOEXEC)
        data = text.encode()
        while data:
            data = data[os.write(file, data) :]
        return cls(number, config, file)

    def forget(self) -> None:
        """Let go of the text; no child of this generation will be started any more."""
        os.close(self.text)


class Process:
    """One child."""

    def __init__(self, slot: int, generation: Generation, line: socket.socket) -> None:
        self.slot, self.generation, self.line = slot, generation, line
        self.pid: int | None = None  # not known yet
        self.code: int | None = None  # how it ended; None: it runs, or nobody knows
        self.began = time.monotonic()
        self.beat = 0.0  # monotonic seconds; 0 = never
        self.ready = asyncio.Event()
        self.gone = asyncio.Event()
        self.retiring = False
        self.condemned = False
        self._unsent: list[signal.Signals] = []

    @property
    def name(self) -> str:
        kind = "the admin process" if self.slot == ADMIN else f"worker {self.slot}"
        return f"{kind} (pid {self.pid or 'unknown'})"

    def hung(self, now: float) -> bool:
        """Whether its event loop has stood still for too long."""
        return now - max(self.began, self.beat) > self.patience_s

    @property
    def patience_s(self) -> float:
        """How long its event loop may stand still."""
        # Until it serves it has longer: reading a tokenizer stops its loop, and that can take long.
        if not self.ready.is_set():
            return START_S
        return ADMIN_HUNG_S if self.slot == ADMIN else HUNG_S

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if it still runs."""
        if self.gone.is_set():
            return
        if self.pid is None:
            self._unsent.append(number)
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def born(self, pid: int) -> None:
        """It said its pid."""
        self.pid = pid
        for number in self._unsent:
            self.send(number)


class Brood:
    """All children. `ended` is told of each that is gone and was not meant to go."""

    def __init__(
        self,
        sockets: Mapping[str, list[socket.socket]],
        environment: Mapping[str, str],
        metrics: Path,
        ended: Callable[[Process], None],
        safe: Safe | None = None,
    ) -> None:
        self._sockets, self._environment, self._metrics = sockets, environment, metrics
        self._ended = ended
        self._safe = -1 if safe is None else safe.fd
        self._nests = Nests(environment, metrics)
        self._failures: dict[int, int] = {}
        self.processes: dict[int, Process] = {}

    def spawn(self, slot: int, generation: Generation) -> Process:
        """Start the process of `slot`; ADMIN is the admin's. Raises OSError."""
        names = ("admin",) if slot == ADMIN else ("http", "https", "hosts", "gateway")
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        given = Given(
            slot,
            generation.number,
            str(generation.config.source),
            generation.text if slot == ADMIN else -1,
            theirs.fileno(),
            {n: [s.fileno() for s in self._sockets.get(n, ())] for n in names},
            self._safe,
        )
        process = Process(slot, generation, ours)
        try:
            if slot == ADMIN:
                self._admin = self._start_admin(given)
                process.pid = self._admin.pid
            else:
                self._nests.order(given, generation)
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        self.processes[slot] = process
        asyncio.get_running_loop().add_reader(ours.fileno(), self._hear, process)
        return process

    def _start_admin(self, given: Given) -> subprocess.Popen[bytes]:
        more = {"PROMETHEUS_MULTIPROC_DIR": str(self._metrics), "ER_PROCESS": "admin"}
        return subprocess.Popen(
            [sys.executable, "-P", "-m", ADMIN_PROCESS],
            env=given.environment(self._environment, more),
            pass_fds=given.descriptors(),
            stdin=subprocess.DEVNULL,
            process_group=0,  # Ctrl-C is for the supervisor, which then drains
        )

    def forget(self, generation: Generation) -> None:
        """No worker of `generation` will be started any more."""
        self._nests.forget(generation.number)
        generation.forget()

    def barren(self) -> None:
        """No worker at all will be started any more."""
        self._nests.close()

    def workers(self, generation: Generation | None = None) -> list[Process]:
        """The workers that are not on their way out; those of one generation."""
        return [
            p
            for p in self.processes.values()
            if p.slot != ADMIN
            and not p.retiring
            and (generation is None or p.generation is generation)
        ]

    def free_slot(self, slots: int, taken: set[int]) -> int | None:
        """The lowest slot that no child and no one in `taken` has."""
        return next((s for s in range(slots) if s not in self.processes and s not in taken), None)

    def _hear(self, process: Process) -> None:
        try:
            data = process.line.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(process.line.fileno())
            if process.pid is None:  # its nest died, or could not fork
                self._over(process, None)
            return
        if process.pid is None:
            pid, _, data = data.partition(b"\n")
            process.born(int(pid))
        process.beat = time.monotonic()
        if READY in data:
            process.ready.set()

    def reap(self) -> None:
        """Take notice of children that have ended; to be called when SIGCHLD came."""
        self._nests.reap()
        for process in list(self.processes.values()):
            if process.pid is None:
                self._hear(process)  # it may have said its pid just before its end
            if process.pid is None:
                continue
            with contextlib.suppress(ChildProcessError):
                pid, status = os.waitpid(process.pid, os.WNOHANG)
                if pid:
                    self._over(process, os.waitstatus_to_exitcode(status))
        known = [process.pid for process in self.processes.values()]
        if None not in known:  # else a stranger may be the one that has not said its pid yet
            bury({pid for pid in known if pid} | self._nests.pids())

    def _over(self, process: Process, code: int | None) -> None:
        process.code = code
        if process.slot == ADMIN:
            self._admin.returncode = code
        asyncio.get_running_loop().remove_reader(process.line.fileno())
        process.line.close()
        del self.processes[process.slot]
        process.gone.set()
        for file in self._metrics.glob(f"gauge_live*_w{process.slot}.db"):
            file.unlink(missing_ok=True)  # what it last said of itself; its counts stay
        self._ended(process)

    def kill_hung(self) -> bool:
        """Kill who has not given a sign of life. Returns whether all others have."""
        now = time.monotonic()
        hung = [p for p in self.processes.values() if p.hung(now)]
        for process in hung:
            if not process.condemned:
                process.condemned = True
                what = f"{process.name} gave no sign of life for {process.patience_s:.0f} s; killed"
                journal.log("err", what)
            if process.pid is None:
                self._nests.kill(process.generation.number)
            process.send(signal.SIGKILL)
        return not hung

    def pause_s(self, process: Process) -> float:
        """How long to wait before the process's slot is filled again; says how it ended."""
        lived = time.monotonic() - process.began
        failures = 0 if lived > STEADY_S else self._failures.get(process.slot, 0)
        self._failures[process.slot] = failures + 1
        pause = 0.0 if not failures else min(PAUSE_MAX_S, 0.5 * 2.0**failures)
        code = process.code
        how = "no sign of life" if code is None else f"exit code {code}"
        if code is not None and code < 0:
            how = f"signal {-code} ({signal.Signals(-code).name})"
        when = f"in {pause:.0f} s" if pause else "now"
        journal.log(
            "err",
            f"{process.name} ended with {how} after {lived:.0f} s; a new one starts {when}",
        )
        return pause
