"""How often each key asked in the last minute, all workers together: a file in RUNTIME.

A row of 256 bytes a key: its id, and a ring of buckets of four seconds (which one, requests, and
those of them that its limit refused). Workers add what they counted twice a second, under one lock
of the file, so a request itself pays nothing for it. The clock is that of the windows.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from er.limits.shared import made_of

ROWS = 2048  # keys within one minute, not keys in all
BUCKET_NS, BUCKETS = 4_000_000_000, 15
MAGIC = b"er asked 1\n"
HEAD_BYTES = 4096
ROW = np.dtype(
    [
        ("id", "S16"),
        ("at", "<i8", BUCKETS),
        ("requests", "<u4", BUCKETS),
        ("limited", "<u4", BUCKETS),
    ]
)
SIZE = HEAD_BYTES + ROWS * ROW.itemsize


class Asked(NamedTuple):
    """A key's requests of the last minute, and those of them that were 429."""

    requests: int
    limited: int


class Minute:
    """The last minute of all keys. One object a process."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._map = mmap.mmap(file, SIZE)
        table = np.frombuffer(self._map, ROW, ROWS, HEAD_BYTES)
        self._ids, self._at = table["id"], table["at"]
        self._requests, self._limited = table["requests"], table["limited"]
        self._rows: dict[str, int] = {}

    @classmethod
    def open(cls, path: Path) -> Minute:
        """Open the file; make it, or make it anew if it is of another boot or layout.

        Raises OSError.
        """
        return made_of(path, MAGIC, SIZE, cls)

    def add(self, counted: Mapping[str, Asked], now: int) -> None:
        """Add what these keys asked since the last time; `now` in ns."""
        moment = now // BUCKET_NS
        bucket = moment % BUCKETS
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            for key_id, asked in counted.items():
                row = self._row(key_id, moment)
                if row is None:
                    continue  # more keys than rows: nobody knows, and `read` says so
                if self._at[row, bucket] != moment:
                    self._at[row, bucket] = moment
                    self._requests[row, bucket] = self._limited[row, bucket] = 0
                self._requests[row, bucket] += asked.requests
                self._limited[row, bucket] += asked.limited
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)

    def read(self, now: int) -> tuple[dict[str, Asked], bool]:
        """What each key asked in the last 56 to 60 s, and whether those not named asked nothing.

        `now` in ns. They may have when all rows are taken.
        """
        fcntl.lockf(self._file, fcntl.LOCK_SH)
        try:
            recent = self._at > now // BUCKET_NS - BUCKETS
            requests = (self._requests * recent).sum(axis=1)
            limited = (self._limited * recent).sum(axis=1)
            named = [row for row in np.flatnonzero(recent.any(axis=1)) if self._ids[row]]
            found = {
                self._ids[row].decode(): Asked(int(requests[row]), int(limited[row]))
                for row in named
            }
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)
        return found, len(named) < ROWS

    def close(self) -> None:
        """Let go of the file."""
        del self._ids, self._at, self._requests, self._limited
        self._map.close()
        os.close(self._file)

    def _row(self, key_id: str, moment: int) -> int | None:
        """The key's row, a new one if need be; None when all are taken."""
        name = key_id.encode()
        row = self._rows.get(key_id)
        if row is not None and self._ids[row] == name:
            return row
        found = np.flatnonzero(self._ids == name)
        if not len(found):
            found = np.flatnonzero(self._at.max(axis=1) <= moment - BUCKETS)
            if not len(found):
                return None
            self._ids[found[0]] = name
        row = self._rows[key_id] = int(found[0])
        return row
