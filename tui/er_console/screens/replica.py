"""Replica: everything known of one of them; up and down go through all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widget import Widget

from er_console.language import noted, say
from er_console.panels import replica_lines
from er_console.parts import named_by
from er_console.screens.overview import selected_replica, unit_hints
from er_console.screens.page import Hint, Page
from er_console.tables import PART_COLUMNS, part_rows
from er_console.widgets.lines import Lines
from er_console.widgets.table import Table

ROWS_BELOW = 18  # header, tabs, footer, a blank row and the detail's usual lines
ROWS_LEAST = 5
EMPTY = noted("no replica is known of")


class ReplicaPage(Page):
    """The replicas' rows, and below the selected one in full."""

    page = "replica"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("l", "app.logs_of", "log", show=False)]

    def body(self) -> Iterable[Widget]:
        """The table and the detail."""
        yield Table(PART_COLUMNS, self.desk.looks, empty=say(EMPTY), id="main")
        yield Lines(id="detail")

    def on_mount(self) -> None:
        """Titles, seen where there is room for frames."""
        self.query_one("#main").border_title = say("replicas")
        self.query_one("#detail").border_title = say("selected")

    def hints(self) -> list[Hint]:
        """The units' keys."""
        return [*unit_hints(self), Hint("/", say("filter"))]

    def selected_key(self) -> str:
        """The row under the cursor."""
        return self.query_one("#main", Table).cursor

    def select(self, key: str) -> None:
        """Put the cursor on a part, when it is a replica."""
        if named_by(key):
            self.query_one("#main", Table).stand_on(key)

    def draw(self) -> None:
        """Rows and detail."""
        desk, now = self.desk, self.desk.wall()
        rows = part_rows(desk.snapshot, now, desk.looks, desk.pending)
        table = self.query_one("#main", Table)
        kept = [row for row in rows if named_by(row.key)]
        shown = [row for row in kept if self.passes(" ".join(said for said, _ in row.cells))]
        table.styles.max_height = max(ROWS_LEAST, self.size.height - ROWS_BELOW)
        table.put(shown, say(EMPTY))
        found = selected_replica(self)
        detail = self.query_one("#detail", Lines)
        width = detail.content_size.width or self.size.width
        lines = replica_lines(found, desk.snapshot, now, desk.looks, width) if found else []
        detail.put(lines)

    def on_table_moved(self) -> None:
        """The detail depends on the row."""
        self.call_later(self.show)
