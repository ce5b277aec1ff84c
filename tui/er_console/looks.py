"""How things look on any terminal: glyph, word and role of a state, bars, sparks, figures. Pure.

A Line is a list of (text, role) pieces. Roles are meanings (good, warn, bad, dim, ...), which the
widgets turn into the theme's colours and `--once` into nothing: colour never says anything that
the text does not say too.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from unicodedata import east_asian_width

from er_console.language import heard, say
from er_console.state import Missing

Piece = tuple[str, str]
Line = list[Piece]

ROLES = ("dim", "strong", "good", "warn", "bad", "accent", "title", "here", "plot")

# state: (glyph, ASCII, role). Words are shown beside it always.
STATES: dict[str, tuple[str, str, str]] = {
    "up": ("●", "+", "good"),
    "ok": ("●", "+", "good"),
    "running": ("●", "+", "good"),
    "active": ("●", "+", "good"),
    "good": ("●", "+", "good"),
    "rotating": ("◐", "~", "warn"),
    "expires soon": ("▲", "!", "warn"),
    "starting": ("◐", "~", "warn"),
    "restarting": ("◐", "~", "warn"),
    "stopping": ("◑", "~", "warn"),
    "draining": ("◑", "~", "warn"),
    "slow": ("▲", "!", "warn"),
    "degraded": ("▲", "!", "warn"),
    "waiting": ("◔", ".", "warn"),
    "drained": ("◇", "=", "warn"),
    "down": ("✖", "x", "bad"),
    "failed": ("✖", "x", "bad"),
    "silent": ("✖", "x", "bad"),
    "drifted": ("✖", "x", "bad"),
    "wrong": ("✖", "x", "bad"),
    "missing": ("✖", "x", "bad"),
    "revoked": ("✖", "x", "dim"),
    "expired": ("✖", "x", "bad"),
    "stopped": ("○", "-", "dim"),
    "never": ("○", "-", "dim"),
    "off": ("○", "-", "dim"),
    "unknown": ("?", "?", "warn"),
}
SPARKS = " ▁▂▃▄▅▆▇█"
SPARKS_ASCII = " .:-=+*#@"
PRIORITIES = ("EMERG", "ALERT", "CRIT", "ERR", "WARN", "NOTE", "INFO", "DEBUG")


class Looks:
    """The terminal's abilities: UTF-8 or ASCII."""

    def __init__(self, *, ascii_only: bool = False) -> None:
        self.ascii_only = ascii_only

    def glyph(self, state: str) -> str:
        """The state's one-cell sign."""
        sign = STATES.get(state, STATES["unknown"])
        return sign[1] if self.ascii_only else sign[0]

    def state(self, state: str) -> Piece:
        """Glyph and word, with the state's role."""
        return f"{self.glyph(state)} {say(state)}", role_of(state)

    def bar(self, part: float | None, width: int) -> str:
        """A bar of `width` cells for 0 to 1; unknown is a row of dots, not an empty bar."""
        full, empty, unknown = ("#", "-", ".") if self.ascii_only else ("━", "─", "·")
        if part is None:
            return unknown * width
        cells = round(max(0.0, min(1.0, part)) * width)
        return full * cells + empty * (width - cells)

    def spark(self, values: Sequence[float | None], width: int) -> str:
        """The last `width` values as one row of blocks, scaled to their maximum."""
        return self.plot(values, width, 1)[0]

    @property
    def gap(self) -> str:
        """What stands in a plot where nothing is known."""
        return "?" if self.ascii_only else "·"

    def plot(
        self, values: Sequence[float | None], width: int, height: int, gap: str = " "
    ) -> list[str]:
        """The last `width` values as `height` rows of blocks, highest row first."""
        signs = SPARKS_ASCII if self.ascii_only else SPARKS
        shown = list(values)[-width:] if width > 0 else []
        top = max((v for v in shown if v is not None), default=0.0) or 1.0
        rows = []
        for row in range(height - 1, -1, -1):
            cells = []
            for value in shown:
                eighths = 0 if value is None else round(8 * height * max(value, 0.0) / top)
                if value and row == 0:
                    eighths = max(eighths, 1)
                if value is None and row == 0:
                    cells.append(gap)
                    continue
                cells.append(signs[max(0, min(8, eighths - 8 * row))])
            rows.append("".join(cells).rjust(width))
        return rows

    def words(self, said: str) -> str:
        """A sentence fit for the terminal: other signs than ASCII are replaced where they must."""
        if not self.ascii_only:
            return said
        plain = said.translate({ord("·"): "|", ord("…"): "~", ord("°"): " ", ord("→"): ">"})
        return plain.encode("ascii", "replace").decode("ascii")

    @property
    def dot(self) -> str:
        """A quiet separator."""
        return "|" if self.ascii_only else "·"

    @property
    def arrow(self) -> str:
        """From one state to another."""
        return "->" if self.ascii_only else "→"


def role_of(state: str) -> str:
    """The role of a state's colour."""
    return STATES.get(state, STATES["unknown"])[2]


def wants_ascii(environment: Mapping[str, str], encoding: str | None) -> bool:
    """True when the terminal or its encoding can't show UTF-8 (TERM=linux has few glyphs)."""
    if environment.get("TERM") in ("linux", "dumb", "vt100", "vt220"):
        return True
    if environment.get("LC_ALL") in ("C", "POSIX"):
        return True  # Python would write UTF-8 all the same
    return "utf" not in (encoding or "").lower()


def wants_ansi(environment: Mapping[str, str]) -> bool:
    """True when the terminal's own 16 colours, or none, must do: NO_COLOR, TERM=linux and such."""
    if "NO_COLOR" in environment:
        return True
    term = environment.get("TERM", "")
    if environment.get("COLORTERM") in ("truecolor", "24bit"):
        return False
    return not ("256color" in term or "direct" in term or "kitty" in term or "alacritty" in term)


def told(missing: Missing) -> str:
    """Why a source gives nothing and what to do about it, in the language spoken."""
    reason, remedy = heard(missing.reason), heard(missing.remedy)
    return say("{reason}. {remedy}", reason=reason, remedy=remedy) if remedy else reason


def width_of(said: str) -> int:
    """Cells a text takes: CJK takes two."""
    if said.isascii():
        return len(said)
    return sum(2 if east_asian_width(c) in "WF" else 1 for c in said)


def fit(said: str, width: int, *, right: bool = False, more: str = "…") -> str:
    """The text in exactly `width` cells, cut with a sign when it is longer."""
    if width <= 0:
        return ""
    if width_of(said) <= width:
        space = " " * (width - width_of(said))
        return space + said if right else said + space
    kept, used = "", 0
    for c in said:
        cells = width_of(c)
        if used + cells > width - width_of(more):
            break
        kept, used = kept + c, used + cells
    short = kept + more if width >= width_of(more) else ""
    return short + " " * (width - width_of(short))


def line_width(line: Line) -> int:
    """Cells a line takes."""
    return sum(width_of(piece) for piece, _ in line)


def plain(line: Line) -> str:
    """The line without its roles."""
    return "".join(piece for piece, _ in line)


CLOSING = frozenset("，。；：、）！？")  # none of these begins a row


def cut(said: str, width: int) -> list[str]:
    """The text in pieces of at most `width` cells, one character at least in each.

    What would begin with a closing sign takes the character before it along.
    """
    if said.isascii():
        return [said[i : i + width] for i in range(0, len(said), width)]
    pieces = [""]
    room = width
    for c in said:
        cells = width_of(c)
        if cells > room and pieces[-1]:
            taken = pieces[-1][-1] if c in CLOSING and len(pieces[-1]) > 1 else ""
            taken = taken if width_of(taken) + cells <= width else ""
            pieces[-1] = pieces[-1][: len(pieces[-1]) - len(taken)]
            pieces.append(taken)
            room = width - width_of(taken)
        pieces[-1] += c
        room -= cells
    return pieces


def wrapped(said: str, width: int) -> list[str]:
    """The text in rows of at most `width` cells, broken at spaces where there are some."""
    rows: list[str] = []
    row = ""
    for word in said.split(" "):
        while width_of(word) > width > 0:
            if row:
                rows.append(row)
                row = ""
            head, *rest = cut(word, width)
            rows.append(head)
            word = "".join(rest)
        longer = f"{row} {word}" if row else word
        if width_of(longer) > width:
            rows.append(row)
            row = word
        else:
            row = longer
    return [*rows, row] if row or not rows else rows


# Figures: unknown is "-", never 0 ----------------------------------------------------------


def figure(value: float | None, unit: str = "") -> str:
    """A number in at most four digits: 0.3, 41, 1402, 18k, 2.1M."""
    if value is None:
        return "-"
    size, letter = abs(value), ""
    for step, name in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if size >= step:
            size, letter = size / (1e3 if name == "k" else step), name
            break
    few = f"{size:.1f}" if size < 10 and size != int(size) else f"{size:.0f}"
    return f"{'-' if value < 0 else ''}{few}{letter}{unit}"


def share(value: float | None) -> str:
    """A part of 1 as percent; 99.97 is not rounded up to 100."""
    if value is None:
        return "-"
    percent = 100 * value
    if percent >= 100 or percent <= 0:
        return f"{percent:.0f}%"
    return f"{min(percent, 99.9):.1f}%"


def size(value: float | None) -> str:
    """Bytes in GiB (or MiB when small), short."""
    if value is None:
        return "-"
    gib = value / 2**30
    if gib >= 10:
        return f"{gib:.0f}G"
    return f"{gib:.1f}G" if gib >= 1 else f"{value / 2**20:.0f}M"


def memory(used: float | None, total: float | None) -> str:
    """How much of how much, in one unit: 61/141G."""
    whole = size(total)
    part = size(used)
    return f"{part[:-1] if part[-1] == whole[-1] != '-' else part}/{whole}"


def clock(at: float | None, *, seconds: bool = True) -> str:
    """Local time of day."""
    if at is None:
        return "-"
    return time.strftime("%H:%M:%S" if seconds else "%H:%M", time.localtime(at))
