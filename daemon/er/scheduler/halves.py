"""Parts of a batch that was refused as a bad request: each is sent as it is, until one is alone."""

from __future__ import annotations

from collections import deque

from er.tickets import Item


class Halves:
    """They wait first in turn, as their items must not meet new neighbours."""

    def __init__(self) -> None:
        self._halves: deque[list[Item]] = deque()

    def add(self, live: list[Item]) -> list[Item]:
        """Cut what is left of a refused batch in two; returns all that waits by it."""
        # Dead items were sent too, so a single live one left may be innocent: it is asked again.
        middle = (len(live) + 1) // 2
        self._halves.extend(half for half in (live[:middle], live[middle:]) if half)
        return live

    def clear(self) -> None:
        """Nothing waits."""
        self._halves.clear()

    def next(self, room: int, alone: bool) -> list[Item]:
        """The next of them if it has at most `room` tokens or `alone` there; else none."""
        while self._halves:
            live = [item for item in self._halves[0] if item.ticket.over is None]
            if live and not alone and sum(item.tokens for item in live) > room:
                return []
            self._halves.popleft()
            if live:
                return live
        return []
