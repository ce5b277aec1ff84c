"""How each replica stands when the scheduler decides: its rank, what is in flight, how far off."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from er.ledger import LAST_CHOICE, Ledger
from er.replicas.pools import Member
from er.scheduler.others import Others
from er.tickets import Load


class Standing:
    """Of one model's replicas, as one worker sees them."""

    def __init__(
        self,
        members: Sequence[Member],
        ledger: Ledger,
        others: Others,
        wall: Callable[[], float],
    ) -> None:
        """`others` chooses among replicas of other hosts. `wall` in Unix seconds."""
        self._ledger, self._others, self._wall = ledger, others, wall
        self._own = [member for member in members if member.far is None]
        self._far = {member.name: member for member in members if member.far is not None}

    def loads(self, now: int) -> dict[str, Load]:
        """All own replicas and some of other hosts; `now` in monotonic ns.

        All of those where no other one can be used: somebody may be there still.
        """
        ledger, wall = self._ledger, self._wall()
        loads = {}
        for member in self._own:
            name = member.name
            mine = ledger.mine(name) - member.lent
            rank = self._rank(member, now, wall)
            loads[name] = Load(name, rank, ledger.tokens_in_flight(name), mine)
        if self._far:
            for name in self._others.some(now, lambda: self._far_loads(now, wall)):
                loads[name] = self._far_load(self._far[name], now, wall)
            if not any(load.rank for load in loads.values()):
                loads |= {load.replica: load for load in self._far_loads(now, wall)}
        return loads

    def _rank(self, member: Member, now: int, wall: float) -> int:
        ledger, name = self._ledger, member.name
        rank = ledger.rank(name, wall, now)
        if member.shunned_until > now:
            verdict = ledger.verdict(name)
            if verdict.health == "up" and verdict.checked > member.shunned_at:
                member.forgive()
            rank = min(rank, LAST_CHOICE if member.shunned_until else rank)
        return rank

    def _far_loads(self, now: int, wall: float) -> list[Load]:
        return [self._far_load(member, now, wall) for member in self._far.values()]

    def _far_load(self, member: Member, now: int, wall: float) -> Load:
        """What its host announced last, and what is on its way there from here."""
        ledger, name = self._ledger, member.name
        assert member.far is not None
        tokens = ledger.tokens_in_flight(name) + ledger.elsewhere(name)
        rank = self._rank(member, now, wall)
        return Load(name, rank, tokens, ledger.mine(name), member.far.away_s)
