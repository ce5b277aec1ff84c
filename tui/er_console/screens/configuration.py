"""Config: er.toml, what `er check` finds at its lines, what `er apply` would do, and doing it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widget import Widget

from er_console.consequences import Question, about_unit
from er_console.erfile import Plan, Seen, Step, said_of
from er_console.language import count, heard, say
from er_console.looks import Line, told
from er_console.screens.dialogs import Confirm
from er_console.screens.page import Hint, Page
from er_console.screens.planned import (
    diff_lines,
    file_lines,
    plan_lines,
    progress_lines,
    rows,
    verdict_lines,
)
from er_console.state import Missing, Outcome
from er_console.widgets.lines import Lines

LOOK_AGAIN_S = 2.0
STEPS_ASKED = 6  # named in the question; the rest is counted
MEANT_MAX = 2  # sentences of what a step means for clients


class ConfigPage(Page):
    """What would be done above (beside, where there is room), the file or its diff below."""

    page = "config"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("A", "apply", "apply", show=False),
        Binding("P", "previous", "go back", show=False),
        Binding("d", "diff", "diff", show=False),
        Binding("r", "again", "look again", show=False),
        Binding("j", "scroll(1)", "down", show=False),
        Binding("k", "scroll(-1)", "up", show=False),
    ]

    seen: Seen | None = None
    missing: Missing | None = None
    stamp = ""
    diffs = False
    at_work: Plan | None = None  # what is being applied
    done: tuple[str, ...] = ()
    outcome: Outcome | None = None  # of the last apply
    way_back = ""  # the option of er apply that undoes an apply that failed; "" when none did

    def body(self) -> Iterable[Widget]:
        """Two panels that scroll together."""
        with VerticalScroll(id="main"):
            yield Lines(id="plan")
            yield Lines(id="file")

    def on_mount(self) -> None:
        """A file that is edited meanwhile is looked at again."""
        self.query_one("#plan").border_title = "er check, er apply"
        self.set_interval(LOOK_AGAIN_S, self._look_if_changed)

    def hints(self) -> list[Hint]:
        """Apply, when something is to be done and may be."""
        usable = self._why_not() is None and self.at_work is None
        found = [Hint("A", say("apply"), usable and self._to_do())]
        if self.way_back:
            found.append(Hint("P", say("go back"), usable))
        other = say("file") if self.diffs else say("diff")
        return [*found, Hint("d", other), Hint("r", say("look again"))]

    def enter(self) -> None:
        """Look at it anew: GPUs and ports count too, not the file alone."""
        self.stamp = self.desk.sources.config.stamp()
        self.run_worker(self._look(), group="look", exclusive=True)

    def _look_if_changed(self) -> None:
        changed = self.stamp != self.desk.sources.config.stamp()
        if self.is_current and changed and self.at_work is None:
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
        return self.seen is not None and self.missing is None and bool(self.seen.plan.steps)

    # What is shown --------------------------------------------------------------------------

    def draw(self) -> None:
        """Both panels."""
        looks = self.desk.looks
        plan, file = self.query_one("#plan", Lines), self.query_one("#file", Lines)
        width = max(40, (plan.content_size.width or self.size.width) - 1)
        file.entitle(say("er.toml against what is applied") if self.diffs else "er.toml")
        if self.missing is not None:
            plan.put(rows(told(self.missing), "warn", looks, width))
            file.put([])
        elif self.seen is None:
            looking = say("er check and er apply --dry-run are looking at this machine")
            plan.put(rows(looking, "dim", looks, width))
        else:
            plan.put(self._plan_lines(self.seen, width))
            room = max(40, file.content_size.width - 1)
            shown = diff_lines if self.diffs else file_lines
            file.put(shown(self.seen, looks, room))

    def _plan_lines(self, seen: Seen, width: int) -> list[Line]:
        looks, plan = self.desk.looks, self.at_work
        if plan is not None:
            known = {step.text for step in plan.steps}
            more = [said for said in self.done if said not in known]
            return [*progress_lines(plan, self.done, more, looks, width), [("", "")]]
        lines = self._outcome_lines(width)
        lines += verdict_lines(seen, looks, width)
        lines.append([("", "")])
        lines += plan_lines(seen.plan, self._meant, looks, width)
        why = self._why_not()
        if why is not None and (seen.plan.steps or why.kind == "rights"):
            said = say("A (apply) can't be pressed: {why}", why=told(why))
            lines += rows(said, "dim", looks, width)
        elif seen.plan.why_none and seen.errors:
            said = say("A (apply) can't be pressed: er.toml has errors")
            lines += rows(said, "dim", looks, width)
        return [*lines, [("", "")]]

    def _outcome_lines(self, width: int) -> list[Line]:
        """How the last apply ended, if it failed: what can be done about it."""
        if self.outcome is None or self.outcome.ok:
            return []
        looks = self.desk.looks
        failed = say("er apply failed: {why}", why=self.outcome.text)
        lines = rows(f"{looks.glyph('failed')} {failed}", "bad", looks, width)
        if self.way_back:
            said = say(
                "P goes back (er apply {option}), after asking; or correct er.toml, then A again",
                option=self.way_back,
            )
            lines += rows(said, "warn", looks, width, 3)
        return [*lines, [("", "")]]

    def _meant(self, step: Step) -> Sequence[str]:
        """What a step that stops or restarts something means for clients."""
        if not step.interrupts:
            return ()
        snapshot, now = self.desk.snapshot, self.desk.wall()
        asked = [about_unit(step.verb, u, snapshot, now) for u in step.units if _is_unit(u)]
        return [sentence for one in asked for sentence in one.sentences[:MEANT_MAX]]

    # What is done ---------------------------------------------------------------------------

    def action_again(self) -> None:
        """Look at it anew."""
        self.enter()

    def action_diff(self) -> None:
        """The file, or what is different from what is applied."""
        self.diffs = not self.diffs
        self.show()

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
            self.explain(why, timeout=10)
        elif seen is None or self.at_work is not None or not self._to_do():
            nothing = heard(seen.plan.why_none) if seen is not None else ""
            self._say(nothing or say("nothing to apply"), "er apply", good=False)
        else:
            config = self.desk.sources.config
            title = say("Apply er.toml?")
            self._ask(title, say("Apply"), seen.plan, lambda: config.apply(seen, self._hear))

    def action_previous(self) -> None:
        """After a failed apply: back to what was applied before it."""
        why = self._why_not()
        if why is not None:
            self.explain(why, timeout=10)
        elif self.way_back and self.at_work is None:
            self.run_worker(self._ask_back(self.way_back), group="apply", exclusive=True)

    async def _ask_back(self, option: str) -> None:
        config = self.desk.sources.config
        try:
            plan = await config.way_back(option)
        except Missing as missing:
            plan = Plan(why_none=told(missing))
        if plan.why_none or not plan.steps:
            self._say(heard(plan.why_none) or say("nothing to apply"), "er apply", good=False)
            return
        title = say("Go back to what was applied before?")
        self._ask(title, say("Go back"), plan, lambda: config.go_back(option, self._hear))

    def _ask(
        self, title: str, button: str, plan: Plan, doing: Callable[[], Awaitable[Outcome]]
    ) -> None:
        question = Question(title, tuple(self._sentences(plan)), button)

        def go(sure: bool | None) -> None:
            if sure and self.at_work is None:
                self.run_worker(self._apply(plan, doing), group="apply")

        self.app.push_screen(Confirm(question.shown(self.desk.looks)), go)

    def _sentences(self, plan: Plan) -> Iterable[str]:
        yield count(len(plan.steps), "er apply does {n} step.", "er apply does {n} steps.")
        steps = plan.interrupting
        if not steps:
            yield say("None of them stops or restarts anything.")
        for step in steps[:STEPS_ASKED]:
            yield f"- {said_of(step)}"
            yield from (f"  {sentence}" for sentence in self._meant(step))
        more = len(steps) - STEPS_ASKED
        if more > 0:
            yield count(
                more,
                "- and {n} more that interrupts; esc shows them all",
                "- and {n} more that interrupt; esc shows them all",
            )

    def _hear(self, done: str) -> None:
        self.done += (done,)
        self.show()

    async def _apply(self, plan: Plan, doing: Callable[[], Awaitable[Outcome]]) -> None:
        self.at_work, self.done, self.way_back, self.outcome = plan, (), "", None
        self.show()
        try:
            outcome = await doing()
        except Missing as missing:
            outcome = Outcome(False, missing.reason, missing.remedy)
        finally:
            self.at_work = None
        title = say("er apply is done") if outcome.ok else outcome.remedy
        self._say(outcome.text, title, good=outcome.ok)
        if self.done or outcome.ok:
            self.outcome = outcome
        if not outcome.ok and self.done:
            # Before it is stored, what was applied still is: its files are written once more.
            stored = any(step.verb == "store" and step.text in self.done for step in plan.steps)
            self.way_back = "--previous" if stored else "--again"
        self.show()
        await self._look()


def _is_unit(name: str) -> bool:
    return name.endswith(".service")
