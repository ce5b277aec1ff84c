"""A table with a cursor that stays on its row's key, whatever the rows do around it.

Textual's DataTable keeps the cursor's index when rows are sorted or removed, so that a key press
meant for one unit can hit another; it also repaints itself whole for one changed cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.containers import ScrollableContainer
from textual.geometry import Region, Size
from textual.message import Message
from textual.strip import Strip

from er_console.language import say
from er_console.looks import Line, Looks
from er_console.tables import WIDE, Column, Row, column_widths, table_line
from er_console.widgets.lines import Painter


class Table(Painter, can_focus=True):
    """Rows under a head line; arrows and hjkl move, enter opens."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "up", show=False),
        Binding("down,j", "move(1)", "down", show=False),
        Binding("pageup", "move(-10)", "page up", show=False),
        Binding("pagedown", "move(10)", "page down", show=False),
        Binding("g,home", "move(-100000)", "first", show=False),
        Binding("G,end", "move(100000)", "last", show=False),
        Binding("enter", "open", "open", show=False),
    ]

    class Moved(Message):
        """The cursor stands on another row."""

    class Opened(Message):
        """Enter was pressed on a row."""

        def __init__(self, key: str) -> None:
            super().__init__()
            self.key = key

    def __init__(
        self,
        columns: tuple[Column, ...],
        looks: Looks,
        *,
        empty: str = "",
        id: str | None = None,  # noqa: A002
    ) -> None:
        super().__init__(id=id)
        self.columns = columns
        self.looks = looks
        self.empty = empty
        self.rows: list[Row] = []
        self.cursor = ""
        self._measured: tuple[int, list[int]] = (-1, [])  # a width, and the columns' at it

    def put(
        self, rows: Sequence[Row], empty: str = "", columns: tuple[Column, ...] | None = None
    ) -> None:
        """Show these rows; the cursor stays on its key, or on its place if that row is gone.

        `columns`: theirs, where they are others than those before.
        """
        new = list(rows)
        if columns is not None and columns is not self.columns:
            self.columns, self._measured = columns, (-1, [])
            self.refresh()
        if new == self.rows and empty == self.empty:
            return
        place = self.place()
        taller = len(new) != len(self.rows)
        self.rows, self.empty = new, empty
        self._measured = (-1, [])
        if all(row.key != self.cursor for row in new):
            self.cursor = new[min(place, len(new) - 1)].key if new else ""
            self.post_message(self.Moved())
        self.virtual_size = Size(self.size.width, len(new) + 1)
        self.refresh(layout=taller)
        if self.place() != place:
            self.call_after_refresh(self.show_cursor)

    def place(self) -> int:
        """The cursor's row number, 0 when it has none."""
        return next((i for i, row in enumerate(self.rows) if row.key == self.cursor), 0)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """The head and the rows, one line at least."""
        return max(1, len(self.rows)) + 1

    def render_line(self, y: int) -> Strip:
        """The head stays while the rows scroll."""
        width = self.size.width
        more = "~" if self.looks.ascii_only else "…"
        gap = 2 if width >= WIDE else 1
        if self._measured[0] != width:  # once for all lines: it looks at every row there is
            self._measured = width, column_widths(self.columns, self.rows, width - 2, gap)
        widths = self._measured[1]
        if y == 0:
            head = Row("", tuple((say(column.title), "head") for column in self.columns))
            return self.paint(
                [("  ", ""), *table_line(self.columns, widths, head, more, gap)], width
            )
        index = y - 1 + self.scroll_offset.y
        if index >= len(self.rows):
            hint = self.empty if index == 0 and not self.rows else ""
            return self.paint([(f"  {hint}", "dim")], width)
        row = self.rows[index]
        here = row.key == self.cursor
        sign = (">" if self.looks.ascii_only else "▌") if here else " "
        over = self.role("cursor" if self.has_focus else "blurred") if here else None
        line: Line = [(f"{sign} ", "accent"), *table_line(self.columns, widths, row, more, gap)]
        return self.paint(line, width, over)

    def action_move(self, by: int) -> None:
        """Move the cursor by rows, as far as there are some."""
        if not self.rows:
            return
        place = max(0, min(len(self.rows) - 1, self.place() + by))
        self.stand_on(self.rows[place].key)
        self.show_cursor()

    def stand_on(self, key: str) -> None:
        """Put the cursor on a row."""
        if key == self.cursor:
            return
        self.cursor = key
        self.show_cursor()
        self.refresh()
        self.post_message(self.Moved())

    def show_cursor(self) -> None:
        """Scroll the cursor's row into view, here and in what scrolls around: a key never hits a
        row that is not seen.
        """
        place = self.place()
        self.scroll_to_region(Region(0, place, 1, 2), animate=False, immediate=True)
        row = Region(self.virtual_region.x, self.virtual_region.y, 1, 2)
        row = row.translate((0, self.gutter.top + place - int(self.scroll_offset.y)))
        for outer in self.ancestors:
            if isinstance(outer, ScrollableContainer):
                outer.scroll_to_region(row, animate=False, immediate=True)

    def on_resize(self) -> None:
        """A smaller table still shows the cursor."""
        self.call_after_refresh(self.show_cursor)

    def action_open(self) -> None:
        """Say that enter was pressed."""
        if self.cursor:
            self.post_message(self.Opened(self.cursor))

    def on_click(self, event: events.Click) -> None:
        """A click puts the cursor there, a second one opens."""
        at = event.get_content_offset(self)
        index = at.y - 1 + int(self.scroll_offset.y) if at is not None else -1
        if at is not None and at.y >= 1 and index < len(self.rows):
            if self.rows[index].key == self.cursor and event.chain > 1:
                self.action_open()
            self.stand_on(self.rows[index].key)

    def on_focus(self) -> None:
        """The cursor looks different with and without focus."""
        self.refresh()

    def on_blur(self) -> None:
        """As above."""
        self.refresh()
