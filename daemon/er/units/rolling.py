"""Which of a plan's restarts go one after the other: those of models that have several replicas."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from er.config import Config
from er.systemctl import replica_of
from er.units.change import Change

# Two replicas that differ in these give different answers, or refuse each other's texts: both are
# restarted at once.
ALIKE = ("task", "path", "prompt", "max_tokens", "via")
BY_TURNS = "the next of its model once it answers"


def by_turns(old: Config | None, new: Config, restarts: Sequence[Change]) -> list[Change]:
    """`restarts` and starts of replicas, with those that roll at the end.

    One rolls if another of its model is to be restarted too and can serve meanwhile: it is of the
    same model, and not new.
    """
    if old is None:
        return [*restarts]
    again = [change for change in restarts if "restart" in change.argv]
    roll = [change for change in again if _rolls(old, new, change, again)]
    told = [
        msgspec.structs.replace(change, rolls=True, says=f"{change.says}; {BY_TURNS}")
        for change in roll
    ]
    return [*(change for change in restarts if change not in roll), *told]


def _rolls(old: Config, new: Config, change: Change, again: Sequence[Change]) -> bool:
    name = replica_of(change.argv[-1])
    replica = new.replica(name)
    if replica is None:
        return False
    before, after = old.model(replica.model), new.model(replica.model)
    if before is None or after is None:
        return False
    same = all(getattr(before, field) == getattr(after, field) for field in ALIKE)
    kept = {r.name for r in old.replicas_of(before.name)}
    both = kept & {r.name for r in new.replicas_of(after.name)}
    both &= {replica_of(other.argv[-1]) for other in again}
    return same and name in both and len(both) > 1
