"""Decide which waiting sequences go to which replica, and what happens when a call fails.

Pure: no socket, no sleep, no clock. A method that needs the time takes `now` (monotonic ns);
`replicas` acts. One Scheduler for each model that has replicas.

A free call takes the longest-waiting sequences that fit, so a lone request never waits for company
and batches grow only under load. A timer was rejected: it taxes the idle case.
A call takes at most a quarter of a replica's budget: four calls on their way keep the engine's API
process and its GPU both busy; with two larger ones, measured, one of them waited. The third and
fourth wait until they are worth their price, as two small calls are back within a step or two.
Interactive requests go before bulk ones, but each fourth batch begins with bulk, so bulk is slowed
and never starved. Within a lane keys take turns by tokens and weight (see `lanes`).
A batch refused as a bad request is halved until the bad sequence stands alone.
A call that takes far longer than its replica's others is sent once more, to another replica (its
twin). The first answer counts, the other call is dropped; at most one call in 50 is sent twice.

Invariant: an admitted sequence is done, failed, expired or cancelled, exactly once. Sequences of a
request that is over are dropped when they are met, not searched for, so leaving costs nothing.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

from er.job import Lane as LaneName
from er.pace import Pace, Rate
from er.scheduler.again import Again
from er.scheduler.halves import Halves
from er.scheduler.lanes import ALL, Filling, Lane
from er.scheduler.others import Others
from er.scheduler.shares import LARGE_NS, LATELY_NS, Shares
from er.scheduler.twins import paced_by, stuck_of, twin_of
from er.tickets import BULK_SEQUENCES, CALL_SEQUENCES, Batch, Item, Load, Over, Ticket

BULK_TURN = 4  # each so many-th batch begins with bulk, when both wait
ATTEMPTS = 3  # calls that may fail under a sequence before it is given up
CALLS = 4  # at once from one worker to one replica
BULK_CALLS = 2  # of bulk at once to one replica, while an interactive request came lately
FREE_CALLS = 2  # that may be as small as they come
FULL_SEQUENCES = 32
HEDGE_CALLS = 50  # calls that earn one more for a stuck one
HEDGES_SAVED = 8  # no more than so many are kept for later
DEAD_MAX = 4096  # sequences of requests that are over, kept until they are met


class Scheduler:
    """The queue of one model, and the calls on their way to its replicas."""

    def __init__(self, batch_tokens: int) -> None:
        """`batch_tokens`: the engine's step. Two steps' worth may be in flight on a replica."""
        self.budget = 2 * batch_tokens
        self.call_tokens = max(1, self.budget // CALLS)
        self.waiting = 0  # sequences
        self.tickets: dict[Ticket, None] = {}  # not over yet, by admission
        self.lanes: dict[LaneName, Lane] = {"interactive": Lane(), "bulk": Lane()}
        self._dead = 0  # sequences in the lanes of requests that are over, at most
        self._again = Again()
        self._halves = Halves()
        self.others = Others(self.budget)
        self._flying: dict[str, set[Batch]] = {}
        self.sent = 0  # sequences on their way
        self._batches = 0
        self._last: dict[str, int] = {}  # replica -> number of its last batch
        self._sent_at: dict[str, int] = {}  # when that was, monotonic ns
        self._orders = itertools.count()
        self._paces: defaultdict[str, Pace] = defaultdict(Pace)
        self.stuck: list[Batch] = []  # on their way for far too long, and without a twin so far
        self._small_at = -LATELY_NS  # when an interactive request last came, monotonic ns
        self._shares = Shares(self.budget)
        self._least = max(1, self.call_tokens // CALL_SEQUENCES)  # what a sequence counts as
        self._credit = 0  # calls, of which HEDGE_CALLS pay for a twin
        self.rate = Rate()

    # -- in ------------------------------------------------------------------------------------

    def admit(self, ticket: Ticket, now: int) -> None:
        """Queue all sequences of `ticket`, of which there is at least one."""
        ticket.admitted = now
        self.tickets[ticket] = None
        lane, n, key = self.lanes[ticket.lane], ticket.left, ticket.key
        try:
            ticket.flow = flow = lane.flows[key]
        except KeyError:
            ticket.flow = flow = lane.begin(key, ticket.weight)
        if flow.weight != ticket.weight:
            lane.reweigh(flow, ticket.weight)
        for index in range(n):
            flow.items.append(Item(ticket, index, next(self._orders)))
        ticket.waiting += n
        flow.waiting += n
        lane.waiting += n
        self.waiting += n
        self._shares.asked[key] = now, ticket.weight
        if ticket.lane == "interactive":
            self._small_at = now

    def _waits(self, ticket: Ticket, count: int) -> None:
        ticket.waiting += count
        ticket.flow.waiting += count
        self.lanes[ticket.lane].waiting += count
        self.waiting += count

    # -- out -----------------------------------------------------------------------------------

    def take(self, loads: Sequence[Load], now: int) -> Batch | None:
        """The next batch for the replica with the least in flight; None when nothing can go.

        Only the best rank present is considered: a replica of last choice gets nothing while a
        better one is merely busy. Own ones come before those of other hosts, see `others`.
        """
        best = max((load.rank for load in loads), default=0)
        if best <= 0:
            return None
        choice = [load for load in loads if load.rank == best]
        free = [x for x in self.others.worth(choice) if self.calls(x.replica) < CALLS]
        if len(free) > 1:
            free.sort(key=self._busyness)
        if self.stuck and (twin := self._twin(loads, free, now)) is not None:
            return twin
        if not self.waiting:
            return None
        names, held = {load.replica for load in choice}, False
        for load in free:
            if self._held(load) or (held and load.away_s):
                held |= not load.away_s
                continue
            batch = self._fill(load, names, now)
            if batch is not None:
                self._credit = min(self._credit + 1, HEDGES_SAVED * HEDGE_CALLS)
                return self._sent(batch)
        return None

    def _held(self, load: Load) -> bool:
        """Whether the next call there had better wait for company."""
        return (
            self.calls(load.replica) >= FREE_CALLS
            and self.waiting < FULL_SEQUENCES
            and load.tokens < self.budget // 2
        )

    def _sent(self, batch: Batch) -> Batch:
        self._flying.setdefault(batch.replica, set()).add(batch)
        self.sent += len(batch.items)
        self._batches += 1
        self._last[batch.replica], self._sent_at[batch.replica] = self._batches, batch.taken
        return batch

    def _busyness(self, load: Load) -> tuple[bool, int, int, int]:
        """What is stuck last; then the least in flight; then who was given work longest ago."""
        name, stuck = load.replica, any(batch.replica == load.replica for batch in self.stuck)
        tokens = self.others.weighs(load) if load.away_s else load.tokens
        return stuck, tokens, self.calls(name), self._last.get(name, 0)

    def hungry(self, loads: Sequence[Load]) -> bool:
        """Whether sequences wait here that only the budget, shared with others, keeps back."""
        best = max((load.rank for load in loads), default=0)
        return self.waiting > 0 and any(
            load.rank == best > 0 and self.calls(load.replica) < CALLS and not self._held(load)
            for load in loads
        )

    def full(self, replicas: Iterable[str]) -> bool:
        """Whether as many calls as may be are on their way to each of `replicas`."""
        return all(len(self._flying.get(replica, ())) >= CALLS for replica in replicas)

    def ahead(self, sequences: int, key: str = "", weight: int = 1) -> int:
        """How many are computed before the last of so many new ones of `key`, these included."""
        lane = self.lanes["interactive"]
        if sequences < BULK_SEQUENCES:
            return self.sent + lane.ahead(key, weight, sequences)
        return self.sent + lane.waiting + self.lanes["bulk"].ahead(key, weight, sequences)

    def promise(self, sequences: int, wait_s: float, now: int, key: str, weight: int) -> int:
        """In how many whole seconds, `wait_s` at the least, `key` is to come back with so many."""
        lane = self.lanes["interactive" if sequences < BULK_SEQUENCES else "bulk"]
        return self.rate.promise(sequences, wait_s, now, key, lane.share(key, weight))

    def calls(self, replica: str) -> int:
        """Calls of this worker on their way to `replica`."""
        return len(self._flying.get(replica, ()))

    def flying(self) -> list[Batch]:
        """Every batch on its way."""
        return [batch for batches in self._flying.values() for batch in batches]

    def _fill(self, load: Load, choice: set[str], now: int) -> Batch | None:
        """Take items for one call to `load.replica` out of the queue; None when none may go."""
        room = self.budget - load.tokens
        alone = load.mine == 0  # then one call may go, whatever the others have in flight
        if half := self._halves.next(room, alone):
            for item in half:
                self._waits(item.ticket, -1)
            return Batch(load, half, now)
        limit = min(self.call_tokens, max(room, self.call_tokens if alone else 0))
        # A first item too large for a call goes by itself, as soon as the budget has the room.
        first = ALL if alone else room
        items, tokens, full = self._again.take(load.replica, choice, limit, first)
        for item in items:
            self._waits(item.ticket, -1)
        call, before, bulk = Filling(items, tokens, self._least), len(items), False
        if not full:
            bulk = self._take_turns(call, limit, first, load, now)
            self.waiting -= len(items) - before
        if not self.waiting:
            self._forget_dead()
        if not items:
            return None
        batch = Batch(load, items, now)
        batch.keys, batch.bulk = call.keys, bulk
        return batch

    def _take_turns(self, call: Filling, limit: int, first: int, load: Load, now: int) -> bool:
        """Add to `call` what is next of both lanes, as far as it fits; whether any is bulk."""
        flying = self._flying.get(load.replica) or ()
        interactive, bulk = self.lanes["interactive"], self.lanes["bulk"]
        rooms = self._shares.rooms(flying, interactive.flows or bulk.flows, now)
        if rooms is not None and now - self._sent_at.get(load.replica, -LARGE_NS) < LARGE_NS:
            first = rooms.first(load.tokens, first, limit)
        lanes: tuple[Lane, ...] = (interactive, bulk)
        has_bulk = False
        if self._batches % BULK_TURN == BULK_TURN - 1:
            lanes = bulk, interactive
        if (
            bulk.flows
            and len(flying) >= BULK_CALLS
            and now - self._small_at < LATELY_NS
            # Its turn it has all the same, unless a call with some of it is on its way there.
            and (lanes[0] is interactive or any(batch.bulk for batch in flying))
        ):
            lanes = (interactive,)
        for lane in lanes:
            if not lane.flows:
                continue
            before = len(call.items)
            full = lane.take(call, limit, first, rooms)
            has_bulk |= lane is bulk and len(call.items) > before
            if full:
                break
        return has_bulk

    # -- stuck calls ---------------------------------------------------------------------------

    def watch(self, now: int) -> None:
        """Find the calls that take far longer than their replica's others; `take` sends them."""
        self.stuck = stuck_of(self.flying(), self._paces, now)

    def _twin(self, loads: Sequence[Load], free: Sequence[Load], now: int) -> Batch | None:
        """A stuck call once more, elsewhere."""
        if self._credit < HEDGE_CALLS:
            return None
        twin = twin_of(self.stuck, loads, free, self.budget, now)
        if twin is None:
            return None
        self._credit -= HEDGE_CALLS
        assert twin.twin is not None
        self.stuck.remove(twin.twin)
        return self._sent(twin)

    # -- back ----------------------------------------------------------------------------------

    def done(self, batch: Batch, now: int) -> tuple[list[tuple[int, Item]], list[Ticket]]:
        """The batch came back right: (position in it, item) to hand out, and tickets now done.

        Its twin, if it has one on its way, is unwanted now.
        """
        twin = self._lands(batch)
        self._paces[paced_by(batch)].add(now - batch.taken, batch.in_flight)
        if batch.moot:
            return [], []
        self.rate.done(len(batch.items), batch.tokens, now)
        if twin is not None:
            twin.moot = True
        handed, finished, taken = [], [], batch.taken
        for position, item in enumerate(batch.items):
            ticket = item.ticket
            if ticket.over is not None:
                continue
            handed.append((position, item))
            ticket.waited_ns += taken - ticket.admitted
            ticket.left -= 1
            if not ticket.left:
                ticket.over = "done"
                del self.tickets[ticket]
                finished.append(ticket)
        return handed, finished

    def failed(self, batch: Batch) -> list[Item]:
        """The call failed through no fault of its sequences: queue them again, first in turn.

        Returns those that have failed too often; their tickets are over.
        """
        twin = self._lands(batch)
        lost = []
        for item in batch.live():
            if item.ticket.over is not None:  # by the item before it
                continue
            item.attempts += 1
            item.avoid += (batch.replica,)
            if twin is not None:
                continue  # on its way there still
            if item.attempts >= ATTEMPTS:
                self._ends(item.ticket, "failed")
                lost.append(item)
            else:
                self._again.add(item)
                self._waits(item.ticket, 1)
        return lost

    def refused(self, batch: Batch) -> Item | None:
        """The engine called it a bad request: halve it. Returns the bad item once it is alone."""
        twin = self._lands(batch)
        live = batch.live()
        if len(live) == 1 and len(batch.items) == 1:
            self._ends(live[0].ticket, "failed")
            return live[0]
        if twin is not None:
            return None  # it will be refused there too
        for item in self._halves.add(live):
            self._waits(item.ticket, 1)
        return None

    def busy(self, batch: Batch) -> None:
        """Another host had no room for the call: queue its sequences again, first in turn."""
        self.others.busy(batch.replica)
        if (twin := self._lands(batch)) is not None:
            twin.hedged = False  # stuck as it is, it may go to somebody else
            return
        for item in batch.live():
            self._again.add(item)
            self._waits(item.ticket, 1)

    def dropped(self, batch: Batch) -> None:
        """The call was given up, since nobody wanted its answer any more."""
        self._lands(batch)

    def _lands(self, batch: Batch) -> Batch | None:
        """It is on its way no more; returns its twin that still is."""
        self._flying[batch.replica].remove(batch)
        self.sent -= len(batch.items)
        if batch in self.stuck:
            self.stuck.remove(batch)
        twin, batch.twin = batch.twin, None
        if twin is not None:
            twin.twin = None
        return twin

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

    def abandon(self, held: Collection[LaneName] = ()) -> list[Ticket]:
        """End who waits, as no replica is left; those of the lanes `held` go on waiting."""
        stuck = [t for t in self.tickets if t.waiting and t.lane not in held]
        for ticket in stuck:
            self._ends(ticket, "failed")
        return stuck

    def next_deadline(self) -> int | None:
        """The earliest deadline of those that are not over, monotonic ns."""
        return min((ticket.deadline for ticket in self.tickets), default=None)

    def _ends(self, ticket: Ticket, over: Over) -> None:
        ticket.over = over
        del self.tickets[ticket]
        self._dead += ticket.waiting
        self._waits(ticket, -ticket.waiting)
        if not self.waiting:
            self._forget_dead()
        elif self._dead > DEAD_MAX + self.waiting:
            self._dead = 0
            for lane in self.lanes.values():
                lane.sweep()

    def _forget_dead(self) -> None:
        """Nothing waits, so what is left in the queues is dead: don't hold its memory."""
        self._dead = 0
        self._again.clear()
        self._halves.clear()
        for lane in self.lanes.values():
            lane.clear()

    def unwanted(self) -> list[Batch]:
        """The batches on their way whose answers nobody wants any more."""
        return [batch for batch in self.flying() if not batch.live()]
