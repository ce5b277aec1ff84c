"""The generations on disk: opened, followed, begun anew when one is full, dropped when damaged.

CACHE_DIRECTORY/vectors/N are generations, of which the two newest count. New entries, and those of
the older one that were asked for again, go into the newest; when that holds half of the cache's
size the next one is begun and the older one goes, which drops what was not used lately. So at least
half of the size is always what was used last.

All of this is for one thread of the process; a reader takes `generations` as it finds it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import lmdb

from er.cache import layout
from er.cache.generation import Generation
from er.cache.layout import CorruptError
from er.cache.plan import Numbers
from er.journal import log

EXAMINE_S = 300.0
# What says that the file is damaged; any other error is the disk's or the operator's.
DAMAGED = (
    CorruptError,
    lmdb.CorruptedError,
    lmdb.PageNotFoundError,
    lmdb.InvalidError,
    lmdb.PanicError,
    lmdb.VersionMismatchError,
    lmdb.BadTxnError,
)


class BusyError(Exception):
    """Another process is opening or changing the generations."""


class Store:
    """One process's handles on the generations; `generations` is newest first."""

    def __init__(self, folder: Path, size: int) -> None:
        """`size` in bytes, of all generations together. Touches nothing yet."""
        self._folder, self._half = folder, size // 2
        self._users: int | None = None  # a descriptor that holds a shared lock: we use the cache
        self.generations: tuple[Generation, ...] = ()

    def follow(self) -> list[Generation]:
        """Open what is newest; begin a generation when there is none or the newest is full.

        Returns handles that nobody should read any more, to be closed. Raises OSError, lmdb.Error,
        CorruptError, BusyError.
        """
        mine = [g.number for g in self.generations]
        if mine and mine == self._numbers()[:2] and not self._full():
            return []
        with self._alone():
            if self._users is None:
                self._enter()
            numbers = self._numbers()
            full = bool(mine) and self._full()
            if not numbers or (full and numbers[0] == mine[0]):
                # A number is never used twice: others may still have what was removed open.
                numbers.insert(0, max([time.time_ns(), *(n + 1 for n in (*numbers, *mine))]))
            for number in numbers[2:]:
                shutil.rmtree(self._folder / str(number), ignore_errors=True)
            handles = {g.number: g for g in self.generations}
            wanted = []
            for number in numbers[:2]:
                with self._suspect(number):
                    handle = handles.get(number) or Generation(self._folder / str(number))
                wanted.append(handle)
            old = [g for g in self.generations if g not in wanted]
            self.generations = tuple(wanted)
        for generation in wanted:
            generation.forget_dead_readers()
        return old

    def write(self, entries: Sequence[tuple[bytes, Numbers]]) -> None:
        """Keep numbers in the newest generation. Raises lmdb.Error."""
        self.generations[0].write(entries)

    def drop(self) -> list[Generation]:
        """Throw away what is on disk, which is damaged; the handles to close."""
        old, self.generations = list(self.generations), ()
        for generation in old:
            shutil.rmtree(generation.folder, ignore_errors=True)
        return old

    def leave(self) -> list[Generation]:
        """Use the cache no more; the handles to close."""
        old, self.generations = list(self.generations), ()
        if self._users is not None:
            os.close(self._users)
            self._users = None
        return old

    def _full(self) -> bool:
        return self.generations[0].used() >= self._half

    def _numbers(self) -> list[int]:
        """The generations on disk, newest first."""
        names = [path.name for path in self._folder.iterdir()]
        return sorted((int(n) for n in names if n.isdecimal()), reverse=True)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """No other process opens, begins or drops generations meanwhile. Raises BusyError."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError:
            raise BusyError from None
        finally:
            os.close(lock)

    def _enter(self) -> None:
        """Join the users. The first one has another process look at the generations."""
        users = os.open(self._folder / "users", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                for number in self._numbers():
                    self._look(self._folder / str(number))
            fcntl.flock(users, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BaseException:
            os.close(users)
            raise
        self._users = users

    def _look(self, generation: Path) -> None:
        command = [sys.executable, layout.__file__, str(generation)]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=EXAMINE_S, stdin=subprocess.DEVNULL
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            log("warning", f"the cache of vectors in {generation} is damaged, begun anew: {last}")
            shutil.rmtree(generation)

    @contextlib.contextmanager
    def _suspect(self, number: int) -> Iterator[None]:
        """Remove a generation that is too damaged to be opened. Raises CorruptError."""
        try:
            yield
        except DAMAGED as error:
            shutil.rmtree(self._folder / str(number), ignore_errors=True)
            raise CorruptError(str(error)) from None
