"""What the scheduler decides on: requests, their sequences, calls, and how replicas stand."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Literal, NamedTuple

from er.job import Ids, Lane

BULK_SEQUENCES = 65  # from this many on, a request is bulk
CALL_SEQUENCES = 128  # in one call to a replica

Over = Literal["done", "failed", "expired", "cancelled"]


class Ticket:
    """One request's sequences. `over` is set once, when the last is done or the first fails."""

    lane: Lane = "interactive"
    key = ""  # whose request it is: keys share what there is by their weights
    weight = 1
    flow: Flow  # where its sequences wait, once it is admitted
    admitted = 0  # monotonic ns
    waiting = 0  # sequences that are not on their way to a replica
    waited_ns = 0  # summed over the sequences that are done
    over: Over | None = None

    def __init__(self, sequences: Sequence[Ids], *, deadline: int) -> None:
        self.sequences = sequences
        self.deadline = deadline  # monotonic ns
        self.left = len(sequences)  # not done yet
        if self.left >= BULK_SEQUENCES:
            self.lane = "bulk"


class Flow:
    """The sequences of one key that wait in one lane."""

    __slots__ = ("items", "key", "start", "waiting", "weight")

    def __init__(self, key: str, weight: int, start: float) -> None:
        self.key, self.weight = key, weight
        self.start = start  # what it was served, in tokens by weight
        self.items: deque[Item] = deque()
        self.waiting = 0  # of requests that are not over; those that failed elsewhere, too


class Item:
    """One sequence of a ticket while it is on its way."""

    __slots__ = ("attempts", "avoid", "ids", "index", "order", "ticket", "tokens")

    def __init__(self, ticket: Ticket, index: int, order: int) -> None:
        self.ticket, self.index, self.order = ticket, index, order
        self.ids = ticket.sequences[index]
        self.tokens = len(self.ids)
        self.attempts = 0  # calls that failed under it
        self.avoid: tuple[str, ...] = ()  # replicas on which they did

    def __lt__(self, other: Item) -> bool:
        return self.order < other.order


class Batch:
    """Items in one upstream call."""

    def __init__(self, load: Load, items: list[Item], now: int) -> None:
        self.replica, self.items, self.taken = load.replica, items, now
        self.away = load.away_s > 0  # the replica is another host's
        self.tokens = sum([item.tokens for item in items])
        self.in_flight = load.tokens + self.tokens  # on the replica, once this was sent
        self.twin: Batch | None = None  # the same items on another replica, on their way too
        self.hedged = False  # is or has a twin: there is none a second time
        self.moot = False  # its twin has answered
        self.keys: dict[str, int] = {}  # key -> its tokens in it, when they were first sent
        self.bulk = False  # it has some of a bulk request

    def live(self) -> list[Item]:
        """The items whose request still wants an answer."""
        if self.moot:
            return []
        return [item for item in self.items if item.ticket.over is None]


class Load(NamedTuple):
    """A replica as the mover sees it when it asks for work."""

    replica: str
    rank: int  # higher is better; 0: give it nothing
    tokens: int  # in flight, all workers; of another host's, as far as it is known
    mine: int  # in flight, this worker
    away_s: float = 0.0  # there and back; 0: it is this host's own
