"""One request that is over, whole: what is known of it, and where its time went."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widget import Widget

from er_console.language import say
from er_console.looks import Looks
from er_console.screens.dialogs import Box
from er_console.screens.requests import detail_lines
from er_console.state import Ended
from er_console.widgets.lines import Lines


class EndedBox(Box):
    """Enter and esc close it; l ends it with the request's id, for the lines of its log."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,q", "cancel", "close", show=False),
        Binding("l", "lines", "log", show=False),
        Binding("down,j", "scroll(1)", "down", show=False),
        Binding("up,k", "scroll(-1)", "up", show=False),
    ]
    AUTO_FOCUS = ""

    def __init__(self, one: Ended, looks: Looks) -> None:
        super().__init__(say("request"))
        self.one, self.looks = one, looks

    def inside(self) -> Iterable[Widget]:
        """The facts, in a part that scrolls."""
        with VerticalScroll(id="ended"):
            yield Lines(id="facts")

    def on_mount(self) -> None:
        """Lines are made for the width there is."""
        super().on_mount()
        self._lay_out()

    def on_resize(self) -> None:
        """As above."""
        self._lay_out()

    def _lay_out(self) -> None:
        lines = detail_lines(self.one, self.looks, self.room())
        keys = say("l its lines in the log   esc back")
        self.query_one("#facts", Lines).put([*lines, [], [(self.looks.words(keys), "dim")]])

    def action_lines(self) -> None:
        """To the Logs page: of this request, wherever the cursor below is by now."""
        self.dismiss(self.one.id)

    def action_scroll(self, by: int) -> None:
        """On a small screen not all of it is in view."""
        self.query_one("#ended").scroll_relative(y=by, animate=False)
