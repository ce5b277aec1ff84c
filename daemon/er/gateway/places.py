"""The places of max_concurrency: exact over all workers, and no key may take them all.

Up to three quarters of them whoever comes gets one. In the last quarter a key gets one only while
it holds less than its share by weight, of which a twentieth is kept for keys that hold none yet: so
a key alone may have 95 %, and another that comes then finds a place. The number of places is
counted in the ledger. What each key holds is counted in each worker, whose part of the places is
taken to be its part of the requests. As a key's connections may lie unevenly over the workers, one
that holds less than half of what the largest does is not refused for its share.
"""

from __future__ import annotations

from typing import NamedTuple

from er.keys import Identity
from er.ledger import Ledger


class Held(NamedTuple):
    """Why there is no place: what the key has of all, as far as this worker knows."""

    mine: int
    limit: int
    full: bool  # all are taken, by whomever


class Places:
    """One worker's."""

    def __init__(self, ledger: Ledger, limit: int) -> None:
        self._ledger, self.limit = ledger, limit
        self._roomy = limit * 3 // 4
        self._held: dict[str, list[int]] = {}  # key -> how many it holds here, its weight
        self._weights = self._here = 0  # of those keys; requests in this worker

    def enter(self, who: Identity) -> bool:
        """Whether there is a place for a request of `who`, which then is taken."""
        if not self._ledger.enter(self._roomy) and not self._enters_late(who):
            return False
        self._here += 1
        try:
            self._held[who.id][0] += 1
        except KeyError:
            self._held[who.id] = [1, who.weight]
            self._weights += who.weight
        return True

    def leave(self, who: Identity) -> None:
        """Give one back that `who` had."""
        self._ledger.leave()
        self._here -= 1
        held = self._held[who.id]
        held[0] -= 1
        if not held[0]:
            del self._held[who.id]
            self._weights -= held[1]

    def held(self, who: Identity) -> Held:
        """What to tell one for whom there is no place."""
        mine, _ = self._held.get(who.id, (0, 0))
        return Held(mine, self.limit, self._ledger.in_flight() >= self.limit)

    def _enters_late(self, who: Identity) -> bool:
        held = self._held.get(who.id)
        if held is not None:
            part = self.limit * self._here / max(self._here, self._ledger.in_flight())
            each = held[0] / held[1]
            if 20 * each * self._weights >= 19 * part:
                most = max([mine / weight for mine, weight in self._held.values()])
                if 2 * each >= most:
                    return False
        return self._ledger.enter(self.limit)
