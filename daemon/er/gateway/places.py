"""The places of max_concurrency: exact over all workers, and no key may take them all.

Up to three quarters of them whoever comes gets one. In the last quarter a key gets one only while
it holds less than its share by weight, of which a twentieth is kept for keys that hold none yet: so
a key alone may have 95 %, and another that comes then finds a place. The number of places is
counted in the ledger. What each key holds is counted in each worker, whose part of the places is
taken to be its part of the requests. As a key's connections may lie unevenly over the workers, it
may hold twice its share in a worker while a quarter of all places is free, and less and less more
than it until a twentieth is.
"""

from __future__ import annotations

from typing import NamedTuple

from er.keys import Identity
from er.ledger import Ledger

ROOMY, FULL = 0.75, 0.95  # parts of the places


class Held(NamedTuple):
    """Why there is no place: what the key has of all, as far as this worker knows."""

    mine: int
    limit: int
    full: bool  # all are taken, by whomever


class Places:
    """One worker's."""

    def __init__(self, ledger: Ledger, limit: int) -> None:
        self._ledger, self.limit = ledger, limit
        self._roomy = int(limit * ROOMY)
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
            taken = self._ledger.in_flight()
            part = self.limit * self._here / max(self._here, taken)
            free = max(0.0, FULL - taken / self.limit) / (FULL - ROOMY)
            if held[0] * self._weights >= FULL * part * held[1] * (1 + free):
                return False
        return self._ledger.enter(self.limit)
