"""Config: er.toml, what `er check` finds at its lines, what `er apply` would do, and doing it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widget import Widget

from er_console.consequences import Question, about_unit
from er_console.erfile import Mark, Seen, unit_in
from er_console.judgement import plural
from er_console.looks import Line, cut, wrapped
from er_console.screens.dialogs import Confirm
from er_console.screens.page import Hint, Page
from er_console.state import Missing
from er_console.widgets.lines import Lines

LOOK_AGAIN_S = 2.0
STEPS_ASKED = 6  # named in the question; the rest is counted


class ConfigPage(Page):
    """What would be done above (beside, where there is room), the file below."""

    page = "config"
    actions_in = "config"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("A", "apply", "apply", show=False),
        Binding("r", "again", "look again", show=False),
        Binding("j", "scroll(1)", "down", show=False),
        Binding("k", "scroll(-1)", "up", show=False),
    ]

    seen: Seen | None = None
    missing: Missing | None = None
    stamp = ""
    applying = False

    def body(self) -> Iterable[Widget]:
        """Two panels that scroll together."""
        with VerticalScroll(id="main"):
            yield Lines(id="plan")
            yield Lines(id="file")

    def on_mount(self) -> None:
        """A file that is edited meanwhile is looked at again."""
        self.query_one("#plan").border_title = "er check, er apply"
        self.query_one("#file").border_title = "er.toml"
        self.set_interval(LOOK_AGAIN_S, self._look_if_changed)

    def hints(self) -> list[Hint]:
        """Apply, when something is to be done and may be."""
        usable = self._why_not() is None and self._to_do() and not self.applying
        return [Hint("A", "apply", usable), Hint("r", "look again")]

    def enter(self) -> None:
        """Look at it anew: GPUs and ports count too, not the file alone."""
        self.stamp = self.desk.sources.config.stamp()
        self.run_worker(self._look(), group="look", exclusive=True)

    def _look_if_changed(self) -> None:
        changed = self.stamp != self.desk.sources.config.stamp()
        if self.is_current and changed and not self.applying:
            self.enter()

    async def _look(self) -> None:
        try:
            self.seen, self.missing = await self.desk.sources.config.look(), None
        except Missing as missing:
            self.missing = missing
        self.show()

    def _why_not(self) -> Missing | None:
        if self.desk.readonly:
            return self.desk.why_not("config")
        return self.desk.sources.config.why_not()

    def _to_do(self) -> bool:
        return self.seen is not None and self.missing is None and bool(self.seen.steps)

    # What is shown --------------------------------------------------------------------------

    def draw(self) -> None:
        """Both panels."""
        looks = self.desk.looks
        plan, file = self.query_one("#plan", Lines), self.query_one("#file", Lines)
        width = max(40, (plan.content_size.width or self.size.width) - 1)
        if self.missing is not None:
            rows = wrapped(looks.words(str(self.missing)), width)
            plan.put([[(f" {row}", "warn")] for row in rows])
            file.put([])
        elif self.seen is None:
            plan.put([[(" er check and er apply --dry-run are looking at this machine", "dim")]])
        else:
            plan.put(self._plan_lines(self.seen, width))
            file.put(self._file_lines(self.seen, max(40, file.content_size.width - 1)))

    def _rows(self, said: str, role: str, width: int, indent: int = 1) -> list[Line]:
        rows = wrapped(self.desk.looks.words(said), width - indent)
        return [[(f"{' ' * indent}{row}", role)] for row in rows]

    def _plan_lines(self, seen: Seen, width: int) -> list[Line]:
        role = "bad" if seen.errors else "warn" if seen.marks else "good"
        lines = self._rows(seen.summary, role, width)
        for mark in seen.marks:
            where = f"line {mark.line}: " if 1 <= mark.line <= len(seen.lines) else ""
            said = f"{mark.level}: {where}{mark.said}"
            lines += self._rows(said, "bad" if mark.level == "error" else "warn", width, 3)
        lines.append([("", "")])
        if self.applying:
            lines += self._rows("er apply is at work", "accent", width)
        elif seen.no_plan:
            lines += self._rows(f"er apply: {seen.no_plan}", "dim", width)
        elif not seen.steps:
            lines += self._rows("er apply: nothing to do, systemd matches er.toml", "good", width)
        else:
            lines += self._rows(f"er apply would do {plural(len(seen.steps), 'step')}:", "", width)
            for step in seen.steps:
                lines += self._rows(step, "warn" if step in seen.interrupting else "", width, 3)
        for note in seen.notes:
            lines += self._rows(note, "dim", width)
        why = self._why_not()
        if why is not None and (seen.steps or why.kind == "rights"):
            lines += self._rows(f"A (apply) can't be pressed: {why}", "dim", width)
        return [*lines, [("", "")]]

    def _file_lines(self, seen: Seen, width: int) -> list[Line]:
        marks: dict[int, list[Mark]] = {}
        for mark in seen.marks:
            marks.setdefault(mark.line, []).append(mark)
        lines: list[Line] = []
        for number, said in enumerate(seen.lines, 1):
            found = marks.get(number, [])
            sign = self.desk.looks.glyph("failed" if found and _bad(found) else "degraded")
            head = f"{sign if found else ' '}{number:>4}  "
            role = ("bad" if _bad(found) else "warn") if found else "dim"
            rows = cut(self.desk.looks.words(said), width - len(head)) or [""]
            lines.append([(head, role), (rows[0], "strong" if found else "")])
            lines += [[(" " * len(head), ""), (row, "")] for row in rows[1:]]
            for mark in found:
                lines += self._rows(mark.said, role, width, len(head))
        return lines

    # What is done ---------------------------------------------------------------------------

    def action_again(self) -> None:
        """Look at it anew."""
        self.enter()

    def action_scroll(self, by: int) -> None:
        """Through the file."""
        self.query_one("#main").scroll_relative(y=by, animate=False)

    def _say(self, said: str, title: str, *, good: bool) -> None:
        words = self.desk.looks.words
        severity = "information" if good else "warning"
        self.notify(
            words(said),
            title=words(title),
            severity=severity,  # type: ignore[arg-type]
            timeout=10,
            markup=False,
        )

    def action_apply(self) -> None:
        """Ask, saying what is interrupted, then apply what was shown."""
        why, seen = self._why_not(), self.seen
        if why is not None:
            self._say(why.remedy, why.reason, good=False)
        elif seen is None or self.applying or not self._to_do():
            nothing = seen.no_plan if seen is not None else ""
            self._say(nothing or "nothing to do", "er apply", good=False)
        else:
            question = self._question(seen)

            def go(sure: bool | None) -> None:
                if sure and not self.applying:
                    self.run_worker(self._apply(seen), group="apply")

            self.app.push_screen(Confirm(question.shown(self.desk.looks)), go)

    def _question(self, seen: Seen) -> Question:
        steps = seen.interrupting
        said = [f"er apply does {plural(len(seen.steps), 'step')}."]
        if not steps:
            said.append("None of them stops or restarts anything.")
        for step in steps[:STEPS_ASKED]:
            said.append(f"- {step}")
            unit = unit_in(step)
            if unit:
                verb = step.split()[0]
                asked = about_unit(verb, unit, self.desk.snapshot, self.desk.wall())
                said += [f"  {sentence}" for sentence in asked.sentences[:2]]
        if len(steps) > STEPS_ASKED:
            said.append(f"- and {len(steps) - STEPS_ASKED} more that interrupt; esc shows them all")
        return Question("Apply er.toml?", tuple(said), "Apply")

    async def _apply(self, seen: Seen) -> None:
        self.applying = True
        self.show()
        try:
            outcome = await self.desk.sources.config.apply(seen)
        except Missing as missing:
            self._say(missing.remedy, missing.reason, good=False)
        else:
            title = "er apply is done" if outcome.ok else outcome.remedy
            self._say(outcome.text, title, good=outcome.ok)
        finally:
            self.applying = False
        await self._look()


def _bad(marks: Iterable[Mark]) -> bool:
    return any(mark.level == "error" for mark in marks)
