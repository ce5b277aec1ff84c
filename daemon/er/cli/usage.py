"""`er usage`: what was asked for by key, team, model and time, out of the files; for bills."""

from __future__ import annotations

import csv
import sys
from datetime import UTC, datetime
from typing import Any

import msgspec
import orjson

from er import config
from er.chinese import heard
from er.cli import asked, other_hosts
from er.cli.screen import clean, table
from er.usage import Sums, folder, others
from er.usage.report import Asked, answer, by_of

FIGURES = Sums._fields


class Wish(msgspec.Struct, kw_only=True):
    """What the command line asked for. None = not said."""

    by: str = "key"
    since: str | None = None
    until: str | None = None
    key: list[str] | None = None  # ids or names
    model: list[str] | None = None
    csv: bool = False
    as_json: bool = False


def run(wish: Wish) -> int:
    """Print it. Returns the exit status: 0 done, 1 not done and said why, 64 wrong use."""
    state = config.directory("state")
    where = folder(state)
    if why := asked.closed("usage", (state, where)):
        return _fail(why, 1)
    try:
        known, wanted = asked.known("usage"), _asked(wish, datetime.now(UTC))
        wanted = wanted._replace(keys=asked.ids(wish.key or (), known))
        told, whole = other_hosts.lines("usage", "usage", wanted.since, wanted.until)
        found = answer(where, wanted, known, others.rows(told))
    except ValueError as error:
        return _fail(str(error), 64)
    except OSError as error:
        return _fail(f"{error.filename or where}: {error.strerror}", 1)
    for told in found["damaged"]:
        print(f"er usage: lines that can't be read are left out: {told}", file=sys.stderr)
    if wish.as_json:
        print(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode())
    elif wish.csv:
        _csv(found)
    else:
        print("\n".join(_lines(found)))
    return 1 if found["damaged"] or not whole else 0


def _fail(text: str, code: int) -> int:
    print(f"er usage: {text}", file=sys.stderr)
    return code


def _asked(wish: Wish, now: datetime) -> Asked:
    """Raises ValueError."""
    month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    since, until = asked.span(wish.since, wish.until, month, now)
    models = frozenset(wish.model or ())
    return Asked(by_of(wish.by), since.timestamp(), until.timestamp(), models=models)


def _csv(found: dict[str, Any]) -> None:
    out = csv.writer(sys.stdout, lineterminator="\n")
    columns = _columns(found)
    out.writerow(columns)
    out.writerows([row[column] for column in columns] for row in found["rows"])


def _columns(found: dict[str, Any]) -> list[str]:
    named = [name for by in found["by"] for name in ((by, "name") if by == "key" else (by,))]
    return [*named, *FIGURES]


def _lines(found: dict[str, Any]) -> list[str]:
    columns = _columns(found)
    names = columns[: -len(FIGURES)]
    rows = [[clean(row[name]) or "-" for name in names] for row in found["rows"]]
    figures = [[f"{row[f]:,}" for f in FIGURES] for row in (*found["rows"], found["total"])]
    wide = [max(len(f), *(len(row[i]) for row in figures)) for i, f in enumerate(FIGURES)]
    heads = [f.upper().rjust(wide[i]) for i, f in enumerate(FIGURES)]
    right = [[text.rjust(wide[i]) for i, text in enumerate(row)] for row in figures]
    total = [heard("TOTAL"), *[""] * (len(names) - 1)]
    every = [[*(name.upper() for name in names), *heads]]
    every += [[*row, *numbers] for row, numbers in zip([*rows, total], right, strict=True)]
    return [f"{found['since']} to {found['until']}", "", *table(every)]
