"""Replicas of other hosts: when one is worth asking, which of them are looked at, who is let in.

Pure: the clock and the dice are arguments. What the parts that carry the calls owe to it:

* `Load.away_s` is the time there and back, in seconds, as measured; 0 is this host's own replica.
* `Load.tokens` of a replica elsewhere is what its host announced last, less what was of this host
  in it (what was on its way from here when that was heard), plus what is on its way from here now.
  Counted in this host's measure: where the owner's budget is another, times ours and by its.
* `take` gets the loads of all own replicas, and of those elsewhere that `Others.some` named: two at
  a time, so a decision costs the same with 1,000 replicas as with 10.
* An owner lets a call in by `admits`; if not, its answer is "busy", which is no failure:
  `Scheduler.busy` puts the sequences back, first in turn, and that replica is not asked until all
  are looked at anew. Calls let in go straight to the engine, as they waited where they came from.
* Only own replicas make a worker `full`: while they are and a look is due anyway, a new request
  needs no decision of its own.

Own replicas come first: one elsewhere counts as if one more call, a quarter of the budget, lay
there, and the tokens that are computed during the way to it and back. On what is known of the
others, up to a second old, nobody can balance finely. Two are taken at random among those that are
known to have room for a whole call. All hosts see the same empty replica at the same time: two at
random keep them from running there together, and who comes too late is told so by the owner, who
alone knows. A host without a replica of its own asks also those that seem full, with one call at a
time: it is as one more worker there.
Measured by tests/bench/hosts_sim.py.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence

from er.tickets import Load

LOOK_NS = 100_000_000  # how often all others are looked at
LOOKED_AT = 2
TOKENS_S = 250_000  # what a replica computes in a second: the way there and back as tokens
OWN_CALLS = 1  # of a quarter of the budget: as if so many more lay on each replica elsewhere


def admits(tokens: int, others: int, call: int, budget: int) -> bool:
    """Whether the owner of a replica lets in a `call` of another host, of so many tokens.

    `tokens` are in flight on it, all together, `others` of them other hosts' by this worker. As
    with a worker of its own: into its budget, but one call may go in any case.
    """
    return not others or tokens + call <= budget


class Others:
    """What one model's scheduler knows of the replicas of other hosts."""

    def __init__(self, budget: int, pick: random.Random | None = None) -> None:
        """`budget`: tokens that may be in flight on a replica."""
        self._budget, self._pick = budget, pick or random.Random()
        self._looked = -LOOK_NS  # monotonic ns
        self._there: list[str] = []  # those that can be reached
        self._open: list[str] = []  # of these, those with room for a call
        self._busy: set[str] = set()  # since they were looked at

    def some(self, now: int, look: Callable[[], Iterable[Load]]) -> list[str]:
        """Names of replicas elsewhere that a decision is to have the loads of, none or a few.

        `look` tells the loads of all of them; it is called every LOOK_NS at most. Those with room
        come first; if there are none, those that seem full: somebody is there.
        """
        if now - self._looked >= LOOK_NS:
            self._looked = now
            loads = list(look())
            best = max((load.rank for load in loads), default=0)
            there = [load for load in loads if load.rank == best > 0]
            self._there = [load.replica for load in there]
            self._open = [load.replica for load in there if self.room(load)]
            self._busy.clear()
        names = self._open or self._there
        return self._pick.sample(names, min(LOOKED_AT, len(names)))

    def worth(self, choice: Sequence[Load]) -> Sequence[Load]:
        """Of replicas as good as each other, own ones and those elsewhere that may be asked."""
        away = [load for load in choice if load.away_s]
        if not away:
            return choice
        none = len(away) == len(choice)
        return [
            load
            for load in choice
            if not load.away_s or ((none or self.room(load)) and load.replica not in self._busy)
        ]

    def weighs(self, load: Load) -> int:
        """The tokens that count as in flight on a replica elsewhere."""
        return load.tokens + self._budget // 4 * OWN_CALLS + int(load.away_s * TOKENS_S)

    def room(self, load: Load) -> bool:
        """Whether a whole call, a quarter of the budget, has room there."""
        return self._budget - load.tokens >= self._budget // 4

    def busy(self, replica: str) -> None:
        """Its owner let a call not in: it isn't asked until all are looked at anew."""
        self._busy.add(replica)
        if replica in self._open:
            self._open.remove(replica)
