"""Usage for people and bills: the sums by key, team, model, hour, day or month (UTC)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from er.usage import HOUR_S, NOBODY, Row, Sums
from er.usage.book import Book, Damage, Month
from er.usage.hours import read

BY = ("key", "team", "model", "hour", "day", "month")
SPANS = {"hour": "%Y-%m-%dT%H:00Z", "day": "%Y-%m-%d", "month": "%Y-%m"}


class Key(NamedTuple):
    """What the key file knows of one."""

    name: str
    team: str  # "": none


class Asked(NamedTuple):
    """What is to be summed up. Times in Unix seconds, to whole hours; `until` is not in it."""

    by: Sequence[str]  # of BY
    since: float
    until: float
    keys: frozenset[str] = frozenset()  # ids; empty: all
    models: frozenset[str] = frozenset()


def by_of(text: str) -> tuple[str, ...]:
    """Such as "key,model" as names of BY. Raises ValueError with what there is."""
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name not in BY:
            raise ValueError(f"--by {name!r}: sums are by {', '.join(BY)}, with commas between")
    return names


def answer(
    folder: Path, asked: Asked, keys: Mapping[str, Key], others: Sequence[Row] = ()
) -> dict[str, Any]:
    """The sums, in the order of `by`, and all together; `damaged` names what can't be read.

    `others`: rows that other hosts told, among which may be this one's. Raises OSError.
    """
    first, last = math.floor(asked.since / HOUR_S), math.ceil(asked.until / HOUR_S)
    found: dict[tuple[str, ...], Sums] = {}
    total, damaged = Sums(), []
    for rows, damage in _months(folder, first, last, others):
        if damage.lines:
            damaged.append(f"{damage.path}: {damage.lines}")
        for row in rows:
            if not first <= row.hour < last or (asked.keys and row.key not in asked.keys):
                continue
            if asked.models and row.model not in asked.models:
                continue
            name = tuple(_value(one, row, keys) for one in asked.by)
            found[name] = found.get(name, Sums()).plus(row.sums)
            total = total.plus(row.sums)
    return {
        "since": _moment(first),
        "until": _moment(last),
        "by": list(asked.by),
        "rows": [
            _shown(dict(zip(asked.by, name, strict=True)), keys) | found[name]._asdict()
            for name in sorted(found)
        ],
        "total": total._asdict(),
        "damaged": damaged,
    }


def requests(
    folder: Path, since: float, until: float, others: Sequence[Row] = ()
) -> dict[tuple[str, str], int]:
    """Answered requests between two moments (Unix seconds, to the hour) by key and model, of those
    that had one. Raises OSError.
    """
    rows = answer(folder, Asked(("key", "model"), since, until), {}, others)["rows"]
    return {(r["key"], r["model"]): r["requests"] for r in rows if r["model"] != NOBODY}


def _months(
    folder: Path, first: int, last: int, others: Sequence[Row]
) -> Iterator[tuple[list[Row], Damage]]:
    """The rows of each month that has some of these hours."""
    # The table first: what goes from it into the book meanwhile is then found twice, not never.
    try:
        under_way = read(folder)
    except ValueError:
        yield [], Damage(folder / "hours", 1)
        under_way = []
    under_way = [*others, *under_way]
    book = Book(folder)
    months = {*book.months(), *(Month.of(row.hour) for row in under_way)}
    for month in sorted(months):
        if month.begins < last and first < month.ends:
            yield book.read(month, under_way)


def _value(by: str, row: Row, keys: Mapping[str, Key]) -> str:
    if by in SPANS:
        return datetime.fromtimestamp(row.hour * HOUR_S, UTC).strftime(SPANS[by])
    if by == "key":
        return row.key
    if by == "model":
        return row.model
    if row.team is not None:
        return row.team
    known = keys.get(row.key)
    return known.team if known else ""


def _shown(named: dict[str, str], keys: Mapping[str, Key]) -> dict[str, str]:
    """With the key's name behind its id; "" for one that is not in the key file."""
    found: dict[str, str] = {}
    for by, value in named.items():
        found[by] = value
        if by == "key":
            found["name"] = keys[value].name if value in keys else ""
    return found


def _moment(hour: int) -> str:
    return datetime.fromtimestamp(hour * HOUR_S, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
