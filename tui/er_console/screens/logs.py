"""Logs: the journal of the gateway, of each replica, and the audit; followed, filtered, held."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widget import Widget

from er_console.looks import Line, line_width, wrapped
from er_console.parts import replica_of, replicas
from er_console.screens.following import follow
from er_console.screens.page import Hint, Page
from er_console.state import GATEWAY_UNIT, LogLine, Missing
from er_console.widgets.lines import Choices, Lines
from er_console.widgets.log import LogView

LEVELS = ((7, "all levels"), (4, "warnings"), (3, "errors"))


class LogsPage(Page):
    """One subprocess while the page is shown, none otherwise."""

    page = "logs"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "unit(-1)", "unit", show=False),
        Binding("right,l,f", "unit(1)", "unit", show=False),
        Binding("L", "level", "level", show=False),
    ]

    unit = ""
    request = ""
    level = 0
    missing: Missing | None = None

    def body(self) -> Iterable[Widget]:
        """The units, a row of state, the lines."""
        yield Choices(self.choose, id="units")
        yield LogView(self.desk.looks, id="main")
        yield Lines(id="state")

    def hints(self) -> list[Hint]:
        """The log's own keys."""
        view = self.query_one(LogView)
        hold = Hint("p", "pause") if view.following else Hint("G", "follow")
        return [Hint("f", "unit"), hold, Hint("L", "level"), Hint("w", "wrap"), Hint("/", "filter")]

    def choices(self) -> list[tuple[str, str]]:
        """What can be followed: (name, title)."""
        found = replicas(self.desk.snapshot, self.desk.wall())
        names = [(replica.name, replica.name) for replica in found]
        return [("", "all"), ("gateway", "gateway"), *names, ("audit", "audit")]

    def choose(self, unit: str) -> None:
        """Follow another unit, from its last lines on."""
        self.unit = replica_of(unit) or ("gateway" if unit == GATEWAY_UNIT else unit)
        if self.is_mounted:
            self.query_one(LogView).clear()
            self.enter()
            self.show()

    def enter(self) -> None:
        """Start following."""
        self.missing = None
        view = self.query_one(LogView)
        following = follow(self.desk.sources, self.unit, view, self._hear)
        self.run_worker(following, group="follow", exclusive=True)

    def leave(self) -> None:
        """End the subprocess, and forget what will come again."""
        self.workers.cancel_group(self, "follow")
        self.query_one(LogView).clear()

    def _hear(self, missing: Missing | None) -> None:
        self.missing = missing
        self._draw_state()

    def draw(self) -> None:
        """The row of units and the row of state; lines come by themselves."""
        items: list[tuple[str, Line]] = []
        for name, title in self.choices():
            role = "here" if name == self.unit else "dim"
            items.append((name, [(f" {title} ", role), (" ", "")]))
        # As many from the left as leave the one that is followed in view.
        here = next((i for i, (name, _) in enumerate(items) if name == self.unit), 0)
        while here and sum(line_width(own) for _, own in items[: here + 1]) > self.size.width:
            items.pop(0)
            here -= 1
        self.query_one("#units", Choices).offer(items)
        self._draw_state()

    def _draw_state(self) -> None:
        view = self.query_one(LogView)
        line: Line = []
        above: list[Line] = []
        if self.missing is not None:
            words = wrapped(self.desk.looks.words(str(self.missing)), max(20, self.size.width - 2))
            *above, line = [[(f" {row}", "warn")] for row in words]
        elif not view.following:
            lost = f", {view.dropped} lost" if view.dropped else ""
            line = [(f" PAUSED, {view.newer} newer{lost}: G follows again", "warn")]
        else:
            none = "passes" if self.level or self.filter else "yet"
            line = [(" following" if view.said else f" following; no line {none}", "dim")]
        shown = LEVELS[self.level][1]
        if self.level:
            line.append((f"   only {shown}", "accent"))
        if self.filter:
            line.append((f"   only lines with {self.filter}", "accent"))
        self.query_one("#state", Lines).put([*above, line])

    def filtered(self) -> None:
        """Filter and level decide together."""
        most = LEVELS[self.level][0]

        def keeps(line: LogLine) -> bool:
            return line.priority <= most and self.passes(f"{line.unit} {line.text}")

        self.query_one(LogView).keep(keeps)
        self._draw_state()

    def action_unit(self, by: int) -> None:
        """The next or the last unit."""
        names = [name for name, _ in self.choices()]
        at = names.index(self.unit) if self.unit in names else 0
        self.choose(names[(at + by) % len(names)])

    def action_level(self) -> None:
        """All, warnings and worse, errors."""
        self.level = (self.level + 1) % len(LEVELS)
        self.filtered()

    def on_log_view_held(self) -> None:
        """The footer and the state row tell it."""
        self.show()
