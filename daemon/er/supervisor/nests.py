"""The supervisor's nests: each forks the workers of one generation."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from er import journal
from er.child import NEST, Given

if TYPE_CHECKING:
    from er.supervisor.brood import Generation

NEST_PROCESS = "er.nest"
PR_SET_CHILD_SUBREAPER = 36


def adopt() -> None:
    """Become the parent of what a nest forks: the process between ends at once. Raises OSError."""
    global _adopting
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "can't become a subreaper")
    _adopting = True


def bury(known: set[int]) -> None:
    """Take notice of adopted children that nobody knows: a nest was killed while it forked."""
    with contextlib.suppress(ChildProcessError):
        while _adopting:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if found is None or found.si_pid in known:
                return
            os.waitpid(found.si_pid, os.WNOHANG)


# Threads of its own would not survive the fork, and no product here is large enough to want them.
MORE = {"OPENBLAS_NUM_THREADS": "1"}


_adopting = False  # whether all children without a parent become this process's


class _Nest(NamedTuple):
    number: int  # of its generation
    popen: subprocess.Popen[bytes]
    line: socket.socket


class Nests:
    """Started when a generation's first worker is wanted, and again should one die."""

    def __init__(self, environment: Mapping[str, str], metrics: Path) -> None:
        self._environment, self._metrics = environment, metrics
        self._known: dict[int, _Nest] = {}  # by the generation's number
        self._leaving: list[_Nest] = []

    def order(self, worker: Given, generation: Generation) -> None:
        """Have a worker forked, as soon as the nest is ready. Raises OSError."""
        nest = self._known.get(worker.generation) or self._start(generation)
        try:
            socket.send_fds(nest.line, [msgspec.json.encode(worker)], worker.descriptors())
        except OSError:
            self.forget(worker.generation)  # the next one asked for gets a new nest
            raise

    def _start(self, generation: Generation) -> _Nest:
        ours, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        source = str(generation.config.source)
        given = Given(NEST, generation.number, source, generation.text, theirs.fileno(), {})
        number = str(generation.number)  # the words also leave room for a worker's name
        more = {**MORE, "PROMETHEUS_MULTIPROC_DIR": str(self._metrics)}
        try:
            popen = subprocess.Popen(
                [sys.executable, "-P", "-m", NEST_PROCESS, "generation", number],
                env=given.environment(self._environment, more),
                pass_fds=given.descriptors(),
                stdin=subprocess.DEVNULL,
                process_group=0,  # Ctrl-C is for the supervisor, which then drains
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        self._known[generation.number] = made = _Nest(generation.number, popen, ours)
        return made

    def kill(self, number: int) -> None:
        """Kill a generation's nest, which does not bring forth its workers."""
        for nest in (*self._known.values(), *self._leaving):
            if nest.number == number:
                nest.popen.send_signal(signal.SIGKILL)

    def forget(self, number: int) -> None:
        """Let a generation's nest end: no more workers are wanted of it."""
        nest = self._known.pop(number, None)
        if nest is not None:
            nest.line.close()
            self._leaving.append(nest)

    def close(self) -> None:
        """Let all of them end."""
        for number in list(self._known):
            self.forget(number)

    def pids(self) -> set[int]:
        """Of all that have not ended, as far as is known."""
        return {nest.popen.pid for nest in (*self._known.values(), *self._leaving)}

    def reap(self) -> None:
        """Take notice of those that have ended."""
        for number, nest in list(self._known.items()):
            code = nest.popen.poll()
            if code is not None:
                journal.log("err", f"the nest of generation {number} ended with exit code {code}")
                self.forget(number)
        self._leaving = [nest for nest in self._leaving if nest.popen.poll() is None]
