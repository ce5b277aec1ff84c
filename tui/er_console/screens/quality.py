"""Quality: whether answers are right and good, by the canary and by clients, and by proofs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widget import Widget

from er_console.graded import Quality
from er_console.language import say
from er_console.looks import Line
from er_console.parts import key_of, replicas
from er_console.screens.page import Hint, Page
from er_console.screens.quality_rows import (
    CANARY_COLUMNS,
    PROOF_COLUMNS,
    canary_row,
    exam_lines,
    feedback_lines,
    proof_row,
    quality_lines,
)
from er_console.state import Missing
from er_console.widgets.lines import Lines
from er_console.widgets.table import Table

REFRESH_S = 5.0
ROWS_AROUND = 3
ROWS_LEAST = 3
FRAMED = (110, 34)  # from this size on each part has a frame: the style sheet's wide and tall


class QualityPage(Page):
    """The gateway's word on quality, what the canary found of each replica, what clients said."""

    page = "quality"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("l", "app.logs_of", "log", show=False)]

    found: Quality | None = None
    missing: Missing | None = None

    def body(self) -> Iterable[Widget]:
        """Sentences, the table, more of the row under the cursor, feedback."""
        yield Lines(id="told")
        yield Table(PROOF_COLUMNS, self.desk.looks, empty=say("no replica is known of"), id="main")
        yield Lines(id="exam")
        yield Lines(id="feedback")

    def on_mount(self) -> None:
        """Titles, seen where there is room for frames; asked again every 5 s while shown."""
        self.query_one("#told").border_title = say("quality")
        self.query_one("#exam").border_title = say("selected")
        self.query_one("#feedback").border_title = say("feedback")
        self.set_interval(REFRESH_S, self._refresh_if_shown)

    def hints(self) -> list[Hint]:
        """Only looking."""
        return [Hint("l", say("log"), bool(self.selected_unit())), Hint("/", say("filter"))]

    def selected_key(self) -> str:
        """The row under the cursor."""
        return self.query_one("#main", Table).cursor

    def enter(self) -> None:
        """Ask."""
        self.run_worker(self.read, group="quality", exclusive=True)  # type: ignore[arg-type]

    def _refresh_if_shown(self) -> None:
        if self.is_current:
            self.enter()

    async def read(self) -> None:
        """Ask the gateway; without one, say so."""
        try:
            self.found, self.missing = await self.desk.sources.quality(), None
        except Missing as missing:
            self.found, self.missing = None, missing
        self.show()

    def on_table_moved(self) -> None:
        """Another replica is under the cursor."""
        self.draw()

    def draw(self) -> None:
        """Sentences, rows, and as much of the rest as there is room for."""
        desk, now = self.desk, self.desk.wall()
        looks, width, height = desk.looks, self.size.width, self.size.height
        known = replicas(desk.snapshot, now, desk.pending)
        found = self.found or Quality()
        lines = quality_lines(self.found, self.missing, known, looks, (width, height), now)
        canary = found.canary
        if canary is None:
            rows = [proof_row(replica, now, looks, found.wrong) for replica in known]
        else:
            rows = [canary_row(r, canary.of(r.name), now, looks, found.wrong) for r in known]
        rows = [row for row in rows if self.passes(" ".join(said for said, _ in row.cells))]
        table = self.query_one("#main", Table)
        table.entitle(say("proof") if canary is None else say("canary"))
        frame = 2 if width >= FRAMED[0] and height >= FRAMED[1] else 0
        left = height - ROWS_AROUND - len(lines) - frame
        table.styles.max_height = max(ROWS_LEAST, left)
        empty = say("no row passes the filter") if known else say("no replica is known of")
        self.query_one("#told", Lines).put(lines)
        table.put(rows, empty, PROOF_COLUMNS if canary is None else CANARY_COLUMNS)
        left -= max(1, len(rows)) + 1 + frame
        under = next((r for r in known if key_of(r) == table.cursor), None)
        one = canary.of(under.name) if canary is not None and under is not None else None
        exam = exam_lines(under, one, looks, width, now) if under is not None else []
        self._put("#exam", exam if len(exam) + frame <= left else [])
        left -= len(exam) + frame if exam else 0
        said = canary is not None or found.feedback is not None
        room = left - frame
        self._put(
            "#feedback", feedback_lines(found.feedback, looks, width, room, now) if said else []
        )

    def _put(self, name: str, lines: list[Line]) -> None:
        """Lines, or nothing at all where there are none: no empty frame."""
        panel = self.query_one(name, Lines)
        panel.display = bool(lines)
        panel.put(lines)
