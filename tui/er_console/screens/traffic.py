"""Traffic: rates, latencies, queue and refusals now, and their past as the gateway remembers it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widget import Widget

from er_console.looks import Line, wrapped
from er_console.panels import machine_line, plot_lines, traffic_lines
from er_console.plots import SPANS, past_plots
from er_console.screens.page import Hint, Page
from er_console.state import Missing, Past, Reading
from er_console.widgets.lines import Choices, Lines

# What this console saw itself, where the gateway tells no past: title, figure, share of the rows.
OWN = (("requests/s", "requests_per_s", 4), ("p95 ms", "p95_ms", 4), ("queue", "queued", 4))
FIXED_ROWS, FRAMED_ROWS = 11, 14
RETRY_S = 5.0


class TrafficPage(Page):
    """Figures above, plots below; the plots take the height there is."""

    page = "traffic"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("z", "span", "span", show=False)]

    span = 0  # which of SPANS
    past: Reading[Past] = Reading()

    def body(self) -> Iterable[Widget]:
        """Two panels, the spans to choose from, the plots; they scroll together."""
        with VerticalScroll(id="main"):
            yield Lines(id="traffic")
            yield Lines(id="refused")
            yield Choices(self._choose, id="spans")
            yield Lines(id="plots")

    def on_mount(self) -> None:
        """Titles, seen where there is room for frames."""
        self.query_one("#traffic").border_title = "traffic, last minute"
        self.query_one("#refused").border_title = "refused"

    def hints(self) -> list[Hint]:
        """The one key of this page."""
        return [Hint("z", f"show {SPANS[(self.span + 1) % len(SPANS)][1]}")]

    def enter(self) -> None:
        """Ask for the past while the page is shown."""
        self.run_worker(self._keep_asking(), group="past", exclusive=True)

    def leave(self) -> None:
        """Nobody looks."""
        self.workers.cancel_group(self, "past")

    def action_span(self) -> None:
        """The next longer past, after the longest the shortest."""
        self._choose(str((self.span + 1) % len(SPANS)))

    def _choose(self, which: str) -> None:
        self.span, self.past = int(which), Reading()
        self.enter()
        self.show()

    async def _keep_asking(self) -> None:
        seconds, _, every_s = SPANS[self.span]
        while True:
            try:
                found = await self.desk.sources.history(seconds)
            except Missing as missing:
                self.past = self.past.failed(missing)
            except Exception as error:  # a fault here must not end the console
                told = f"history: {type(error).__name__}: {error}"
                self.past = self.past.failed(Missing("wrong", told))
            else:
                self.past = self.past.took(found, self.desk.wall())
            self.show()
            await asyncio.sleep(RETRY_S if self.past.missing else every_s)

    def draw(self) -> None:
        """Figures and plots."""
        desk, now = self.desk, self.desk.wall()
        status = desk.snapshot.status.fresh(now, desk.snapshot.limit_s())
        width = max(40, self.query_one("#traffic").content_size.width)
        lines = traffic_lines(status, desk.looks, width)
        self.query_one("#traffic", Lines).put([*lines[:2], machine_line(status, desk.looks)])
        refused = status.traffic.refusals if status else {}
        causes = sorted(refused.items(), key=lambda item: -item[1])
        shown: list[Line] = [[(f"{n:>6.0f}  ", "strong"), (code, "")] for code, n in causes[:6]]
        none = "nothing was refused" if status else "nobody knows what was refused"
        shown = shown or [[(none, "dim")]]
        self.query_one("#refused", Lines).put(shown)
        self._draw_spans()
        framed = self.size.width >= 110 and self.size.height >= 34
        rows = self.size.height - (FRAMED_ROWS if framed else FIXED_ROWS) - len(shown)
        self._draw_past(max(0, rows), now)

    def _draw_spans(self) -> None:
        """The chosen one in brackets: colour is not needed to see it."""
        items: list[tuple[str, Line]] = []
        for i, (_, title, _) in enumerate(SPANS):
            here = i == self.span
            items.append(
                (str(i), [(f"[{title}]" if here else f" {title} ", "here" if here else "dim")])
            )
        self.query_one("#spans", Choices).offer(items)

    def _draw_past(self, rows: int, now: float) -> None:
        looks, panel = self.desk.looks, self.query_one("#plots", Lines)
        width = max(40, panel.content_size.width)
        past, missing = self.past.value, self.past.missing
        panel.border_title = f"the past, {SPANS[self.span][1]}"
        lines: list[Line] = []
        if missing is not None:
            said = looks.words(f"no past from the gateway: {missing}")
            lines = [[(row, "warn")] for row in wrapped(said, width)]
        rows = max(0, rows - len(lines))
        if past is not None:
            panel.put([*lines, *past_plots(past, looks, width, rows, now)])
            return
        if missing is None:
            panel.put([[("asking the gateway for the past", "dim")]])
            return
        panel.border_title = "since this console was opened"
        lines.append([("since this console was opened:", "dim")])
        for title, name, share in OWN:
            height = max(1, share * (rows - 1 - len(OWN)) // 12)
            lines += plot_lines(title, self.desk.history.of(name), looks, width, height)
        panel.put(lines)
