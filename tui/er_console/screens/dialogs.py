"""Boxes that ask: confirm, new key, rotate, the secret once, help. Focus is where it is safe."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Button, Input, Static

from er_console.consequences import Question
from er_console.state import Key


class Box(ModalScreen[Any]):
    """A box in the middle; esc goes without doing anything."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "cancel", "cancel", show=False),
        Binding("left,up", "app.focus_previous", "", show=False),
        Binding("right,down", "app.focus_next", "", show=False),
    ]

    def __init__(self, title: str) -> None:
        super().__init__()
        self._title = title

    def compose(self) -> ComposeResult:
        """The frame with its title."""
        with Vertical(id="box") as box:
            box.border_title = self._title
            yield from self.inside()

    def inside(self) -> Iterable[Widget]:
        """What is asked."""
        raise NotImplementedError

    def action_cancel(self) -> None:
        """Nothing is done."""
        self.dismiss(None)

    def on_mount(self) -> None:
        """Draw frames in ASCII where the page below does."""
        below = self.app.screen_stack[-2] if len(self.app.screen_stack) > 1 else None
        self.set_class(below is not None and below.has_class("-ascii"), "-ascii")


class Confirm(Box):
    """The consequence, Cancel in focus; `y` does it, or typing the name where much hangs on it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "yes", "yes", show=False),
        Binding("n", "cancel", "no", show=False),
    ]
    AUTO_FOCUS = "#cancel"

    def __init__(self, question: Question) -> None:
        super().__init__(question.title)
        self.question = question

    def inside(self) -> Iterable[Widget]:
        """Sentences, the name to type, two buttons."""
        for sentence in self.question.sentences:
            yield Static(sentence, markup=False, classes="said")
        typed = self.question.type_this
        if typed:
            yield Static(f"To do it, type {typed} below.", markup=False, classes="said warn")
            yield Input(placeholder=typed, id="typed", compact=True)
        sure = self.question.button if typed else f"{self.question.button} (y)"
        with Horizontal(classes="buttons"):
            yield Button("Cancel (esc)", id="cancel", compact=True)
            yield Button(sure, id="sure", compact=True, variant="error", disabled=bool(typed))

    def _allowed(self) -> bool:
        typed = self.question.type_this
        return not typed or self.query_one("#typed", Input).value.strip() == typed

    def action_yes(self) -> None:
        """y, where no name is asked for."""
        if not self.question.type_this:
            self.dismiss(True)

    def on_input_changed(self) -> None:
        """The button wakes when the name is right."""
        self.query_one("#sure", Button).disabled = not self._allowed()

    def on_input_submitted(self) -> None:
        """Enter after the right name."""
        if self._allowed():
            self.dismiss(True)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """One of the two."""
        self.dismiss(event.button.id == "sure" and self._allowed())


class Form(Box):
    """A box with fields: Enter or the button `sure` finishes it, anything else leaves."""

    def _finish(self) -> None:
        """Dismiss with what was filled in."""
        raise NotImplementedError

    def on_input_submitted(self) -> None:
        """Enter finishes."""
        self._finish()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Finish or not."""
        if event.button.id == "sure":
            self._finish()
        else:
            self.dismiss(None)


class NewKey(Form):
    """A new key's name and bounds."""

    AUTO_FOCUS = "#name"

    def __init__(self) -> None:
        super().__init__("New key")

    def inside(self) -> Iterable[Widget]:
        """Four rows; only the name is needed."""
        rows = (
            ("name", "whom it is for", "web"),
            ("rate_limit", "rate limit", "the gateway's; 600/minute, or off"),
            ("expires", "expires", "never; 2027-01-31, or 90d"),
            ("models", "models", "all; names with commas between"),
        )
        for name, title, hint in rows:
            with Horizontal(classes="row"):
                yield Static(title, classes="label")
                yield Input(placeholder=hint, id=name, compact=True)
        with Horizontal(classes="buttons"):
            yield Button("Cancel (esc)", id="cancel", compact=True)
            yield Button("Create", id="sure", compact=True, variant="primary")

    def _options(self) -> dict[str, Any]:
        said = {box.id or "": box.value.strip() for box in self.query(Input)}
        models = [name.strip() for name in said["models"].split(",") if name.strip()]
        found: dict[str, Any] = {"name": said["name"]}
        found["rate_limit"] = said["rate_limit"] or None
        found["expires"] = said["expires"] or None
        found["models"] = models or None
        return found

    def _finish(self) -> None:
        options = self._options()
        if not options["name"]:
            self.notify("Give it a name: it stands in lists and logs.", severity="warning")
            self.query_one("#name", Input).focus()
            return
        self.dismiss(options)


class Rotate(Form):
    """How long the old secret stays valid."""

    AUTO_FOCUS = "#grace"

    def __init__(self, key: Key) -> None:
        super().__init__(f"New secret for {key.name or key.id}?")
        self.key = key

    def inside(self) -> Iterable[Widget]:
        """What happens, and the grace."""
        said = "It keeps its id and gets a new secret. The old secret stays valid meanwhile:"
        yield Static(said, classes="said")
        if self.key.previous_valid_until:
            until = self.key.previous_valid_until
            now = f"An older one is still valid (until {until}); it ends at once."
            yield Static(now, markup=False, classes="said warn")
        with Horizontal(classes="row"):
            yield Static("grace", classes="label")
            yield Input("24h", id="grace", compact=True)
        with Horizontal(classes="buttons"):
            yield Button("Cancel (esc)", id="cancel", compact=True)
            yield Button("Rotate", id="sure", compact=True, variant="primary")

    def _finish(self) -> None:
        self.dismiss(self.query_one("#grace", Input).value.strip() or "24h")


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
        yield Static(f"The secret of {name}, shown this ONCE:", markup=False, classes="said")
        yield Static(self._secret, markup=False, id="secret")
        yield Static("c copies it (sent to the terminal; test by pasting)", classes="said dim")
        yield Static("f saves it to a file only you can read", classes="said dim")
        yield Static("", id="result", markup=False, classes="said")
        with Horizontal(classes="buttons"):
            yield Button("I have stored it", id="stored", compact=True, variant="primary")

    def _say(self, words: str) -> None:
        self.query_one("#result", Static).update(words)

    def action_copy(self) -> None:
        """OSC 52. There is no reply to it, and tmux needs `set-clipboard on`."""
        self.app.copy_to_clipboard(self._secret)
        self._say("Sent to the terminal. Paste it somewhere before you go on.")

    def action_save(self) -> None:
        """A new file of mode 0600 in the home directory."""
        path = Path.home() / f"{self.key.id}.secret"
        try:
            opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with os.fdopen(opened, "w") as file:
                file.write(self._secret + "\n")
        except OSError as error:
            self._say(f"Not saved: {path}: {error.strerror}")
        else:
            self._say(f"Saved to {path}")

    def action_cancel(self) -> None:
        """Twice, since it can't be had again."""
        if self._asked:
            self._end()
            return
        self._asked = True
        self._say("It can't be shown again. esc once more to go.")

    def on_button_pressed(self) -> None:
        """It is stored."""
        self._end()

    def _end(self) -> None:
        self._secret = ""
        self.query_one("#secret", Static).update("")
        self.dismiss(None)


class Help(Box):
    """The keys of this page, and what is missing and why."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark,q", "cancel", "", show=False),
        Binding("up,k", "scroll(-1)", "", show=False),
        Binding("down,j", "scroll(1)", "", show=False),
    ]
    AUTO_FOCUS = ""

    def __init__(self, title: str, words: str) -> None:
        super().__init__(title)
        self._words = words

    def inside(self) -> Iterable[Widget]:
        """Plain text."""
        yield Static(self._words, markup=False, classes="said", id="help")
        with Horizontal(classes="buttons"):
            yield Button("Close (esc)", id="cancel", compact=True)

    def action_scroll(self, by: int) -> None:
        """On a small screen not all of it is in view."""
        self.query_one("#box").scroll_relative(y=by, animate=False)

    def on_button_pressed(self) -> None:
        """Close."""
        self.dismiss(None)
