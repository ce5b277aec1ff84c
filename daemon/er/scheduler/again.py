"""Sequences whose call failed on one replica: on the others they are first in turn."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from er.tickets import CALL_SEQUENCES, Item


class Again:
    """A heap of them, by their admission."""

    def __init__(self) -> None:
        self._items: list[Item] = []

    def __iter__(self) -> Iterator[Item]:
        return iter(self._items)

    def add(self, item: Item) -> None:
        """It failed, and not too often."""
        heapq.heappush(self._items, item)

    def clear(self) -> None:
        """Nothing waits."""
        self._items.clear()

    def take(
        self, replica: str, choice: set[str], limit: int, first: int
    ) -> tuple[list[Item], int, bool]:
        """What goes to `replica`, one of `choice`, as far as it fits.

        At most `limit` tokens, but a first item may have `first`. Returns the items, their tokens,
        and whether more of them waits for that replica.
        """
        items: list[Item] = []
        heap, aside, tokens, more = self._items, list[Item](), 0, False
        while heap and not more:
            item = heap[0]
            fits = tokens + item.tokens <= (limit if items else first)
            if item.ticket.over is not None:
                heapq.heappop(heap)
            elif replica in item.avoid and choice - {*item.avoid}:
                aside.append(heapq.heappop(heap))
            elif fits and len(items) < CALL_SEQUENCES:
                items.append(heapq.heappop(heap))
                tokens += item.tokens
            else:
                more = True
        for item in aside:
            heapq.heappush(heap, item)
        return items, tokens, more
