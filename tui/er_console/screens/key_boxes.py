"""The boxes about keys: a new one, editing one and its bounds, a new secret, shown once."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widget import Widget
from textual.widgets import Button, Static

from er_console.language import noted, say
from er_console.screens.dialogs import Ask, Box, Field, Form
from er_console.state import BOUNDS, Key

GRACES = ("24h", "1h", "7d", "0")
GRACE = GRACES[0]
FIELDS = ("name", "rate_limit", "expires", "models")
LISTS = ("models", "scopes", "networks")
NEVER, ALL, OFF, DEFAULT = "never", "all", "off", "default"  # typed, so in no language
NONE = {"rate_limit": DEFAULT, "expires": NEVER, "models": ALL, "team": "none", "scopes": DEFAULT}
NONE |= {"networks": ALL, "concurrency": OFF, "token_limit": OFF, "quota": OFF}
LABELS = (
    ("name", noted("whom it is for"), noted("as in: web")),
    ("rate_limit", noted("rate limit"), noted("the gateway's ({limit}); 600/minute, or off")),
    ("expires", noted("expires"), noted("never; 2027-01-31, or 90d")),
    ("models", noted("models"), noted("all; names with commas between")),
)
BOUND_LABELS = (
    ("team", noted("team"), noted("whose it is, for lists and usage")),
    ("scopes", noted("scopes"), noted("inference, metrics; or admin-read")),
    ("networks", noted("networks"), noted("all; 10.0.0.0/8, 2001:db8::/32")),
    ("concurrency", noted("requests at once"), noted("any number; 8")),
    ("token_limit", noted("tokens"), noted("no limit; 1000000/minute")),
    ("quota", noted("quota"), noted("none; 50M tokens/month")),
    ("weight", noted("weight"), noted("1; its share beside other keys when busy")),
)


def wish(name: str, said: str) -> Any:
    """What the API is to be given for what was typed into a field; None is its default."""
    if not said or said == NONE.get(name):
        return None
    if name in LISTS:
        return [part.strip() for part in said.split(",") if part.strip()] or None
    return said


def written(key: Key) -> dict[str, str]:
    """The key as its fields are typed."""
    return {
        "name": key.name,
        "rate_limit": key.rate_limit,
        "expires": key.expires,
        "models": ", ".join(key.models),
        "team": key.team,
        **dict.fromkeys(BOUNDS, ""),
        **dict(key.bounds),
    }


class NewKey(Form):
    """A new key's name and bounds. Asks with {name, rate_limit, expires, models}."""

    AUTO_FOCUS = "#name"

    def __init__(self, ask: Ask, default: str) -> None:
        """`default` is the gateway's own limit, "" where it is not known."""
        super().__init__(say("New key"), ask)
        self._default = default

    def inside(self) -> Iterable[Widget]:
        """Four rows; only the name is needed."""
        yield from self.rows(_fields(LABELS, {}, self._default))
        yield from self.told(button=say("Create"))

    def wished(self) -> dict[str, Any] | None:
        """All four."""
        found = {name: wish(name, self.typed(name)) for name in FIELDS}
        if not found["name"]:
            self.say_wrong(say("Give it a name: it stands in lists and logs."), "name")
            return None
        return found


class Changed(Form):
    """A form of what a key has. Asks with what was changed in it, and only that."""

    labels: ClassVar[tuple[tuple[str, str, str], ...]]

    def __init__(self, title: str, key: Key, ask: Ask, default: str, *, ascii_only: bool) -> None:
        super().__init__(title, ask)
        self._default = default
        found = written(key)
        self._before = {name: found[name] for name, _, _ in self.labels}
        for name, said in self._before.items():
            if ascii_only and not said.isascii():
                self._before[name] = ""  # the terminal can't show it; left so, it stays

    def inside(self) -> Iterable[Widget]:
        """The fields, as they are."""
        yield from self.rows(_fields(self.labels, self._before, self._default))
        words = say("Empty is the default. It holds from the next request on.")
        yield Static(words, markup=False, classes="said dim apart")
        yield from self.told(button=say("Save"))

    def wished(self) -> dict[str, Any] | None:
        """What was changed."""
        found = {
            name: wish(name, self.typed(name))
            for name in self._before
            if self.typed(name) != self._before[name]
        }
        if "name" in found and not found["name"]:
            self.say_wrong(say("Give it a name: it stands in lists and logs."), "name")
            return None
        if not found:
            self.say_wrong(say("Nothing was changed."))
            return None
        return found


class EditKey(Changed):
    """Name, limit, expiry and models of a key."""

    AUTO_FOCUS = "#rate_limit"  # what is changed most; a letter too much in it is refused
    labels = LABELS


class BoundKey(Changed):
    """What few keys have: whose it is, what it opens, from where, and how much it may take."""

    AUTO_FOCUS = "#team"
    labels = BOUND_LABELS


class Rotate(Form):
    """How long the old secret stays valid. Asks with {grace}; a grace of 0 asks once more."""

    AUTO_FOCUS = "#grace-0"

    def __init__(self, title: str, warnings: tuple[str, ...], ask: Ask) -> None:
        """`warnings` are sentences on what this does to those who use the key now."""
        super().__init__(title, ask)
        self._warnings = warnings
        self._grace = GRACE
        self._sure = False

    def inside(self) -> Iterable[Widget]:
        """What happens, and the graces to choose from."""
        said = say(
            "It keeps its id and gets a new secret. The old one stays valid for a while: "
            "Enter takes {grace}, 0 ends it at once.",
            grace=GRACE,
        )
        yield Static(said, markup=False, classes="said")
        for words in self._warnings:
            yield Static(words, markup=False, classes="said warn")
        with Horizontal(classes="buttons graces"):
            for place, grace in enumerate(GRACES):
                kind = "primary" if grace == GRACE else "error" if grace == "0" else "default"
                yield Button(grace, id=f"grace-{place}", compact=True, variant=kind)  # type: ignore[arg-type]
        yield from self.rows([Field("grace", say("another"), "90m, 3d")])
        yield Static("", id="wrong-", markup=False, classes="wrong")
        with Horizontal(classes="buttons"):
            yield Button(say("Cancel (esc)"), id="cancel", compact=True)

    def wished(self) -> dict[str, Any] | None:
        """The grace that was chosen; the sentence first when it is none at all."""
        if self._grace.strip("0.smhd") == "" and not self._sure:
            self._sure = True
            words = say(
                "The old secret ends at once: every client gets 401 until it has the new one. "
                "Choose 0 once more to do it."
            )
            self.say_wrong(words)
            return None
        return {"grace": self._grace}

    def entered(self) -> None:
        """Enter in the field; empty is the default."""
        self._choose(self.typed("grace") or GRACE)

    def pressed(self, button: str) -> None:
        """A grace, or not."""
        place = button.removeprefix("grace-")
        if place.isdigit():
            self._choose(GRACES[int(place)])
        else:
            self.action_cancel()

    def _choose(self, grace: str) -> None:
        self._sure = self._sure and grace == self._grace
        self._grace = grace
        self._finish()


class Secret(Box):
    """A secret, once. It is in no toast, no log and no clipboard of ours; esc asks once more."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "copy", "copy", show=False),
        Binding("f", "save", "save", show=False),
    ]
    AUTO_FOCUS = "#stored"

    def __init__(self, title: str, key: Key, secret: str) -> None:
        super().__init__(title)
        self.key = key
        self._secret = secret
        self._asked = False

    def inside(self) -> Iterable[Widget]:
        """The secret on a line of its own, to be marked with the mouse too."""
        name = f"{self.key.name} ({self.key.id})" if self.key.name else self.key.id
        words = say("The secret of {key}, shown this ONCE:", key=name)
        yield Static(words, markup=False, classes="said")
        yield Static(self._secret, markup=False, id="secret")
        hint = say("c copies it to the terminal's clipboard; test by pasting")
        yield Static(hint, markup=False, classes="said dim")
        setting = "set -g set-clipboard on"
        tmux = say("(in tmux that needs: {setting})", setting=setting)
        yield Static(tmux, markup=False, classes="said dim")
        yield Static(
            say("f saves it to a file that only you can read"), markup=False, classes="said dim"
        )
        yield Static("", id="result", markup=False, classes="said")
        with Horizontal(classes="buttons"):
            yield Button(say("I have stored it"), id="stored", compact=True, variant="primary")

    def _say(self, words: str) -> None:
        told = self.query_one("#result", Static)
        told.update(words)
        self.call_after_refresh(told.scroll_visible, animate=False)

    def action_copy(self) -> None:
        """OSC 52. There is no reply to it, and tmux needs `set-clipboard on`."""
        self.app.copy_to_clipboard(self._secret)
        self._say(say("Sent to the terminal. Paste it somewhere before you go on."))

    def action_save(self) -> None:
        """A new file of mode 0600 in the home directory; one that is there is left alone."""
        path = Path.home() / f"{self.key.id}.secret"
        try:
            opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        except FileExistsError:
            words = say("Not saved: there is a file {path} already; move it away first", path=path)
            self._say(words)
            return
        except OSError as error:
            self._say(say("Not saved: {path}: {why}", path=path, why=error.strerror))
            return
        try:
            with os.fdopen(opened, "w") as file:
                file.write(self._secret + "\n")
        except OSError as error:
            path.unlink(missing_ok=True)  # half a secret opens nothing
            self._say(say("Not saved: {path}: {why}", path=path, why=error.strerror))
        else:
            self._say(say("Saved to {path}, which only you can read", path=path))

    def action_cancel(self) -> None:
        """Twice, since it can't be had again."""
        if self._asked:
            self._end()
            return
        self._asked = True
        self._say(say("It can't be shown again. esc once more to go."))

    def on_button_pressed(self) -> None:
        """It is stored."""
        self._end()

    def _end(self) -> None:
        self._secret = ""
        self.query_one("#secret", Static).update("")
        self.dismiss(None)


def _fields(
    labels: tuple[tuple[str, str, str], ...], values: dict[str, str], default: str
) -> list[Field]:
    hints = {name: say(hint, limit=default) for name, _, hint in labels}
    if not default and "rate_limit" in hints:
        hints["rate_limit"] = say("the gateway's; 600/minute, or off")
    return [Field(name, say(label), hints[name], values.get(name, "")) for name, label, _ in labels]
