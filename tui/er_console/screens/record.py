"""One line of the log whole: all fields of its record, to be scrolled through."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widget import Widget

from er_console.language import say
from er_console.looks import Line, Looks, clock, cut, wrapped
from er_console.screens.dialogs import Box
from er_console.state import LogLine
from er_console.widgets.lines import Lines


class Record(Box):
    """The record's fields; enter and esc close it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,q", "cancel", "close", show=False),
        Binding("down,j", "scroll(1)", "down", show=False),
        Binding("up,k", "scroll(-1)", "up", show=False),
        Binding("pagedown,space", "scroll(10)", "page down", show=False),
        Binding("pageup", "scroll(-10)", "page up", show=False),
    ]
    AUTO_FOCUS = "#record"

    def __init__(self, line: LogLine, fields: Sequence[tuple[str, str]], looks: Looks) -> None:
        super().__init__(f"{line.unit} {clock(line.time)}".strip())
        self.line, self.fields, self.looks = line, fields, looks

    def inside(self) -> Iterable[Widget]:
        """The fields, in a part that scrolls."""
        with VerticalScroll(id="record"):
            yield Lines(id="fields")

    def on_mount(self) -> None:
        """Lines are made for the width there is."""
        super().on_mount()
        self.query_one("#fields", Lines).put(self._rows(self.room()))

    def on_resize(self) -> None:
        """As above."""
        self.query_one("#fields", Lines).put(self._rows(self.room()))

    def _rows(self, width: int) -> list[Line]:
        words = self.looks.words
        rows: list[Line] = []
        fields = self.fields
        if not fields:
            said = say("The journal has this record no more; this is what was shown of it.")
            rows += [[(row, "warn")] for row in wrapped(words(said), width)]
            fields = (("MESSAGE", self.line.text),)
        for name, value in fields:
            rows.append([(words(name), "dim")])
            pieces = [piece for row in value.split("\n") for piece in cut(words(row), width - 2)]
            rows += [[(f"  {piece}", "strong" if name == "MESSAGE" else "")] for piece in pieces]
        return rows

    def action_scroll(self, by: int) -> None:
        """Through a long one."""
        self.query_one("#record").scroll_relative(y=by, animate=False)
