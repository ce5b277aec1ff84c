"""`er state move`: an installation's keys, usage and feedback into what hosts share, and back.

Nothing is taken away where it was, each step is read back and compared, and all of it may be said
again: what is there already is passed over. So a move that broke off goes on by the same command.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from er import config, days, feedback, keys, shared_state, usage
from er.config import ConfigError, State
from er.config.state import address, host_name
from er.feedback import Given
from er.feedback.book import Book as FeedbackBook
from er.feedback.book import Full, decoded
from er.keys import KeysError
from er.keys.shared import Shared
from er.shared_state import Away
from er.usage import Row, others
from er.usage.book import Book, Month
from er.usage.hours import Hours
from er.usage.hours import read as under_way

KEPT_DAYS = 400


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line asked for."""

    action: str
    back: bool = False
    dry_run: bool = False


class Trouble(Exception):  # noqa: N818 - it is an answer
    """What could not be done; the text says why and what to do."""


def run(wish: Wish) -> int:
    """Returns the exit status: 0 done, 1 not done and said why."""
    try:
        settings, state = _settings()
        steps = _back(settings, state) if wish.back else _there(settings, state)
        if wish.dry_run:
            steps = _shown(state, back=wish.back)
        for line in steps:
            print(line, flush=True)
    except Away as error:
        return _fail(f"{error}; what was moved so far stays, the same command goes on")
    except (Trouble, KeysError, Full) as error:
        return _fail(str(error) or "feedback has as many bytes as it may: er help feedback")
    except OSError as error:
        return _fail(f"{error.filename or config.directory('state')}: {error.strerror}")
    return 0


def _fail(text: str) -> int:
    print(f"er state move: {text}", file=sys.stderr)
    return 1


def _settings() -> tuple[config.Config, State]:
    """er.toml as it is edited, which may not be applied yet; on the way back what is in force."""
    for path in (config.edited_path(), config.active_path()):
        try:
            found = config.load(path)
        except ConfigError as error:
            raise Trouble(f"er.toml can't be used: {error}") from None
        if found.state is not None:
            return found, found.state
    raise Trouble(f"{config.edited_path()} has no [state]: write that table first; er help hosts")


def _shown(state: State, *, back: bool) -> Iterator[str]:
    """What would be moved, of what is where."""
    folder, (first, last) = config.directory("state"), _span()
    here, there = _by_kind(days.lines_of(folder, first, last)), _told(state, first, last)
    known = {r.id for r in keys.read(keys.path())}
    yield f"{len(known)} keys are known here"
    for kind, name in (("usage", "rows of usage"), ("feedback", "feedbacks")):
        mine, theirs = len(here[kind]), len(there[kind])
        yield f"{name}: {mine} here, {theirs} in the shared state, of all hosts"
    if back:
        yield "nothing was moved; without --dry-run this host's files get what they lack"
    else:
        place = address(state.url)
        yield f"nothing was moved; without --dry-run the shared state ({place}) gets what it lacks"


# -- over ----------------------------------------------------------------------------------------


def _there(settings: config.Config, state: State) -> Iterator[str]:
    before = {record.id for record in keys.read(keys.path())}
    came, total = Shared(settings, keys.path()).take_in()
    after = {record.id for record in keys.read(keys.path())}
    if before - after:
        raise Trouble(f"keys are missing in the shared state: {', '.join(sorted(before - after))}")
    yield f"keys: {came} came in, {total} are there"
    (first, last), folder = _span(), config.directory("state")
    found = days.lines_of(folder, first, last)
    asyncio.run(_put(state, host_name(settings.host), found))
    told, mine = _told(state, first, last), _by_kind(found)
    for kind, name in (("usage", "rows of usage"), ("feedback", "feedbacks")):
        if missing := mine[kind] - told[kind]:
            raise Trouble(f"{len(missing)} {name} are missing in the shared state; say it again")
        yield f"{name}: {len(mine[kind])} of this host are there"
    yield "batches and the cache of vectors stay with the host that has them; now: sudo er apply"


async def _put(state: State, host: str, found: dict[tuple[days.Kind, int], list[bytes]]) -> None:
    client = shared_state.connect(state)
    try:
        for (kind, day), lines in found.items():
            await days.put(client, state, host, kind, day, days.packed(lines))
    finally:
        await client.aclose()


# -- and back ------------------------------------------------------------------------------------


def _back(settings: config.Config, state: State) -> Iterator[str]:
    shared = Shared(settings, keys.path())
    news = shared.follow()
    if news.standing != "ok":
        raise Trouble(news.text or "the keys in the shared state can't be read")
    yield f"keys: {len(keys.read(keys.path()))} are in {keys.path()}"
    (first, last), folder = _span(), config.directory("state")
    usages, wrong = days.read(state, "usage", first, last)
    rows = _usage_back(usage.folder(folder), others.rows(usages))
    yield f"rows of usage: {rows} of other hosts were written down here"
    given, damaged = days.read(state, "feedback", first, last)
    yield f"feedbacks: {_feedback_back(folder, given)} of other hosts were written down here"
    if missing := wrong + damaged:
        raise Trouble(f"entries that can't be read were left out: {', '.join(missing)}")
    yield "now take [state] and [host] out of er.toml, then: sudo er apply"


def _usage_back(folder: Path, told: list[Row]) -> int:
    """Write down what the book lacks. Raises Trouble, OSError."""
    hours = Hours.open(folder)
    try:
        with hours.writer() as mine:
            if not mine:
                raise Trouble("usage is being written down at this moment; say it again")
            book, own = Book(folder), {row.id for row in under_way(folder)}
            known: dict[int, Row] = {}
            for month in book.months():
                known |= {row.id: row for row in book.read(month)[0]}
            more: dict[int, Row] = {}
            for row in told:
                there = more.get(row.id, known.get(row.id, row))
                sums = row.sums.larger(there.sums)
                if row.id not in own and (row.id not in known or sums != there.sums):
                    more[row.id] = row._replace(sums=sums)
            book.write(list(more.values()), {})
            lacks = set(more) - {
                row.id
                for month in {Month.of(row.hour) for row in more.values()}
                for row in book.read(month)[0]
            }
            if lacks:
                raise Trouble(f"{len(lacks)} rows of usage were not written; say it again")
            return len(more)
    finally:
        hours.close()


def _feedback_back(folder: Path, lines: list[bytes]) -> int:
    """Write down what the book lacks. Raises Full, OSError."""
    book = FeedbackBook(feedback.folder(folder))
    with book.locked():
        known = {(one.key, one.id, one.asked): one for one in book.read(0.0).given}
        more: dict[tuple[str, str, int], Given] = {}
        for one in book.read(0.0, lines).given:
            name = (one.key, one.id, one.asked)
            if name not in known:
                more[name] = one
        book.append(list(more.values()))
    return len(more)


# -- what both compare ---------------------------------------------------------------------------


def _span() -> tuple[int, int]:
    last = int(time.time() // days.DAY_S)
    return last - KEPT_DAYS, last


def _by_kind(lines: dict[tuple[days.Kind, int], list[bytes]]) -> dict[str, set[object]]:
    """What names each row of usage and each feedback of this host."""
    found: dict[str, set[object]] = {"usage": set(), "feedback": set()}
    for (kind, _), some in lines.items():
        found[kind] |= _names(kind, some)
    return found


def _told(state: State, first: int, last: int) -> dict[str, set[object]]:
    kinds: tuple[days.Kind, ...] = ("usage", "feedback")
    return {kind: _names(kind, days.read(state, kind, first, last)[0]) for kind in kinds}


def _names(kind: str, lines: list[bytes]) -> set[object]:
    if kind == "usage":
        return {row.id for row in others.rows(lines)}
    given = filter(None, map(decoded, lines))
    return {(one.key, one.id, one.asked) for one in given}
