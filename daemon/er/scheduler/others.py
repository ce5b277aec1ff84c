"""Replicas of other hosts: when one is worth asking, which of them are looked at, who is let in.

Pure: the clock and the dice are arguments. What the parts that carry the calls owe to it:

* `Load.away_s` is the time there and back, in seconds, as measured; 0 is this host's own replica.
* `Load.tokens` of a replica elsewhere is what its host announced last, less what was of this host
  in it (what was on its way from here when that was heard), plus what is on its way from here now.
  Counted in this host's measure: where the owner's budget is another, times ours and by its.
* `take` gets the loads of all own replicas, and of those elsewhere that `Others.some` named: two at
  a time, so a decision costs the same with 1,000 replicas as with 10.
* An owner lets a call in by `admits`; if not, its answer is "busy", which is no failure:
  `Scheduler.busy` puts the sequences back, first in turn, and leaves that replica alone for a
  while. Calls let in go straight to the engine, as they have waited where they came from.

Own replicas come first as long as they have room in their budget: what goes away comes later, and
on what is known of the others, up to a second old, nobody can balance finely. What own replicas
have no room for goes to one of two taken at random among those that are known to have room for a
whole call: the emptier one, where distance counts as the tokens that are computed meanwhile. All
hosts see the same empty replica at the same time; two at random keep them from running there
together, and who comes too late is told so by the owner, who alone knows. A host without a replica
of its own asks also those that seem full, with one call at a time: it is as one more worker there.
Measured by tests/bench/hosts_sim.py.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence

from er.tickets import Load

LOOK_NS = 250_000_000  # how often all others are looked at
REST_NS = 1_000_000_000  # for which one that was busy is left alone: until its host tells anew
LOOKED_AT = 2
TOKENS_S = 250_000  # what a replica computes in a second: distance as tokens


def distance(load: Load) -> int:
    """The way to a replica and back, as tokens that could have been computed meanwhile."""
    return int(load.away_s * TOKENS_S)


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
        self._rests: dict[str, int] = {}  # replica -> until when it is not asked, monotonic ns
        self._looked = -LOOK_NS
        self._open: list[str] = []  # those with room for a call
        self._full: list[str] = []  # the others that can be reached

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
            self._rests = {name: until for name, until in self._rests.items() if until > now}
            self._open = [x.replica for x in there if self.room(x) and not self.resting(x, now)]
            self._full = [] if self._open else [load.replica for load in there]
        names = self._open or self._full
        return self._pick.sample(names, min(LOOKED_AT, len(names)))

    def worth(self, choice: Sequence[Load], now: int) -> Sequence[Load]:
        """Of replicas as good as each other, own ones and those elsewhere that may be asked."""
        if not any(load.away_s for load in choice):
            return choice
        none = all(load.away_s for load in choice)
        return [
            load
            for load in choice
            if not load.away_s or ((none or self.room(load)) and not self.resting(load, now))
        ]

    def room(self, load: Load) -> bool:
        """Whether a whole call, a quarter of the budget, has room there."""
        return self._budget - load.tokens >= self._budget // 4

    def resting(self, load: Load, now: int) -> bool:
        """Whether it was busy a moment ago."""
        return self._rests.get(load.replica, 0) > now

    def busy(self, replica: str, now: int) -> None:
        """Its owner let a call not in."""
        self._rests[replica] = now + REST_NS
        if replica in self._open:
            self._open.remove(replica)
