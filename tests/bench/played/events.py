"""Virtual time: events in their order, and dice that fall the same each time."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from typing import Any

US, MS, SECOND = 1_000, 1_000_000, 1_000_000_000


class Day:
    """What happens when, in ns. Two events of one moment happen in the order they were told."""

    def __init__(self, seed: int) -> None:
        self.pick = random.Random(seed)
        self.clients = random.Random(seed + 1_000)  # theirs: they ask the same whatever ER does
        self.now = 0
        self._events: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = itertools.count()

    def at(self, when: int, what: Callable[..., None], *given: Any) -> None:
        """`what` is to happen then."""
        heapq.heappush(self._events, (when, next(self._order), what, given))

    def after(self, ns: int, what: Callable[..., None], *given: Any) -> None:
        """The same, so long from now."""
        heapq.heappush(self._events, (self.now + ns, next(self._order), what, given))

    def run(self, until: int) -> None:
        """Let happen all that is due by then."""
        events, pop = self._events, heapq.heappop
        while events and events[0][0] <= until:
            self.now, _, what, given = pop(events)
            what(*given)
        self.now = until
