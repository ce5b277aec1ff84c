"""How many requests of a key are worked on at once, all workers together: a file in RUNTIME.

A row a key: its id, and a number for each worker's slot. A worker writes its own numbers alone and
reads the sum, under a lock on one byte of the row, so the count is exact. It holds a lock on a byte
for its slot as long as it lives; the kernel lets go of it with the process, and whoever finds a key
at its limit then takes out what the dead have left. Only keys with such a limit have a row.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
from collections.abc import Collection
from pathlib import Path

import numpy as np

from er.limits.shared import Locked, made_of

ROWS, SLOTS = 2048, 72  # keys with a request under way, not keys in all; the ledger's slots
MAGIC = b"er running 1\n"
HEAD_BYTES = 4096
ROW = np.dtype([("id", "S16"), ("count", "<u2", SLOTS)])
SIZE = HEAD_BYTES + ROWS * ROW.itemsize
_TABLE, _SLOT, _ROW = 1, 2, 2 + SLOTS  # bytes to lock: the table's, the first slot's and row's


class RunningFull(Exception):  # noqa: N818 - says that no row is free
    """More keys with such a limit than there are rows have a request under way."""


class Running:
    """One process's handle."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._map = mmap.mmap(file, SIZE)
        table = np.frombuffer(self._map, ROW, ROWS, HEAD_BYTES)
        self._ids, self._counts = table["id"], table["count"]
        self._rows: dict[str, int] = {}
        self._slot: int | None = None

    @classmethod
    def open(cls, path: Path) -> Running:
        """Open the file; make it, or make it anew if it is of another boot or layout.

        Raises OSError.
        """
        return made_of(path, MAGIC, SIZE, cls)

    def claim(self, slot: int) -> None:
        """Count in `slot` (0 to 71) from now on; a dead one's numbers in it are taken out.

        Raises OSError when another process that lives has it.
        """
        with Locked(self._file, _TABLE):
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _SLOT + slot)
            self._counts[:, slot] = 0
            self._slot = slot

    def enter(self, key_id: str, limit: int) -> bool:
        """Count one request more, unless all workers have `limit` of that key's already.

        Raises RunningFull.
        """
        assert self._slot is not None
        reaped = False
        while True:
            row = self._row(key_id)
            with Locked(self._file, _ROW + row):
                mine = self._ids[row] == key_id.encode()
                if mine and int(self._counts[row].sum()) < limit:
                    self._counts[row, self._slot] += 1
                    return True
            if not mine:
                del self._rows[key_id]  # given away while nothing of it ran
            elif reaped:
                return False
            else:
                self._reap()
                reaped = True

    def leave(self, key_id: str) -> None:
        """Count one request less."""
        row = self._rows[key_id]  # stays its own while something of it runs
        if self._counts[row, self._slot]:
            self._counts[row, self._slot] -= 1

    def counts(self, key_ids: Collection[str]) -> dict[str, int]:
        """How many of each of these keys are under way, what the dead left included."""
        sums = self._counts.sum(axis=1)
        found = dict.fromkeys(key_ids, 0)
        for row in np.flatnonzero(sums):
            if (name := self._ids[row].decode("ascii", "replace")) in found:
                found[name] = int(sums[row])
        return found

    def close(self) -> None:
        """Let go of the file, and of the slot."""
        del self._ids, self._counts
        self._map.close()
        os.close(self._file)

    def _row(self, key_id: str) -> int:
        row = self._rows.get(key_id)
        if row is not None:
            return row
        name = key_id.encode()
        with Locked(self._file, _TABLE):
            found = np.flatnonzero(self._ids == name)
            if not len(found):
                for free in np.flatnonzero(self._counts.sum(axis=1) == 0):
                    with Locked(self._file, _ROW + int(free)):
                        if not self._counts[free].any():
                            self._ids[free] = name
                            found = np.array([free])
                            break
                else:
                    raise RunningFull(f"more than {ROWS} keys with a limit of requests at once ask")
        row = self._rows[key_id] = int(found[0])
        return row

    def _reap(self) -> None:
        """Take out what workers that are dead have left."""
        with Locked(self._file, _TABLE):
            for slot in np.flatnonzero(self._counts.any(axis=0)).tolist():
                if slot == self._slot:
                    continue
                with contextlib.suppress(OSError):  # it lives
                    fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _SLOT + slot)
                    self._counts[:, slot] = 0
                    fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _SLOT + slot)
