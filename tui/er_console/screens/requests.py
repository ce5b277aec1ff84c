"""Rows of the Traffic page: requests with the split of their time; models, keys, dialects. Pure."""

from __future__ import annotations

from er_console.language import noted, say
from er_console.looks import Line, Looks, clock, figure, fit, share, wrapped
from er_console.state import Ended, Recent, Sums
from er_console.tables import WIDE, Column, Row, column_widths, table_line

# What the table can show, in the order of the key.
VIEWS = (
    ("slowest", noted("slowest")),
    ("failed", noted("failed")),
    ("models", noted("by model")),
    ("keys", noted("by key")),
    ("dialects", noted("by dialect")),
)
REQUESTS = ("slowest", "failed")
# The parts of a request's time: field, name, sign, sign in ASCII.
PARTS = (
    ("queue_ms", noted("queue"), "░", "q"),
    ("tokenise_ms", noted("tokenise"), "▒", "t"),
    ("engine_ms", noted("engine"), "█", "e"),
    ("encode_ms", noted("encode"), "▓", "n"),
    ("rest_ms", noted("rest"), "·", "."),
)
DETAIL_CELLS = 40
NAME_CELLS = 12
SLOW_COLUMNS = (
    Column(noted("time"), 8, 8),
    Column(noted("total ms"), 8, 8, right=True),
    Column(noted("split"), 8, 24),
    Column(noted("queue"), 5, 6, right=True),
    Column(noted("tokenise"), 8, 8, right=True, from_width=76),
    Column(noted("engine"), 6, 6, right=True),
    Column(noted("encode"), 6, 6, right=True, from_width=76),
    Column(noted("rest"), 5, 6, right=True, from_width=76),
    Column(noted("key"), 8, 20),
    Column(noted("texts"), 5, 6, right=True, from_width=76),
    Column(noted("tokens"), 6, 6, right=True, from_width=100),
    Column(noted("status"), 6, 6, right=True, from_width=118),
    Column(noted("dialect"), 8, 10, from_width=150),
    Column(noted("model"), 12, 28, from_width=110),
    Column(noted("request id"), 12, 400, from_width=134),
)
FAILED_COLUMNS = (
    Column(noted("time"), 8, 8),
    Column(noted("status"), 6, 6, right=True),
    Column(noted("code"), 19, 24),
    Column(noted("total ms"), 8, 8, right=True),
    Column(noted("key"), 8, 20),
    Column(noted("model"), 12, 28),
    Column(noted("client"), 9, 24, from_width=100),
    Column(noted("dialect"), 8, 10, from_width=150),
    Column(noted("path"), 14, 40, from_width=110),
    Column(noted("request id"), 12, 400, from_width=130),
)
SUM_COLUMNS = (
    Column(noted("name"), 14, 400),
    Column(noted("req/s"), 7, 7, right=True),
    Column(noted("seq/s"), 7, 7, right=True),
    Column(noted("tok/s"), 7, 7, right=True),
    Column(noted("success"), 7, 7, right=True),
    Column(noted("p50 ms"), 8, 8, right=True, from_width=88),
    Column(noted("p95 ms"), 8, 8, right=True),
    Column(noted("p99 ms"), 8, 8, right=True),
    Column(noted("refused"), 7, 7, right=True),
    Column(noted("failed"), 6, 6, right=True, from_width=100),
)


def columns_of(view: str) -> tuple[Column, ...]:
    """The columns of one of VIEWS."""
    if view in REQUESTS:
        return SLOW_COLUMNS if view == "slowest" else FAILED_COLUMNS
    return SUM_COLUMNS


def bar_cells(width: int) -> int:
    """Cells of the bar in a table that wide: never cut, as half a bar would be another one."""
    return 8 if width < 140 else 16 if width < 180 else 24


def rows_of(view: str, recent: Recent | None, looks: Looks, width: int) -> list[Row]:
    """The rows of one of VIEWS, in a table that wide."""
    if recent is None:
        return []
    if view == "slowest":
        return [_slow_row(one, looks, bar_cells(width)) for one in recent.slowest]
    if view == "failed":
        return [_failed_row(one, looks) for one in recent.failed]
    return [_sum_row(view, one, looks) for one in recent.sums.get(view, ())]


def key_of(one: Ended) -> str:
    """What tells a request from others: its client may have given the same id to several."""
    return f"{one.id} {one.time or 0:.3f}"


def request_at(key: str, recent: Recent | None) -> Ended | None:
    """The request of a row."""
    if recent is None:
        return None
    return next((one for one in (*recent.slowest, *recent.failed) if key_of(one) == key), None)


def sums_at(view: str, key: str, recent: Recent | None) -> Sums | None:
    """The sums of a row."""
    rows = recent.sums.get(view, ()) if recent is not None else ()
    return next((one for one in rows if _sum_key(one) == key), None)


def milliseconds(value: float | None) -> str:
    """At most five signs: 0.04, 3.1, 310, 1402, 14.0s, 310s."""
    if value is None:
        return "-"
    if value < 0.095:
        return f"{value:.2f}"
    if value < 9.95:
        return f"{value:.1f}"
    if value < 9999.5:
        return f"{value:.0f}"
    return f"{value / 1000:.1f}s" if value < 99_950 else f"{value / 1000:.0f}s"


def split_bar(one: Ended, looks: Looks, width: int) -> str:
    """Where the time went, as `width` cells of the parts' signs; unknown is a row of dots."""
    parts = [getattr(one, field) or 0.0 for field, *_ in PARTS]
    whole = sum(parts)
    if whole <= 0:
        return looks.bar(None, width)
    signs = [part[3] if looks.ascii_only else part[2] for part in PARTS]
    said, before, at = "", 0.0, 0
    for sign, part in zip(signs, parts, strict=True):
        before += part
        end = round(width * before / whole)
        said, at = said + sign * (end - at), end
    return said


def _who(one: Ended, looks: Looks) -> str:
    return looks.words(one.key_name or one.key) or "-"


def _slow_row(one: Ended, looks: Looks, cells: int) -> Row:
    failed = (one.status or 0) >= 400
    said = (
        (clock(one.time), "dim"),
        (milliseconds(one.total_ms), "strong"),
        (split_bar(one, looks, cells), "plot"),
        *((milliseconds(getattr(one, field)), "") for field, *_ in PARTS),
        (_who(one, looks), ""),
        (figure(one.items), ""),
        (figure(one.tokens), ""),
        (str(one.status or "-"), "bad" if failed else ""),
        (one.dialect or "-", "dim"),
        (looks.words(one.model) or "-", ""),
        (looks.words(one.id), "dim"),
    )
    return Row(key_of(one), said)


def _failed_row(one: Ended, looks: Looks) -> Row:
    cells = (
        (clock(one.time), "dim"),
        (str(one.status or "-"), "bad"),
        (looks.words(one.code) or "-", "bad" if (one.status or 0) >= 500 else "warn"),
        (milliseconds(one.total_ms), ""),
        (_who(one, looks), ""),
        (looks.words(one.model) or "-", ""),
        (looks.words(one.client) or "-", "dim"),
        (one.dialect or "-", "dim"),
        (looks.words(one.path) or "-", "dim"),
        (looks.words(one.id), "dim"),
    )
    return Row(key_of(one), cells)


def _sum_key(one: Sums) -> str:
    return "others" if one.name is None else f"={one.name}"


def called(view: str, one: Sums) -> str:
    """What a row is called: others, nobody known, a key by name and id."""
    if one.name is None:
        return say("others")
    if view == "keys":
        if not one.name:
            return say("no key")
        return f"{one.title}  {one.name}" if one.title and one.title != one.name else one.name
    return say("none known") if one.name in ("", "-") else one.name


def _sum_row(view: str, one: Sums, looks: Looks) -> Row:
    low = one.success_rate is not None and one.success_rate < 0.99
    cells = (
        (looks.words(called(view, one)), "strong" if one.name not in (None, "", "-") else "dim"),
        (figure(one.requests_per_s), ""),
        (figure(one.sequences_per_s), ""),
        (figure(one.tokens_per_s), ""),
        (share(one.success_rate), "bad" if low else ""),
        *((milliseconds(value), "") for value in (one.p50_ms, one.p95_ms, one.p99_ms)),
        (figure(one.refused), "warn" if one.refused else "dim"),
        (figure(one.failed), "bad" if one.failed else "dim"),
    )
    return Row(_sum_key(one), cells)


def still(view: str, recent: Recent | None, looks: Looks, width: int, rows: int) -> list[Line]:
    """A view in `rows` lines at most, without a cursor: for the place beside the table."""
    found = rows_of(view, recent, looks, width)[: max(0, rows - 2)]
    columns, more = columns_of(view), "~" if looks.ascii_only else "…"
    gap = 2 if width >= WIDE else 1
    lines: list[Line] = [[(say(dict(VIEWS)[view]), "accent")]]
    if not found:
        return [*lines, [(f"  {none_of(view)}", "dim")]][:rows]
    widths = column_widths(columns, found, width - 2, gap)
    head = Row("", tuple((say(column.title), "dim") for column in columns))
    for row in (head, *found):
        lines.append([("  ", ""), *table_line(columns, widths, row, more, gap)])
    return lines[:rows]


def none_of(view: str) -> str:
    """What an empty table says."""
    if view == "failed":
        return say("none failed or was refused")
    return say("no request in this time")


def detail_lines(one: Ended, looks: Looks, width: int) -> list[Line]:
    """All that is known of a request, and where its time went."""
    words = looks.words
    status = f"{one.status or '-'} {one.code}".strip()
    key = f"{one.key_name}  {one.key}" if one.key_name != one.key else one.key
    items, tokens = figure(one.items), figure(one.tokens)
    facts = [
        (say("request id"), one.id),
        (say("time"), clock(one.time)),
        (say("status"), status),
        (say("key"), key.strip() or say("no key")),
        (say("client"), one.client),
        (say("model"), one.model),
        (say("dialect"), one.dialect),
        (say("path"), one.path),
        (say("replica"), one.replica),
        (say("texts"), say("{texts}, {tokens} tokens", texts=items, tokens=tokens)),
    ]
    lines: list[Line] = []
    for name, said in facts:
        for i, row in enumerate(wrapped(words(said), max(20, width - NAME_CELLS)) if said else []):
            lines.append([(fit(name if i == 0 else "", NAME_CELLS), "dim"), (row, "")])
    cells = max(8, min(DETAIL_CELLS, width - NAME_CELLS - 10))
    total = f"{milliseconds(one.total_ms):>6}"
    lines.append([(fit(say("total ms"), NAME_CELLS), "dim"), (total, "strong")])
    whole = one.total_ms or 0.0
    for field, name, sign, plain in PARTS:
        part = getattr(one, field)
        long = round(cells * (part or 0.0) / whole) if whole > 0 else 0
        bar = (plain if looks.ascii_only else sign) * long
        title = fit(say(name), NAME_CELLS)
        lines.append([(title, "dim"), (f"{milliseconds(part):>6}  ", ""), (bar, "plot")])
    rest = say("rest: reading the request, waiting for the event loop, what a failed call took")
    lines += [[(row, "dim")] for row in wrapped(words(rest), width)]
    return lines
