"""How much of one replica a key may have in flight while others ask, too.

A queue alone can't be fair: what is on its way stands before all that comes later, and a key with
much waiting would fill every gap that the others' few requests leave. So while other keys ask, a
key adds to what is in flight on a replica only up to its share of the budget, by the weights of all
who asked lately; or as long as all together have no more than half of it, as an engine with two
calls is not idle. Who asks alone may have all. Counted in tokens; as a call has at most
CALL_SEQUENCES, each of its sequences counts as that part of a call at least.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from er.tickets import BULK_SEQUENCES, Batch, Flow

LATELY_NS = 1_000_000_000
MUCH = BULK_SEQUENCES  # sequences waiting
LARGE_NS = 250_000_000  # for so long a worker with nothing on its way waits with a large text
COUNT_NS = 250_000_000  # how often those who asked are counted anew


class Shares:
    """Who asked lately, and what that leaves for each."""

    def __init__(self, budget: int) -> None:
        """`budget`: tokens that may be in flight on a replica."""
        self.asked: dict[str, tuple[int, int]] = {}  # key -> when it did last, ns; its weight
        self.budget = budget
        self.light = False  # some of them have little waiting
        self._weights = self._keys = self._counted = 0

    def rooms(self, flying: Iterable[Batch], waiting: Mapping[str, Flow], now: int) -> Rooms | None:
        """What keys may add to the calls on their way to a replica; None: all there is.

        `waiting`: the flows of a lane, by key.
        """
        if len(self.asked) != self._keys or now - self._counted > COUNT_NS:
            self.asked = {k: told for k, told in self.asked.items() if now - told[0] < LATELY_NS}
            self._keys, self._counted = len(self.asked), now
            self._weights = sum(weight for _, weight in self.asked.values())
            self.light = any(
                key not in waiting or waiting[key].waiting < MUCH for key in self.asked
            )
        if self._keys <= 1:
            for key in waiting:
                if key not in self.asked:
                    break
            else:
                return None
        return Rooms(self, flying)

    def due(self, flow: Flow) -> int:
        """The tokens that a key may have in flight on a replica, whatever the others have."""
        others = self._weights - (flow.weight if flow.key in self.asked else 0)
        return self.budget * flow.weight // (flow.weight + max(0, others))


class Rooms:
    """The same for one call, which is being filled."""

    def __init__(self, shares: Shares, flying: Iterable[Batch]) -> None:
        self._shares, self._keys = shares, [batch.keys for batch in flying]
        self._all = sum([sum(keys.values()) for keys in self._keys])

    def left(self, flow: Flow, call: dict[str, int]) -> int:
        """Tokens that `flow` may add to a `call` that has so many of each key already."""
        key, budget, due = flow.key, self._shares.budget, self._shares.due(flow)
        way = sum([keys.get(key, 0) for keys in self._keys])
        more = max(due - way, budget // 2 - self._all)
        # In whole calls: in small ones it would take all that may be on their way there.
        whole = self._shares.light and flow.waiting >= MUCH
        if way and whole and more < min(due, budget // 4):
            return 0
        together = self._all + sum(call.values())
        return max(due - way - call.get(key, 0), budget // 2 - together)

    def first(self, tokens: int, first: int, limit: int) -> int:
        """How large a call's only sequence may be: `first`, or no more than a call's `limit`.

        With `tokens` in flight on the replica. Were each worker with nothing there to send a text
        that is as large as some calls, others' small ones would stand behind all of these.
        """
        return first if tokens <= self._shares.budget // 4 else min(first, limit)
