"""Other rules than the scheduler's, to see what each is good for; and what is as it is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

from er import scheduler
from er.scheduler import Scheduler, others
from er.tickets import Batch, Load
from hosts.cluster import BUDGET, Times
from hosts.events import MS, SECOND

Rule = tuple[tuple[Any, str, Any], ...]  # what is put in place of what


def _room_of_all(hosts: int) -> Any:
    """Each host may take its share of what is free: by announced room divided by members."""

    def room(self: others.Others, load: Load) -> bool:
        return (BUDGET - load.tokens) // hosts >= BUDGET // 4 // hosts and load.mine < max(
            BUDGET // 4, (BUDGET - load.tokens) // hosts
        )

    return room


def _each(batch: Batch) -> str:
    return batch.replica


LOOKS: dict[str, Rule] = {
    "as it is": (),
    "each host alone": ((others, "LOOKED_AT", 0),),
    "one at random": ((others, "LOOKED_AT", 1),),
    "the emptiest of all": ((others, "LOOKED_AT", 10_000),),
    "own only once full": ((others, "OWN_CALLS", 8),),
    "own no better": ((others, "OWN_CALLS", 0),),
    "distance does not count": ((others, "TOKENS_S", 0),),
    "distance counts tenfold": ((others, "TOKENS_S", 2_500_000),),
    "looked at each 250 ms": ((others, "LOOK_NS", 250 * MS),),
    "looked at each second": ((others, "LOOK_NS", SECOND),),
    "all let in": ((others, "admits", lambda *_: True),),
    "room for half a budget": (
        (others.Others, "room", lambda self, load: BUDGET - load.tokens >= BUDGET // 2),
    ),
    "any room": ((others.Others, "room", lambda self, load: load.tokens < BUDGET),),
}
ANNOUNCED: dict[str, Times] = {
    "announced each 250 ms": Times(announce_ns=SECOND // 4),
    "announced each 4 s": Times(announce_ns=4 * SECOND, gone_ns=12 * SECOND),
}
PACED: dict[str, Rule] = {
    "as it is": (),
    "a pace for each replica": (
        (scheduler, "paced_by", _each),
        (scheduler.twins, "paced_by", _each),
    ),
    "nothing sent twice": ((Scheduler, "watch", lambda self, now: None),),
}


@contextlib.contextmanager
def ruled(rule: Rule) -> Iterator[None]:
    """While it is so."""
    with contextlib.ExitStack() as stack:
        for where, name, what in rule:
            stack.enter_context(mock.patch.object(where, name, what))
        yield
