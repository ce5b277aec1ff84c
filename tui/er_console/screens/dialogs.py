"""Boxes that ask: a confirmation, a form, help. Focus is where it is safe, esc is harmless."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Button, Input, Static

from er_console.consequences import Question
from er_console.language import say
from er_console.looks import told, width_of
from er_console.state import Missing

INSIDE_CELLS, EDGES = 66, 10  # of a box
Ask = Callable[[dict[str, Any]], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Field:
    """A row of a form: the API's name for it, what people read, an example, what stands there."""

    name: str
    label: str
    hint: str
    value: str = ""


class Box(ModalScreen[Any]):
    """A box in the middle; esc goes without doing anything."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "cancel", "cancel", show=False),
        # Before the field sees it: over a slow line what is typed next comes with it.
        Binding("tab", "app.focus_next", "", show=False, priority=True),
        Binding("shift+tab", "app.focus_previous", "", show=False, priority=True),
        Binding("left,up", "app.focus_previous", "", show=False),
        Binding("right,down", "app.focus_next", "", show=False),
        Binding("pageup", "roll(-5)", "", show=False),
        Binding("pagedown", "roll(5)", "", show=False),
    ]

    def __init__(self, title: str) -> None:
        super().__init__()
        self._title = title

    def compose(self) -> ComposeResult:
        """The frame with its title."""
        with Vertical(id="box") as box:
            box.border_title = Content(self._title)  # a name in it is no markup
            yield from self.inside()

    def inside(self) -> Iterable[Widget]:
        """What is asked."""
        raise NotImplementedError

    def room(self) -> int:
        """Cells that a line of text in it has."""
        return max(20, min(INSIDE_CELLS, self.app.size.width - EDGES))

    def action_cancel(self) -> None:
        """Nothing is done."""
        self.dismiss(None)

    def action_roll(self, by: int) -> None:
        """On a small screen not all of it is in view."""
        self.query_one("#box").scroll_relative(y=by, animate=False)

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
            words = say("To do it, type {name} below.", name=typed)
            yield Static(words, markup=False, classes="said warn")
            yield Input(placeholder=typed, id="typed", compact=True)
        sure = self.question.button if typed else f"{self.question.button} (y)"
        with Horizontal(classes="buttons"):
            yield Button(say("Cancel (esc)"), id="cancel", compact=True)
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
    """Fields, and one who is asked when they are filled in: the box stays open, with what was
    typed and what is wrong beside its field, until that one takes it."""

    def __init__(self, title: str, ask: Ask) -> None:
        super().__init__(title)
        self._ask = ask
        self._asking = False

    def rows(self, fields: Sequence[Field]) -> Iterable[Widget]:
        """A labelled row for each field, the labels as wide as the widest."""
        cells = max(width_of(field.label) for field in fields) + 2
        for field in fields:
            label = Static(field.label, markup=False, classes="label")
            label.styles.width = cells
            with Horizontal(classes="row"):
                yield label
                yield Input(field.value, placeholder=field.hint, id=field.name, compact=True)
            yield Static("", id=f"wrong-{field.name}", markup=False, classes="wrong")

    def told(self, *, button: str) -> Iterable[Widget]:
        """What is wrong and belongs to no field, and the two buttons."""
        yield Static("", id="wrong-", markup=False, classes="wrong")
        with Horizontal(classes="buttons"):
            yield Button(say("Cancel (esc)"), id="cancel", compact=True)
            yield Button(button, id="sure", compact=True, variant="primary")

    def wished(self) -> dict[str, Any] | None:
        """What was filled in; None when that is not enough, and it was said."""
        raise NotImplementedError

    def typed(self, name: str) -> str:
        """What stands in a field."""
        return self.query_one(f"#{name}", Input).value.strip()

    def say_wrong(self, words: str, name: str = "") -> None:
        """Beside the field, or below all; the cursor goes where it is to be mended."""
        for line in self.query(".wrong").results(Static):
            line.update("")
            line.display = False
        place = name if self.query(f"#wrong-{name}") else ""
        here = self.query_one(f"#wrong-{place}", Static)
        sign = ("x" if self.has_class("-ascii") else "✖") + " "
        here.update(sign + words if words else "")
        here.display = bool(words)
        if place and words:
            self.query_one(f"#{place}").focus()
        self.call_after_refresh(here.scroll_visible, animate=False)

    def _finish(self) -> None:
        wished = None if self._asking else self.wished()
        if wished is not None:
            self._asking = True
            self.say_wrong("")
            self.run_worker(self._put(wished), group="ask")

    async def _put(self, wished: dict[str, Any]) -> None:
        try:
            answer = await self._ask(wished)
        except Missing as missing:
            self.say_wrong(told(missing), missing.about)
        else:
            self.dismiss(answer)
        finally:
            self._asking = False

    def action_cancel(self) -> None:
        """Nothing is done; not while it is being done: its answer may have a secret."""
        if self._asking:
            self.say_wrong(say("wait: the gateway was asked and has not answered yet"))
            return
        super().action_cancel()

    def entered(self) -> None:
        """Enter in a field."""
        self._finish()

    def pressed(self, button: str) -> None:
        """A button, by its id."""
        if button == "sure":
            self._finish()
        else:
            self.action_cancel()

    # Textual runs these of a class and of all it is made from: so they are no place to override.

    def on_input_submitted(self) -> None:
        """Enter."""
        self.entered()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """One of the buttons."""
        self.pressed(event.button.id or "")


class Help(Box):
    """The keys of this page, and what is missing and why."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark,q", "cancel", "", show=False),
        Binding("up,k", "roll(-1)", "", show=False),
        Binding("down,j", "roll(1)", "", show=False),
    ]
    AUTO_FOCUS = ""

    def __init__(self, title: str, words: str) -> None:
        super().__init__(title)
        self._words = words

    def inside(self) -> Iterable[Widget]:
        """Plain text."""
        yield Static(self._words, markup=False, classes="said", id="help")
        with Horizontal(classes="buttons"):
            yield Button(say("Close (esc)"), id="cancel", compact=True)

    def on_button_pressed(self) -> None:
        """Close."""
        self.dismiss(None)
