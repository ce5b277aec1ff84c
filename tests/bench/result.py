"""What a bench reports: lines with what was reached and what was wanted, and its raw figures."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from measure import median


@dataclass(frozen=True)
class Goal:
    """What is wanted of a figure: at least or at most so much. None: nothing, it is only shown."""

    bound: float | None
    least: bool = True

    def met(self, value: float) -> bool | None:
        if self.bound is None:
            return None
        return value >= self.bound if self.least else value <= self.bound

    def __str__(self) -> str:
        if self.bound is None:
            return ""
        return f"{'>=' if self.least else '<='} {self.bound:g}"


def at_least(bound: float) -> Goal:
    return Goal(bound)


def at_most(bound: float) -> Goal:
    return Goal(bound, least=False)


SHOWN = Goal(None)


@dataclass(frozen=True)
class Line:
    """One figure: the median of `values`, one of each run."""

    what: str
    values: list[float]
    goal: Goal
    noisy: bool = False  # the machine was too busy for the figure to mean anything

    @property
    def reached(self) -> float:
        return median(self.values)

    @property
    def verdict(self) -> str:
        met = self.goal.met(self.reached)
        if met is None:
            return ""
        return "NOISY" if self.noisy else "reached" if met else "SHORT"


@dataclass
class Report:
    """What a bench found: its lines, and whatever else is worth keeping."""

    lines: list[Line] = field(default_factory=list)
    raw: list[dict[str, Any]] = field(default_factory=list)  # one for each run

    def line(self, what: str, values: list[float], goal: Goal, *, noisy: bool = False) -> None:
        self.lines.append(Line(what, values, goal, noisy))


@dataclass(frozen=True)
class Options:
    """How long a bench may take: `runs` times over, `seconds` a measurement, all of it or some."""

    runs: int
    seconds: float
    full: bool
    folder: Path  # empty, the bench's own
    requests: int  # for the bench that counts them


def merged(raw: list[dict[str, Any]], *path: str) -> list[float]:
    """One figure of every run."""
    found = []
    for one in raw:
        value: Any = one
        for name in path:
            value = value[name]
        found.append(float(value))
    return found
