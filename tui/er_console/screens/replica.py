"""Replicas: all of them in one table, and everything known of the one under the cursor."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import ClassVar

from textual import work
from textual.binding import Binding, BindingType
from textual.containers import Container, VerticalScroll
from textual.widget import Widget

from er_console.details import replica_lines
from er_console.language import heard, noted, say
from er_console.parts import named_by
from er_console.screens.following import follow
from er_console.screens.overview import Overview, reasons, selected_replica, unit_hints
from er_console.screens.page import Hint, Page
from er_console.state import Missing
from er_console.tables import REPLICA_COLUMNS, replica_rows
from er_console.widgets.lines import Lines
from er_console.widgets.log import LogView
from er_console.widgets.table import Table

ROWS_BELOW = 18  # header, tabs, footer, a blank row and the detail's usual lines
ROWS_LEAST = 5
LOG_FROM = 34  # rows of the terminal, from which on the log has room
SETTLE_S = 0.2  # a cursor that runs through the rows starts no log of each
EMPTY = noted("no replica is known of")


class ReplicaPage(Page):
    """The replicas' rows, and below the selected one in full, with its log where there is room."""

    page = "replica"
    steers = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("l", "app.logs_of", "log", show=False),
        Binding("w", "why", "why", show=False),
    ]
    _followed = ""  # the unit whose log is shown

    def body(self) -> Iterable[Widget]:
        """The table, the detail, the log."""
        yield Table(REPLICA_COLUMNS, self.desk.looks, empty=say(EMPTY), id="main")
        with Container(id="below"):
            with VerticalScroll(id="scroll", can_focus=False):
                yield Lines(id="detail")
            yield LogView(self.desk.looks, id="log")

    def on_mount(self) -> None:
        """Titles, seen where there is room for frames."""
        self.query_one("#main").border_title = say("replicas")
        self.query_one("#detail").border_title = say("selected")

    def hints(self) -> list[Hint]:
        """The units' keys."""
        return [*unit_hints(self), Hint("w", say("why")), Hint("/", say("filter"))]

    def reasons(self) -> list[Missing]:
        """Why a key of the row under the cursor is in brackets."""
        return reasons(self)

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
        rows = replica_rows(desk.snapshot, now, desk.looks, desk.pending)
        table = self.query_one("#main", Table)
        shown = [row for row in rows if self.passes(" ".join(said for said, _ in row.cells))]
        table.styles.max_height = max(ROWS_LEAST, self.size.height - ROWS_BELOW)
        table.put(shown, say(EMPTY))
        found = selected_replica(self)
        detail = self.query_one("#detail", Lines)
        width = detail.content_size.width or self.size.width
        lines = replica_lines(found, desk.snapshot, now, desk.looks, width) if found else []
        detail.put(lines)
        self._follow()

    def leave(self) -> None:
        """End the log's subprocess."""
        self._followed = ""
        self.workers.cancel_group(self, "follow")

    def _follow(self) -> None:
        """The log of the unit under the cursor, where there is room for it."""
        unit = self.selected_unit() if self.size.height >= LOG_FROM else ""
        if unit == self._followed or not self.is_current:
            return
        self._followed = unit
        self.workers.cancel_group(self, "follow")
        self.query_one(LogView).clear()
        if unit:
            self._keep_following()

    @work(group="follow", exclusive=True)
    async def _keep_following(self) -> None:
        await asyncio.sleep(SETTLE_S)
        self._hear(None)
        name = named_by(self._followed)
        await follow(self.desk.sources, name, self.query_one(LogView), self._hear)

    def _hear(self, missing: Missing | None) -> None:
        said = say("log")
        if missing:
            said = say("log: {reason}", reason=heard(missing.reason))
        self.query_one(LogView).entitle(said)

    def action_why(self) -> None:
        """What is wrong and what to do stands on the Overview."""
        overview = self.app.get_screen("overview")
        assert isinstance(overview, Overview)
        overview.to_why = True
        self._go("overview")

    def on_table_moved(self) -> None:
        """The detail depends on the row."""
        self.call_later(self.show)
