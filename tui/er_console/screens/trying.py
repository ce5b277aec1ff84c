"""Try it: an embedding or a rerank through gateway.sock; answer, times, errors, the curl line."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.widget import Widget
from textual.widgets import Input, Static, TextArea

from er_console.language import noted, say
from er_console.looks import Line, line_width, told, wrapped
from er_console.screens.page import Hint, Page
from er_console.screens.told import asked_lines, told_lines
from er_console.state import Missing
from er_console.trial import (
    PATHS,
    SIDES,
    Answered,
    Asked,
    Offered,
    address_of,
    curl_here,
    curl_there,
)
from er_console.widgets.lines import Lines

LOOK_AGAIN_S = 5.0
FIELDS = ("query", "instruction", "dimensions")
LABELS = {
    "query": noted("query"),
    "instruction": noted("instruction"),
    "dimensions": noted("dimensions"),
}
AS_MODEL = noted("as the model has it")
SIDE_WORDS = {"": AS_MODEL, "query": noted("query"), "document": noted("document")}


class TryPage(Page):
    """Fields above, the answer below. Letters are keys unless a field has the cursor."""

    page = "try"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("e,i", "edit", "edit", show=False),
        Binding("enter", "send", "send", show=False),
        Binding("m,right", "model(1)", "model", show=False),
        Binding("left", "model(-1)", "model", show=False),
        Binding("d", "side", "side", show=False),
        Binding("o", "dialect", "dialect", show=False),
        Binding("j", "scroll(1)", "down", show=False),
        Binding("k", "scroll(-1)", "up", show=False),
        Binding("y", "copy(False)", "copy as curl", show=False),
        Binding("Y", "copy(True)", "copy as curl for elsewhere", show=False),
    ]

    offered: tuple[Offered, ...] = ()
    at = 0
    side = ""
    dialect = 0  # of those that the task has
    missing: Missing | None = None  # why no model is known
    failed: Missing | None = None  # why the request that was sent has no answer
    sent: Asked | None = None
    answer: Answered | None = None
    began = 0.0  # monotonic; 0 when nothing is on its way

    def body(self) -> Iterable[Widget]:
        """The choice, the fields, the answer."""
        with Vertical(id="form"):
            yield Lines(id="choice")
            for name in FIELDS[:1]:
                yield from self._field(name, say("the question that documents are ranked for"))
            with Horizontal(classes="row", id="row-texts"):
                yield Static(say("texts"), classes="label", id="label-texts")
                yield TextArea(id="texts", tab_behavior="focus", compact=True)
            task = say("the task in a sentence; empty: the model's own")
            yield from self._field("instruction", task)
            yield from self._field("dimensions", say("the first so many numbers; empty: all"))
        with VerticalScroll(id="main"):
            yield Lines(id="answer")

    def _field(self, name: str, hint: str) -> Iterable[Widget]:
        with Horizontal(classes="row", id=f"row-{name}"):
            yield Static(say(LABELS[name]), classes="label")
            yield Input(placeholder=hint, id=name, compact=True)

    def on_mount(self) -> None:
        """Look for the models again as long as there are none."""
        self.set_interval(LOOK_AGAIN_S, self._look_again)
        self.set_interval(1.0, self._tick)

    def hints(self) -> list[Hint]:
        """In a field letters are text: then other keys count."""
        leaving = [Hint("tab", say("next field")), Hint("esc", say("leave"))]
        if isinstance(self.focused, Input):
            return [Hint("enter", say("send")), *leaving]
        if isinstance(self.focused, TextArea):
            return [Hint("enter", say("next line")), *leaving]
        usable = self._why_not() is None and bool(self.offered)
        sent = self.sent is not None
        return [
            Hint("e", say("edit")),
            Hint("enter", say("send"), usable and not self.asked().lacks()),
            Hint("m", say("model"), len(self.offered) > 1),
            Hint("d", say("side"), self.kind() == "embed"),
            Hint("o", say("dialect")),
            Hint("y", "curl", sent),
            Hint("Y", say("curl elsewhere"), sent),
        ]

    def enter(self) -> None:
        """Ask what models there are."""
        self.run_worker(self._look(), group="models", exclusive=True)

    def _look_again(self) -> None:
        if self.is_current and (self.missing or not self.offered):
            self.enter()

    def _tick(self) -> None:
        if self.is_current and self.began:
            self.draw()

    async def _look(self) -> None:
        model = self.offered[self.at].name if self.offered else ""
        try:
            self.offered, self.missing = await self.desk.sources.trial.models(), None
        except Missing as missing:
            self.missing = missing
        names = [offered.name for offered in self.offered]
        self.at = names.index(model) if model in names else 0
        self.show()

    def _why_not(self) -> Missing | None:
        return self.desk.why_not("admin") if self.desk.readonly else self.missing

    def kind(self) -> str:
        """The task of the model that is chosen: embed or score."""
        return self.offered[self.at].task if self.offered else "embed"

    def _said(self, name: str) -> str:
        return self.query_one(f"#{name}", Input).value.strip()

    def asked(self) -> Asked:
        """The request as the fields have it; each line of the texts is a text, empty ones none."""
        task = self.kind()
        area = self.query_one("#texts", TextArea)
        texts = tuple(line for line in area.text.splitlines() if line.strip())
        return Asked(
            model=self.offered[self.at].name if self.offered else "",
            task=task,
            texts=texts,
            query=self._said("query") if task == "score" else "",
            side=self.side if task == "embed" else "",
            instruction=self._said("instruction"),
            dimensions=self._said("dimensions") if task == "embed" else "",
            dialect=[*PATHS[task]][self.dialect % len(PATHS[task])],
        )

    # What is shown --------------------------------------------------------------------------

    def draw(self) -> None:
        """The choice of model and side, and the answer."""
        looks, task = self.desk.looks, self.kind()
        self.query_one("#row-query").display = task == "score"
        self.query_one("#row-dimensions").display = task == "embed"
        label = say("texts") if task == "embed" else say("documents")
        self.query_one("#label-texts", Static).update(f"{label}\n{say('one a line')}")
        line: Line = [(f" {say('model')}   ", "dim")]
        for place, offered in enumerate(self.offered):
            role = "here" if place == self.at else "dim"
            line += [(looks.words(offered.name), role), ("  ", "")]
        if task == "embed":
            line += [(f" {say('side')} ", "dim"), (say(SIDE_WORDS[self.side]), "accent")]
        written: Line = [(f"  {say('written as')} ", "dim"), (self.asked().dialect, "accent")]
        if line_width(line) + line_width(written) > self.size.width:
            line[0], written[0] = (" ", ""), ("  ", "")  # the words before names and dialect
        self.query_one("#choice", Lines).put([[*line, *written]])
        width = max(40, self.query_one("#main").content_size.width - 2)
        self.query_one("#answer", Lines).put(self._answer_lines(width))

    def _answer_lines(self, width: int) -> list[Line]:
        why, looks = self._why_not(), self.desk.looks
        if why is not None:
            rows = wrapped(looks.words(told(why)), width)
            return [[(f" {row}", "warn")] for row in rows]
        if self.began:
            lasts = f"{time.monotonic() - self.began:.0f}"
            return [[(f" {say('asking, {n} s (esc gives up)', n=lasts)}", "dim")]]
        if self.sent is None:
            said = self.asked().lacks() or say("enter sends it")
            return [[(f" {said}", "dim")]]
        lines: list[Line] = []
        if self.failed is not None:
            rows = wrapped(looks.words(told(self.failed)), width)
            lines += [[(f" {row}", "bad")] for row in rows]
        elif self.answer is not None:
            lines += told_lines(self.sent, self.answer, looks, width)
        return lines + asked_lines(self._curls(self.sent), width)

    def _curls(self, sent: Asked) -> tuple[str, str]:
        """The curl line for here, and that for another machine."""
        status = self.desk.snapshot.status.value
        there = address_of(status.gateway.listen if status else ())
        return curl_here(sent, self.desk.sources.trial.socket), curl_there(sent, there)

    # What is done ---------------------------------------------------------------------------

    def action_edit(self) -> None:
        """Into the first field."""
        first = "#query" if self.kind() == "score" else "#texts"
        self.set_focus(self.query_one(first))

    def action_send(self) -> None:
        """Send it in the background; one at a time, and the newest counts."""
        why, asked = self._why_not(), self.asked()
        if why is not None:
            self.explain(why)
        elif asked.lacks():
            self.notify(asked.lacks(), severity="warning", markup=False)
        else:
            self.sent, self.answer, self.failed = asked, None, None
            self.began = time.monotonic()
            self.query_one("#main").focus()
            self.run_worker(self._send(asked), group="try", exclusive=True)
            self.show()

    async def _send(self, asked: Asked) -> None:
        try:
            self.answer = await self.desk.sources.trial.ask(asked)
        except Missing as missing:
            self.failed = missing
        self.began = 0.0
        self.show()

    def action_model(self, by: int) -> None:
        """Another model; what the last one answered leaves with it."""
        if self.offered and not self.began:
            self.sent, self.answer, self.failed = None, None, None
            self.at = (self.at + by) % len(self.offered)
            self.show()

    def action_side(self) -> None:
        """As the model has it, query, document."""
        if self.kind() == "embed":
            self.side = SIDES[(SIDES.index(self.side) + 1) % len(SIDES)]
            self.show()

    def action_dialect(self) -> None:
        """As clients of another service write it: another address, body and answer."""
        self.dialect = (self.dialect + 1) % len(PATHS[self.kind()])
        self.show()

    def action_scroll(self, by: int) -> None:
        """Through a long answer."""
        self.query_one("#main").scroll_relative(y=by, animate=False)

    def action_copy(self, elsewhere: bool) -> None:
        """The line to the terminal's clipboard; no secret is in it."""
        if self.sent is not None:
            self.app.copy_to_clipboard(self._curls(self.sent)[elsewhere])
            said = say("curl line sent to the terminal's clipboard")
            if elsewhere:
                said = say("curl line sent to the terminal's clipboard; set ER_API_KEY there")
            self.notify(self.desk.looks.words(said), markup=False)

    def action_leave(self) -> None:
        """Out of a field, else give up what is on its way, else back."""
        if isinstance(self.focused, Input | TextArea):
            self.query_one("#main").focus()
        elif self.began:
            self.workers.cancel_group(self, "try")
            self.began, self.sent = 0.0, None
            self.show()
        else:
            super().action_leave()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter in a field of one line sends."""
        if event.input.id in FIELDS:
            self.action_send()

    def on_descendant_focus(self) -> None:
        """The footer depends on where the cursor is."""
        self.call_later(self.show)
