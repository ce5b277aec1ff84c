"""The table of the hours under way: a row for each key, model and hour, which all workers add to.

It lies in STATE and is memory-mapped, so what was counted outlives every process; what the disk has
of it is at most a minute old (`sync`). A row that was written down is cleared, unless it was added
to meanwhile. What finds no row of its own is counted under the key OTHERS.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from er.journal import log
from er.mapped import HEAD_BYTES, aside_of, opened
from er.usage import HOUR_S, OTHERS, Row, Sums

ROWS = 8192  # keys x models within an hour, and some minutes until they are written down
CROWDED = ROWS // 2  # so many rows are written down before their hour is over
SPARE = 64  # rows for OTHERS alone
SETTLED_S = 5  # after its end an hour's rows are written down: all workers have flushed by then
MAGIC = b"er usage of the hours under way 1\n"
KEY_BYTES, MODEL_BYTES = 16, 128
FIGURES = len(Sums._fields)
LAYOUT = np.dtype(
    [
        ("hour", "<i8"),
        ("key", f"S{KEY_BYTES}"),
        ("model", f"S{MODEL_BYTES}"),
        ("sums", "<i8", FIGURES),
    ]
)
# Ids and digests of the names stand apart: to look for one in a row's midst costs 30 times as much.
_IDS, _DIGESTS = HEAD_BYTES, HEAD_BYTES + 8 * ROWS
_ROWS = _DIGESTS + 8 * ROWS
SIZE = _ROWS + ROWS * LAYOUT.itemsize
_TABLE, _WRITER = 0, 1  # bytes to lock

Name = tuple[str, str]  # key, model


class Hours:
    """The table. One object a process: another one's closing would drop this one's locks."""

    def __init__(self, file: int, path: Path) -> None:
        self._file, self._path = file, path
        self._map = mmap.mmap(file, SIZE)
        self._ids = np.frombuffer(self._map, np.int64, ROWS, _IDS)
        self._digests = np.frombuffer(self._map, np.int64, ROWS, _DIGESTS)
        self._table = np.frombuffer(self._map, LAYOUT, ROWS, _ROWS)
        self._known: dict[Name, tuple[int, int]] = {}  # row, id; of one hour
        self._hour = 0

    @classmethod
    def open(cls, folder: Path) -> Hours:
        """Open or make it. Raises OSError."""
        path = folder / "hours"
        file, _ = opened(path, MAGIC, SIZE)
        try:
            return cls(file, path)
        except BaseException:
            os.close(file)
            raise

    def close(self) -> None:
        """Let go of the file."""
        del self._ids, self._digests, self._table
        self._map.close()
        os.close(self._file)

    def add(self, counted: Mapping[Name, Sums], now: float, *, wait: bool = True) -> int:
        """Add these; `now` in Unix seconds. How many requests found no row of their own.

        Raises BlockingIOError: another process has the table, and this one would not `wait`.
        """
        hour, astray = int(now // HOUR_S), 0
        if hour != self._hour:
            self._known, self._hour = {}, hour
        with self._locked(_TABLE, wait):
            for (key, model), sums in counted.items():
                row = self._row(hour, key, model, ROWS - SPARE)
                if row is None:
                    row = self._row(hour, OTHERS, model, ROWS)
                    astray += sums.requests + sums.refused
                if row is None:
                    row = ROWS - 1  # whatever it is of: all sums stay right
                self._table["sums"][row] += sums
        return astray

    def _row(self, hour: int, key: str, model: str, end: int) -> int | None:
        """Its row, a new one of those before `end` if need be; None when these are taken."""
        known = self._known.get((key, model))
        ids, table = self._ids, self._table
        if known is not None and ids[known[0]] == known[1]:
            return known[0]
        names = (key.encode()[:KEY_BYTES], model.encode()[:MODEL_BYTES])
        digest = _digest(hour, *names)
        found = np.flatnonzero((self._digests == digest) & (ids != 0))
        if not len(found):
            found = np.flatnonzero(ids[:end] == 0)
            if not len(found):
                return None
            at = found[0]
            table["hour"][at], table["sums"][at] = hour, 0
            table["key"][at], table["model"][at] = names
            self._digests[at] = digest
            ids[at] = _new_id()  # last: without it there is no row
        row = int(found[0])
        self._known[key, model] = row, int(ids[row])
        return row

    # -- for who writes down ---------------------------------------------------------------------

    @contextmanager
    def writer(self) -> Iterator[bool]:
        """Whether this process is the one that writes down; no other one is while it lasts."""
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _WRITER)
        except OSError:
            yield False
            return
        try:
            yield True
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _WRITER)

    def due(self, now: float) -> list[Row]:
        """The rows to be written down: of hours that are over; all where the table is crowded."""
        with self._locked(_TABLE):
            self._mend()
            taken = np.flatnonzero(self._ids)
            ids, table = self._ids[taken], self._table[taken]
        if len(ids) < CROWDED:
            over = table["hour"] < (now - SETTLED_S) // HOUR_S
            ids, table = ids[over], table[over]
        return _rows(ids, table)

    def written(self, rows: Sequence[Row]) -> None:
        """These are in the book; one that was added to since stays, to be written again."""
        ids, sums = self._ids, self._table["sums"]
        with self._locked(_TABLE):
            places = {int(ids[at]): int(at) for at in np.flatnonzero(ids)}
            for row in rows:
                at = places.get(row.id)
                if at is not None and sums[at].tolist() == list(row.sums):
                    ids[at] = 0

    def sync(self) -> None:
        """Bring it to the disk."""
        os.fdatasync(self._file)

    def _mend(self) -> None:
        """Clear rows that can't be: other than ER's own processes wrote them. A copy is kept."""
        bad = (self._ids != 0) & ~_sound(self._ids, self._table)
        if not bad.any():
            return
        aside = aside_of(self._path)
        shutil.copyfile(self._path, aside)
        self._ids[bad] = 0
        log("warning", f"{self._path} has {bad.sum()} damaged rows; a copy is kept as {aside}")

    @contextmanager
    def _locked(self, at: int, wait: bool = True) -> Iterator[None]:
        fcntl.lockf(self._file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB, 1, at)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, at)


def snapshot(folder: Path) -> bytes:
    """The table's bytes as they are between two flushes. Raises OSError."""
    with (folder / "hours").open("rb") as file:
        fcntl.lockf(file, fcntl.LOCK_SH, 1, _TABLE)
        return file.read(SIZE + 1)


def read(folder: Path) -> list[Row]:
    """What the table has, for who may only read it. Raises OSError; ValueError: it is damaged."""
    try:
        data = snapshot(folder)
    except FileNotFoundError:
        return []
    if not data.strip(b"\0"):
        return []
    if not data.startswith(MAGIC) or len(data) != SIZE:
        raise ValueError(f"{folder / 'hours'} is damaged")
    ids = np.frombuffer(data, np.int64, ROWS, _IDS)
    table = np.frombuffer(data, LAYOUT, ROWS, _ROWS)
    good = _sound(ids, table)
    return _rows(ids[good], table[good])


def _rows(ids: npt.NDArray[np.int64], table: npt.NDArray[np.void]) -> list[Row]:
    return [
        Row(
            id_,
            hour,
            key.decode(errors="replace"),
            model.decode(errors="replace"),
            Sums(*sums.tolist()),
        )
        for id_, (hour, key, model, sums) in zip(ids.tolist(), table.tolist(), strict=True)
    ]


def _sound(ids: npt.NDArray[np.int64], table: npt.NDArray[np.void]) -> npt.NDArray[np.bool_]:
    figures = (table["sums"] >= 0).all(axis=1) & (table["sums"] < 1 << 60).all(axis=1)
    hours = (table["hour"] > 0) & (table["hour"] < 1 << 23)
    found: npt.NDArray[np.bool_] = (
        (ids > 0) & hours & figures & (table["key"] != b"") & (table["model"] != b"")
    )
    return found


def _digest(hour: int, key: bytes, model: bytes) -> int:
    data = b"%d\0%b\0%b" % (hour, key, model)
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little", signed=True)


def _new_id() -> int:
    return secrets.randbits(62) + 1
