"""`er report`: a page for the owner of the machine, from what is on disk, gateway or not."""

from __future__ import annotations

import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from er import __version__, config, durable, usage
from er.capacity import result
from er.capacity.words import Language
from er.chinese import heard, wanted
from er.cli import asked
from er.cli.admin_client import NoAdmin, call
from er.cli.screen import clean
from er.history import shelf
from er.report import html, markdown
from er.report.facts import Facts, summary
from er.report.words import Words
from er.usage import HOUR_S
from er.usage.report import Asked, answer

LONGEST_DAYS = 500
ABSENT = (404, 405)


class Wish(msgspec.Struct, kw_only=True):
    """What the command line asked for. None = not said."""

    since: str = "7d"
    until: str | None = None
    html: Path | None = None  # the file; "-": standard output
    markdown: bool = False
    lang: Language | None = None


def run(wish: Wish) -> int:
    """Print or write it. Returns the exit status: 0 done, 1 not done and said why, 64 wrong use."""
    state = config.directory("state")
    if why := asked.closed("report", (state, usage.folder(state), state / shelf.FOLDER)):
        return _fail(why, 1)
    now = datetime.now(UTC)
    try:
        since, until = _span(wish, now)
    except ValueError as error:
        return _fail(str(error), 64)
    try:
        facts = gathered(state, since, until, now.timestamp())
    except OSError as error:
        return _fail(f"{error.filename or state}: {error.strerror}", 1)
    words = Words(wanted(os.environ, wish.lang))
    if wish.html is None:
        unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
        print(markdown.page(summary(facts), words, unicode=unicode), end="")
        return 0
    text = html.page(summary(facts), words)
    if str(wish.html) == "-":
        print(text, end="")
        return 0
    try:
        durable.put(wish.html, text.encode(), 0o640)  # names of keys are in it
    except OSError as error:
        return _fail(f"{wish.html}: {error.strerror}", 1)
    print(heard(f"{wish.html} is written"))
    return 0


def _fail(text: str, code: int) -> int:
    print(f"er report: {clean(text)}", file=sys.stderr)
    return code


def _span(wish: Wish, now: datetime) -> tuple[int, int]:
    """(the first hour, the one after the last). Raises ValueError."""
    since, until = asked.span(wish.since, wish.until, now, now)
    if (until - since).days > LONGEST_DAYS:
        raise ValueError(f"--since {wish.since}: at most {LONGEST_DAYS} days; 400 are kept")
    return int(since.timestamp() // HOUR_S), int(-(-until.timestamp() // HOUR_S))


def gathered(state: Path, since: int, until: int, now: float) -> Facts:
    """All that a report of these hours is made from. Raises OSError."""
    wanted = Asked(
        ("hour", "key", "team", "model"),
        float(since * HOUR_S),
        float(until * HOUR_S),
    )
    found = answer(usage.folder(state), wanted, asked.known("report"))
    hours, wrong = shelf.hours(state, since, until)
    damaged = [*found["damaged"], *([f"{state / shelf.FOLDER}: {wrong}"] if wrong else [])]
    measured, unmeasured = None, ""
    try:
        measured = result.read(state)
    except (OSError, ValueError) as error:
        unmeasured = clean(error)
    quality, unasked = _asked("/quality")
    feedback = None if unasked else _asked("/feedback")[0]
    return Facts(
        host=platform.node() or "localhost",
        version=__version__,
        made=now,
        since=since,
        until=until,
        used=found["rows"],
        hours=hours,
        quality=quality,
        feedback=feedback,
        unasked=unasked,
        capacity=measured,
        unmeasured=unmeasured,
        damaged=damaged,
    )


def _asked(path: str) -> tuple[dict[str, Any] | None, str]:
    """(the gateway's answer, or None where it has no such page; why it could not be asked)."""
    try:
        status, found = call("GET", path)
    except NoAdmin as error:
        return None, str(error)
    if status in ABSENT:
        return None, ""
    if status != 200:
        return None, f"it answered {status}"
    return found, ""
