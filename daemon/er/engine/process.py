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
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from er.engine import parts
from er.engine.command import Launch
from er.engine.parts import Parts, Process

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
KEPT_LINES = 400  # the end of the log, where a cause is looked for
POLL_S = 0.05
LOOK_EVERY_S = 1.0  # for new parts, while it loads
# Python's own process that takes away shared memory and semaphores when their makers are gone.
TIDIER, TIDY_S = b"multiprocessing.resource_tracker", 2.0
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
        self.maimed = asyncio.Event()  # one of its parts ended; see `watch_parts`
        self.lost: tuple[str, int | None] = ("", None)  # that one's name; its exit code, if known
        self._parts = Parts()
        self._watched: set[int] = set()  # descriptors of those processes
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

        others = {pid for pid, one in _processes().items() if one.parent == launcher}
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

    def watch_parts(self, settled_s: float = 0.0) -> None:
        """From now on the end of an engine or worker process sets `maimed`.

        vLLM's server lives on after it: for a second and answers only errors; while it loads, for
        half a minute. To be called again for those that came later; `settled_s`: see `Parts`.
        """
        there = _processes()
        members = self._members(there) - {self.pid}
        for pid in self._parts.look(there, members, time.monotonic(), settled_s):
            name = _title(pid, there[pid].name)
            try:
                fd = os.pidfd_open(pid)
            except OSError:  # just now
                self._part_ended(name, pid)
                continue
            self._watched.add(fd)
            asyncio.get_running_loop().add_reader(fd, self._part_ended, name, pid, fd)

    async def find_parts(self) -> None:
        """Watch the parts of an engine that loads as they come. Never returns."""
        while True:
            self.watch_parts(parts.SETTLED_S)
            await asyncio.sleep(LOOK_EVERY_S)

    def _part_ended(self, name: str, pid: int, fd: int | None = None) -> None:
        if not self.maimed.is_set():
            self.lost = name, _exit_code(pid)
            self.maimed.set()
        if fd is not None:
            self._forget(fd)

    def _forget(self, fd: int) -> None:
        asyncio.get_running_loop().remove_reader(fd)
        self._watched.discard(fd)
        os.close(fd)

    def members(self) -> set[int]:
        """The living processes of this engine: its session, and all that descend from it."""
        return self._members(_processes())

    def _members(self, there: dict[int, Process]) -> set[int]:
        launcher = os.getpid()
        found = {pid for pid, one in there.items() if one.session == self.pid}
        # An orphan that left the session comes to the launcher, its subreaper.
        found |= {p for p, one in there.items() if one.parent == launcher} - self._others
        grown = True
        while grown:
            more = {p for p, one in there.items() if one.parent in found} - found
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
                memory += int(fields[22]) * page
                ticks += sum(map(int, fields[12:16]))
        return memory, ticks / tick

    def terminate(self) -> None:
        """Ask its first process to end (SIGTERM); vLLM then ends the others."""
        if self.code is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)

    async def end(self) -> None:
        """Kill what is left of it and return when nothing is. May be called again.

        Those that tidy up after the others end by themselves when these are gone, or soon after.
        """
        until = time.monotonic() + TIDY_S
        while members := self.members():
            tidying = time.monotonic() < until
            for pid in members:
                if not (tidying and _tidies(pid)):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(POLL_S)
            self._reap()
        await self.ended.wait()
        for fd in set(self._watched):
            self._forget(fd)
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
        for pid, one in _processes(zombies=True).items():
            if one.parent == os.getpid() and pid not in self._others | {self.pid}:
                with contextlib.suppress(OSError):
                    os.waitpid(pid, os.WNOHANG)


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the name on: it is number 0, the state (field 3) 1."""
    text = (Path("/proc") / str(pid) / "stat").read_text()
    at = text.rindex(")")
    return [text[text.index("(") + 1 : at], *text[at + 2 :].split()]


def _exit_code(pid: int) -> int | None:
    """That of a process which ended and was not yet collected by its parent; None: unknown.

    Negative: the signal. 0 is what the kernel shows to those who may not know.
    """
    with contextlib.suppress(OSError, ValueError, IndexError):
        fields = _stat(pid)
        if fields[1] in "ZX":
            return os.waitstatus_to_exitcode(int(fields[50])) or None
    return None


def _title(pid: int, name: str) -> str:
    """The name in full, of which the kernel keeps 15 characters."""
    with contextlib.suppress(OSError):
        said = (Path("/proc") / str(pid) / "cmdline").read_bytes().split(b"\0")[0]
        title = said.decode(errors="replace").strip()
        return title if title.startswith(name) else name
    return name


def _tidies(pid: int) -> bool:
    try:
        return TIDIER in (Path("/proc") / str(pid) / "cmdline").read_bytes()
    except OSError:
        return False


def _processes(*, zombies: bool = False) -> dict[int, Process]:
    """Every living process, by its id; dead ones too with `zombies`."""
    found = {}
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = _stat(int(entry.name))
            if zombies or fields[1] not in "ZX":
                one = Process(fields[0], int(fields[2]), int(fields[4]), int(fields[20]))
                found[int(entry.name)] = one
    return found
