"""A log that follows, holds still when one scrolls up, and never grows without bound.

Lines live in a bounded list, the drawing takes those in view alone. While held, newer lines are
kept and counted aside, so that the text under a reader never moves.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.strip import Strip

from er_console.looks import PRIORITIES, Line, Looks, clock, cut, fit, width_of
from er_console.state import LogLine
from er_console.widgets.lines import Painter

LINES_MAX = 5000


class LogView(Painter, can_focus=True):
    """Log lines with time, unit and level."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "up", show=False),
        Binding("down,j", "move(1)", "down", show=False),
        Binding("pageup", "page(-1)", "page up", show=False),
        Binding("pagedown,space", "page(1)", "page down", show=False),
        Binding("g,home", "first", "first", show=False),
        Binding("G,end", "follow", "follow", show=False),
        Binding("p", "pause", "pause", show=False),
        Binding("w", "wrap", "wrap", show=False),
    ]

    class Held(Message):
        """Following began or ended."""

    def __init__(self, looks: Looks, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self.looks = looks
        self.following = True
        self.dropped = 0
        self.wraps = False
        self._all: deque[LogLine] = deque(maxlen=LINES_MAX)
        self._newer: deque[LogLine] = deque(maxlen=LINES_MAX)
        self._shown: list[Line] = []
        self._keeps: Callable[[LogLine], bool] = lambda line: True

    @property
    def newer(self) -> int:
        """Lines that came while held."""
        return len(self._newer)

    @property
    def said(self) -> list[str]:
        """The shown rows as text, for tests."""
        return ["".join(piece for piece, _ in line) for line in self._shown]

    def clear(self) -> None:
        """Forget all lines and follow."""
        self._all.clear()
        self._newer.clear()
        self.dropped = 0
        self.following = True
        self._lay_out()

    def add(self, lines: Sequence[LogLine]) -> None:
        """A batch of lines, oldest first."""
        if not self.following:
            self.dropped += max(0, len(self._newer) + len(lines) - LINES_MAX)
            self._newer.extend(lines)
            return
        pruned = len(self._all) + len(lines) > LINES_MAX
        self._all.extend(lines)
        if pruned:
            self._lay_out()
            return
        for line in lines:
            if self._keeps(line):
                self._shown += self._rows(line)
        self._settle()

    def keep(self, keeps: Callable[[LogLine], bool]) -> None:
        """Show only the lines for which this is true, held or not."""
        self._keeps = keeps
        self._lay_out()

    def _lay_out(self) -> None:
        self._shown = [row for line in self._all if self._keeps(line) for row in self._rows(line)]
        self._settle()

    def _settle(self) -> None:
        self.virtual_size = Size(self.size.width, len(self._shown))
        if self.following:
            self.scroll_to(y=self.max_scroll_y, animate=False, immediate=True)
        self.refresh()

    def _rows(self, line: LogLine) -> list[Line]:
        level = PRIORITIES[line.priority]
        role = "bad" if line.priority <= 3 else "warn" if line.priority == 4 else "dim"
        more = "~" if self.looks.ascii_only else "…"
        head: Line = [
            (f" {clock(line.time)} ", "dim"),
            (fit(line.unit, 12, more=more) + " ", "accent"),
            (f"{level:<5} ", role),
        ]
        said = self.looks.words(line.text)
        plain = "bad" if line.priority <= 3 else ""
        room = self.size.width - 29
        if not self.wraps or room < 20 or width_of(said) <= room:
            return [[*head, (said, plain)]]
        first, *more_rows = cut(said, room)
        rest: list[Line] = [[(" " * 29, ""), (row, plain)] for row in more_rows]
        return [[*head, (first, plain)], *rest]

    def render_line(self, y: int) -> Strip:
        """A row of what is in view."""
        row = y + int(self.scroll_offset.y)
        line = self._shown[row] if row < len(self._shown) else []
        return self.paint(line, self.size.width)

    def on_resize(self) -> None:
        """Wrapping, and where the end is, depend on the size."""
        self.call_after_refresh(self._lay_out)

    def hold(self) -> None:
        """Stop following."""
        if self.following:
            self.following = False
            self.post_message(self.Held())

    def action_move(self, by: int) -> None:
        """One row up holds; down at the end follows again."""
        if by < 0:
            self.hold()
        self.scroll_to(y=self.scroll_offset.y + by, animate=False, immediate=True)

    def action_page(self, by: int) -> None:
        """A page up or down."""
        self.action_move(by * max(1, self.size.height - 1))

    def action_first(self) -> None:
        """To the oldest line."""
        self.hold()
        self.scroll_to(y=0, animate=False, immediate=True)

    def action_pause(self) -> None:
        """Hold, or follow again."""
        if self.following:
            self.hold()
        else:
            self.action_follow()

    def action_wrap(self) -> None:
        """Long lines in several rows, or cut."""
        self.wraps = not self.wraps
        self._lay_out()

    def action_follow(self) -> None:
        """Take what came meanwhile and follow."""
        self.following = True
        self._all.extend(self._newer)
        self._newer.clear()
        self._lay_out()
        self.post_message(self.Held())

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """The wheel holds too."""
        self.hold()
