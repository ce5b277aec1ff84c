"""er.toml as the console shows it: lines, what `er check` finds, what `er apply` would do. Pure.

A step has verb, units, path and reason, so that the console can say it in its own words.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from er_console.language import heard, say

# An alert's address: whoever has it can write into the group. Also behind a #, and inline.
SECRET = re.compile(r"""(\bwebhook["']?\s*=\s*)(\"{3}|'{3}|"|')(?:.*?\2|.*)""")
AROUND = 3  # lines of a diff that are shown before and behind a change


@dataclass(frozen=True, slots=True)
class Mark:
    """A finding at a line (counting from 1; 0 or beyond the end: of the file as a whole)."""

    line: int
    level: str
    said: str


@dataclass(frozen=True, slots=True)
class Step:
    """One step of an apply; `text` is how `er` itself says it, also when it is done."""

    verb: str
    text: str
    units: tuple[str, ...] = ()
    path: str = ""
    reason: str = ""
    interrupts: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What `er apply` would do; `why_none` is why that is not known, or why nothing can be."""

    steps: tuple[Step, ...] = ()
    notes: tuple[str, ...] = ()
    why_none: str = ""

    @property
    def interrupting(self) -> tuple[Step, ...]:
        """The steps that stop or restart something."""
        return tuple(step for step in self.steps if step.interrupts)


@dataclass(frozen=True, slots=True)
class Seen:
    """One look. `models` and `replicas` are counts, None for a file that can't be used.

    `not_checked` is why there are no findings, `applied` the lines of what runs, `no_applied` why
    those are not known.
    """

    path: str
    lines: tuple[str, ...]
    marks: tuple[Mark, ...] = ()
    models: int | None = None
    replicas: int | None = None
    not_checked: str = ""
    plan: Plan = field(default_factory=Plan)
    applied: tuple[str, ...] = ()
    no_applied: str = ""

    @property
    def errors(self) -> int:
        """How many findings are errors."""
        return sum(mark.level == "error" for mark in self.marks)


def said_of(step: Step) -> str:
    """A step as a sentence in the language spoken; one of a kind not known here as `er` says it."""
    units = ", ".join(step.units)
    sentences = {
        "write": say("write {path}", path=step.path),
        "remove": say("remove {path}", path=step.path),
        "enable": say("start {units} together with er.target", units=units),
        "store": say("store it as what is applied ({path})", path=step.path),
        "remember": say("remember what each model's vectors are of"),
        "daemon-reload": say("have systemd read its files again"),
        "reload": say("give the gateway new workers; the old ones finish what they have"),
        "stop": say("stop {units}", units=units),
        "start": say("start {units}", units=units),
        "restart": say("restart {units}", units=units),
    }
    said = sentences.get(step.verb)
    if said is None:
        return heard(step.text)
    return say("{what}: {why}", what=said, why=heard(step.reason)) if step.reason else said


def shown(line: str) -> str:
    """A line of er.toml as it may stand on a screen: without the address of a webhook."""
    return SECRET.sub(r"\1\2…\2", line) if "webhook" in line else line


def differences(applied: Sequence[str], edited: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """(sign, line): "-" is applied and gone, "+" new, " " around it, "@" where lines are left out.

    () when both are the same.
    """
    rows = list(difflib.unified_diff(applied, edited, n=AROUND, lineterm=""))[2:]
    return tuple((row[:1], row if row.startswith("@") else row[1:]) for row in rows)
