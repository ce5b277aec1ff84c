"""er.toml as the console shows it: lines, what `er check` finds, what `er apply` would do. Pure.

Both commands are read as a person reads them: `FILE:LINE: LEVEL: MESSAGE`, and the steps under
"Would be done:", each indented by two; the text of files that would be written stands deeper.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

FINDING = re.compile(r"(?P<file>.*?):(?P<line>\d+): (?P<level>error|warning): (?P<said>.*)")
INTERRUPTS = ("restart ", "stop ")


@dataclass(frozen=True, slots=True)
class Mark:
    """A finding at a line (counting from 1; 0 or beyond the end: of the file as a whole)."""

    line: int
    level: str
    said: str


@dataclass(frozen=True, slots=True)
class Seen:
    """One look. `summary` is er check's last word; `no_plan` is why `steps` are not known."""

    path: str
    lines: tuple[str, ...]
    marks: tuple[Mark, ...] = ()
    summary: str = ""
    steps: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    no_plan: str = ""

    @property
    def errors(self) -> int:
        """How many findings are errors."""
        return sum(mark.level == "error" for mark in self.marks)

    @property
    def interrupting(self) -> tuple[str, ...]:
        """The steps that stop or restart something."""
        return tuple(step for step in self.steps if step.startswith(INTERRUPTS))


def marks_of(said: str) -> tuple[tuple[Mark, ...], str]:
    """The findings in er check's output, and its last line, which sums up."""
    found = []
    last = ""
    for row in said.splitlines():
        match = FINDING.fullmatch(row)
        if match:
            found.append(Mark(int(match["line"]), match["level"], match["said"]))
        elif row.strip():
            last = row.strip()
    return tuple(found), last


def steps_of(said: str) -> tuple[str, ...]:
    """The steps in the output of er apply --dry-run."""
    rows = said.splitlines()
    return tuple(row.strip() for row in rows if row.startswith("  ") and row[2:3].strip())


def unit_in(step: str) -> str:
    """The unit that a step restarts or stops; "" when it names none."""
    words = step.split()
    name = words[1].rstrip(":") if len(words) > 1 else ""
    return name if name.endswith(".service") else ""
