"""The command palette in the language spoken: Textual's own has its words in English."""

from __future__ import annotations

from rich.align import Align
from rich.text import Text
from textual.command import CommandList, CommandPalette
from textual.widgets.option_list import Option

from er_console.language import say


class Palette(CommandPalette):
    """Commands by their words; what Textual says itself is said by `say`."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(placeholder=say("type to find a command"), id=id)

    def _start_no_matches_countdown(self, search_value: str) -> None:
        """After a moment without a hit; nothing where nothing is looked for."""
        self._stop_no_matches_countdown()

        def none_found() -> None:
            self._list_visible = bool(search_value)
            if search_value:
                words = Align.center(Text(say("no such command")))
                option = Option(words, disabled=True, id=self._NO_MATCHES)
                self.query_one(CommandList).add_option(option)

        self._no_matches_timer = self.set_timer(self._NO_MATCHES_COUNTDOWN, none_found)
