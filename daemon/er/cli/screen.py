"""Text for people's terminals: aligned tables, ages, states as glyph and word. Pure.

Wide characters (Chinese, say) count as the two cells they take; control characters, which could
steer a terminal, are shown as `?`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

from er.chinese import cell, heard, settled
from er.chinese.wording import width

GLYPHS = {
    "ok": "●",
    "up": "●",
    "starting": "◐",
    "waiting": "◐",
    "degraded": "▲",
    "away": "▲",
    "draining": "▲",
    "drained": "▲",
    "down": "✖",
    "silent": "✖",
    "failed": "✖",
    "stopped": "○",
}
NAMED = ("NAME", "TEAM", "KEY", "MODEL", "REPLICA")  # heads of columns with names
PLAIN = {"●": "+", "◐": "~", "▲": "!", "✖": "x", "○": "-"}


class Name(str):
    """A table's cell that is somebody's own word, whatever it reads: it stays as it is."""


def clean(text: object) -> str:
    """`text` on one line, without characters that a terminal would obey."""
    words = " ".join(str(text).split())
    return "".join("?" if unicodedata.category(c) in ("Cc", "Cf", "Cs") else c for c in words)


def table(
    rows: Iterable[Sequence[object]], indent: str = "", gap: str = "  ", *, named: bool = True
) -> list[str]:
    """Lines with aligned columns; the last column is left as long as it is.

    Cells are in the language that is spoken, but for names: what stands below a head of NAMED, and
    each Name. A table where lines don't begin with one is not `named`.
    """
    given = [list(row) for row in rows]
    cells = [[clean(value) for value in row] for row in given]
    names = {at for row in cells[:1] for at, text in enumerate(row) if text in NAMED}
    cells = [
        [
            text
            if isinstance(given[line][at], Name) or (line and at in names)
            else _said(text, name=named and not at, word=not (line and (at or named)))
            for at, text in enumerate(row)
        ]
        for line, row in enumerate(cells)
    ]
    columns = max((len(row) for row in cells), default=0)
    widths = [max((width(r[i]) for r in cells if i < len(r)), default=0) for i in range(columns)]
    found = []
    for row in cells:
        padded = (c + " " * (widths[i] - width(c)) for i, c in enumerate(row))
        found.append(settled((indent + gap.join(padded)).rstrip()))
    return found


def _said(text: str, *, name: bool, word: bool) -> str:
    if name:
        return heard(text) if " " in text or text.isupper() or text == "gateway" else text
    return heard(text) if word else cell(text)


def state(word: str, *, unicode: bool = True) -> str:
    """A state as glyph and word, as in "● up"."""
    glyph = GLYPHS.get(word, "?")
    return f"{glyph if unicode else PLAIN.get(glyph, glyph)} {word}"


def age(seconds: float | None) -> str:
    """A span in its two largest units: "42s", "3m 10s", "2h 5m", "3d 4h"; "" when not known."""
    if seconds is None or seconds < 0:
        return ""
    whole = int(seconds)
    for size, name, small, small_name in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "m"),
        (60, "m", 1, "s"),
    ):
        if whole >= size:
            rest = whole % size // small
            return f"{whole // size}{name}" + (f" {rest}{small_name}" if rest else "")
    return f"{whole}s"


def number(value: float | None, digits: int = 0) -> str:
    """A figure, or "-" when it is not known."""
    return "-" if value is None else f"{value:.{digits}f}"
