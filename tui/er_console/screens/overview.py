"""Overview: is everything well, and if not, which part, why, and what to press."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Container, VerticalScroll
from textual.widget import Widget

from er_console.advice import advice
from er_console.consequences import VERBS, needless
from er_console.desk import Desk
from er_console.details import replica_lines
from er_console.judgement import worst
from er_console.language import heard, noted, say
from er_console.looks import Line, told
from er_console.panels import (
    advice_lines,
    change_lines,
    gpu_lines,
    host_lines,
    machine_line,
    past_lines,
    plot_lines,
    spark_line,
    traffic_lines,
)
from er_console.parts import gateway, is_drained, key_of, named_by, replicas
from er_console.screens.following import follow
from er_console.screens.page import Hint, Page
from er_console.state import GATEWAY_UNIT, Missing, Replica
from er_console.tables import PART_COLUMNS, Row, part_rows
from er_console.widgets.lines import Lines
from er_console.widgets.log import LogView
from er_console.widgets.table import Table

ROWS_BESIDE_PLOTS = 28
ROWS_BESIDE_DETAIL = 28
TITLES = {
    "main": noted("parts"),
    "traffic": noted("traffic, last minute"),
    "gpus": noted("GPUs"),
    "hosts": noted("hosts"),
    "why": noted("what to do"),
    "changes": noted("changes"),
    "detail": noted("selected"),
    "plots": noted("past"),
    "log": noted("log"),
}
# The plots of a huge screen: title, figure.
PLOTS = (
    (noted("sequences/s"), "sequences_per_s"),
    (noted("p95 ms"), "p95_ms"),
    (noted("queue"), "queued"),
)


def unit_hints(page: Page) -> list[Hint]:
    """Start, stop, restart and drain of what the cursor is on, as far as they can be pressed."""
    desk = page.desk
    unit = page.selected_unit()
    units = bool(unit) and desk.why_not("units") is None
    admin = bool(named_by(page.selected_key())) and desk.why_not("admin") is None
    found = selected_replica(page)
    sense = {verb: units and why_needless(page, verb) is None for verb in VERBS}
    drain = say("resume") if found is not None and is_drained(found) else say("drain")
    return [
        Hint("s", say("start"), sense["start"]),
        Hint("S", say("stop"), sense["stop"]),
        Hint("R", say("restart"), sense["restart"]),
        Hint("D", drain, admin),
        Hint("l", say("log"), bool(unit)),
    ]


def why_needless(page: Page, verb: str) -> Missing | None:
    """Why start, stop or restart would change nothing for the row under the cursor."""
    unit = page.selected_unit()
    return needless(verb, unit, page.desk.snapshot, page.desk.wall()) if unit else None


def reasons(page: Page) -> list[Missing]:
    """Why some of the units' keys would change nothing now, each reason once."""
    found = (why_needless(page, verb) for verb in VERBS)
    return list({told(missing): missing for missing in found if missing is not None}.values())


def selected_replica(page: Page) -> Replica | None:
    """The replica the cursor is on."""
    name = named_by(page.selected_key())
    found = replicas(page.desk.snapshot, page.desk.wall(), page.desk.pending)
    return next((replica for replica in found if replica.name == name), None)


def worst_key(desk: Desk) -> str:
    """The key of the part that is worst off: the gateway when nothing gets through it, else a
    replica; "" when all are well.
    """
    now = desk.wall()
    if gateway(desk.snapshot, now).state in ("stopped", "failed", "down"):
        return GATEWAY_UNIT
    bad = worst(replicas(desk.snapshot, now, desk.pending))
    return key_of(bad) if bad is not None else ""


class Overview(Page):
    """The table of parts; traffic, GPUs, what to do; and what has changed."""

    page = "overview"
    steers = True
    to_why = False  # what is wrong is to be scrolled to when the page is shown next
    _following = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("l", "app.logs_of", "log", show=False),
        Binding("w", "why", "why", show=False),
    ]

    def body(self) -> Iterable[Widget]:
        """Left what is, right (when there is room) the selected part and its past."""
        with Container(id="columns"):
            with VerticalScroll(id="left", can_focus=False):
                yield Table(PART_COLUMNS, self.desk.looks, id="main")
                yield Lines(id="traffic")
                yield Lines(id="gpus")
                yield Lines(id="hosts")
                yield Lines(id="why")
                yield Lines(id="changes")
                yield LogView(self.desk.looks, id="log")
            with VerticalScroll(id="right", can_focus=False):
                yield Lines(id="detail")
                yield Lines(id="plots")

    def on_mount(self) -> None:
        """Titles, seen where there is room for frames."""
        for name, title in TITLES.items():
            self.query_one(f"#{name}").border_title = say(title)

    def hints(self) -> list[Hint]:
        """The units' keys, then the filter."""
        return [*unit_hints(self), Hint("w", say("why")), Hint("/", say("filter"))]

    def reasons(self) -> list[Missing]:
        """Why a key of the row under the cursor is in brackets."""
        return reasons(self)

    def selected_key(self) -> str:
        """The row under the cursor."""
        return self.query_one("#main", Table).cursor

    def enter(self) -> None:
        """On a huge screen there is room to follow the log."""
        if self.to_why:
            self.to_why = False
            self.call_after_refresh(self.action_why)
        if not self.has_class("-huge") or self._following:
            return
        self._following = True
        view = self.query_one(LogView)
        view.clear()
        following = follow(self.desk.sources, "", view, self._hear)
        self.run_worker(following, group="follow", exclusive=True)

    def leave(self) -> None:
        """End the log's subprocess."""
        self._following = False
        self.workers.cancel_group(self, "follow")

    def _hear(self, missing: Missing | None) -> None:
        said = say("log")
        if missing:
            said = say("log: {reason}", reason=heard(missing.reason))
        self.query_one(LogView).entitle(said)

    def draw(self) -> None:
        """All panels that are in view."""
        desk, now = self.desk, self.desk.wall()
        looks, snapshot = desk.looks, desk.snapshot
        status = snapshot.status.fresh(now, snapshot.limit_s())
        rows = part_rows(snapshot, now, looks, desk.pending)
        self.query_one("#main", Table).put([row for row in rows if self.passes(_said(row))])
        huge = self.has_class("-huge")
        width = self._width("traffic")
        lines = [*traffic_lines(status, looks, width), machine_line(status, looks)]
        if self.has_class("-low"):
            lines[-1] = spark_line(desk.history, looks, width)
        elif not huge:
            height = max(1, min(7, self.size.height - ROWS_BESIDE_PLOTS - len(rows)))
            lines += [[], *past_lines(desk.history, looks, width, height)]
        self.query_one("#traffic", Lines).put(lines)
        self.query_one("#gpus", Lines).put(gpu_lines(snapshot, now, looks, self._width("gpus")))
        hosts = self.query_one("#hosts", Lines)
        hosts.put(host_lines(status, looks, self._width("gpus")))
        hosts.set_class(not (status and status.hosts), "-none")
        found = advice(snapshot, now)
        self.query_one("#why", Lines).put(advice_lines(found, looks, self._width("why")))
        seen = list(desk.changes)[-12:]
        self.query_one("#changes", Lines).put(change_lines(seen, looks, self._width("changes")))
        if huge:
            self._draw_right()
            self.enter()

    def _draw_right(self) -> None:
        desk, now = self.desk, self.desk.wall()
        replica = selected_replica(self)
        detail = self.query_one("#detail", Lines)
        if replica is None:
            detail.put([[(say("move the cursor to a replica to see more of it here"), "dim")]])
        else:
            room = self._width("detail")
            detail.put(replica_lines(replica, desk.snapshot, now, desk.looks, room))
        width = self._width("plots")
        height = max(3, min(12, (self.size.height - ROWS_BESIDE_DETAIL) // 3))
        plots: list[Line] = []
        for title, name in PLOTS:
            plots += plot_lines(say(title), desk.history.of(name), desk.looks, width, height)
            plots.append([])
        self.query_one("#plots", Lines).put(plots[:-1])

    def _width(self, name: str) -> int:
        return max(40, self.query_one(f"#{name}").content_size.width)

    def action_why(self) -> None:
        """The cursor to the part that is worst off; in view, what is wrong and what to do."""
        table = self.query_one("#main", Table)
        key = worst_key(self.desk)
        if any(row.key == key for row in table.rows):
            table.stand_on(key)
        self.query_one("#why").scroll_visible(animate=False)
        table.show_cursor()

    def on_table_moved(self) -> None:
        """The footer and the detail depend on the row."""
        self.call_later(self.show)

    def on_table_opened(self, event: Table.Opened) -> None:
        """Enter shows all of a replica, or the log of what is none."""
        if named_by(event.key):
            self._go("replica")
        else:
            self.app.call_later(self.app.run_action, "app.logs_of")


def _said(row: Row) -> str:
    return " ".join(said for said, _ in row.cells)
