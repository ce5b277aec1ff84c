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
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Protocol, Self

from er.limits import window
from er.limits.asked import Asked, Minute
from er.limits.running import Running, RunningFull
from er.limits.shared import Locked, made_of
from er.limits.window import Taken
from er.quantities import PERIODS, Rate

__all__ = [
    "Asked",
    "Held",
    "Limits",
    "LimitsFull",
    "Running",
    "RunningFull",
    "Taken",
    "Unleased",
]

ROWS = 2048  # keys within one period, not keys in all: idle rows are used again
ID_BYTES = 16
MAGIC = b"er limits 1\n"
LONGEST_NS = max(PERIODS.values()) * 1_000_000_000
IDS = 4096
_WINDOWS = IDS + ROWS * ID_BYTES
TABLE, LOCKS = 1, 2  # bytes to lock: of the table of ids, and of the first row
SIZE = _WINDOWS + ROWS * window.WORDS * 8


class LimitsFull(Exception):  # noqa: N818 - says that no row is free
    """More keys than there are rows have asked within one period."""


class Asker(Protocol):
    """Who asks the shared state for leases."""

    def want(self, name: str, rate: Rate, n: int = 0) -> None:
        """Have more asked for, beside the traffic; `n` of it at least."""

    async def lease(self, name: str, rate: Rate, n: int) -> None:
        """Wait, a bounded time, until it is known whether `n` more pass."""

    def owe(self, name: str, rate: Rate) -> Taken:
        """Count one that was not granted."""


class Unleased(Exception):  # noqa: N818 - says what is not known here
    """Hosts share the limit, and this one's part is used up: only the others know of more.

    Nothing was counted; once `filled` returns it is worth to try again.
    """

    def __init__(self, asker: Asker, name: str, rate: Rate, n: int) -> None:
        super().__init__(name)
        self.asker, self.name, self.rate, self.n = asker, name, rate, n

    async def filled(self) -> None:
        """Ask, and wait for the answer: a bounded time."""
        await self.asker.lease(self.name, self.rate, self.n)

    def wanted(self, n: int) -> None:
        """Have `n` asked for, and go on."""
        self.asker.want(self.name, self.rate, n)

    def owed(self) -> Taken:
        """Count it all the same: it is over."""
        return self.asker.owe(self.name, self.rate)


def now_ns() -> int:
    """The clock of the windows."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def tokens_of(key_id: str) -> str:
    """The name of a key's window of tokens."""
    return f"{key_id}#tokens"


class Limits:
    """The windows of all keys, their last minute, and what runs. One object a process."""

    def __init__(self, file: int, size: int, minute: Minute, running: Running) -> None:
        self._file, self.minute, self.running = file, minute, running
        self._map = mmap.mmap(file, size)
        self._words = memoryview(self._map)[_WINDOWS:].cast("Q")
        self._rows: dict[str, Row] = {}

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the file at `path`; make it, or make it anew when it is of another boot or layout.

        Raises OSError, for example when the disk is full.
        """

        minute, running = path.with_name("asked"), path.with_name("running")
        return made_of(
            path,
            MAGIC,
            SIZE,
            lambda file: cls(file, SIZE, Minute.open(minute), Running.open(running)),
        )

    def take(self, key_id: str, rate: Rate, now: int, n: int = 1) -> Taken:
        """Count one request at `now` (ns) if the key's rate lets it pass. Raises LimitsFull.

        Tokens have a window beside it, named `tokens_of(key_id)`: `n` of them at once.
        """
        while True:
            row = self._rows.get(key_id) or self._row(key_id, now)
            fcntl.lockf(self._file, fcntl.LOCK_EX, 1, row.lock)
            try:
                if self._map[row.at : row.at + ID_BYTES] == row.name:
                    return window.take(row.window, rate, now, n)
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, row.lock)
            # Another worker gave the row away after a period of silence.
            del self._rows[key_id]

    def wait_s(self, key_id: str, rate: Rate, before: int, now: int) -> float:
        """Seconds until one more passes after `before` others; see `window.wait_s`."""
        row = self._rows.get(key_id)
        if row is None:
            return 0.0  # it never asked here
        with Locked(self._file, row.lock):
            if self._map[row.at : row.at + ID_BYTES] != row.name:
                return 0.0
            return window.wait_s(row.window, rate, before, now)

    def give_back(self, key_id: str, taken: Taken, now: int, n: int = 1) -> None:
        """Uncount at `now` (ns) a request, or tokens, allowed but not served."""
        row = self._rows.get(key_id)
        if row is None:
            return
        with Locked(self._file, row.lock):
            if self._map[row.at : row.at + ID_BYTES] == row.name:
                window.give_back(row.window, taken, now, n)

    def used(self, rates: Mapping[str, Rate], now: int) -> dict[str, int]:
        """How many requests each of these keys has in its window at `now` (ns)."""
        used = dict.fromkeys(rates, 0)
        for row in range(ROWS):
            at = IDS + row * ID_BYTES
            key_id = self._map[at : at + ID_BYTES].rstrip(b"\0").decode("ascii", "replace")
            if key_id in rates:
                with Locked(self._file, LOCKS + row):
                    used[key_id] = window.counted(self._window(row), rates[key_id], now)
        return used

    def close(self) -> None:
        """Let go of the files."""
        self.minute.close()
        self.running.close()
        for row in self._rows.values():
            row.window.release()
        self._words.release()
        self._map.close()
        os.close(self._file)

    def _window(self, row: int) -> memoryview:
        return self._words[row * window.WORDS : (row + 1) * window.WORDS]

    def _place(self, name: bytes, row: int) -> Row:
        return Row(name, IDS + row * ID_BYTES, LOCKS + row, self._window(row))

    def _row(self, key_id: str, now: int) -> Row:
        name = key_id.encode().ljust(ID_BYTES, b"\0")
        with Locked(self._file, TABLE):
            found = self._find(name)
            row = self._free(now) if found is None else found
            made = self._place(name, row)
            if found is None:
                with Locked(self._file, made.lock):
                    self._begin(made)
                    self._map[made.at : made.at + ID_BYTES] = name
        self._rows[key_id] = made
        return made

    def _begin(self, row: Row) -> None:
        """Empty what lies there for a key that comes new; its lock is held."""
        window.clear(row.window)

    def _find(self, name: bytes) -> int | None:
        at = self._map.find(name, IDS, _WINDOWS)
        while at >= 0 and (at - IDS) % ID_BYTES:
            at = self._map.find(name, at + 1, _WINDOWS)
        return (at - IDS) // ID_BYTES if at >= 0 else None

    def _free(self, now: int) -> int:
        empty = self._find(bytes(ID_BYTES))
        if empty is not None:
            return empty
        for row in range(ROWS):
            if window.idle(self._window(row), now, LONGEST_NS):
                return row
        raise LimitsFull(f"more than {ROWS} keys asked within an hour")


class Held:
    """What a request of a key with more bounds than a rate is counted by, until it is over."""

    __slots__ = ("quota", "running", "tokens")

    def __init__(self) -> None:
        self.running = False  # among those of its key at once
        self.tokens = 0  # in the window of its token limit
        self.quota: int | None = None  # tokens in its month; None: not counted there


class Row(NamedTuple):
    """Where a key's window lies."""

    name: bytes
    at: int  # of the name in the file
    lock: int  # the byte to lock
    window: memoryview
