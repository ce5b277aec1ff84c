"""One engine with all its processes: started apart, listened to, and ended so that none is left.

The engine runs in a session of its own. vLLM has several processes, and those that its API server
starts outlive it; so what counts is the session and everything that descends from it. Three walls
keep anything from being orphaned: the launcher adopts orphans (child subreaper) and so always finds
them, the kernel kills the API server when the launcher dies, and a guard (a shell that waits on a
pipe) kills the whole group then. Under systemd the cgroup is a fourth.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import re
import signal
import subprocess
from collections import deque
from collections.abc import Callable
from pathlib import Path

from er.engine.command import Launch

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
KEPT_LINES = 400  # the end of the log, where a cause is looked for
PART = "VLLM::"  # how vLLM names its engine and worker processes
POLL_S = 0.05
GUARD = 'read -r _; kill -9 "-$0" 2>/dev/null'
_libc = ctypes.CDLL(None, use_errno=True)


class EngineProcess:
    """A started engine. `lines` holds the end of its output, `code` its exit code or None."""

    def __init__(self, process: subprocess.Popen[bytes], guard: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._guard = guard
        self.pid = process.pid
        self.code: int | None = None
        self.lines: deque[str] = deque(maxlen=KEPT_LINES)
        self.ended = asyncio.Event()
        self.maimed = asyncio.Event()  # one of its own processes ended; see `watch_parts`
        self._parts: set[int] = set()  # descriptors of those processes
        self._listening: asyncio.Task[None] | None = None
        self._others: set[int] = set()  # children of the launcher that are not the engine's

    @classmethod
    def start(cls, launch: Launch, heard: Callable[[str], None]) -> EngineProcess:
        """Start it; each line of its output goes to `heard`. Raises OSError.

        To be called on a running loop, in the main thread: the kernel's death signal is tied to the
        thread that forks.
        """
        _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        launcher = os.getpid()

        def die_with_launcher() -> None:
            _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != launcher:  # it died before the line above
                os._exit(1)

        others = {pid for pid, parent in _processes()[0].items() if parent == launcher}
        process = subprocess.Popen(
            launch.argv,
            env=launch.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with_launcher,
        )
        # Its standard input is a pipe whose other end only the launcher has.
        guard = subprocess.Popen(
            ["/bin/sh", "-c", GUARD, str(process.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        engine = cls(process, guard)
        engine._others = others | {guard.pid}
        engine._listening = asyncio.create_task(engine._listen(heard))
        engine._watch()
        return engine

    async def _listen(self, heard: Callable[[str], None]) -> None:
        assert self._process.stdout is not None
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), self._process.stdout
        )
        rest = b""
        while data := await reader.read(65536):
            # A progress bar redraws its line with \r; each state is a line of its own here.
            *whole, rest = re.split(rb"[\r\n]", rest + data)
            for line in whole:
                self._hear(line, heard)
            if len(rest) > 65536:
                self._hear(rest, heard)
                rest = b""
        self._hear(rest, heard)

    def _hear(self, line: bytes, heard: Callable[[str], None]) -> None:
        text = line.decode("utf-8", "replace")
        if text.strip():
            self.lines.append(text)
            heard(text)

    def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        fd = os.pidfd_open(self.pid)

        def over() -> None:
            loop.remove_reader(fd)
            os.close(fd)
            self.code = self._process.wait()
            self.ended.set()

        loop.add_reader(fd, over)

    def watch_parts(self) -> None:
        """From now on the end of an engine or worker process sets `maimed`.

        vLLM's server lives on for a second after it, and answers only errors.
        """
        loop = asyncio.get_running_loop()
        for pid in self.members() - {self.pid}:
            with contextlib.suppress(OSError):
                if (Path("/proc") / str(pid) / "comm").read_text().startswith(PART):
                    self._parts.add(fd := os.pidfd_open(pid))
                    loop.add_reader(fd, self._part_ended, fd)

    def _part_ended(self, fd: int) -> None:
        asyncio.get_running_loop().remove_reader(fd)
        self._parts.discard(fd)
        os.close(fd)
        self.maimed.set()

    def members(self) -> set[int]:
        """The living processes of this engine: its session, and all that descend from it."""
        parents, sessions = _processes()
        launcher = os.getpid()
        found = {pid for pid, session in sessions.items() if session == self.pid}
        grown = True
        while grown:
            more = {p for p, parent in parents.items() if parent in found} - found
            # An orphan that left the session comes to the launcher, its subreaper.
            adopted = {p for p, parent in parents.items() if parent == launcher}
            more |= adopted - found - self._others
            grown = bool(more)
            found |= more
        return found

    def memory_and_cpu(self) -> tuple[int, float]:
        """(resident bytes, CPU seconds) of all its processes together; shared pages count twice.

        The time of children that ended stays in: or work would seem to run backwards when one does.
        """
        page, tick = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")
        memory, ticks = 0, 0
        for pid in self.members():
            with contextlib.suppress(OSError, ValueError, IndexError):
                fields = _stat(pid)
                memory += int(fields[21]) * page
                ticks += sum(map(int, fields[11:15]))
        return memory, ticks / tick

    def terminate(self) -> None:
        """Ask its first process to end (SIGTERM); vLLM then ends the others."""
        if self.code is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)

    async def end(self) -> None:
        """Kill what is left of it and return when nothing is. May be called again."""
        while members := self.members():
            for pid in members:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(POLL_S)
            self._reap()
        await self.ended.wait()
        for fd in set(self._parts):
            self._part_ended(fd)
        self._guard.kill()  # before it sees its pipe close: the group's number may be another's
        self._guard.wait()
        assert self._guard.stdin is not None
        if self._guard.stdin.closed:
            return
        self._guard.stdin.close()
        # Output that was already written is still heard; a process elsewhere that holds the pipe
        # must not hold us.
        assert self._listening is not None
        await asyncio.wait([self._listening], timeout=1.0)
        self._listening.cancel()
        await asyncio.gather(self._listening, return_exceptions=True)

    def _reap(self) -> None:
        """Collect adopted orphans that ended; the two that Popen knows are left to it."""
        for pid, parent in _processes(zombies=True)[0].items():
            if parent == os.getpid() and pid not in self._others | {self.pid}:
                with contextlib.suppress(OSError):
                    os.waitpid(pid, os.WNOHANG)


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on (field 3 is number 0)."""
    text = (Path("/proc") / str(pid) / "stat").read_text()
    return text[text.rindex(")") + 2 :].split()


def _processes(*, zombies: bool = False) -> tuple[dict[int, int], dict[int, int]]:
    """(pid -> parent, pid -> session) of every living process; of dead ones too with `zombies`."""
    parents, sessions = {}, {}
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            fields = _stat(int(entry.name))
        except (OSError, ValueError):
            continue
        if zombies or fields[0] not in "ZX":
            parents[int(entry.name)], sessions[int(entry.name)] = int(fields[1]), int(fields[3])
    return parents, sessions
