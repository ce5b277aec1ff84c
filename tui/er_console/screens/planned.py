"""What the Config page draws: er check's verdict, the steps, er.toml with marks, the diff. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

from er_console.erfile import Mark, Plan, Seen, Step, differences, said_of, shown
from er_console.language import count, heard, say
from er_console.looks import Line, Looks, cut, wrapped

Meant = Callable[[Step], Sequence[str]]  # what a step means for clients, in sentences


def rows(said: str, role: str, looks: Looks, width: int, indent: int = 1) -> list[Line]:
    """A sentence in as many rows as it needs; its own line breaks and indents stay."""
    found: list[Line] = []
    for part in looks.words(said).split("\n"):
        deep = indent + len(part) - len(part.lstrip(" "))
        found += [[(f"{' ' * deep}{row}", role)] for row in wrapped(part.lstrip(" "), width - deep)]
    return found


def verdict_lines(seen: Seen, looks: Looks, width: int) -> list[Line]:
    """er check in a sentence, then its findings."""
    if seen.not_checked:
        return rows(f"er check: {seen.not_checked}", "dim", looks, width)
    role = "bad" if seen.errors else "warn" if seen.marks else "good"
    lines = rows(summary(seen), role, looks, width)
    for mark in seen.marks:
        lines += rows(finding(seen, mark), _role([mark]), looks, width, 3)
    return lines


def summary(seen: Seen) -> str:
    """er check's verdict in a sentence."""
    errors = count(seen.errors, "{n} error", "{n} errors")
    warnings = count(len(seen.marks) - seen.errors, "{n} warning", "{n} warnings")
    if seen.models is None:
        return say("er.toml can't be used: {errors}", errors=errors)
    if seen.marks:
        return say("er check: {errors}, {warnings}", errors=errors, warnings=warnings)
    models = count(seen.models, "{n} model", "{n} models")
    replicas = count(seen.replicas or 0, "{n} replica", "{n} replicas")
    return say("er.toml is good: {models}, {replicas}", models=models, replicas=replicas)


def finding(seen: Seen, mark: Mark) -> str:
    """One finding with its level and line."""
    level = say("error") if mark.level == "error" else say("warning")
    if 1 <= mark.line <= len(seen.lines):
        level = say("{level}, line {line}", level=level, line=mark.line)
    return say("{what}: {why}", what=level, why=heard(mark.said))


def plan_lines(plan: Plan, meant: Meant, looks: Looks, width: int) -> list[Line]:
    """What er apply would do; under what interrupts stands what that means for clients."""
    lines: list[Line] = []
    if plan.why_none:
        lines += rows(f"er apply: {heard(plan.why_none)}", "dim", looks, width)
    elif not plan.steps:
        nothing = say("er apply: nothing to do, systemd matches er.toml")
        lines += rows(nothing, "good", looks, width)
    else:
        steps = count(
            len(plan.steps), "er apply would do {n} step:", "er apply would do {n} steps:"
        )
        lines += rows(steps, "", looks, width)
        for step in plan.steps:
            lines += rows(said_of(step), "warn" if step.interrupts else "", looks, width, 3)
            for sentence in meant(step):
                lines += rows(sentence, "dim", looks, width, 5)
    for note in plan.notes:
        lines += rows(heard(note), "dim", looks, width)
    return lines


def progress_lines(
    plan: Plan, done: Collection[str], more: Sequence[str], looks: Looks, width: int
) -> list[Line]:
    """The steps with those that are done, and what else was said."""
    lines = rows(say("er apply is at work"), "accent", looks, width)
    todo = [step for step in plan.steps if step.text not in done]
    for step in plan.steps:
        if step.text in done:
            lines += rows(f"{looks.glyph('ok')} {said_of(step)}", "good", looks, width, 3)
        else:
            now = bool(todo) and step is todo[0]
            sign = looks.glyph("starting") if now else " "
            role = "strong" if now else "dim"
            lines += rows(f"{sign} {said_of(step)}", role, looks, width, 3)
    for said in more:
        lines += rows(f"{looks.glyph('ok')} {heard(said)}", "good", looks, width, 3)
    return lines


def file_lines(seen: Seen, looks: Looks, width: int) -> list[Line]:
    """The file with numbers; findings stand under their lines."""
    marks: dict[int, list[Mark]] = {}
    for mark in seen.marks:
        marks.setdefault(mark.line, []).append(mark)
    lines: list[Line] = []
    for number, said in enumerate(seen.lines, 1):
        found = marks.get(number, [])
        sign = looks.glyph("failed" if _role(found) == "bad" else "degraded")
        head = f"{sign if found else ' '}{number:>4}  "
        role = _role(found) if found else "dim"
        pieces = cut(looks.words(shown(said)), width - len(head)) or [""]
        lines.append([(head, role), (pieces[0], "strong" if found else "")])
        lines += [[(" " * len(head), ""), (piece, "")] for piece in pieces[1:]]
        for mark in found:
            lines += rows(heard(mark.said), role, looks, width, len(head))
    return lines


def diff_lines(seen: Seen, looks: Looks, width: int) -> list[Line]:
    """er.toml against what is applied: "-" goes, "+" comes."""
    if seen.no_applied:
        return rows(seen.no_applied, "warn", looks, width)
    found = differences(seen.applied, seen.lines)
    if not found:
        return rows(say("er.toml is what is applied, line for line"), "good", looks, width)
    roles = {"-": "bad", "+": "good", "@": "accent"}
    lines: list[Line] = []
    for sign, said in found:
        pieces = cut(looks.words(shown(said)), width - 3) or [""]
        head = " " if sign == "@" else sign
        role = roles.get(sign, "")
        lines += [[(f" {head} ", role), (piece, role)] for piece in pieces]
    return lines


def _role(marks: Iterable[Mark]) -> str:
    return "bad" if any(mark.level == "error" for mark in marks) else "warn"
