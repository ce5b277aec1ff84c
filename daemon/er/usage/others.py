"""Usage as lines of a host's day, and such lines of all hosts as rows again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from er.usage import Row
from er.usage.book import Book, Month, decoded, encoded
from er.usage.hours import read

DAY_HOURS = 24


def by_day(folder: Path, first: int, last: int) -> dict[int, list[bytes]]:
    """This host's lines of the days `first` to `last` (since 1970, both included), by day, in an
    order that does not change. Raises OSError.
    """
    try:
        under_way = read(folder)
    except ValueError:  # damaged: who writes it sets it aside
        under_way = []
    book, begins, ends = Book(folder), first * DAY_HOURS, (last + 1) * DAY_HOURS
    found: dict[int, list[Row]] = defaultdict(list)
    months = {*book.months(), *(Month.of(row.hour) for row in under_way)}
    for month in sorted(month for month in months if month.begins < ends and begins < month.ends):
        for row in book.read(month, under_way)[0]:
            if begins <= row.hour < ends:
                found[row.hour // DAY_HOURS].append(row)
    return {day: [encoded(row) for row in sorted(rows)] for day, rows in found.items()}


def rows(lines: Iterable[bytes]) -> list[Row]:
    """The rows of these lines; what can't be read is left out."""
    return [row for row in map(decoded, lines) if row is not None]
