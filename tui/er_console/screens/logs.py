"""Logs: the journal of the gateway, of each replica, and the audit; followed, filtered, held."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual.app import SuspendNotSupported
from textual.binding import Binding, BindingType
from textual.widget import Widget
from textual.widgets import Input

from er_console import sieve
from er_console.language import count, noted, say
from er_console.looks import PRIORITIES, Line, line_width, told, wrapped
from er_console.parts import replica_of, replicas
from er_console.screens.following import follow
from er_console.screens.page import Hint, Page
from er_console.screens.record import Record
from er_console.sources import pager
from er_console.sources.records import AUDIT
from er_console.state import GATEWAY_UNIT, LogLine, Missing
from er_console.widgets.lines import Choices, Lines
from er_console.widgets.log import LogView

LEVELS = ((sieve.ALL, ""), (4, noted("only warnings and worse")), (3, noted("only errors")))
AUDIT_LEVELS = ("", noted("only refused and failed requests"), noted("only failed requests"))
Source = tuple[str, int, str]  # what the journal itself is asked for: unit, level, key


class LogsPage(Page):
    """One subprocess while the page is shown, none otherwise.

    With a `request` (an id) nothing is followed: all lines with that id are looked up.
    """

    page = "logs"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "unit(-1)", "unit", show=False),
        Binding("right,l,f", "unit(1)", "unit", show=False),
        Binding("L", "level", "level", show=False),
        Binding("e", "pager", "pager", show=False),
    ]

    unit = ""
    request = ""
    level = 0
    missing: Missing | None = None
    terms = sieve.Sieve()
    followed: Source | None = None
    found: int | None = None  # lines of the request; None while they are looked for

    def body(self) -> Iterable[Widget]:
        """The units, a row of state, the lines."""
        yield Choices(self.choose, id="units")
        yield LogView(self.desk.looks, id="main")
        yield Lines(id="state")

    def on_mount(self) -> None:
        """The filter here is more than a word."""
        example = say("words  !word  key=ID  rid=ID  unit=NAME  level>=warn; all must hold")
        self.query_one("#filter", Input).placeholder = self.desk.looks.words(example)

    def hints(self) -> list[Hint]:
        """The log's own keys."""
        view = self.query_one(LogView)
        hold = Hint("p", say("pause")) if view.following else Hint("G", say("follow"))
        keys = [Hint("f", say("unit")), hold, Hint("L", say("level")), Hint("/", say("filter"))]
        if not self.desk.readonly:
            keys.append(Hint("e", say("pager")))
        return [Hint("enter", say("open")), *keys, Hint("w", say("wrap"))]

    def choices(self) -> list[tuple[str, str]]:
        """What can be followed: (name, title)."""
        found = replicas(self.desk.snapshot, self.desk.wall())
        names = [(replica.name, replica.name) for replica in found]
        return [("", say("all")), ("gateway", "gateway"), *names, (AUDIT, say("audit"))]

    def choose(self, unit: str) -> None:
        """Follow another unit, from its last lines on."""
        self.unit = replica_of(unit) or ("gateway" if unit == GATEWAY_UNIT else unit)
        self.request = ""
        if self.is_mounted:
            self.enter()
            self.show()

    # Where the lines come from --------------------------------------------------------------

    def _source(self) -> Source:
        level = min(LEVELS[self.level][0], self.terms.level)
        return self.unit, level, self.terms.key if self.unit == AUDIT else ""

    def enter(self) -> None:
        """Start following, or look a request up."""
        self.missing, self.found = None, None
        view = self.query_one(LogView)
        view.clear()
        if self.request:
            self.followed = None
            self.run_worker(self._look_back(self.request), group="follow", exclusive=True)
            return
        self.followed = self._source()
        unit, level, key = self.followed
        following = follow(self.desk.sources, unit, view, self._hear, level=level, key=key)
        self.run_worker(following, group="follow", exclusive=True)

    def leave(self) -> None:
        """End the subprocess, and forget what will come again."""
        self.workers.cancel_group(self, "follow")
        self.followed = None
        self.query_one(LogView).clear()

    def _hear(self, missing: Missing | None) -> None:
        self.missing = missing
        self._draw_state()

    async def _look_back(self, request: str) -> None:
        try:
            found: Sequence[LogLine] = await self.desk.sources.lines_of(request)
        except Missing as missing:
            self._hear(missing)
            return
        self.found = len(found)
        self.query_one(LogView).look_at(found)
        self.show()

    def _again(self) -> None:
        """What the journal is asked for may have changed."""
        followed = self.followed
        if not self.request and self.is_current and followed not in (None, self._source()):
            self.enter()

    # What is shown --------------------------------------------------------------------------

    def draw(self) -> None:
        """The row of units and the row of state; lines come by themselves."""
        items: list[tuple[str, Line]] = []
        for name, title in self.choices():
            role = "here" if name == self.unit and not self.request else "dim"
            items.append((name, [(f" {title} ", role), (" ", "")]))
        # As many from the left as leave the one that is followed in view.
        here = next((i for i, (name, _) in enumerate(items) if name == self.unit), 0)
        while here and sum(line_width(own) for _, own in items[: here + 1]) > self.size.width:
            items.pop(0)
            here -= 1
        self.query_one("#units", Choices).offer(items)
        self._draw_state()

    def _draw_state(self) -> None:
        width = max(20, self.size.width - 2)
        rows = wrapped(self.desk.looks.words(self._state()), width)
        role = "warn" if self.missing or self.terms.wrong or not self._fine() else "dim"
        self.query_one("#state", Lines).put([[(f" {row}", role)] for row in rows])

    def _fine(self) -> bool:
        return self.query_one(LogView).following or bool(self.request and self.found)

    def _state(self) -> str:
        view = self.query_one(LogView)
        if self.missing is not None:
            return told(self.missing)
        parts = [self._what(view)]
        if view.dropped:
            parts.append(count(view.dropped, "{n} line lost", "{n} lines lost"))
        if self.level:
            names = AUDIT_LEVELS if self.unit == AUDIT else [name for _, name in LEVELS]
            parts.append(say(names[self.level]))
        if terms := sieve.understood(self.terms):
            parts.append(say("only {terms}", terms=terms))
        if self.terms.wrong:
            parts.append(self.terms.wrong)
        return "; ".join(parts)

    def _what(self, view: LogView) -> str:
        if self.request and self.found is None:
            return say("looking for request {id}", id=self.request)
        if self.request and not self.found:
            return say(
                "no line of request {id}: the journal has it no more, or never had; esc goes back",
                id=self.request,
            )
        if self.request:
            return count(
                self.found or 0,
                "request {id}: {n} line; esc goes back",
                "request {id}: {n} lines; esc goes back",
                id=self.request,
            )
        if not view.following:
            return say("PAUSED, {n} newer: G follows again", n=view.newer)
        if view.shown:
            return say("following")
        passes = self.level or self.filter
        return say("following; no line passes") if passes else say("following; no line yet")

    # What is done ---------------------------------------------------------------------------

    def filtered(self) -> None:
        """Filter and level decide together, at once; the journal is asked when it is finished."""
        self.terms = terms = sieve.read(self.filter)
        most = LEVELS[self.level][0]
        self.query_one(LogView).keep(
            lambda line: bool(line.lost) or (line.priority <= most and terms.passes(line))
        )
        if not self.filter:
            self._again()
        self._draw_state()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """A finished filter: a request's id is looked up, the rest is followed."""
        if event.input.id != "filter":
            return
        if self.terms.request and self.terms.request != self.request.lower():
            typed = sieve.TOKEN.findall(self.filter)
            named = next(word for word in typed if word.lower().startswith(("rid=", "request=")))
            self.request = named.partition("=")[2].strip('"')
            self.enter()
        elif any(name == self.terms.unit for name, _ in self.choices() if name):
            self.choose(self.terms.unit)
        else:
            self._again()
        self.show()

    def action_unit(self, by: int) -> None:
        """The next or the last unit."""
        names = [name for name, _ in self.choices()]
        at = names.index(self.unit) if self.unit in names else 0
        self.choose(names[(at + by) % len(names)])

    def action_level(self) -> None:
        """All, warnings and worse, errors."""
        self.level = (self.level + 1) % len(LEVELS)
        self.filtered()
        self._again()

    def action_leave(self) -> None:
        """Out of the filter, else from a request back to what was followed, else back."""
        if self.request and not self.query_one("#filter", Input).display:
            self.request = ""
            self.enter()
            self.show()
        else:
            super().action_leave()

    def on_log_view_held(self) -> None:
        """The footer and the state row tell it."""
        self.show()

    def on_log_view_opened(self, event: LogView.Opened) -> None:
        """All lines of the line's request; from there, and where there is none, the line whole."""
        line = event.line
        if line.request and line.request != self.request:
            self.request = line.request
            self.enter()
            self.show()
        elif not line.lost:
            self.run_worker(self._open(line), group="record", exclusive=True)

    async def _open(self, line: LogLine) -> None:
        try:
            fields = await self.desk.sources.record_of(line)
        except Missing as missing:
            self.explain(missing)
            return
        if self.is_current:
            self.app.push_screen(Record(line, fields, self.desk.looks))

    def action_pager(self) -> None:
        """The lines that are shown in $PAGER, which has the terminal meanwhile."""
        if self.desk.readonly:
            self.explain(self.desk.why_not("units") or Missing("rights", say("read-only")))
            return
        text = "\n".join(map(_whole, self.query_one(LogView).shown)) + "\n"
        try:
            with self.app.suspend():
                pager.show(text)
        except SuspendNotSupported:
            reason = say("this terminal can't be given to a pager")
            self.explain(Missing("off", reason, "journalctl -u 'er-*'"))
        except Missing as missing:
            self.explain(missing)
        self.refresh()


def _whole(line: LogLine) -> str:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(line.time))
    return f"{when} {line.unit:<12} {PRIORITIES[line.priority]:<5} {line.text}"
