"""What each key used in this calendar month (UTC), all workers together: for quotas.

A memory-mapped table in STATE, a row of 40 bytes a key and month. It has what usage has (answered
requests, their tokens), brought by the tally twice a second; requests of a key with a quota are
counted by `take` when they are let in, so that it is overrun by nothing, and uncounted by
`give_back` where they are not answered; but what an engine had begun when its client left stays
counted (`keep`), and so does what a killed worker had taken and not answered. A table that is new
or was damaged begins with what the book and the hours know.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from er.mapped import HEAD_BYTES, opened
from er.usage import HOUR_S, NOBODY, OTHERS, Sums
from er.usage.book import Book, Month
from er.usage.hours import read

ROWS = 16384  # keys x months; those of the oldest month are used again
MAGIC = b"er usage of months 1\n"
ID_BYTES = 16
LAYOUT = np.dtype([("key", f"S{ID_BYTES}"), ("begins", "<i8"), ("spent", "<i8", 2)])
SIZE = HEAD_BYTES + ROWS * LAYOUT.itemsize
_FIGURES = struct.Struct("<2q")
_TABLE, _LOCKS = 0, 1  # bytes to lock: of the table of keys, and of the first row
_AT = ID_BYTES + 8  # of a row's figures in it


class Spent(NamedTuple):
    """A key's month so far."""

    requests: int
    tokens: int


class Monthly:
    """The table. One object a process: another one's closing would drop this one's locks."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._map = mmap.mmap(file, SIZE)
        self._table = np.frombuffer(self._map, LAYOUT, ROWS, HEAD_BYTES)
        self._rows: dict[str, tuple[int, bytes]] = {}  # where its figures are; what names the row
        self._ahead: dict[str, Spent] = {}  # taken, and not yet brought by the tally
        self._begins = self._ends = 0.0  # of the month that the rows are of

    @classmethod
    def open(cls, folder: Path, now: float) -> Monthly:
        """Open or make it; `now` in Unix seconds. Raises OSError."""
        file, fresh = opened(folder / "months", MAGIC, SIZE)
        try:
            found = cls(file)
            if fresh:
                found.settle(known(folder, now), now)
        except BaseException:
            os.close(file)
            raise
        return found

    def close(self) -> None:
        """Let go of the file."""
        del self._table
        self._map.close()
        os.close(self._file)

    def used(self, key_id: str, now: float) -> Spent:
        """What the key used in the month of `now` (Unix seconds), with what is on its way."""
        at, _ = self._rows.get(key_id) or self._row(key_id, now)
        if not self._begins <= now < self._ends:
            at, _ = self._row(key_id, now)
        return Spent(*_FIGURES.unpack_from(self._map, at))

    def begins(self, now: float) -> int:
        """The first moment of the month of `now`, both in Unix seconds."""
        if not self._begins <= now < self._ends:
            self._turn(now)
        return int(self._begins)

    def all(self, now: float) -> dict[str, Spent]:
        """What every key used in the month of `now` (Unix seconds), on this host."""
        rows = self._table[self._table["begins"] == self.begins(now)]
        named = zip(rows["key"].tolist(), rows["spent"].tolist(), strict=True)
        return {key.decode("ascii", "replace"): Spent(*spent) for key, spent in named}

    def take(
        self, key_id: str, tokens: int, now: float, requests_max: int, tokens_max: int
    ) -> bool:
        """Count a request of so many tokens, unless that is over one of the two; whether it was.

        For a key with a quota. Who is not answered right (status 400 and more, or a client that is
        gone) is given back, once; `tokens` are those that the request's Note has in the end.
        """
        at = self._mine(key_id, now)
        self._lock(at)
        try:
            requests, spent = _FIGURES.unpack_from(self._map, at)
            if requests >= requests_max or spent + tokens > tokens_max:
                return False
            _FIGURES.pack_into(self._map, at, requests + 1, spent + tokens)
        finally:
            self._unlock(at)
        ahead = self._ahead.get(key_id, _NONE)
        self._ahead[key_id] = Spent(ahead.requests + 1, ahead.tokens + tokens)
        return True

    def give_back(self, key_id: str, tokens: int, now: float) -> None:
        """Uncount a request that was taken and not answered."""
        ahead = self._ahead.get(key_id, _NONE)
        self._ahead[key_id] = Spent(ahead.requests - 1, ahead.tokens - tokens)
        self._add(key_id, -1, -tokens, now)

    def keep(self, key_id: str, tokens: int) -> None:
        """A request that was taken stays counted, though no usage will be brought for it."""
        ahead = self._ahead.get(key_id, _NONE)
        self._ahead[key_id] = Spent(ahead.requests - 1, ahead.tokens - tokens)

    def settle(self, counted: Mapping[str, Spent], now: float) -> None:
        """Count what was answered, less what was taken before: the tally's, twice a second."""
        for key_id, spent in counted.items():
            requests, tokens = spent
            ahead = self._ahead.pop(key_id, None)
            if ahead is not None:
                done = Spent(min(requests, ahead.requests), min(tokens, ahead.tokens))
                requests, tokens = requests - done.requests, tokens - done.tokens
                left = Spent(ahead.requests - done.requests, ahead.tokens - done.tokens)
                if any(left):
                    self._ahead[key_id] = left
            if requests or tokens:
                self._add(key_id, requests, tokens, now)

    def _add(self, key_id: str, requests: int, tokens: int, now: float) -> None:
        at = self._mine(key_id, now)
        self._lock(at)
        try:
            before = _FIGURES.unpack_from(self._map, at)
            figures = (max(0, before[0] + requests), max(0, before[1] + tokens))
            _FIGURES.pack_into(self._map, at, *figures)
        finally:
            self._unlock(at)

    def _lock(self, at: int) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_EX, 1, _LOCKS + at)

    def _unlock(self, at: int) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _LOCKS + at)

    def _mine(self, key_id: str, now: float) -> int:
        """Where the key's figures of this month are, sure to be its own."""
        found = self._rows.get(key_id)
        if found is None or not self._begins <= now < self._ends:
            return self._row(key_id, now)[0]
        at, name = found
        # Another process may have given the row away, with over ROWS keys in a month.
        if self._map[at - _AT : at] != name:
            return self._row(key_id, now)[0]
        return at

    def _row(self, key_id: str, now: float) -> tuple[int, bytes]:
        begins = self.begins(now)
        name = key_id.encode()[:ID_BYTES]
        table = self._table
        fcntl.lockf(self._file, fcntl.LOCK_EX, 1, _TABLE)
        try:
            found = np.flatnonzero((table["key"] == name) & (table["begins"] == begins))
            if len(found):
                row = int(found[0])
            else:
                row = int(np.argmin(table["begins"]))  # never used, or of the oldest month
                table["spent"][row] = 0
                table["key"][row], table["begins"][row] = name, begins
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _TABLE)
        at = HEAD_BYTES + row * LAYOUT.itemsize + _AT
        self._rows[key_id] = at, self._map[at - _AT : at]
        return self._rows[key_id]

    def _turn(self, now: float) -> None:
        month = Month.of(int(now // HOUR_S))
        self._begins, self._ends = month.begins * HOUR_S, month.ends * HOUR_S
        self._rows.clear()


_NONE = Spent(0, 0)


def by_key(counted: Mapping[tuple[str, str], Sums]) -> dict[str, Spent]:
    """The sums of each key, of those by key and model; what no model was asked costs nothing."""
    found: dict[str, Spent] = {}
    for (key, model), sums in counted.items():
        if model == NOBODY:
            continue
        before = found.get(key, _NONE)
        found[key] = Spent(before.requests + sums.requests, before.tokens + sums.tokens)
    return found


def known(folder: Path, now: float) -> dict[str, Spent]:
    """What each key used this month, by the hours under way and the book. Raises OSError."""
    try:
        under_way = read(folder)
    except ValueError:  # damaged: who writes it sets it aside
        under_way = []
    rows, _ = Book(folder).read(Month.of(int(now // HOUR_S)), under_way)
    found: dict[str, Spent] = {}
    for row in rows:
        if row.key != OTHERS and row.model != NOBODY:
            before = found.get(row.key, _NONE)
            sums = row.sums
            found[row.key] = Spent(before.requests + sums.requests, before.tokens + sums.tokens)
    return found
