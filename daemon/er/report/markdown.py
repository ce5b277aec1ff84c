"""A report as Markdown, with plots of block characters: for mails, wikis and terminals."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator, Sequence

from er.report.facts import Summary
from er.report.parts import Heading, Part, Plot, Sentences, Table, head, parts
from er.report.scales import short
from er.report.words import Words, printable

BLOCKS, PLAIN = "▁▂▃▄▅▆▇█", "_.:-=+*#"
WIDE = 72  # figures in a row; more are joined
SPECIAL = "\\`*_[]<>|&~@#"


def page(found: Summary, words: Words, *, unicode: bool = True) -> str:
    """The whole text. What clients wrote can be neither markup nor a link."""
    title, span = head(found, words)
    out = [f"# {safe(title)}", "", safe(span), ""]
    for part in parts(found, words):
        out += _part(part, words, BLOCKS if unicode else PLAIN)
    return "\n".join(out).rstrip() + "\n"


def safe(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    shown = "".join(f"\\{c}" if c in SPECIAL else c for c in printable(text))
    return shown.replace("://", "\\://").replace("www.", "www\\.")


def _part(part: Part, words: Words, blocks: str) -> Iterator[str]:
    match part:
        case Heading(text):
            yield from (f"## {safe(text)}", "")
        case Sentences(lines, strong):
            if strong:
                yield from (f"## {safe(words('short'))}", "")
            yield from (f"- {safe(line)}" for line in lines)
            yield ""
        case Table():
            if part.title:
                yield from (f"### {safe(part.title)}", "")
            yield _row(part.head)
            yield _row(["---" if i < part.right else "---:" for i in range(len(part.head))], "")
            yield from (_row(cells) for cells in part.rows)
            yield ""
        case Plot():
            yield from (f"### {safe(part.title)}", "", "```text")
            yield from _plot(part, blocks)
            yield from ("```", "")


def _row(cells: Sequence[str], escaped: str = "yes") -> str:
    return "| " + " | ".join(safe(cell) if escaped else cell for cell in cells) + " |"


def _plot(plot: Plot, blocks: str) -> Iterator[str]:
    """A row of blocks for each series, all on one scale, and from when to when it goes."""
    rows = [(series.name, _joined(series.values)) for series in plot.series]
    known = [v for _, values in rows for v in values if v is not None]
    most, least = max(known, default=0.0), min(known, default=0.0)
    if plot.ratio:
        most, least = 1.0, 0.0
    names = max(_width(name) for name, _ in rows)
    for name, values in rows:
        drawn = "".join(_block(v, least, most, plot.logarithmic, blocks) for v in values)
        own = [v for v in values if v is not None]
        told = f"  max {short(max(own))}" if own else ""
        plain = printable(name).replace("`", "'")
        yield f"{plain}{' ' * (names - _width(name))}  {drawn}{told}"
    if plot.labels:
        wide = len(rows[0][1])
        first, last = plot.labels[0], plot.labels[-1]
        between = max(2, wide - len(first) - len(last))
        yield " " * (names + 2) + first + " " * between + (last if last != first else "")


def _joined(values: Sequence[float | None]) -> list[float | None]:
    """At most WIDE of them: of those that are joined the highest."""
    each = max(1, math.ceil(len(values) / WIDE))
    found: list[float | None] = []
    for i in range(0, len(values), each):
        known = [v for v in values[i : i + each] if v is not None]
        found.append(max(known) if known else None)
    return found


def _block(value: float | None, least: float, most: float, logarithmic: bool, blocks: str) -> str:
    if value is None or (value == 0 and not logarithmic):
        return " "
    if logarithmic:
        low, high = math.log(max(least, 1e-3)) - 0.3, math.log(max(most, 1e-3))
        share = (math.log(max(value, 1e-3)) - low) / max(high - low, 1e-9)
    else:
        share = value / most if most else 0.0
    return blocks[min(len(blocks) - 1, max(0, math.ceil(share * len(blocks)) - 1))]


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
