"""Requests per key over all workers: one window a key, in a memory-mapped file in RUNTIME.

The file: a header, a table of key ids, and a row of words for each (see `window`). A row is read
and written under a lock on one byte of the file, so the count is exact however many workers there
are; the kernel lets go of a dead worker's locks. The clock is CLOCK_BOOTTIME, which all processes
share and which goes on while the machine sleeps; a file from before the last boot starts anew.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import time
from pathlib import Path

from er.limits import window
from er.limits.window import Taken
from er.quantities import PERIODS, Rate

__all__ = ["Limits", "LimitsFull", "Taken"]

ROWS = 2048  # keys within one period, not keys in all: idle rows are used again
ID_BYTES = 16
MAGIC = b"er limits 1\n"
LONGEST_NS = max(PERIODS.values()) * 1_000_000_000
_IDS = 4096
_WINDOWS = _IDS + ROWS * ID_BYTES
SIZE = _WINDOWS + ROWS * window.WORDS * 8


class LimitsFull(Exception):  # noqa: N818 - says that no row is free
    """More keys than there are rows have asked within one period."""


def now_ns() -> int:
    """The clock of the windows."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Limits:
    """The windows of all keys. One object a process."""

    def __init__(self, file: int, size: int) -> None:
        self._file = file
        self._map = mmap.mmap(file, size)
        self._words = memoryview(self._map)[_WINDOWS:].cast("Q")
        self._rows: dict[str, int] = {}

    @classmethod
    def open(cls, path: Path) -> Limits:
        """Open the file at `path`; make it, or make it anew when it is of another boot or layout.

        Raises OSError, for example when the disk is full.
        """
        boot = Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()
        header = MAGIC + boot
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.lockf(file, fcntl.LOCK_EX, 1)
            if os.pread(file, len(header), 0) != header or os.fstat(file).st_size != SIZE:
                os.ftruncate(file, 0)
                # Taken now, so that a full disk says so here and not by a signal later.
                os.posix_fallocate(file, 0, SIZE)
                os.pwrite(file, header, 0)
            fcntl.lockf(file, fcntl.LOCK_UN, 1)
            return cls(file, SIZE)
        except BaseException:
            os.close(file)
            raise

    def take(self, key_id: str, rate: Rate, now: int) -> Taken:
        """Count one request at `now` (ns) if the key's rate lets it pass. Raises LimitsFull."""
        row = self._row(key_id, now)
        with _Locked(self._file, row):
            if not self._owns(row, key_id):
                # Another worker gave the row away after a period of silence.
                self._rows.pop(key_id, None)
            else:
                return window.take(self._window(row), rate, now)
        return self.take(key_id, rate, now)

    def give_back(self, key_id: str, taken: Taken, now: int) -> None:
        """Uncount at `now` (ns) a request that was allowed but could not be served."""
        row = self._rows.get(key_id)
        if row is None:
            return
        with _Locked(self._file, row):
            if self._owns(row, key_id):
                window.give_back(self._window(row), taken, now)

    def close(self) -> None:
        """Let go of the file."""
        self._words.release()
        self._map.close()
        os.close(self._file)

    def _window(self, row: int) -> memoryview:
        return self._words[row * window.WORDS : (row + 1) * window.WORDS]

    def _owns(self, row: int, key_id: str) -> bool:
        at = _IDS + row * ID_BYTES
        return self._map[at : at + ID_BYTES] == key_id.encode().ljust(ID_BYTES, b"\0")

    def _row(self, key_id: str, now: int) -> int:
        row = self._rows.get(key_id)
        if row is not None:
            return row
        name = key_id.encode().ljust(ID_BYTES, b"\0")
        with _Locked(self._file, -1):
            row = self._find(name)
            if row is None:
                row = self._free(now)
                with _Locked(self._file, row):
                    window.clear(self._window(row))
                    at = _IDS + row * ID_BYTES
                    self._map[at : at + ID_BYTES] = name
        self._rows[key_id] = row
        return row

    def _find(self, name: bytes) -> int | None:
        at = self._map.find(name, _IDS, _WINDOWS)
        while at >= 0 and (at - _IDS) % ID_BYTES:
            at = self._map.find(name, at + 1, _WINDOWS)
        return (at - _IDS) // ID_BYTES if at >= 0 else None

    def _free(self, now: int) -> int:
        empty = self._find(bytes(ID_BYTES))
        if empty is not None:
            return empty
        for row in range(ROWS):
            if window.idle(self._window(row), now, LONGEST_NS):
                return row
        raise LimitsFull(f"more than {ROWS} keys asked within an hour")


class _Locked:
    """Holds the lock on one row's byte; row -1 stands for the table of ids."""

    def __init__(self, file: int, row: int) -> None:
        self._file, self._at = file, 1 + row + 1

    def __enter__(self) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_EX, 1, self._at)

    def __exit__(self, *_: object) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, self._at)
