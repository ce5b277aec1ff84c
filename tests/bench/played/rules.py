"""Other rules than the scheduler's, to see what each is good for; and what is as it is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

from er import scheduler
from er.scheduler import Scheduler, others
from er.tickets import Batch, Load
from played.cluster import BUDGET, Times
from played.events import MS, SECOND

Rule = tuple[tuple[Any, str, Any], ...]  # what is put in place of what


def _into_half(tokens: int, others: int, call: int, budget: int) -> bool:
    return not others or tokens + call <= budget // 2


def _half_room(_: others.Others, load: Load) -> bool:
    return BUDGET // 2 - load.tokens >= BUDGET // 4


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
    "let in to half a budget": (
        (others, "admits", _into_half),
        (others.Others, "room", _half_room),
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
