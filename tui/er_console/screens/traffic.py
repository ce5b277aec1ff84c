"""Traffic: rates, latencies, queue and refusals, with the minutes since the console was opened."""

from __future__ import annotations

from collections.abc import Iterable

from textual.containers import VerticalScroll
from textual.widget import Widget

from er_console.panels import machine_line, plot_lines, traffic_lines
from er_console.screens.page import Page
from er_console.widgets.lines import Lines

PLOTS = (
    ("sequences/s", "sequences_per_s", 3),
    ("requests/s", "requests_per_s", 2),
    ("p95 ms", "p95_ms", 3),
    ("queue", "queued", 1),
    ("in flight", "in_flight", 1),
)
FIXED_ROWS = 14


class TrafficPage(Page):
    """Figures above, plots below; the plots take the height there is."""

    page = "traffic"

    def body(self) -> Iterable[Widget]:
        """Two panels that scroll together."""
        with VerticalScroll(id="main"):
            yield Lines(id="traffic")
            yield Lines(id="refused")
            yield Lines(id="plots")

    def on_mount(self) -> None:
        """Titles, seen where there is room for frames."""
        self.query_one("#traffic").border_title = "traffic, last minute"
        self.query_one("#refused").border_title = "refused"
        self.query_one("#plots").border_title = "since this console was opened"

    def draw(self) -> None:
        """Figures and plots."""
        desk, now = self.desk, self.desk.wall()
        status = desk.snapshot.status.fresh(now, desk.snapshot.limit_s())
        width = max(40, self.query_one("#traffic").content_size.width)
        lines = traffic_lines(status, desk.looks, width)
        self.query_one("#traffic", Lines).put([*lines[:2], machine_line(status, desk.looks)])
        refused = status.traffic.refusals if status else {}
        causes = sorted(refused.items(), key=lambda item: -item[1])
        shown = [[(f"{count:>6.0f}  ", "strong"), (code, "")] for code, count in causes[:6]]
        self.query_one("#refused", Lines).put(shown or [[("nothing was refused", "dim")]])
        rows = max(0, self.size.height - FIXED_ROWS - len(shown))
        plots = []
        width = max(40, self.query_one("#plots").content_size.width)
        for title, name, share in PLOTS:
            height = max(1, share * (rows - len(PLOTS)) // 12)
            plots += plot_lines(title, desk.history.of(name), desk.looks, width, height)
        self.query_one("#plots", Lines).put(plots)
