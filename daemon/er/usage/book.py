"""What was used in hours that are over: a file for each month, a line for each row, appended to.

A line is a JSON array: id, hour (since 1970), key, its team then or null, model, requests, refused,
texts, tokens. A line that can't be read is passed over; the file is made anew without it before
the next one is written, and the damaged one kept.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import msgspec

from er import durable
from er.journal import log
from er.mapped import aside_of
from er.small_file import DAMAGED
from er.usage import HOUR_S, Row, Sums

KEPT_DAYS = 400
NEWEST = 15  # months that are kept whatever the clock says: it may be wrong
BYTES_MAX = 1 << 30  # of all of them
FILE = re.compile(r"(\d{4})-(\d{2})\.jsonl\Z")

_Line = tuple[int, int, str, str | None, str, int, int, int, int]
_decoded = msgspec.json.Decoder(_Line).decode
_encoded = msgspec.json.Encoder().encode


class Month(NamedTuple):
    """A calendar month in UTC."""

    year: int
    month: int

    @classmethod
    def of(cls, hour: int) -> Month:
        """The one that `hour` (since 1970) is in."""
        day = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(hours=hour)
        return cls(day.year, day.month)

    @property
    def begins(self) -> int:
        """Its first hour, since 1970."""
        return int(datetime(self.year, self.month, 1, tzinfo=UTC).timestamp()) // HOUR_S

    @property
    def ends(self) -> int:
        """The next one's first hour."""
        return Month(self.year + self.month // 12, self.month % 12 + 1).begins

    @property
    def file(self) -> str:
        """The name of its file."""
        return f"{self.year:04}-{self.month:02}.jsonl"


class Damage(NamedTuple):
    """Lines of a file that can't be read."""

    path: Path
    lines: int


class Book:
    """The files in `folder`. `write` and `forget` are for one process at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._mended: set[Path] = set()

    def months(self) -> list[Month]:
        """Those that have a file, oldest first. Raises OSError."""
        try:
            found = [FILE.match(path.name) for path in self._folder.iterdir()]
        except FileNotFoundError:
            return []
        there = [Month(int(one[1]), int(one[2])) for one in found if one]
        return sorted(month for month in there if 1 <= month.month <= 12)

    def read(self, month: Month, more: Sequence[Row] = ()) -> tuple[list[Row], Damage]:
        """The month's rows with `more` of the table, each id once. Raises OSError."""
        path = self._folder / month.file
        found: dict[int, Row] = {}
        wrong = 0
        begins, ends = month.begins, month.ends
        for row in (row for row in more if begins <= row.hour < ends):
            before = found.get(row.id, row)
            found[row.id] = row._replace(sums=row.sums.larger(before.sums))
        for line in _rows(path):
            if line is None:
                wrong += 1
                continue
            before = found.get(line.id, line)
            found[line.id] = line._replace(sums=line.sums.larger(before.sums))
        return list(found.values()), Damage(path, wrong)

    def write(self, rows: Sequence[Row], teams: Mapping[str, str | None]) -> None:
        """Append them, with their keys' teams; on the disk when it returns.

        Raises OSError; what was there before is there then, and nothing more.
        """
        by_month: dict[Month, list[bytes]] = {}
        for row in rows:
            line = encoded(row._replace(team=teams.get(row.key, row.team)))
            by_month.setdefault(Month.of(row.hour), []).append(line + b"\n")
        for month, lines in by_month.items():
            path = self._folder / month.file
            if path not in self._mended:
                self._mend(path)
                self._mended.add(path)
            durable.append(path, b"".join(lines))

    def _mend(self, path: Path) -> None:
        """Take out what can't be read, and keep a copy of the whole."""
        if not path.exists():
            return
        rows = list(_rows(path))
        whole = path.read_bytes().endswith(b"\n") if rows else True
        if whole and None not in rows:
            return
        fresh = path.with_name(f".{path.name}.new")
        lines = [encoded(row) for row in rows if row]
        try:
            with fresh.open("wb") as out:
                out.write(b"".join(line + b"\n" for line in lines))
                out.flush()
                os.fsync(out.fileno())
            if None in rows:
                aside = aside_of(path)
                shutil.copyfile(path, aside)
                told = f"{path} has {rows.count(None)} lines that can't be read; {len(lines)} can"
                log("warning", f"{told}, and are kept. A copy of all is {aside}")
            fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)

    def forget(self, now: float) -> None:
        """Remove months that are over for KEPT_DAYS, and the oldest of more than BYTES_MAX.

        Raises OSError.
        """
        months = self.months()
        oldest = int(now // HOUR_S) - 24 * KEPT_DAYS
        for month in [month for month in months[:-NEWEST] if month.ends <= oldest]:
            (self._folder / month.file).unlink()
            months.remove(month)
        sizes = {month: (self._folder / month.file).stat().st_size for month in months}
        while len(months) > 1 and sum(sizes[month] for month in months) > BYTES_MAX:
            gone = months.pop(0)
            (self._folder / gone.file).unlink()
            told = f"{self._folder} was over {BYTES_MAX >> 20} MiB; {gone.file} was removed"
            log("warning", f"usage: {told}")


def _rows(path: Path) -> Iterator[Row | None]:
    """Each line's row; None for one that can't be read. Nothing where there is no file."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        yield from map(decoded, file)


def encoded(row: Row) -> bytes:
    """Its line, without the break."""
    return _encoded((row.id, row.hour, row.key, row.team, row.model, *row.sums))


def decoded(line: bytes) -> Row | None:
    """The row of a line; None for one that can't be read."""
    try:
        id_, hour, key, team, model, *sums = _decoded(line)
    except DAMAGED:
        return None
    good = id_ > 0 and 0 < hour < 1 << 23 and min(sums) >= 0 and key and model
    return Row(id_, hour, key, model, Sums(*sums), team) if good else None
