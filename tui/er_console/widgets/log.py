"""A log that follows, holds still when one scrolls up, and never grows without bound.

Lines live in a bounded list and are laid out when they are drawn, so that a flood costs next to
nothing. While held, newer lines are kept and counted aside: the text under a reader never moves.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.strip import Strip

from er_console.looks import PRIORITIES, Line, Looks, clock, cut, fit, width_of
from er_console.state import LogLine
from er_console.widgets.lines import Painter

LINES_MAX = 5000
HEAD_CELLS = 29  # sign, time, unit, level
ROOM_LEAST = 20


class LogView(Painter, can_focus=True):
    """Log lines with time, unit and level; a cursor on one of them while it is held."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "up", show=False),
        Binding("down,j", "move(1)", "down", show=False),
        Binding("pageup", "page(-1)", "page up", show=False),
        Binding("pagedown,space", "page(1)", "page down", show=False),
        Binding("g,home", "first", "first", show=False),
        Binding("G,end", "follow", "follow", show=False),
        Binding("p", "pause", "pause", show=False),
        Binding("w", "wrap", "wrap", show=False),
        Binding("enter", "open", "open", show=False),
    ]

    class Held(Message):
        """Following began or ended."""

    class Opened(Message):
        """Enter was pressed on a line."""

        def __init__(self, line: LogLine) -> None:
            super().__init__()
            self.line = line

    def __init__(self, looks: Looks, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self.looks = looks
        self.following = True
        self.dropped = 0  # that came while held and were too many, or were left out at the source
        self.wraps = False
        self._all: deque[LogLine] = deque()
        self._newer: deque[LogLine] = deque(maxlen=LINES_MAX)
        self._rows: deque[tuple[LogLine, int]] = deque()  # a line and which of its rows
        self._at = 0  # the cursor's row
        self._keeps: Callable[[LogLine], bool] = lambda line: True

    @property
    def newer(self) -> int:
        """Lines that came while held."""
        return len(self._newer)

    @property
    def said(self) -> list[str]:
        """The shown rows as text, for tests."""
        return ["".join(piece for piece, _ in self._drawn(*row)) for row in self._rows]

    @property
    def shown(self) -> list[LogLine]:
        """The lines that pass, oldest first."""
        return [line for line, piece in self._rows if not piece]

    def clear(self) -> None:
        """Forget all lines and follow."""
        self._all.clear()
        self._newer.clear()
        self.dropped = 0
        self.following = True
        self._lay_out()

    def add(self, lines: Sequence[LogLine]) -> None:
        """A batch of lines, oldest first."""
        self.dropped += sum(line.lost for line in lines)
        if not self.following:
            self.dropped += max(0, len(self._newer) + len(lines) - LINES_MAX)
            self._newer.extend(lines)
            return
        for line in lines:
            self._append(line)
        self._settle()

    def look_at(self, lines: Sequence[LogLine]) -> None:
        """Show these lines and no others, held, with the cursor on the first."""
        self.clear()
        self.following = False
        for line in lines[-LINES_MAX:]:
            self._append(line)
        self._at = 0
        self._settle()
        self.scroll_to(y=0, animate=False, immediate=True, force=True)

    def keep(self, keeps: Callable[[LogLine], bool]) -> None:
        """Show only the lines for which this is true, held or not."""
        self._keeps = keeps
        self._lay_out()

    def _append(self, line: LogLine) -> None:
        if len(self._all) >= LINES_MAX:
            oldest = self._all.popleft()
            if self._rows and self._rows[0][0] is oldest:
                self._rows.popleft()
                while self._rows and self._rows[0][1]:
                    self._rows.popleft()
        self._all.append(line)
        if self._keeps(line):
            self._rows.extend((line, piece) for piece in range(self._height(line)))

    def _lay_out(self) -> None:
        there = self._rows[self._at][0] if self._at < len(self._rows) else None
        kept = (line for line in self._all if self._keeps(line))
        self._rows = deque((line, piece) for line in kept for piece in range(self._height(line)))
        found = (n for n, (line, _) in enumerate(self._rows) if line is there)
        self._at = next(found, max(0, len(self._rows) - 1))
        self._settle()

    def _settle(self) -> None:
        self.virtual_size = Size(self.size.width, len(self._rows))
        if self.following:
            # Forced: while the last layout needed no scroll bar, Textual would not scroll at all.
            self.scroll_to(y=self.max_scroll_y, animate=False, immediate=True, force=True)
        self.refresh()

    @property
    def _room(self) -> int:
        return self.size.width - HEAD_CELLS

    def _height(self, line: LogLine) -> int:
        if not self.wraps or self._room < ROOM_LEAST:
            return 1
        said = self.looks.words(line.text)
        return 1 if width_of(said) <= self._room else len(cut(said, self._room))

    def _drawn(self, line: LogLine, piece: int) -> Line:
        """One of a line's rows."""
        said = self.looks.words(line.text)
        plain = "bad" if line.priority <= 3 else ""
        if self.wraps and self._room >= ROOM_LEAST and width_of(said) > self._room:
            said = cut(said, self._room)[piece]
        if piece:
            return [(" " * HEAD_CELLS, ""), (said, plain)]
        role = "bad" if line.priority <= 3 else "warn" if line.priority == 4 else "dim"
        more = "~" if self.looks.ascii_only else "…"
        return [
            (f" {clock(line.time)} ", "dim"),
            (fit(line.unit, 12, more=more) + " ", "accent"),
            (f"{PRIORITIES[line.priority]:<5} ", role),
            (said, plain),
        ]

    def render_line(self, y: int) -> Strip:
        """A row of what is in view."""
        row = y + int(self.scroll_offset.y)
        if row >= len(self._rows):
            return self.paint([], self.size.width)
        line = self._drawn(*self._rows[row])
        if self.following or row != self._at:
            return self.paint(line, self.size.width)
        sign = ">" if self.looks.ascii_only else "▌"
        here: Line = [(sign, "accent"), (line[0][0][1:], line[0][1]), *line[1:]]
        over = self.role("cursor" if self.has_focus else "blurred")
        return self.paint(here, self.size.width, over)

    def on_resize(self) -> None:
        """Wrapping, and where the end is, depend on the size."""
        self.call_after_refresh(self._lay_out)

    # The cursor -----------------------------------------------------------------------------

    def hold(self) -> None:
        """Stop following; the cursor stands on the newest line in view."""
        if self.following:
            self.following = False
            self._at = max(0, len(self._rows) - 1)
            self.refresh()
            self.post_message(self.Held())

    def selected(self) -> LogLine | None:
        """The line under the cursor; the newest while following."""
        if not self._rows:
            return None
        return self._rows[-1 if self.following else self._at][0]

    def _stand_on(self, row: int) -> None:
        self._at = max(0, min(len(self._rows) - 1, row))
        self.scroll_to_region(Region(0, self._at, 1, 1), animate=False, immediate=True, force=True)
        self.refresh()

    def _in_view(self) -> None:
        """A view that was scrolled by the wheel takes the cursor along."""
        top, last = int(self.scroll_offset.y), int(self.scroll_offset.y) + self.size.height - 1
        self._at = max(0, min(max(top, min(last, self._at)), len(self._rows) - 1))

    def action_move(self, by: int) -> None:
        """Any move but down at the end holds."""
        if self.following and by > 0:
            return
        self.hold()
        self._in_view()
        self._stand_on(self._at + by)

    def action_page(self, by: int) -> None:
        """A page up or down."""
        self.action_move(by * max(1, self.size.height - 1))

    def action_first(self) -> None:
        """To the oldest line."""
        self.hold()
        self._stand_on(0)

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
        if not self.following:
            self._stand_on(self._at)

    def action_follow(self) -> None:
        """Take what came meanwhile and follow."""
        self.following = True
        for line in self._newer:
            self._append(line)
        self._newer.clear()
        self._settle()
        self.post_message(self.Held())

    def action_open(self) -> None:
        """Say that enter was pressed, on a line that is seen."""
        if not self.following:
            self._in_view()
        line = self.selected()
        if line is not None:
            self.hold()
            self.refresh()
            self.post_message(self.Opened(line))

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """The wheel holds too."""
        self.hold()

    def on_click(self, event: events.Click) -> None:
        """A click puts the cursor there, a second one opens."""
        at = event.get_content_offset(self)
        row = at.y + int(self.scroll_offset.y) if at is not None else len(self._rows)
        if row < len(self._rows):
            self.hold()
            again = row == self._at and event.chain > 1
            self._at = row
            self.refresh()
            if again:
                self.action_open()

    def on_focus(self) -> None:
        """The cursor looks different with and without focus."""
        self.refresh()

    def on_blur(self) -> None:
        """As above."""
        self.refresh()
