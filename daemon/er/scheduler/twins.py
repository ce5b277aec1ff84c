"""Which calls are stuck, and where one of them goes a second time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from er.pace import Pace
from er.tickets import Batch, Load

AWAY = ""  # stands for all replicas of other hosts


def paced_by(batch: Batch) -> str:
    """Whose pace a call is held against: a worker has few calls to each replica elsewhere."""
    return AWAY if batch.away else batch.replica


def stuck_of(flying: Iterable[Batch], paces: Mapping[str, Pace], now: int) -> list[Batch]:
    """The calls that take far longer than their replica's others, and have no twin so far."""
    return [
        batch
        for batch in flying
        if not batch.hedged
        and (limit := paces[paced_by(batch)].stuck_ns(batch.in_flight)) is not None
        and now - batch.taken > limit
        and batch.live()
    ]


def twin_of(
    stuck: Sequence[Batch], loads: Sequence[Load], free: Sequence[Load], budget: int, now: int
) -> Batch | None:
    """A stuck call once more, on a replica as good that has room and is not stuck itself.

    One that went to another host comes back to an own replica, if there is one: its twin could meet
    the same host.
    """
    own = any(load.rank and not load.away_s for load in loads)
    ranks, slow = {load.replica: load.rank for load in loads}, {b.replica for b in stuck}
    for batch in stuck:
        items = batch.live()
        tokens = sum(item.tokens for item in items)
        for load in free:
            if (
                items
                and load.rank >= ranks.get(batch.replica, 0)
                and load.replica not in slow
                and not (batch.away and load.away_s and own)
                and not any(load.replica in item.avoid for item in items)
                and (load.mine == 0 or load.tokens + tokens <= budget)
            ):
                twin = Batch(load, items, now)
                batch.twin, twin.twin = twin, batch
                batch.hedged = twin.hedged = True
                return twin
    return None
