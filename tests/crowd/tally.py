"""Numbers that several processes count up and one reads, also after one of them was killed."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from pathlib import Path

import numpy as np


class Tally:
    """One process's counters, by name, in a file."""

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        """Go on counting in the file at `path`, or begin at 0."""
        size = 8 * len(names)
        with path.open("a+b") as file:
            file.truncate(size)
            self._map = mmap.mmap(file.fileno(), size)
        self._places = {name: i for i, name in enumerate(names)}
        self._numbers = np.frombuffer(self._map, np.int64)

    def add(self, name: str, n: int = 1) -> None:
        self._numbers[self._places[name]] += n

    def read(self) -> dict[str, int]:
        """All of them."""
        return {name: int(self._numbers[i]) for name, i in self._places.items()}


def total(tallies: Sequence[Tally]) -> dict[str, int]:
    """The sum by name."""
    found: dict[str, int] = {}
    for tally in tallies:
        for name, n in tally.read().items():
            found[name] = found.get(name, 0) + n
    return found
