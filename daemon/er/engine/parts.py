"""Which of an engine's processes are its parts: the end of one is the end of the engine. Pure.

vLLM names its engine and worker processes once they run. Helpers that these start bear the same
name from their fork until they run another program, or end as they should; so a name that is the
parent's own says nothing. And a look at /proc is no snapshot: while an engine loads, a part is only
what was one in two looks with some time between.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

PART = "VLLM::"  # how vLLM names its engine and worker processes
SETTLED_S = 2.0


class Process(NamedTuple):
    """A living process, as /proc/PID/stat has it; `began` is in ticks since the boot."""

    name: str
    parent: int
    session: int
    began: int


class Parts:
    """Remembers what earlier looks found."""

    def __init__(self) -> None:
        self._since: dict[tuple[int, int], float] = {}  # (pid, began) -> s, when it was first one
        self._told: set[tuple[int, int]] = set()

    def look(
        self,
        there: Mapping[int, Process],
        members: Iterable[int],
        now: float,
        settled_s: float = SETTLED_S,
    ) -> list[int]:
        """The process ids of `members` that have become parts, each told once.

        `there` has every process, by its id; `now` in s.
        """
        bearing = {(pid, there[pid].began): pid for pid in members if _bears(pid, there)}
        self._since = {key: self._since.get(key, now) for key in bearing}
        found = [k for k, since in self._since.items() if now - since >= settled_s]
        fresh = [key for key in found if key not in self._told]
        self._told.update(fresh)
        return [bearing[key] for key in fresh]


def _bears(pid: int, there: Mapping[int, Process]) -> bool:
    """Whether the process has a part's name, and one of its own."""
    one = there.get(pid)
    if one is None or not one.name.startswith(PART):
        return False
    parent = there.get(one.parent)
    return parent is None or parent.name != one.name
