"""Decide which waiting sequences go to which replica, and what happens when a call fails.

Pure: no socket, no sleep, no clock. A method that needs the time takes `now` (monotonic ns);
`replicas` acts. One Scheduler for each model that has replicas.

A free call takes the longest-waiting sequences that fit, so a lone request never waits for company
and batches grow only under load. A timer was rejected: it taxes the idle case.
A call takes at most a quarter of a replica's budget: four calls on their way keep the engine's API
process and its GPU both busy; with two larger ones, measured, one of them waited.
Interactive requests go before bulk ones, but each fourth batch begins with bulk, so bulk is slowed
and never starved. A batch refused as a bad request is halved until the bad sequence stands alone.

Invariant: an admitted sequence is done, failed, expired or cancelled, exactly once. Sequences of a
request that is over are dropped when they are met, not searched for, so leaving costs nothing.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Sequence
from typing import Literal, NamedTuple

from er.job import Ids, Lane

BULK_SEQUENCES = 65  # from this many on, a request is bulk
BULK_TURN = 4  # each so many-th batch begins with bulk, when both wait
ATTEMPTS = 3  # calls that may fail under a sequence before it is given up
CALLS = 4  # at once from one worker to one replica
CALL_SEQUENCES = 128

Over = Literal["done", "failed", "expired", "cancelled"]


class Ticket:
    """One request's sequences. `over` is set once, when the last is done or the first fails."""

    def __init__(self, sequences: Sequence[Ids], *, deadline: int) -> None:
        self.sequences = sequences
        self.deadline = deadline  # monotonic ns
        self.lane: Lane = "bulk" if len(sequences) >= BULK_SEQUENCES else "interactive"
        self.admitted = 0  # monotonic ns
        self.left = len(sequences)  # not done yet
        self.waiting = 0  # not on their way to a replica
        self.waited_ns = 0  # summed over the sequences that are done
        self.over: Over | None = None


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

    def __init__(self, replica: str, items: list[Item], now: int) -> None:
        self.replica, self.items, self.taken = replica, items, now
        self.tokens = sum(item.tokens for item in items)

    def live(self) -> list[Item]:
        """The items whose request still wants an answer."""
        return [item for item in self.items if item.ticket.over is None]


class Load(NamedTuple):
    """A replica as the mover sees it when it asks for work."""

    replica: str
    rank: int  # higher is better; 0: give it nothing
    tokens: int  # in flight, all workers
    mine: int  # in flight, this worker


class Scheduler:
    """The queue of one model, and the calls on their way to its replicas."""

    def __init__(self, batch_tokens: int) -> None:
        """`batch_tokens`: the engine's step. Two steps' worth may be in flight on a replica."""
        self.budget = 2 * batch_tokens
        self.call_tokens = max(1, self.budget // CALLS)
        self.waiting = 0  # sequences
        self.tickets: dict[Ticket, None] = {}  # not over yet, by admission
        self._lanes: dict[Lane, deque[Item]] = {"interactive": deque(), "bulk": deque()}
        self._again: list[Item] = []  # a heap: they failed elsewhere and have waited longest
        self._halves: deque[list[Item]] = deque()  # parts of a refused batch, sent as they are
        self._flying: dict[str, set[Batch]] = {}
        self._batches = 0
        self._last: dict[str, int] = {}  # replica -> number of its last batch
        self._orders = itertools.count()

    # -- in ------------------------------------------------------------------------------------

    def admit(self, ticket: Ticket, now: int) -> None:
        """Queue all sequences of `ticket`, of which there is at least one."""
        ticket.admitted = now
        self.tickets[ticket] = None
        lane = self._lanes[ticket.lane]
        lane.extend(Item(ticket, i, next(self._orders)) for i in range(len(ticket.sequences)))
        self._waits(ticket, len(ticket.sequences))

    def _waits(self, ticket: Ticket, count: int) -> None:
        ticket.waiting += count
        self.waiting += count

    # -- out -----------------------------------------------------------------------------------

    def take(self, loads: Sequence[Load], now: int) -> Batch | None:
        """The next batch for the replica with the least in flight; None when nothing can go.

        Only the best rank present is considered: a replica of last choice gets nothing while a
        better one is merely busy.
        """
        best = max((load.rank for load in loads), default=0)
        if not self.waiting or best <= 0:
            return None
        choice = [load for load in loads if load.rank == best]
        names = {load.replica for load in choice}
        free = [load for load in choice if self.calls(load.replica) < CALLS]
        for load in sorted(free, key=self._busyness):
            items = self._fill(load, names)
            if items:
                batch = Batch(load.replica, items, now)
                self._flying.setdefault(load.replica, set()).add(batch)
                self._batches += 1
                self._last[load.replica] = self._batches
                return batch
        return None

    def _busyness(self, load: Load) -> tuple[int, int, int]:
        """Least in flight first; among equals the one that was given work longest ago."""
        return load.tokens, self.calls(load.replica), self._last.get(load.replica, 0)

    def hungry(self, loads: Sequence[Load]) -> bool:
        """Whether sequences wait here that only the budget, shared with others, keeps back."""
        best = max((load.rank for load in loads), default=0)
        return self.waiting > 0 and any(
            load.rank == best > 0 and self.calls(load.replica) < CALLS for load in loads
        )

    def calls(self, replica: str) -> int:
        """Calls of this worker on their way to `replica`."""
        return len(self._flying.get(replica, ()))

    def flying(self) -> list[Batch]:
        """Every batch on its way."""
        return [batch for batches in self._flying.values() for batch in batches]

    def _fill(self, load: Load, choice: set[str]) -> list[Item]:
        """Take items for one call to `load.replica` out of the queue; [] when none may go."""
        room = self.budget - load.tokens
        alone = load.mine == 0  # then one call may go, whatever the others have in flight
        if half := self._half(room, alone):
            return half
        limit = min(self.call_tokens, max(room, self.call_tokens if alone else 0))
        items: list[Item] = []
        tokens = 0
        aside: list[Item] = []
        while len(items) < CALL_SEQUENCES:
            queue = self._next_queue()
            if queue is None:
                break
            item = queue[0]
            if queue is self._again and load.replica in item.avoid and choice - {*item.avoid}:
                aside.append(heapq.heappop(self._again))
                continue
            # A first item too large for a call goes by itself, as soon as the budget has the room.
            fits = tokens + item.tokens <= limit if items else alone or item.tokens <= room
            if not fits:
                break
            items.append(heapq.heappop(queue) if isinstance(queue, list) else queue.popleft())
            tokens += item.tokens
            self._waits(item.ticket, -1)
        for item in aside:
            heapq.heappush(self._again, item)
        return items

    def _half(self, room: int, alone: bool) -> list[Item]:
        """The next part of a refused batch, whose items must not meet new neighbours."""
        while self._halves:
            live = [item for item in self._halves[0] if item.ticket.over is None]
            if live and not alone and sum(item.tokens for item in live) > room:
                return []
            self._halves.popleft()
            for item in live:
                self._waits(item.ticket, -1)
            if live:
                return live
        return []

    def _next_queue(self) -> list[Item] | deque[Item] | None:
        """The queue whose first item is next; its head is live."""
        while self._again and self._again[0].ticket.over is not None:
            heapq.heappop(self._again)
        for lane in self._lanes.values():
            while lane and lane[0].ticket.over is not None:
                lane.popleft()
        if self._again:
            return self._again
        bulk_first = self._batches % BULK_TURN == BULK_TURN - 1
        first, second = self._lanes["interactive"], self._lanes["bulk"]
        if bulk_first:
            first, second = second, first
        return first or second or None

    # -- back ----------------------------------------------------------------------------------

    def done(self, batch: Batch) -> tuple[list[tuple[int, Item]], list[Ticket]]:
        """The batch came back right: (position in it, item) to hand out, and tickets now done."""
        self._lands(batch)
        handed, finished = [], []
        for position, item in enumerate(batch.items):
            ticket = item.ticket
            if ticket.over is not None:
                continue
            handed.append((position, item))
            ticket.waited_ns += batch.taken - ticket.admitted
            ticket.left -= 1
            if ticket.left == 0:
                self._ends(ticket, "done")
                finished.append(ticket)
        return handed, finished

    def failed(self, batch: Batch) -> list[Item]:
        """The call failed through no fault of its sequences: queue them again, first in turn.

        Returns those that have failed too often; their tickets are over.
        """
        self._lands(batch)
        lost = []
        for item in batch.items:
            if item.ticket.over is not None:
                continue
            item.attempts += 1
            item.avoid += (batch.replica,)
            if item.attempts >= ATTEMPTS:
                self._ends(item.ticket, "failed")
                lost.append(item)
            else:
                heapq.heappush(self._again, item)
                self._waits(item.ticket, 1)
        return lost

    def refused(self, batch: Batch) -> Item | None:
        """The engine called it a bad request: halve it. Returns the bad item once it is alone."""
        self._lands(batch)
        live = batch.live()
        if len(live) == 1 and len(batch.items) == 1:
            self._ends(live[0].ticket, "failed")
            return live[0]
        # Dead items were sent too, so a single live one left may be innocent: it is asked again.
        middle = (len(live) + 1) // 2
        for half in (live[:middle], live[middle:]):
            if half:
                self._halves.append(half)
                for item in half:
                    self._waits(item.ticket, 1)
        return None

    def dropped(self, batch: Batch) -> None:
        """The call was given up, since nobody wanted its answer any more."""
        self._lands(batch)

    def _lands(self, batch: Batch) -> None:
        self._flying[batch.replica].remove(batch)

    # -- away ----------------------------------------------------------------------------------

    def cancel(self, ticket: Ticket) -> list[Batch]:
        """The client left. Returns the batches on their way that nobody wants any more."""
        if ticket.over is not None:
            return []
        self._ends(ticket, "cancelled")
        return self.unwanted()

    def expire(self, now: int) -> tuple[list[Ticket], list[Batch]]:
        """End the tickets whose deadline is reached; and the batches that nobody wants now."""
        late = [ticket for ticket in self.tickets if ticket.deadline <= now]
        for ticket in late:
            self._ends(ticket, "expired")
        return late, self.unwanted() if late else []

    def abandon(self) -> list[Ticket]:
        """End every ticket that has sequences waiting: there is no replica left for them."""
        stuck = [ticket for ticket in self.tickets if ticket.waiting]
        for ticket in stuck:
            self._ends(ticket, "failed")
        return stuck

    def next_deadline(self) -> int | None:
        """The earliest deadline of those that are not over, monotonic ns."""
        return min((ticket.deadline for ticket in self.tickets), default=None)

    def _ends(self, ticket: Ticket, over: Over) -> None:
        ticket.over = over
        del self.tickets[ticket]
        self._waits(ticket, -ticket.waiting)
        if not self.waiting:  # what is left in the queues is dead: don't hold its memory
            self._again.clear()
            self._halves.clear()
            for lane in self._lanes.values():
                lane.clear()

    def unwanted(self) -> list[Batch]:
        """The batches on their way whose answers nobody wants any more."""
        return [batch for batch in self.flying() if not batch.live()]
