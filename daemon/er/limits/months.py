"""What each key with a quota has used in this calendar month (UTC): a file beside the key file.

A row a key: its id, the month, requests and tokens, read and written under one lock of the file, so
no quota is exceeded however many workers there are. The file is mapped: what was counted survives
the end of every process, and the kernel brings it to the disk within a minute. A month never goes
back: a clock that does only makes the later one longer.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

from er import journal
from er.limits.shared import Locked

FILE = "keys_month"  # in STATE
ROWS = 4096  # keys with a quota; those of an older month are used again
MAGIC = b"er months 1\n"
HEAD_BYTES = 4096
ROW = np.dtype([("id", "S16"), ("month", "<i8"), ("spent", "<i8", 2)])
SIZE = HEAD_BYTES + ROWS * ROW.itemsize
MODE = 0o640


class Spent(NamedTuple):
    """A key's month so far."""

    requests: int
    tokens: int


class Months:
    """One process's handle: another one's closing would drop its locks."""

    def __init__(self, path: Path) -> None:
        """Open or make the file; a damaged one is set aside, and said. Raises OSError."""
        self._file = _opened(path)
        try:
            self._map = mmap.mmap(self._file, SIZE)
        except BaseException:
            os.close(self._file)
            raise
        self._table = np.frombuffer(self._map, ROW, ROWS, HEAD_BYTES)

    def take(
        self, key_id: str, tokens: int, now: float, requests_max: int, tokens_max: int
    ) -> bool:
        """Count a request of so many tokens unless that is over one of the two; whether it was.

        `now` in Unix seconds.
        """
        with Locked(self._file, 0):
            spent = self._table["spent"][self._row(key_id, now)]
            if spent[0] + 1 > requests_max or spent[1] + tokens > tokens_max:
                return False
            spent += (1, tokens)
            return True

    def give_back(self, key_id: str, tokens: int, now: float) -> None:
        """Uncount a request that was taken and not answered as asked."""
        with Locked(self._file, 0):
            spent = self._table["spent"][self._row(key_id, now)]
            spent -= np.minimum(spent, (1, tokens))

    def used(self, key_id: str, now: float) -> Spent:
        """What the key has used."""
        with Locked(self._file, 0):
            found = np.flatnonzero(self._table["id"] == key_id.encode())
            row = self._table[found[0]] if len(found) else None
            if row is None or row["month"] < month_of(now):
                return Spent(0, 0)
            return Spent(*row["spent"].tolist())

    def close(self) -> None:
        """Let go of the file."""
        del self._table
        self._map.close()
        os.close(self._file)

    def _row(self, key_id: str, now: float) -> int:
        """The key's row, which is of this month then; if all are taken, the oldest one's."""
        table, name, month = self._table, key_id.encode(), month_of(now)
        found = np.flatnonzero(table["id"] == name)
        row = int(found[0]) if len(found) else int(np.argmin(table["month"]))
        if table["id"][row] != name or table["month"][row] < month:
            table[row] = (name, month, (0, 0))
        return row


def month_of(now: float) -> int:
    """Months since the year 0."""
    moment = datetime.fromtimestamp(now, UTC)
    return moment.year * 12 + moment.month - 1


def ends(now: float) -> datetime:
    """When the month of `now` (Unix seconds) is over."""
    year, month = divmod(month_of(now) + 1, 12)
    return datetime(year, month + 1, 1, tzinfo=UTC)


def _opened(path: Path) -> int:
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, MODE)
        try:
            with Locked(file, 0):
                if _fit(file, path):
                    return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)


def _fit(file: int, path: Path) -> bool:
    """Whether it is the file to use; else another one has its place by now."""
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_ino == os.fstat(file).st_ino:
            head = os.pread(file, len(MAGIC), 0)
            if head == MAGIC and os.fstat(file).st_size == SIZE:
                return True
            if not head.strip(b"\0"):
                # Taken now, so that a full disk says so here and not by a signal later.
                os.posix_fallocate(file, 0, SIZE)
                os.pwrite(file, MAGIC, 0)
                return True
            aside = path.with_name(path.name + ".damaged")
            path.replace(aside)
            lost = "what keys had used of their monthly quotas is counted from zero"
            journal.log("err", f"{path} is damaged and lies in {aside.name} now; {lost}")
    return False
