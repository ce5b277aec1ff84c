"""What every page has: header, tabs, its body, a filter row and a footer that tells the truth."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Input

from er_console.desk import Desk
from er_console.judgement import verdict
from er_console.language import heard, noted, say
from er_console.looks import Line, fit, line_width, width_of
from er_console.panels import header
from er_console.state import Missing
from er_console.widgets.lines import Choices, Lines
from er_console.widgets.table import Table

PAGES = (
    ("overview", "1", noted("Overview")),
    ("replica", "2", noted("Replicas")),
    ("traffic", "3", noted("Traffic")),
    ("keys", "4", noted("Keys")),
    ("logs", "5", noted("Logs")),
    ("try", "6", noted("Try")),
    ("config", "7", noted("Config")),
    ("quality", "8", noted("Quality")),
)
TABS_WIDE = 130  # from here on tabs stand two cells apart


@dataclass(frozen=True, slots=True)
class Hint:
    """A key in the footer: what it does, and whether it can be pressed now."""

    key: str
    label: str
    usable: bool = True


def _key_line(hint: Hint) -> tuple[str, Line]:
    """A key with its label, in brackets when it can't be pressed."""
    role = ("accent", "") if hint.usable else ("dim", "dim")
    label = hint.label if hint.usable else f"({hint.label})"
    return hint.key, [(f" {hint.key}", role[0]), (f" {label} ", role[1])]


class Page(Screen[None]):
    """A page draws itself from the desk whenever the app says so; it does no I/O while drawing."""

    AUTO_FOCUS = "#main"
    HORIZONTAL_BREAKPOINTS: list[tuple[int, str]] | None = [  # noqa: RUF012
        (0, "-tiny"),
        (60, "-narrow"),
        (110, "-wide"),
        (170, "-huge"),
    ]
    VERTICAL_BREAKPOINTS: list[tuple[int, str]] | None = [  # noqa: RUF012
        (0, "-flat"),
        (16, "-low"),
        (34, "-tall"),
    ]
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "filter", show=False),
        Binding("escape", "leave", "back", show=False),
    ]
    page: ClassVar[str] = ""
    steers: ClassVar[bool] = False  # start, stop, restart and drain are among its keys

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self.desk = desk
        self.filter = ""

    def compose(self) -> ComposeResult:
        """Header, tabs, body, filter, footer."""
        yield Lines(id="header")
        yield Choices(self._go, id="tabs")
        with Container(id="body"):
            yield from self.body()
        asked = say("filter; ! in front turns it round")
        yield Input(placeholder=asked, id="filter", compact=True)
        yield Choices(self.press, id="footer")

    def body(self) -> Iterable[Widget]:
        """The page's own widgets; the one with the id main gets the keys."""
        raise NotImplementedError

    def draw(self) -> None:
        """Put the desk's newest facts into the page's widgets."""
        raise NotImplementedError

    def hints(self) -> list[Hint]:
        """The page's keys, most wanted first."""
        return []

    def reasons(self) -> list[Missing]:
        """Why keys are in brackets, beside the lack of rights or of a source."""
        return []

    def selected_key(self) -> str:
        """The key of the row under the cursor; "" on pages without parts."""
        return ""

    def selected_unit(self) -> str:
        """The unit that start, stop and restart would act on; "" for none."""
        key = self.selected_key()
        return "" if key.startswith("replica:") else key

    def selected_request(self) -> str:
        """The id of the request under the cursor; "" on pages without requests."""
        return ""

    def enter(self) -> None:
        """The page is shown."""

    def leave(self) -> None:
        """Another page is shown."""

    def show(self) -> None:
        """Header, tabs and footer, then the page itself."""
        # While the console ends a page loses what is on it before itself, and clocks still tick.
        if not self.is_mounted or not self.size.width or not self.query("#header"):
            return
        desk, now = self.desk, self.desk.wall()
        looks = desk.looks
        self.set_class(looks.ascii_only, "-ascii")
        tags = [desk.sources.tag] if desk.sources.tag else []
        if self._tabs():
            tags.append(say("read-only"))
        head = header(verdict(desk.snapshot, now), looks, self.size.width, now, tags)
        self.query_one("#header", Lines).put([head])
        self._footer()
        self.draw()

    @property
    def title_said(self) -> str:
        """The page's name in English, for `say`."""
        return next(title for page, _, title in PAGES if page == self.page)

    def _tabs(self) -> bool:
        """The pages, and that it is read-only; True when there was no room to say that."""
        items: list[tuple[str, Line]] = []
        apart = "  " if self.size.width >= TABS_WIDE else " "
        for page, digit, title in PAGES:
            role = "here" if page == self.page else "dim"
            items.append((page, [(f" {digit} {say(title)}", role), (apart, "")]))
        missing = self.desk.why_readonly()
        after: Line = []
        crowded = False
        if missing is not None:
            room = self.size.width - sum(line_width(own) for _, own in items) - 1
            short, asks = say("read-only"), say("read-only (?)")
            said = say("read-only: {reason}", reason=heard(missing.reason))
            if room <= 30:
                said = asks if room >= width_of(asks) else short
            crowded = room < width_of(short)
            if not crowded:
                more = "~" if self.desk.looks.ascii_only else "…"
                said = fit(self.desk.looks.words(said), room, more=more).rstrip()
                after = [(f"{said} ", "warn")]
        self.query_one("#tabs", Choices).offer(items, after)
        return crowded

    def _footer(self) -> None:
        always = [_key_line(hint) for hint in (Hint("?", say("help")), Hint("q", say("quit")))]
        room = self.size.width - sum(line_width(own) for _, own in always)
        items: list[tuple[str, Line]] = []
        for name, own in map(_key_line, self.hints()):
            room -= line_width(own)
            if room < 0:
                break
            items.append((name, own))
        self.query_one("#footer", Choices).offer([*items, *always])

    def _go(self, page: str) -> None:
        self.app.call_later(self.app.run_action, f"app.page('{page}')")

    def press(self, key: str) -> None:
        """As if the key were pressed; named as in the footer."""
        names = {"?": "question_mark", "/": "slash", "esc": "escape"}
        self.app.simulate_key(names.get(key, key))

    def explain(self, missing: Missing, command: str = "", *, timeout: float | None = None) -> None:
        """A toast: why it can't be done, what to do, and the command that does it with rights."""
        said = heard(missing.remedy)
        if command and missing.kind == "rights":
            said += "\n" + say("or: {command}", command=command)
        words, title = self.desk.looks.words(said), self.desk.looks.words(heard(missing.reason))
        self.notify(words, title=title, severity="warning", timeout=timeout, markup=False)

    def passes(self, said: str) -> bool:
        """True when a row's text passes the filter."""
        wanted = self.filter
        if wanted.startswith("!"):
            return len(wanted) == 1 or wanted[1:].lower() not in said.lower()
        return wanted.lower() in said.lower()

    def action_filter(self) -> None:
        """Ask for a filter; the last one stands there to be changed."""
        box = self.query_one("#filter", Input)
        box.display = True
        self.set_focus(box)  # at once: what is typed next belongs to it

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter while typing."""
        if event.input.id == "filter":
            self.filter = event.value
            self.filtered()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter keeps the filter and goes back to the rows."""
        if event.input.id == "filter":
            self._close_filter(keep=True)

    def filtered(self) -> None:
        """The filter has changed."""
        self.draw()

    def action_leave(self) -> None:
        """Out of the filter, else back to the overview."""
        box = self.query_one("#filter", Input)
        if box.display or self.filter:
            self._close_filter(keep=False)
        elif self.page != "overview":
            self._go("overview")

    def _close_filter(self, *, keep: bool) -> None:
        box = self.query_one("#filter", Input)
        if not keep:
            box.value = ""
        box.display = bool(keep and box.value)
        self.query_one("#main").focus()

    def on_resize(self, event: events.Resize) -> None:
        """Lines are made for a width, and the cursor is to stay in view."""
        self.call_after_refresh(self.show)
        for table in self.query(Table):
            self.call_after_refresh(table.show_cursor)

    def on_screen_resume(self) -> None:
        """Shown again: with the newest facts."""
        self.call_after_refresh(self.show)
