"""The console itself: asks the sources, keeps the desk, shows pages, and does what is asked for."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from functools import partial
from typing import Any, ClassVar, cast

from rich.text import Text
from textual import events
from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.command import CommandPalette
from textual.notifications import SeverityLevel
from textual.screen import Screen
from textual.theme import Theme
from textual.widgets import Input, TextArea

from er_console.consequences import Question, about_drain, about_unit, needless
from er_console.desk import Desk
from er_console.keymap import help_text, meant
from er_console.language import heard, noted, say
from er_console.looks import Looks, told
from er_console.parts import Pending, is_drained, replica_of
from er_console.polling import BLURRED_S, Polling
from er_console.screens.configuration import ConfigPage
from er_console.screens.dialogs import Box, Confirm, Help
from er_console.screens.keys import KeysPage
from er_console.screens.logs import LogsPage
from er_console.screens.overview import Overview, selected_replica
from er_console.screens.page import PAGES, Page
from er_console.screens.palette import Palette
from er_console.screens.quality import QualityPage
from er_console.screens.replica import ReplicaPage
from er_console.screens.traffic import TrafficPage
from er_console.screens.trying import TryPage
from er_console.sources import Sources
from er_console.state import GATEWAY_UNIT, Missing

HELP_WIDE, HELP_FRAME = 68, 10  # cells of text in a box, and what its frame takes

DARK = Theme(
    name="er-dark",
    dark=True,
    primary="#7aa2c8",
    secondary="#8fb3a9",
    accent="#7fb4d6",
    success="#86c08a",
    warning="#e0b45c",
    error="#ea7f7b",
    foreground="#d5d9de",
    background="#14171b",
    surface="#1a1e23",
    panel="#232930",
    variables={"quiet": "#959da6", "cursor-line": "#27323d", "frame": "#3a424b", "plot": "#4f7187"},
)
LIGHT = Theme(
    name="er-light",
    dark=False,
    primary="#2d6187",
    secondary="#3c7265",
    accent="#22648f",
    success="#226b2b",
    warning="#7a5300",
    error="#b3312c",
    foreground="#22272d",
    background="#fafaf8",
    surface="#f1f1ee",
    panel="#e4e5e2",
    variables={"quiet": "#575e65", "cursor-line": "#d5e3ee", "frame": "#c3c6c8", "plot": "#5f8ba8"},
)

DONE = {
    "start": noted("start done"),
    "stop": noted("stop done"),
    "restart": noted("restart done"),
}
WAIT = {
    "start": noted("{unit}: wait for the start"),
    "stop": noted("{unit}: wait for the stop"),
    "restart": noted("{unit}: wait for the restart"),
}
ELSEWHERE = {
    "start": noted("start it where it was started"),
    "stop": noted("stop it where it was started"),
    "restart": noted("restart it where it was started"),
}
THEMES = ("er-dark", "er-light", "ansi-dark", "ansi-light")


class Console(App[None]):
    """The app. `polls` off lets tests put readings on the desk themselves."""

    CSS_PATH = "console.tcss"
    TITLE = "ER"
    ENABLE_COMMAND_PALETTE = True
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(digit, f"page('{page}')", title, show=False) for page, digit, title in PAGES),
        Binding("s", "unit('start')", "start", show=False),
        Binding("S", "unit('stop')", "stop", show=False),
        Binding("R", "unit('restart')", "restart", show=False),
        Binding("D", "drain", "drain", show=False),
        Binding("question_mark", "help", "help", show=False),
        Binding("colon", "command_palette", "commands", show=False),
        Binding("q", "quit", "quit", show=False),
    ]

    def __init__(
        self,
        sources: Sources,
        looks: Looks,
        *,
        readonly: bool = False,
        ansi: bool = False,
        polls: bool = True,
        wall: Callable[[], float] = time.time,
        interval_s: float = 1.0,
    ) -> None:
        super().__init__()
        self.desk = Desk(sources, looks, readonly=readonly, wall=wall)
        self.polls = polls
        self.interval_s = interval_s
        self.pages: dict[str, Page] = {}
        self.now_shown = ""
        # Before it runs: a theme that is set later has all of the style sheet read again.
        self.register_theme(DARK)
        self.register_theme(LIGHT)
        self.theme = "ansi-dark" if ansi else "er-dark"
        self._loop_here: asyncio.AbstractEventLoop | None = None
        self.polling = Polling(self.desk, self._pace, self.refresh_page)

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Our own colours, in themes that do not name them: the terminal's."""
        plain = "ansi_default"
        return {"quiet": plain, "cursor-line": plain, "frame": plain, "plot": plain}

    def on_mount(self) -> None:
        """Pages, pollers."""
        first: tuple[type[Page], ...] = (Overview, ReplicaPage, TrafficPage, KeysPage)
        kinds: tuple[type[Page], ...] = (*first, LogsPage, TryPage, ConfigPage, QualityPage)
        for kind in kinds:
            self.pages[kind.page] = kind(self.desk)
            self.install_screen(self.pages[kind.page], kind.page)
        self.push_screen("overview")
        self.now_shown = "overview"
        self.call_after_refresh(self.pages["overview"].enter)
        if not self.polls:
            return
        for name, loop in self.polling.loops().items():
            self.run_worker(loop, group=name, exclusive=True)
        self.set_interval(self.interval_s, self.refresh_page)

    def on_load(self) -> None:
        """From now on `end_by` has a loop to ask."""
        self._loop_here = asyncio.get_running_loop()

    def end_by(self, number: int) -> None:
        """End as q does, with a signal's exit code; may be called from anywhere."""
        if self._loop_here is not None:
            with suppress(RuntimeError):  # the loop has ended already
                self._loop_here.call_soon_threadsafe(lambda: self.exit(return_code=128 + number))

    def on_key(self, event: events.Key) -> None:
        """Letters typed ahead, while a field was being opened, belong to it: /q must not quit."""
        field = self.focused
        if isinstance(field, Input) and event.is_printable and event.character:
            event.prevent_default()
            field.insert_text_at_cursor(event.character)
        elif isinstance(field, TextArea) and event.is_printable and event.character:
            event.prevent_default()
            field.insert(event.character)

    def notify(
        self,
        message: str,
        *,
        title: str = "",
        severity: SeverityLevel = "information",
        timeout: float | None = None,
        markup: bool = False,
    ) -> None:
        """A toast; older ones that are no warning make room, as they hide what is below them."""
        for older in [toast for toast in self._notifications if toast.severity == "information"]:
            self._unnotify(older, refresh=False)
        super().notify(message, title=title, severity=severity, timeout=timeout, markup=markup)

    def copy_to_clipboard(self, text: str) -> None:
        """To the terminal. Textual's own copy, to paste from, is not kept: it may be a secret."""
        super().copy_to_clipboard(text)
        self._clipboard = ""

    def _fatal_error(self) -> None:
        """A fault of ours: its traceback, without the local variables, which may hold a secret."""
        self._exit_renderables.append(Text(traceback.format_exc()))
        self._close_messages_no_wait()

    # Readings -------------------------------------------------------------------------------

    def _pace(self) -> float:
        return self.interval_s if self.app_focus else max(BLURRED_S, self.interval_s)

    async def read(self, name: str, read: Callable[[], Awaitable[Any]], pace: float) -> None:
        """Ask a source once and put its answer, or why there is none, on the desk."""
        await self.polling.read(name, read, pace)

    async def read_all(self) -> None:
        """Ask all sources once, and draw: after an action, and in tests."""
        await self.polling.read_all()

    def refresh_page(self) -> None:
        """Draw the page in view, the one under a box too."""
        page = self.pages.get(self.now_shown)
        if page is not None and page in self.screen_stack:
            page.show()

    # Pages ----------------------------------------------------------------------------------

    def action_page(self, name: str) -> None:
        """Go to a page."""
        if isinstance(self.screen, Box) or name == self.now_shown or name not in self.pages:
            return
        before, after = self.pages[self.now_shown], self.pages[name]
        key = before.selected_key()
        self.now_shown = name
        self.switch_screen(name)
        before.leave()

        def arrived() -> None:
            if isinstance(after, ReplicaPage):
                after.show()
                after.select(key)
            after.enter()
            after.show()

        after.call_after_refresh(arrived)

    def action_logs_of(self) -> None:
        """The log of the row under the cursor, or of the request that it is about."""
        page = self.pages[self.now_shown]
        if any(hint.key == "l" and not hint.usable for hint in page.hints()):
            return
        unit = page.selected_unit()
        logs = cast(LogsPage, self.pages["logs"])
        logs.request = page.selected_request()
        logs.unit = replica_of(unit) or ("gateway" if unit == GATEWAY_UNIT else "")
        self.action_page("logs")

    def action_help(self) -> None:
        """Keys, and what can't be done here and why."""
        if isinstance(self.screen, Box):
            return
        page = self.pages[self.now_shown]
        pressed = [(hint.key, hint.label, hint.usable) for hint in page.hints()]
        why = [missing for what in ("units", "admin") if (missing := self.desk.why_not(what))]
        why += page.reasons()
        reasons = list({told(missing): missing for missing in why}.values())
        width = max(20, min(HELP_WIDE, self.size.width - HELP_FRAME))
        last = PAGES[-1][1]
        words = help_text(page.page, pressed, reasons, self.desk.looks, width, last)
        title = say("Keys: {page}", page=say(page.title_said))
        self.push_screen(Help(title, words))

    def action_help_quit(self) -> None:
        """ctrl+c copies in a field, and else says how to leave."""
        self.notify(say("q quits (ctrl+q in a field too)"), markup=False)

    def action_command_palette(self) -> None:
        """The palette, in the language spoken."""
        if not isinstance(self.screen, CommandPalette):
            self.push_screen(Palette(id="--command-palette"))

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """The palette: what the page's keys do, pages, themes, quit. No screenshot: a secret may
        be on the screen.
        """
        if isinstance(screen, Page):
            for hint in screen.hints():
                words = say("key {key}", key=hint.key)
                if not hint.usable:
                    words = say("key {key}; can't be pressed now", key=hint.key)
                press = partial(self.call_later, screen.press, hint.key)
                yield SystemCommand(meant(screen.page, hint.key, hint.label), words, press)
        for page, digit, title in PAGES:
            words = say("key {key}", key=digit)
            yield SystemCommand(say(title), words, partial(self.action_page, page))
        for theme in THEMES:
            name = say("Theme {theme}", theme=theme)
            yield SystemCommand(name, say("colours"), partial(self._take_theme, theme))
        yield SystemCommand(say("Help"), say("key {key}", key="?"), self.action_help)
        yield SystemCommand(say("Quit"), say("key {key}", key="q"), self.exit)

    def _take_theme(self, name: str) -> None:
        self.theme = name

    # Actions --------------------------------------------------------------------------------

    def _explain(self, missing: Missing, command: str = "") -> None:
        self.pages[self.now_shown].explain(missing, command, timeout=10)

    def _ask(self, question: Question, doing: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do it when the operator is sure."""

        def go(sure: bool | None) -> None:
            if sure:
                self.run_worker(doing())

        self.push_screen(Confirm(question.shown(self.desk.looks)), go)

    def action_unit(self, verb: str) -> None:
        """Start, stop or restart what the cursor is on, after asking."""
        page = self.pages.get(self.now_shown)
        if page is None or page is not self.screen or not page.steers:
            return
        unit = page.selected_unit()
        if not unit:
            if page.selected_key():
                elsewhere = say("no unit of systemd runs this replica here")
                self._explain(Missing("off", elsewhere, say(ELSEWHERE[verb])))
            return
        missing = self.desk.why_not("units")
        if missing is not None:
            self._explain(missing, f"sudo systemctl {verb} {unit}")
            return
        if unit in self.desk.pending:
            self.notify(say(WAIT[self.desk.pending[unit].verb], unit=unit), markup=False)
            return
        pointless = needless(verb, unit, self.desk.snapshot, self.desk.wall())
        if pointless is not None:
            self._explain(pointless)
            return
        question = about_unit(verb, unit, self.desk.snapshot, self.desk.wall())
        self._ask(question, partial(self._act, verb, unit))

    async def _act(self, verb: str, unit: str) -> None:
        self.desk.pending[unit] = Pending(verb, self.desk.wall())
        self.refresh_page()
        try:
            outcome = await self.desk.sources.act(verb, unit)
        except Missing as missing:
            self._explain(missing)
            return
        finally:
            self.desk.pending.pop(unit, None)
        severity = "information" if outcome.ok else "error"
        said = self.desk.looks.words(heard(outcome.text))
        title = self.desk.looks.words(heard(outcome.remedy) or say(DONE[verb]))
        self.notify(said, title=title, severity=severity, timeout=10, markup=False)  # type: ignore[arg-type]
        await self.read_all()

    def action_drain(self) -> None:
        """Take the replica under the cursor out of service after asking, or back at once."""
        page = self.pages.get(self.now_shown)
        if page is None or page is not self.screen or not page.steers:
            return
        replica = selected_replica(page)
        if replica is None:
            return
        missing = self.desk.why_not("admin")
        if missing is not None:
            verb = "resume" if is_drained(replica) else "drain"
            self._explain(missing, f"sudo er {verb} {replica.name}")
            return
        if is_drained(replica):
            self.run_worker(self._drain(replica.name, on=False))
            return
        question = about_drain(replica, self.desk.snapshot, self.desk.wall())
        self._ask(question, partial(self._drain, replica.name, on=True))

    async def _drain(self, name: str, *, on: bool) -> None:
        try:
            outcome = await self.desk.sources.drain(name, on)
        except Missing as missing:
            self._explain(missing)
            return
        self.notify(self.desk.looks.words(heard(outcome.text)), markup=False)
        await self.read_all()
