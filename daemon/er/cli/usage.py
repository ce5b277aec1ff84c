"""`er usage`: what was asked for by key, team, model and time, out of the files; for bills."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import orjson

from er import config, keys
from er.cli.screen import clean, table
from er.keys import KeysError
from er.moments import past
from er.usage import Sums, folder
from er.usage.report import Asked, Key, answer, by_of

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
    for path in (state, where):
        if not os.access(path, os.R_OK | os.X_OK) and os.path.lexists(path):
            return _fail(f"this reads {path}, which needs root or group er: sudo er usage …", 1)
    try:
        known, asked = _known(), _asked(wish, datetime.now(UTC))
        asked = asked._replace(keys=_keys(wish.key or (), known))
        found = answer(where, asked, known)
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
    return 1 if found["damaged"] else 0


def _fail(text: str, code: int) -> int:
    print(f"er usage: {text}", file=sys.stderr)
    return code


def _known() -> dict[str, Key]:
    """The key file's keys; without it ids stand for themselves."""
    try:
        listed = keys.list_keys(keys.path())
    except (KeysError, OSError) as error:
        print(f"er usage: names and teams of keys are not known: {error}", file=sys.stderr)
        return {}
    return {key["id"]: Key(key["name"], key.get("team") or "") for key in listed}


def _asked(wish: Wish, now: datetime) -> Asked:
    """Raises ValueError."""
    month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    moments = []
    for name, text, default in (("since", wish.since, month), ("until", wish.until, now)):
        try:
            moments.append(default if text is None else past(text, now))
        except ValueError as error:
            raise ValueError(f"--{name}: {error}") from None
    since, until = moments
    if since >= until:
        raise ValueError(
            f"--since {since:%Y-%m-%d %H:%M} is not before --until {until:%Y-%m-%d %H:%M}"
        )
    models = frozenset(wish.model or ())
    return Asked(by_of(wish.by), since.timestamp(), until.timestamp(), models=models)


def _keys(refs: Sequence[str], known: dict[str, Key]) -> frozenset[str]:
    """The ids of what is an id, known or not (its key may be gone), or else a name."""
    found: set[str] = set()
    for ref in refs:
        named = [key_id for key_id, key in known.items() if key.name == ref]
        found |= {ref} if ref in known or not named else set(named)
    return frozenset(found)


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
    total = ["TOTAL", *[""] * (len(names) - 1)]
    every = [[*(name.upper() for name in names), *heads]]
    every += [[*row, *numbers] for row, numbers in zip([*rows, total], right, strict=True)]
    return [f"{found['since']} to {found['until']}", "", *table(every)]
