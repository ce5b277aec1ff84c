"""Draw lines of (text, role) pieces: the one painter of all the console's own widgets.

Roles are component classes, so that colours come from the style sheet and the theme alone. A widget
whose lines have not changed sends nothing to the terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.content import Content
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from er_console.looks import ROLES, Line, line_width


class Painter(ScrollView):
    """Knows how to paint a line; subclasses know which line is where."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        *(f"role--{role}" for role in ROLES),
        "role--cursor",
        "role--blurred",
        "role--head",
    }

    _titled = ""

    def entitle(self, said: str) -> None:
        """The frame's title. Textual would paint all anew for the same one, at each second."""
        if said != self._titled:
            self._titled = said
            self.border_title = Content(said)  # words are no markup

    def role(self, name: str) -> Style:
        """The theme's style of a role."""
        return self.get_component_rich_style(f"role--{name}", partial=True)

    def paint(self, line: Line, width: int, over: Style | None = None) -> Strip:
        """A line as cells; `over` is laid over all of it (the cursor).

        One that is too wide ends with a sign that says so: half a figure would be another figure.
        """
        base = self.rich_style
        segments = []
        for said, role in line:
            style = base + self.role(role) if role else base
            segments.append(Segment(said, style + over if over else style))
        strip = Strip(segments)
        last = base + over if over else base
        if strip.cell_length > width and strip.crop(width).text.strip():
            sign = "~" if self.screen.has_class("-ascii") else "…"
            strip = Strip.join([strip.crop(0, max(0, width - 1)), Strip([Segment(sign, last)])])
        return strip.adjust_cell_length(width, last).crop(0, width)


class Lines(Painter, can_focus=False):
    """A panel of lines, as high as they are many."""

    def __init__(self, lines: Sequence[Line] = (), *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._lines: list[Line] = list(lines)

    def put(self, lines: Sequence[Line]) -> None:
        """Show these lines from now on."""
        before, self._lines = self._lines, list(lines)
        if len(before) != len(self._lines):
            self.refresh(layout=True)
            return
        # Row by row: a clock in one row must not send a whole plot again.
        for y, (old, new) in enumerate(zip(before, self._lines, strict=True)):
            if old != new:
                self.refresh_line(y)

    @property
    def said(self) -> str:
        """The text without colours, for tests and for copying."""
        return "\n".join("".join(piece for piece, _ in line) for line in self._lines)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """One row a line."""
        return len(self._lines)

    def get_content_width(self, container: Size, viewport: Size) -> int:
        """The longest line."""
        return max((line_width(line) for line in self._lines), default=0)

    def render_line(self, y: int) -> Strip:
        """A row."""
        row = y + self.scroll_offset.y
        line = self._lines[row] if row < len(self._lines) else []
        return self.paint(line, self.size.width)


class Choices(Lines):
    """One row of things to press: pages, units of the log, keys. Each may be clicked."""

    def __init__(self, chosen: Callable[[str], None], *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._chosen = chosen
        self._spans: list[tuple[int, int, str]] = []

    def offer(self, items: Sequence[tuple[str, Line]], after: Line | None = None) -> None:
        """Show (name, line) items side by side; `after` goes to the right end."""
        line: Line = []
        self._spans = []
        at = 0
        for name, own in items:
            width = line_width(own)
            self._spans.append((at, at + width, name))
            line += own
            at += width
        if after:
            line += [(" " * max(1, self.size.width - at - line_width(after)), ""), *after]
        self.put([line])

    def on_click(self, event: events.Click) -> None:
        """A click chooses what lies under it."""
        at = event.get_content_offset(self)
        for start, end, name in self._spans:
            if at is not None and start <= at.x < end:
                self._chosen(name)
                return
