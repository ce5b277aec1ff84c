"""Traffic: figures now and their past, by model, key and dialect; the slowest, the failed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical
from textual.widget import Widget

from er_console.language import say
from er_console.looks import Line, plain, told, wrapped
from er_console.panels import machine_line, plot_lines, traffic_lines
from er_console.plots import PART_PLOTS, PLOTS, SPANS, past_plots
from er_console.screens import requests
from er_console.screens.ended import EndedBox
from er_console.screens.logs import LogsPage
from er_console.screens.page import Hint, Page
from er_console.screens.requests import REQUESTS, VIEWS
from er_console.state import Ended, Missing, Past, Reading, Recent, Sums
from er_console.tables import Row
from er_console.widgets.lines import Choices, Lines
from er_console.widgets.table import Table

# What this console saw itself, where the gateway tells no past: title, figure, share of the rows.
OWN = (("requests/s", "requests_per_s", 4), ("p95 ms", "p95_ms", 4), ("queue", "queued", 4))
RETRY_S = 5.0
RECENT_S, RECENT_EVERY_S = 60, 2.0
OLD_S = 15.0  # what is older is shown no more
LEAST_ROWS, PLOTS_LEAST = 3, 7
BESIDE_ROWS = 8  # of each view that is not the table's, where there is room for all


@dataclass(frozen=True, slots=True)
class Room:
    """How the page's rows are shared."""

    framed: bool
    huge: bool
    rows: int  # for the table (with its head) and what follows it

    @classmethod
    def of(cls, width: int, height: int, refused: int) -> Room:
        """On a screen of that size, `refused` causes."""
        framed = width >= 110 and height >= 34
        if width < 60 or height < 16:  # no figures and no tabs: the style sheet's tiny and flat
            return cls(False, False, height - 2 - 1)
        body = height - 3  # header, tabs, footer
        if not framed:
            return cls(framed, False, body - (5 if height >= 34 else 4) - 1)
        figures = 5 + refused + 2
        return cls(framed, width >= 170, body - figures - 1 - 2)  # the views; the table's frame


class TrafficPage(Page):
    """Figures above, the table in the middle, plots below; side by side where there is room."""

    page = "traffic"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("b", "view(1)", "view", show=False),
        Binding("B", "view(-1)", "view", show=False),
        Binding("z", "span", "span", show=False),
        Binding("l", "app.logs_of", "log", show=False),
    ]

    span = 0  # which of SPANS
    view = VIEWS[0][0]
    past: Reading[Past] = Reading()
    recent: Reading[Recent] = Reading()

    def body(self) -> Iterable[Widget]:
        """Figures and table on one side, the past on the other; or all below each other."""
        with Container(id="sides"):
            with Vertical(id="now"):
                yield Lines(id="traffic")
                yield Lines(id="refused")
                yield Choices(self._look_at, id="views")
                columns = requests.columns_of(self.view)
                yield Table(columns, self.desk.looks, id="main")
                yield Lines(id="told")
                yield Lines(id="beside")
            with Vertical(id="then"):
                yield Choices(self._choose, id="spans")
                yield Lines(id="plots")
                yield Lines(id="detail")

    def on_mount(self) -> None:
        """Titles, seen where there is room for frames."""
        self.query_one("#traffic").border_title = say("traffic, last minute")
        self.query_one("#refused").border_title = say("refused")
        self.query_one("#detail").border_title = say("selected")
        self.query_one("#beside").border_title = say("last minute")

    def hints(self) -> list[Hint]:
        """The keys of this page."""
        after = VIEWS[(self._place() + 1) % len(VIEWS)][1]
        span = SPANS[(self.span + 1) % len(SPANS)][1]
        one = self.selected_request() != ""
        return [
            Hint("b", say(after)),
            Hint("enter", say("open"), one),
            Hint("l", say("its lines"), one),
            Hint("z", say("show {span}", span=say(span))),
            Hint("/", say("filter")),
        ]

    def enter(self) -> None:
        """Ask for the past and the last minute while the page is shown."""
        self._ask_past()
        asking = self._keep_asking("traffic", self._ask_recent, RECENT_EVERY_S)
        self.run_worker(asking, group="recent", exclusive=True)

    def leave(self) -> None:
        """Nobody looks."""
        self.workers.cancel_group(self, "past")
        self.workers.cancel_group(self, "recent")

    # What is asked for ----------------------------------------------------------------------

    def _ask_past(self) -> None:
        seconds, _, every_s = SPANS[self.span]

        async def ask() -> Reading[Any]:
            found = await self.desk.sources.history(seconds)
            self.past = self.past.took(found, self.desk.wall())
            return self.past

        self.run_worker(self._keep_asking("history", ask, every_s), group="past", exclusive=True)

    async def _ask_recent(self) -> Reading[Any]:
        found = await self.desk.sources.recent(RECENT_S)
        self.recent = self.recent.took(found, self.desk.wall())
        return self.recent

    async def _keep_asking(
        self, name: str, ask: Callable[[], Awaitable[Reading[Any]]], every_s: float
    ) -> None:
        while True:
            missing: Missing | None = None
            try:
                await ask()
            except Missing as reason:
                missing = reason
            except Exception as error:  # a fault here must not end the console
                missing = Missing("wrong", f"{name}: {type(error).__name__}: {error}")
            if missing is not None and name == "history":
                self.past = self.past.failed(missing)
            elif missing is not None:
                self.recent = self.recent.failed(missing)
            self.show()
            await asyncio.sleep(RETRY_S if missing else every_s)

    def _known(self) -> Recent | None:
        return self.recent.fresh(self.desk.wall(), OLD_S)

    # What is chosen -------------------------------------------------------------------------

    def _place(self) -> int:
        return [view for view, _ in VIEWS].index(self.view)

    def action_view(self, by: int) -> None:
        """Slowest, failed, by model, by key, by dialect, and round again."""
        self._look_at(VIEWS[(self._place() + by) % len(VIEWS)][0])

    def _look_at(self, view: str) -> None:
        self.view = view
        table = self.query_one(Table)
        table.columns, table.cursor = requests.columns_of(view), ""
        table.put([])
        self.show()

    def action_span(self) -> None:
        """The next longer past, after the longest the shortest."""
        self._choose(str((self.span + 1) % len(SPANS)))

    def _choose(self, which: str) -> None:
        self.span, self.past = int(which), Reading()
        self._ask_past()
        self.show()

    def _request(self) -> Ended | None:
        if self.view not in REQUESTS or not self.query(Table):
            return None
        return requests.request_at(self.query_one(Table).cursor, self._known())

    def selected_request(self) -> str:
        """The id of the request under the cursor."""
        one = self._request()
        return one.id if one is not None else ""

    def on_table_moved(self) -> None:
        """Plots and detail are those of the row under the cursor."""
        self.show()

    def on_table_opened(self, event: Table.Opened) -> None:
        """All that is known of a request."""
        one = self._request()
        if one is not None:
            self.app.push_screen(EndedBox(one, self.desk.looks), self._to_lines)

    def _to_lines(self, request: str | None) -> None:
        """To the Logs page, which shows a request's lines."""
        if request:
            logs = self.app.get_screen("logs")
            assert isinstance(logs, LogsPage)
            logs.unit, logs.request = "", request
            self._go("logs")

    # What is shown --------------------------------------------------------------------------

    def draw(self) -> None:
        """Figures, table and plots."""
        desk, now = self.desk, self.desk.wall()
        looks = desk.looks
        status = desk.snapshot.status.fresh(now, desk.snapshot.limit_s())
        width = max(40, self.query_one("#traffic").content_size.width)
        lines = traffic_lines(status, looks, width)
        refused = self._refused(status.traffic.refusals if status else None)
        room = Room.of(self.size.width, self.size.height, len(refused))
        if room.framed:
            self.query_one("#traffic", Lines).put([*lines[:2], machine_line(status, looks)])
            self.query_one("#refused", Lines).put(refused)
        else:
            more = [machine_line(status, looks)] if self.size.height >= 34 else []
            self.query_one("#traffic", Lines).put([*lines, *more])
        self._draw_choices()
        taken = self._draw_table(room)
        rows = self.size.height - 3 if room.huge else room.rows - taken
        self._draw_past(rows - (3 if room.framed else 1), now, room)

    def _refused(self, refusals: Any) -> list[Line]:
        causes = sorted((refusals or {}).items(), key=lambda item: -item[1])
        shown: list[Line] = [[(f"{n:>6.0f}  ", "strong"), (code, "")] for code, n in causes[:6]]
        none = say("nobody knows what was refused")
        if refusals is not None:
            none = say("nothing was refused")
        return shown or [[(none, "dim")]]

    def _draw_choices(self) -> None:
        """The chosen ones in brackets: colour is not needed to see them."""

        def item(name: str, title: str, here: bool) -> tuple[str, Line]:
            said = say(title)
            return name, [(f"[{said}]" if here else f" {said} ", "here" if here else "dim")]

        views = [item(view, title, view == self.view) for view, title in VIEWS]
        self.query_one("#views", Choices).offer(views)
        spans = [item(str(i), title, i == self.span) for i, (_, title, _) in enumerate(SPANS)]
        part = self._part()
        of = requests.called(self.view, part) if part is not None else ""
        after: Line = [(f"{self.desk.looks.words(of)} ", "accent")] if of else []
        self.query_one("#spans", Choices).offer(spans, after)

    def _rows(self, width: int) -> list[Row]:
        rows = requests.rows_of(self.view, self._known(), self.desk.looks, width)
        said = ((row, " ".join(cell for cell, _ in row.cells) + f" {row.key}") for row in rows)
        return [row for row, words in said if self.passes(words)]

    def _draw_table(self, room: Room) -> int:
        """The rows it took, its head and what is said above it too."""
        table, looks = self.query_one(Table), self.desk.looks
        width = max(40, table.content_size.width)
        rows = self._rows(width - 2)
        missing, lines = self.recent.missing, list[Line]()
        empty = requests.none_of(self.view)
        if missing is not None:
            said = say("no requests from the gateway: {reason}", reason=told(missing))
            lines = [[(row, "warn")] for row in wrapped(looks.words(said), width - 2)]
            empty = say("nobody knows")
        elif self.recent.value is None:
            empty = say("asking the gateway for the last minute")
        elif self.filter and not rows:
            empty = say("no row with these words")
        above = self.query_one("#told", Lines)
        above.display = bool(lines)
        above.put(lines)
        table.put(rows, empty)
        half = room.rows // 2
        most = max(LEAST_ROWS, half - 1 if half > PLOTS_LEAST - 2 else room.rows - 2)
        if room.huge:
            most = max(LEAST_ROWS, room.rows - 1 - 4 * (BESIDE_ROWS - 2))
        shown = max(LEAST_ROWS, min(most, len(rows)))
        table.styles.height = shown + 1 + (2 if room.framed else 0)
        taken = shown + 1 + len(lines)
        if room.huge:
            self._draw_beside(room.rows - taken - 2, width)
        return taken

    def _draw_beside(self, rows: int, width: int) -> None:
        """The other views, as many rows of each as there is room for."""
        panel = self.query_one("#beside", Lines)
        others = [view for view, _ in VIEWS if view != self.view]
        each = max(3, min(BESIDE_ROWS, rows // len(others)))
        lines: list[Line] = []
        for view in others:
            own = requests.still(view, self._known(), self.desk.looks, width, each)
            if len(lines) + len(own) <= rows:
                lines += own
        panel.put(lines)

    def _part(self) -> Sums | None:
        """The model, key or dialect under the cursor."""
        if self.view in REQUESTS:
            return None
        return requests.sums_at(self.view, self.query_one(Table).cursor, self._known())

    def _draw_past(self, rows: int, now: float, room: Room) -> None:
        looks, panel = self.desk.looks, self.query_one("#plots", Lines)
        width = max(40, panel.content_size.width)
        if room.huge:
            rows -= self._draw_detail(rows, width)
        past, missing = self.past.value, self.past.missing
        panel.entitle(say("the past, {span}", span=say(SPANS[self.span][1])))
        lines: list[Line] = []
        if missing is not None:
            said = say("no past from the gateway: {reason}", reason=told(missing))
            lines = [[(row, "warn")] for row in wrapped(looks.words(said), width)]
        if past is not None:
            plots, shown = PLOTS, past
            part = self._part()
            if part is not None:
                own = past.parts.get((self.view, "others" if part.name is None else part.name))
                if own is None:
                    said = say("no past of this row alone: only the busiest have one")
                    lines += [[(row, "dim")] for row in wrapped(said, width)]
                else:
                    plots, shown = PART_PLOTS, replace(past, series=own)
            rows -= len(lines)
            if rows >= PLOTS_LEAST:
                lines += past_plots(shown, looks, width, rows, now, plots)
            panel.put(lines)
            return
        if missing is None:
            panel.put([[(say("asking the gateway for the past"), "dim")]])
            return
        panel.entitle(say("since this console was opened"))
        panel.put([*lines, *self._own(width, rows - len(lines))])

    def _own(self, width: int, rows: int) -> list[Line]:
        lines: list[Line] = [[(say("since this console was opened:"), "dim")]]
        for title, name, share in OWN:
            height = max(1, share * (rows - 1 - len(OWN)) // 12)
            past = self.desk.history.of(name)
            lines += plot_lines(say(title), past, self.desk.looks, width, height)
        return lines

    def _draw_detail(self, rows: int, width: int) -> int:
        """The request under the cursor, below the plots; the rows that it takes, its frame too."""
        one, panel = self._request(), self.query_one("#detail", Lines)
        lines = requests.detail_lines(one, self.desk.looks, width) if one is not None else []
        lines = [line for line in lines if plain(line).strip()]
        lines = lines[: max(0, rows - PLOTS_LEAST - 2)]
        panel.display = bool(lines)
        panel.put(lines)
        return len(lines) + 2 if lines else 0
