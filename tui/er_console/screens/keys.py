"""Keys: who may ask and how much of that is used; make, edit, rotate and revoke them."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

from textual.binding import Binding, BindingType
from textual.widget import Widget

from er_console.consequences import about_revoke
from er_console.judgement import lasted
from er_console.language import heard, noted, say
from er_console.looks import Line, clock, fit, told, width_of, wrapped
from er_console.reading import moment
from er_console.screens.dialogs import Confirm
from er_console.screens.key_boxes import (
    BOUND_LABELS,
    BoundKey,
    Changed,
    EditKey,
    NewKey,
    Rotate,
    Secret,
    written,
)
from er_console.screens.key_rows import (
    KEY_COLUMNS,
    LIVING,
    details,
    in_order,
    key_row,
    key_state,
    old_until,
    when,
    who_still,
)
from er_console.screens.page import Hint, Page
from er_console.state import Key, Missing
from er_console.tables import Row
from er_console.widgets.lines import Lines
from er_console.widgets.table import Table

T = TypeVar("T")
REFRESH_S = 5.0
NAME_CELLS = 40
ROWS_AROUND = 4  # header, tabs, a blank row, footer; a frame has two more
ROWS_LEAST = 3
LOOKED = {
    "name": noted("name"),
    "rate_limit": noted("limit"),
    "expires": noted("expires"),
    "models": noted("models"),
    **{name: label for name, label, _ in BOUND_LABELS},
}


class KeysPage(Page):
    """The table of keys. A secret is shown once, in a box of its own, and kept nowhere."""

    page = "keys"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("N", "new", "new", show=False),
        Binding("E", "edit", "edit", show=False),
        Binding("B", "bound", "bounds", show=False),
        Binding("O", "rotate", "rotate", show=False),
        Binding("X", "revoke", "revoke", show=False),
        Binding("y", "copy", "copy id", show=False),
    ]

    found: tuple[Key, ...] = ()
    found_at: float | None = None
    missing: Missing | None = None
    _drawn: tuple[tuple[Key, ...] | None, int, list[Row]] = (None, 0, [])

    def body(self) -> Iterable[Widget]:
        """The table and what it has no room for, of the key under the cursor."""
        yield Table(KEY_COLUMNS, self.desk.looks, empty=say("reading the keys"), id="main")
        yield Lines(id="state")

    def on_mount(self) -> None:
        """Title, seen where there is room for a frame; the list is read again every 5 s."""
        self.query_one("#main").border_title = say("keys")
        self.set_interval(REFRESH_S, self._refresh_if_shown)

    def hints(self) -> list[Hint]:
        """What can be done with keys, and whether."""
        usable, key = self._why_not() is None, self._selected()
        state = key_state(key, self.desk.wall()) if key is not None else ""
        return [
            Hint("N", say("new"), usable),
            Hint("E", say("edit"), usable and state not in ("", "revoked")),
            Hint("B", say("bounds"), usable and state not in ("", "revoked")),
            Hint("O", say("rotate"), usable and state in LIVING),
            Hint("X", say("revoke"), usable and state not in ("", "revoked")),
            Hint("/", say("filter")),
            Hint("y", say("copy id"), key is not None),
        ]

    def enter(self) -> None:
        """Read the list."""
        self.run_worker(self.read, group="keys", exclusive=True)  # type: ignore[arg-type]

    def _refresh_if_shown(self) -> None:
        if self.app.screen_stack and self in self.app.screen_stack:
            self.enter()

    async def read(self) -> None:
        """Ask for the keys; without rights or gateway, say so, and the command that does it."""
        try:
            found, now = await self.desk.sources.keys(), self.desk.wall()
            self.found, self.found_at = tuple(in_order(found, now)), now
            self.missing = None
        except Missing as missing:
            self.missing = missing
        self.show()

    # What is seen ---------------------------------------------------------------------------

    def draw(self) -> None:
        """Rows, and what there is to say of the one under the cursor, or why there are none."""
        now = self.desk.wall()
        rows = self._rows(now)
        if self.filter:
            rows = [row for row in rows if self.passes(" ".join(said for said, _ in row.cells))]
        empty = say("no key yet: N makes one")
        if self.found:
            empty = say("no key passes the filter")
        elif self.missing is not None:
            empty = say("the keys can't be read now")
        elif self.found_at is None:
            empty = say("reading the keys")
        table = self.query_one("#main", Table)
        lines = self._lines(now)
        framed = 4 if table.styles.border_top[0] else 0
        most = self.size.height - ROWS_AROUND - framed - len(lines)
        table.styles.max_height = max(ROWS_LEAST, most + framed // 2)
        table.put(rows, empty)
        self.query_one("#state", Lines).put(lines)

    def _rows(self, now: float) -> list[Row]:
        """All rows, made anew once a second: there may be a thousand, and each key press draws."""
        found, second, rows = self._drawn
        if found is not self.found or second != int(now):
            rows = [key_row(key, now, self.desk.looks) for key in self.found]
            self._drawn = self.found, int(now), rows
        return rows

    def _lines(self, now: float) -> list[Line]:
        width = max(20, self.size.width - 4)
        key, why = self._selected(), self._why_not()
        said = details(key, now, self.desk.looks) if key is not None else []
        if why is not None:
            said.append((told(why), "warn"))
            if self.missing is not None and self.found_at is not None:
                said.append((say("the list is of {time}", time=clock(self.found_at)), "dim"))
            said.append((say("Without the gateway: {command}", command=self._command("")), "dim"))
        elif not said or self.size.height >= 30:
            words = say("Secrets are stored nowhere: a lost one is replaced with O (rotate).")
            said.append((words, "dim"))
        rows = [(row, role) for words, role in said for row in wrapped(words, width)]
        return [[(f"  {self.desk.looks.words(row)}", role)] for row, role in rows]

    def _why_not(self) -> Missing | None:
        if self.desk.readonly:
            return self.desk.why_not("admin")
        return self.missing

    def _selected(self) -> Key | None:
        tables = self.query("#main").results(Table)
        cursor = next((table.cursor for table in tables), "")
        return next((key for key in self.found if key.id == cursor), None)

    def _told(self, key: Key) -> Key:
        """The key with its name cut for a box; without one that this terminal can't show."""
        ascii_only = self.desk.looks.ascii_only
        if ascii_only and not key.name.isascii():
            return replace(key, name="")
        cells = min(width_of(key.name), NAME_CELLS)
        return replace(key, name=fit(key.name, cells, more="~" if ascii_only else "…"))

    def _called(self, key: Key) -> str:
        return self._told(key).name or key.id

    def _default(self) -> str:
        """The limit of keys that have none of their own, as far as one of them tells it."""
        return next((key.use.limit for key in self.found if not key.rate_limit), "")

    # What is done ---------------------------------------------------------------------------

    def _command(self, verb: str) -> str:
        """What does the same without the console, for the key under the cursor."""
        key = self._selected()
        at = key.id if key is not None else "KEY"
        commands = {
            "new": "sudo er keys create --name NAME",
            "edit": f"sudo er keys set {at} --rate-limit 1000/minute",
            "bound": f"sudo er keys set {at} --quota '50M tokens/month'",
            "rotate": f"sudo er keys rotate {at}",
            "revoke": f"sudo er keys revoke {at}",
        }
        return commands.get(verb, "sudo er keys list | create | set | rotate | revoke")

    def _may(self, verb: str) -> Key | None:
        """The key to change when that can be done; else it is said why not, and what would do it.

        For `new` any key of the list will do, or one that there is not.
        """
        key, why = self._selected(), self._why_not()
        if why is not None:
            words = say("or: {command}", command=self._command(verb))
            remedy = f"{heard(why.remedy)}\n{words}" if why.remedy else words
            self._notify(remedy, heard(why.reason), "warning")
            return None
        if verb == "new":
            return key or Key("", "")
        state = key_state(key, self.desk.wall()) if key is not None else ""
        if key is None or (state == "revoked") or (state == "expired" and verb == "rotate"):
            if key is not None:
                words = say("{key} is {state}; N makes a new one", key=key.id, state=say(state))
                self._notify(words, "", "warning")
            return None
        return key

    def _notify(self, words: str, title: str = "", severity: Any = "information") -> None:
        looks = self.desk.looks
        said, head = looks.words(words), looks.words(title)
        self.notify(said, title=head, severity=severity, timeout=10, markup=False)

    def action_new(self) -> None:
        """Ask for name, limit, expiry and models, make the key, show its secret."""
        if self._may("new") is None:
            return

        async def make(options: dict[str, Any]) -> tuple[Key, str]:
            return await self._asked(self.desk.sources.create_key(options))

        def made(answer: tuple[Key, str] | None) -> None:
            if answer is not None:
                name = self._called(answer[0])
                self._show_once(say("New key"), answer, say("key {key} is made", key=name))

        self.app.push_screen(NewKey(make, self._default()), made)

    def action_edit(self) -> None:
        """Name, limit, expiry and models in one form."""
        self._change("edit", EditKey, noted("Edit key {key}"))

    def action_bound(self) -> None:
        """What few keys have, in another."""
        self._change("bound", BoundKey, noted("Bounds of key {key}"))

    def _change(self, verb: str, form: type[Changed], title: str) -> None:
        key = self._may(verb)
        if key is None:
            return
        known = key

        async def change(fields: dict[str, Any]) -> Key:
            nonlocal known
            await self.read()
            now = next((k for k in self.found if k.id == key.id), known)
            before, known = known, now
            # Another console may have been quicker: what it did is not undone unseen.
            for name in fields:
                theirs = written(now)[name]
                if theirs != written(before)[name]:
                    words = say("meanwhile it was changed to {value}", value=theirs or "-")
                    raise Missing("wrong", words, say("save again to set yours"), about=name)
            return await self._asked(self.desk.sources.change_key(key.id, fields))

        def changed(answer: Key | None) -> None:
            if answer is not None:
                self._notify(
                    say(
                        "{key} is changed: {what}",
                        key=self._called(answer),
                        what=self._differs(key, answer),
                    )
                )

        ascii_only = self.desk.looks.ascii_only
        title = say(title, key=self._called(key))
        box = form(title, key, change, self._default(), ascii_only=ascii_only)
        self.app.push_screen(box, changed)

    def _differs(self, before: Key, after: Key) -> str:
        old, new = written(before), written(after)
        default = {"rate_limit": say("default"), "expires": say("never"), "models": say("all")}
        default |= {"scopes": say("default"), "networks": say("all"), "weight": "1"}
        parts = [
            f"{say(title)} {new[name] or default.get(name, '-')}"
            for name, title in LOOKED.items()
            if old[name] != new[name]
        ]
        return say(", ").join(parts) or "-"

    def action_rotate(self) -> None:
        """Ask for the grace, make the new secret, show it."""
        key = self._may("rotate")
        if key is None:
            return
        now = self.desk.wall()
        warnings = []
        used, until = moment(key.last_used), old_until(key, now)
        if used is not None:
            warnings.append(say("It was last used {span} ago.", span=lasted(max(0.0, now - used))))
        if until is not None:
            time = when(until, now)
            words = say("An older one is still valid (until {time}); it ends at once", time=time)
            warnings.append(say("; ").join([words, who_still(key, now)]))

        async def turn(options: dict[str, Any]) -> tuple[Key, str]:
            return await self._asked(self.desk.sources.rotate_key(key.id, options["grace"]))

        def turned(answer: tuple[Key, str] | None) -> None:
            if answer is not None:
                name, till = self._called(key), old_until(answer[0], self.desk.wall())
                done = say("{key} has a new secret; the old one has ended", key=name)
                if till is not None:
                    done = say(
                        "{key} has a new secret; the old one is valid until {time}",
                        key=name,
                        time=when(till, self.desk.wall()),
                    )
                self._show_once(say("New secret"), answer, done)

        title = say("New secret for {key}?", key=self._called(key))
        self.app.push_screen(Rotate(title, tuple(warnings), turn), turned)

    def _show_once(self, title: str, answer: tuple[Key, str], done: str) -> None:
        """The secret in its box; what was done is said when that is closed."""
        box = Secret(title, self._told(answer[0]), answer[1])
        self.app.push_screen(box, lambda _: self._notify(done))

    def action_revoke(self) -> None:
        """Ask, then revoke."""
        key = self._may("revoke")
        if key is None:
            return
        used = moment(key.last_used)
        ago = None if used is None else max(0.0, self.desk.wall() - used)
        question = about_revoke(self._told(key), ago)

        async def revoke() -> None:
            try:
                await self._asked(self.desk.sources.revoke_key(key.id))
            except Missing as missing:
                remedy = heard(missing.remedy) or say("nothing was changed")
                self._notify(remedy, heard(missing.reason), "error")
            else:
                self._notify(say("{key} is revoked", key=self._called(key)))

        def go(sure: bool | None) -> None:
            if sure:
                self.run_worker(revoke(), group="change")

        self.app.push_screen(Confirm(question.shown(self.desk.looks)), go)

    async def _asked(self, change: Coroutine[Any, Any, T]) -> T:
        """The change's answer; the list is read again, whether it was made or not."""
        try:
            return await change
        finally:
            self.enter()

    def action_copy(self) -> None:
        """The id (it is public) to the terminal's clipboard."""
        key = self._selected()
        if key is not None:
            self.app.copy_to_clipboard(key.id)
            self._notify(say("{key} sent to the terminal's clipboard", key=key.id))

    def on_table_moved(self) -> None:
        """The footer and the lines below depend on the row."""
        self.call_later(self.show)
