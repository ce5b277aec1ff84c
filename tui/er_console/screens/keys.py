"""Keys: who may ask; make one, give it a new secret, take it away."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any, ClassVar

from textual.binding import Binding, BindingType
from textual.widget import Widget

from er_console.consequences import about_revoke
from er_console.judgement import lasted
from er_console.looks import Line, Looks, fit, width_of, wrapped
from er_console.screens.dialogs import Confirm, NewKey, Rotate, Secret
from er_console.screens.page import Hint, Page
from er_console.state import Key, Missing
from er_console.tables import KEY_COLUMNS, Row
from er_console.widgets.lines import Lines
from er_console.widgets.table import Table

REFRESH_S = 5.0
NAME_CELLS = 40
ROWS_AROUND = 8  # header, tabs, a blank row, up to four of state, footer
ROWS_LEAST = 3


def seconds_of(stamp: str) -> float | None:
    """The unix time of an ISO stamp, None when it is none."""
    try:
        return datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp()
    except ValueError:
        return None


def key_state(key: Key, now: float) -> str:
    """active, rotating (the old secret still works), expired or revoked."""
    if key.revoked:
        return "revoked"
    expires = seconds_of(key.expires)
    if expires is not None and expires <= now:
        return "expired"
    until = seconds_of(key.previous_valid_until)
    return "rotating" if until is not None and until > now else "active"


def key_row(key: Key, now: float, looks: Looks) -> Row:
    """A key's row."""
    used = seconds_of(key.last_used)
    until = seconds_of(key.previous_valid_until)
    still = f"{key.previous_valid_until[11:16]} ({lasted(until - now)})" if until else "-"
    cells = (
        (looks.words(key.name) or "-", "strong"),
        (key.id, ""),
        looks.state(key_state(key, now)),
        (key.rate_limit or "default", "" if key.rate_limit else "dim"),
        (f"{lasted(now - used)} ago" if used is not None else "never", ""),
        (still if until is not None and until > now else "-", "dim"),
        (key.expires[:16].replace("T", " ") or "never", "dim"),
        (looks.words(", ".join(key.models)) or "all", "dim"),
    )
    return Row(key.id, cells)


class KeysPage(Page):
    """The table of keys. A secret is shown once, in a box of its own, and kept nowhere."""

    page = "keys"
    actions_in = "admin"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("N", "new", "new", show=False),
        Binding("O", "rotate", "rotate", show=False),
        Binding("X", "revoke", "revoke", show=False),
        Binding("y", "copy", "copy id", show=False),
    ]

    found: tuple[Key, ...] = ()
    missing: Missing | None = None

    def body(self) -> Iterable[Widget]:
        """The table and a line below it."""
        yield Table(KEY_COLUMNS, self.desk.looks, empty="reading the keys", id="main")
        yield Lines(id="state")

    def on_mount(self) -> None:
        """Title, seen where there is room for a frame; the list is read again every 5 s."""
        self.query_one("#main").border_title = "keys"
        self.set_interval(REFRESH_S, self._refresh_if_shown)

    def hints(self) -> list[Hint]:
        """What can be done with keys, and whether."""
        usable = self._why_not() is None
        one = usable and self._selected() is not None
        return [
            Hint("N", "new", usable),
            Hint("O", "rotate", one),
            Hint("X", "revoke", one),
            Hint("y", "copy id", self._selected() is not None),
            Hint("/", "filter"),
        ]

    def enter(self) -> None:
        """Read the list."""
        self.run_worker(self.read(), group="keys", exclusive=True)

    def _refresh_if_shown(self) -> None:
        if self.is_current:
            self.enter()

    async def read(self) -> None:
        """Ask for the keys; without rights or gateway, say so, and the command that does it."""
        try:
            self.found, self.missing = await self.desk.sources.keys(), None
        except Missing as missing:
            self.missing = missing
        self.show()

    def draw(self) -> None:
        """Rows, and why there are none."""
        now = self.desk.wall()
        rows = [key_row(key, now, self.desk.looks) for key in self.found]
        rows = [row for row in rows if self.passes(" ".join(said for said, _ in row.cells))]
        empty = "no key passes the filter" if self.found else "no key yet: N makes one"
        if self.missing is not None:
            empty = "the keys can't be read now"
        table = self.query_one("#main", Table)
        table.styles.max_height = max(ROWS_LEAST, self.size.height - ROWS_AROUND)
        table.put(rows, empty)
        why = self._why_not()
        if why is None:
            said = "Secrets are stored nowhere: a lost one is replaced with O (rotate)."
            self.query_one("#state", Lines).put([[(f"  {said}", "dim")]])
            return
        words = wrapped(self.desk.looks.words(str(why)), max(20, self.size.width - 4))
        more = "Without the gateway: sudo er keys list | create | rotate | revoke"
        lines: list[Line] = [[(f"  {row}", "warn")] for row in words]
        self.query_one("#state", Lines).put([*lines, [(f"  {more}", "dim")]])

    def _why_not(self) -> Missing | None:
        if self.desk.readonly:
            return self.desk.why_not("admin")
        return self.missing

    def _selected(self) -> Key | None:
        cursor = self.query_one("#main", Table).cursor
        return next((key for key in self.found if key.id == cursor), None)

    def _told(self, key: Key) -> Key:
        """The key with its name cut for a box; without one that this terminal can't show."""
        ascii_only = self.desk.looks.ascii_only
        if ascii_only and not key.name.isascii():
            return replace(key, name="")
        cells = min(width_of(key.name), NAME_CELLS)
        return replace(key, name=fit(key.name, cells, more="~" if ascii_only else "…"))

    def _may(self, *, one: bool) -> bool:
        """Whether a key can be changed; says why not, if not."""
        why = self._why_not()
        if why is not None:
            self.notify(why.remedy, title=why.reason, severity="warning", markup=False)
            return False
        return self._selected() is not None or not one

    def action_new(self) -> None:
        """Ask for name, limit, expiry and models, then make the key."""
        if self._may(one=False):
            self.app.push_screen(NewKey(), self._make)

    def _make(self, options: dict[str, Any] | None) -> None:
        if options is not None:
            self._do(lambda: self.desk.sources.create_key(options), "New key")

    def action_rotate(self) -> None:
        """Ask for the grace, then make the new secret."""
        key = self._selected()
        if key is None or not self._may(one=True):
            return

        def go(grace: str | None) -> None:
            if grace is not None:
                title = f"New secret; the old one is valid for {grace} more"
                self._do(lambda: self.desk.sources.rotate_key(key.id, grace), title)

        self.app.push_screen(Rotate(self._told(key)), go)

    def action_revoke(self) -> None:
        """Ask, then revoke."""
        key = self._selected()
        if key is None or not self._may(one=True):
            return
        used = seconds_of(key.last_used)
        ago = None if used is None else max(0.0, self.desk.wall() - used)

        question = about_revoke(self._told(key), ago)

        async def revoke() -> None:
            await self.desk.sources.revoke_key(key.id)
            self.notify(f"{self._told(key).name or key.id} is revoked", markup=False)

        def go(sure: bool | None) -> None:
            if sure:
                self._do(revoke, "")

        self.app.push_screen(Confirm(question.shown(self.desk.looks)), go)

    def _do(self, ask: Callable[[], Awaitable[tuple[Key, str] | None]], title: str) -> None:
        """Ask the admin API in the background, show the secret if there is one, read the list."""

        async def run() -> None:
            try:
                made = await ask()
            except Missing as missing:
                remedy = missing.remedy or "nothing was changed"
                self.notify(remedy, title=missing.reason, severity="error", markup=False)
            else:
                if made is not None:
                    self.app.push_screen(Secret(title, self._told(made[0]), made[1]))
            await self.read()

        self.run_worker(run(), group="change")

    def action_copy(self) -> None:
        """The id (it is public) to the terminal's clipboard."""
        key = self._selected()
        if key is not None:
            self.app.copy_to_clipboard(key.id)
            self.notify(f"{key.id} sent to the terminal's clipboard", markup=False)

    def on_table_moved(self) -> None:
        """The footer depends on the row."""
        self.call_later(self.show)
