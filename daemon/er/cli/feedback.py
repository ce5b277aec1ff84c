"""`er feedback`: what clients said of their answers, by model and key, out of the files."""

from __future__ import annotations

import csv
import math
import sys
import time
from datetime import UTC, datetime
from typing import Any

import msgspec
import orjson

from er import config, usage
from er.cli import asked, other_hosts
from er.cli.screen import Name, clean, table
from er.feedback import Given, folder
from er.feedback.book import Book
from er.feedback.report import answer
from er.moments import past
from er.usage import HOUR_S, others, report

FIGURES = ("requests", "feedbacks", "clicks", "ratings", "good", "bad")
RATES = ("click_rate", "satisfaction", "mean_rating", "mrr")
SHOWN = 10  # of the newest


class Wish(msgspec.Struct, kw_only=True):
    """What the command line asked for. None = not said."""

    since: str = "7d"
    key: list[str] | None = None  # ids or names
    model: list[str] | None = None
    csv: bool = False
    as_json: bool = False


def run(wish: Wish) -> int:
    """Print it. Returns the exit status: 0 done, 1 not done and said why, 64 wrong use."""
    state = config.directory("state")
    if why := asked.closed("feedback", (state, folder(state))):
        return _fail(why, 1)
    try:
        since = past(wish.since, datetime.now(UTC)).timestamp()
    except ValueError as error:
        return _fail(f"--since: {error}", 64)
    since = math.floor(since / HOUR_S) * HOUR_S
    known = asked.known("feedback")
    names = {key_id: key.name for key_id, key in known.items()}
    wanted = asked.ids(wish.key or (), known)

    def fits(key: str, model: str) -> bool:
        return (not wish.key or key in wanted) and (not wish.model or model in wish.model)

    try:
        now = time.time()
        theirs, whole = other_hosts.lines("feedback", "feedback", since, now)
        used, more = other_hosts.lines("feedback", "usage", since, now) if whole else ([], False)
        read = Book(folder(state)).read(since, theirs)
        requests = report.requests(usage.folder(state), since, now + HOUR_S, others.rows(used))
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}", 1)
    counts = {name: count for name, count in requests.items() if fits(*name)}
    given = [one for one in read.given if fits(one.key, one.model)]
    found = answer(since, given, counts, names)
    for told in read.damaged:
        print(f"er feedback: lines that can't be read are left out: {told}", file=sys.stderr)
    if wish.as_json:
        print(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode())
    elif wish.csv:
        _csv(given, names)
    else:
        print("\n".join(_lines(found)))
    return 1 if read.damaged or not (whole and more) else 0


def _fail(text: str, code: int) -> int:
    print(f"er feedback: {text}", file=sys.stderr)
    return code


def _csv(given: list[Given], names: dict[str, str]) -> None:
    """A line for each feedback, so that others can sum up as they like."""
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(("at", "answered", *_COLUMNS, "name"))
    for one in given:
        values = [getattr(one, column) for column in _COLUMNS]
        out.writerow((_moment(one.at), _moment(one.asked), *values, names.get(one.key, "")))


_COLUMNS = ("id", "key", "model", "documents", "document", "rank", "rating", "comment")


def _lines(found: dict[str, Any]) -> list[str]:
    if not found["total"]:
        return [f"no feedback to requests since {_moment(found['since'])}; er help feedback"]
    lines = [f"{found['total']} feedbacks to requests since {_moment(found['since'])}", ""]
    for kind, name in (("models", "model"), ("keys", "key")):
        rows = [[name.upper(), *(f.upper() for f in (*FIGURES, *RATES))]]
        for row in found[kind]:
            title = row[name] if name == "model" else f"{row['key']} {row['name']}".strip()
            rates = ["-" if row[r] is None else f"{row[r]:.3f}" for r in RATES]
            rows.append([clean(title), *(f"{row[f]:,}" for f in FIGURES), *rates])
        lines += [*table(rows), ""]
    lines.append("newest:")
    newest = [
        [
            _moment(one["at"]),
            one["request_id"],
            Name(one["model"]),
            f"click, rank {one['rank'] or '?'}" if one["kind"] == "click" else "rating",
            "" if one["rating"] is None else f"{one['rating']:g}",
            Name(clean(one["comment"])[:60]),
        ]
        for one in found["recent"][:SHOWN]
    ]
    return [*lines, *table(newest, "  ")]


def _moment(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
