"""Draw a recorded past: plots on one axis of time; the unknown is not drawn as nothing. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from er_console.language import noted, say
from er_console.looks import Line, Looks, clock, figure, fit, line_width, width_of
from er_console.state import Past

# What can be asked for: seconds, title, seconds between two looks.
SPANS = (
    (300, noted("5 minutes"), 5.0),
    (3600, noted("1 hour"), 15.0),
    (86400, noted("24 hours"), 60.0),
)
# Most wanted first: title, series. Of replicas the lowest counts, of all else the highest.
PLOTS: tuple[tuple[str, str], ...] = (
    (noted("requests/s"), "requests_per_s"),
    (noted("p95 ms"), "p95_ms"),
    (noted("refused/s"), "refused_per_s"),
    (noted("replicas answering"), "replicas_up"),
    (noted("sequences/s"), "sequences_per_s"),
    (noted("queue"), "queued"),
)
# Of one model, key or dialect, as far as its past is kept.
PART_PLOTS = tuple(p for p in PLOTS if p[1] not in ("replicas_up", "queued"))
LOWEST = ("replicas_up",)
FEWEST = 3
ROWS_EACH = 5  # a head and four rows, before another plot is added


def past_plots(
    past: Past,
    looks: Looks,
    width: int,
    rows: int,
    now: float,
    plots: Sequence[tuple[str, str]] = PLOTS,
) -> list[Line]:
    """As many plots as `rows` hold, three at least, and the axis below them."""
    count = max(FEWEST, min(len(plots), (rows - 1) // ROWS_EACH))
    left = rows - 1 - count  # the heads and the axis
    lines: list[Line] = []
    for i, (title, name) in enumerate(plots[:count]):
        height = max(1, left // count + (1 if i < left % count else 0))
        lines += _plot(title, name, past, looks, width, height)
    return [*lines, _axis(past, width, now)]


def _plot(title: str, name: str, past: Past, looks: Looks, width: int, height: int) -> list[Line]:
    values = past.series.get(name, ())
    shown = columns(values, width, lowest=name in LOWEST)
    rows = looks.plot(shown, width, height, looks.gap)
    head: Line = [(f"{say(title)} ", "dim"), (figure(_last(values)), "strong")]
    known = {i: value for i, value in enumerate(values) if value is not None}
    if known:
        word, at = _extreme(known, lowest=name in LOWEST)
        when = clock(past.start + at * past.step_s, seconds=past.span_s <= 300)
        head.append((f"   {word} {figure(known[at])}", "dim"))
        head.append((f" {say('at {time}', time=when)}", "dim"))
    unknown = (len(values) - len(known)) * past.step_s
    if name == PLOTS[0][1] and unknown >= 2 * past.step_s:
        last = max(i for i in range(len(values)) if i not in known) + 1
        till = clock(past.start + last * past.step_s, seconds=past.span_s <= 300)
        gone = say("unknown: {span}, till {time}", span=_lasted(unknown), time=till)
        head.append((f"   {looks.gap} {gone}", "warn"))
    while line_width(head) > width and len(head) > 2:
        head.pop()  # whole: half a figure would be another one
    return [head, *([(row, "plot")] for row in rows)]


def columns(
    values: Sequence[float | None], width: int, *, lowest: bool = False
) -> list[float | None]:
    """The values in `width` columns: the highest (or lowest) known of those that share one."""
    n = len(values)
    found: list[float | None] = []
    for c in range(width if n else 0):
        first = c * n // width
        own = [v for v in values[first : max(first + 1, (c + 1) * n // width)] if v is not None]
        found.append((min(own) if lowest else max(own)) if own else None)
    return found


def _last(values: Sequence[float | None]) -> float | None:
    return values[-1] if values else None


def _extreme(known: dict[int, float], *, lowest: bool) -> tuple[str, int]:
    """(the word for "max" or "min", where), the newest of several."""
    if lowest:
        return say("min"), min(known, key=lambda i: (known[i], -i))
    return say("max"), max(known, key=lambda i: (known[i], i))


def _lasted(seconds: float) -> str:
    if seconds < 120:
        return say("{n} s", n=f"{seconds:.0f}")
    if seconds < 7200:
        return say("{n} min", n=f"{seconds / 60:.0f}")
    return say("{n} h", n=f"{seconds / 3600:.1f}")


def _axis(past: Past, width: int, now: float) -> Line:
    """When the plots begin, their middle, and their end."""
    fine = past.span_s <= 300
    end = past.start + past.span_s
    late = now - end > 60 + 2 * past.step_s
    ago = next((title for span, title, _ in SPANS if span == past.span_s), "")
    left = clock(past.start, seconds=fine)
    right = clock(end, seconds=fine)
    if not late:
        left = say("{time} {span} ago", time=left, span=say(ago))
        right = say("{time} now", time=right)
    middle = clock(past.start + past.span_s / 2, seconds=fine)
    half = width // 2
    line = fit(left, half - len(middle) // 2) + middle
    return [(line + fit(right, width - width_of(line), right=True), "dim")]
