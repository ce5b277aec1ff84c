"""What of a request is known, what has to be computed, and how both become one answer. Pure.

A sequence that stands in a request more than once is computed once, with a cache or without.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from er.job import Ids

Numbers = NDArray[np.float32]  # (n, width) of vectors, or (n,) of scores
# The engine, the digests, those for the shared state or None, rows.
Rows = Numbers | Sequence[Numbers]
Keep = Callable[[Any, Sequence[bytes], Sequence[bytes] | None, Rows], None]


def content(ids: Ids) -> bytes:
    """The bytes that stand for a sequence: equal for equal token ids, and only for those."""
    return array("I", ids).tobytes()


class Plan:
    """One request's way around the engine.

    `wanted` are the sequences to compute, each once, and `places` where each stands first in the
    request (None: every sequence at its own place). `known` counts the sequences that the cache
    answered. `shared`, where it is not None, are the digests by which the hosts' shared state may
    know what is in `wanted`.
    """

    __slots__ = (
        *("_found", "_keep", "_numbers", "_source", "_whole"),
        *("digests", "engine", "known", "places", "shape", "shared", "wanted"),
    )

    def __init__(self, sequences: Sequence[Ids]) -> None:
        """Of a request whose sequences all have to be computed, until something else is said."""
        self.wanted = sequences
        self.places: Sequence[int] | None = None
        self.known = 0
        self._source: Sequence[int] | None = None  # which of the distinct sequences each is
        self._found: dict[int, Numbers] | None = None  # by the number of the distinct one
        self._numbers: Sequence[int] | None = None  # of those in `wanted`, when some were found
        self._keep: Keep | None = None
        self._whole: Numbers | None = None
        self.shared: Sequence[bytes] | None = None

    def repeats(self, firsts: Sequence[int], source: Sequence[int]) -> None:
        """Compute each distinct sequence once: what `distinct` found."""
        if len(firsts) < len(source):
            self.places, self._source = firsts, source
            self.wanted = [self.wanted[i] for i in firsts]

    def keep(
        self, keep: Keep, engine: Any, digests: Sequence[bytes], shape: tuple[int, ...]
    ) -> None:
        """Have what `engine` computes kept, under the digests of what is in `wanted` now."""
        self._keep, self.engine, self.digests, self.shape = keep, engine, digests, shape

    def by(self, replicas: str) -> None:
        """Keep nothing that a replica of another host computed: its engine has another name."""
        if "@" in replicas:
            self._keep = None

    def whole(self, row: Numbers) -> None:
        """Take what the cache knows of a request with one sequence."""
        self._whole, self.wanted, self.places, self.known = row[np.newaxis], (), (), 1

    def answered(self, found: Mapping[int, Numbers]) -> None:
        """Take what the cache knows, not empty: rows by position in `wanted`."""
        count = len(self.wanted)
        if self._source is None:
            self._source = range(count)
        numbers = self._numbers if self._numbers is not None else range(count)
        self._found = (self._found or {}) | {numbers[i]: row for i, row in found.items()}
        self.known = sum(number in self._found for number in self._source)
        rest = [i for i in range(count) if i not in found]
        places = self.places if self.places is not None else range(count)
        self.places = [places[i] for i in rest]
        self._numbers = [numbers[i] for i in rest]
        self.wanted = [self.wanted[i] for i in rest]
        self.digests = [self.digests[i] for i in rest]
        if self.shared is not None:
            self.shared = [self.shared[i] for i in rest]

    def learned(self, found: Mapping[int, Numbers]) -> None:
        """Take what other hosts know, by position in `wanted`, and have it kept here."""
        if found and self._keep is not None:
            own = [self.digests[i] for i in found]
            self._keep(self.engine, own, None, list(found.values()))
            self.answered(found)

    def merge(self, computed: Numbers | None) -> Numbers:
        """The numbers of the whole request, from those of `wanted` (None when that is empty)."""
        if self._whole is not None:
            return self._whole
        if computed is not None and self._keep is not None:
            self._keep(self.engine, self.digests, self.shared, computed)
        if self._found is None:
            assert computed is not None
            return computed if self._source is None else computed[self._source]
        found = self._found
        shape = next(iter(found.values())).shape
        count = len(found) + (0 if computed is None else len(computed))
        distinct = np.empty((count, *shape), np.float32)
        for number, row in found.items():
            distinct[number] = row
        if computed is not None:
            distinct[[i for i in range(count) if i not in found]] = computed
        return distinct if len(distinct) == len(self._source or ()) else distinct[self._source]


def distinct(contents: Sequence[bytes]) -> tuple[list[int], list[int]]:
    """(the first place of each distinct content, for each place the number of its content)."""
    numbers: dict[bytes, int] = {}
    firsts: list[int] = []
    source: list[int] = []
    for place, text in enumerate(contents):
        number = numbers.setdefault(text, len(firsts))
        if number == len(firsts):
            firsts.append(place)
        source.append(number)
    return firsts, source
