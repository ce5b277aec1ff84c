"""What waits in one lane, and whose turn it is: weighted fair queueing between keys, on tokens.

Each key has a *flow* in a lane: its sequences, in the order in which they came. A flow's `start` is
how much it has been served, in tokens divided by its weight; the flow that was served least is
next (start-time fair queueing). One that comes anew begins where the lane stands, so whoever asks
seldom is next at once, and nobody saves up turns by staying away. A flow that is empty is kept
until the others have caught up with it: else one that always has a single large text to send would
be new, and next, each time. O(log n) for a sequence in the keys that wait; with one key, O(1).
"""

from __future__ import annotations

import heapq
import itertools

from er.scheduler.shares import Rooms
from er.tickets import CALL_SEQUENCES, Flow, Item

ALL = 1 << 62  # tokens
NEVER = float("inf")


class Filling:
    """A call that is being filled."""

    def __init__(self, items: list[Item], tokens: int, least: int) -> None:
        """`least`: the tokens that a sequence counts as, if it has fewer."""
        self.items, self.tokens, self.least = items, tokens, least
        self.keys: dict[str, int] = {}  # key -> its tokens, of those that were taken in turn


class Lane:
    """The flows of one lane. `waiting` counts sequences whose requests are not over."""

    def __init__(self) -> None:
        self.flows: dict[str, Flow] = {}
        self.waiting = 0
        self._weights = 0  # of all flows
        self._turns: list[tuple[float, int, Flow]] = []  # a heap: each flow once, by its start
        self._orders = itertools.count()
        self._now = 0.0  # the start of what was served last

    def begin(self, key: str, weight: int) -> Flow:
        """A flow for a key that has none here."""
        flow = self.flows[key] = Flow(key, weight, self._now)
        self._weights += weight
        heapq.heappush(self._turns, (flow.start, next(self._orders), flow))
        return flow

    def reweigh(self, flow: Flow, weight: int) -> None:
        """From now on `flow` has that weight."""
        self._weights += weight - flow.weight
        flow.weight = weight

    def take(self, call: Filling, limit: int, first: int, rooms: Rooms | None) -> bool:
        """Move to `call` what is next in turn and fits; whether it is full then.

        It may have `limit` tokens, but a first item of its own `first`; `rooms`: what each key may.
        """
        turns, full, now = self._turns, False, self._now
        aside: list[tuple[float, int, Flow]] = []
        while turns and not full:
            flow = turns[0][2]
            left = ALL if rooms is None else rooms.left(flow, call.keys)
            if flow.items and left > 0:
                full = self._run(flow, call, limit, first, left)
            elif flow.items or aside:  # with some aside it is not the one that was served least
                aside.append(heapq.heappop(turns))
            else:
                self._ends(flow)
        for turn in aside:
            heapq.heappush(turns, turn)
            self._now = now
        return full

    def _run(self, flow: Flow, call: Filling, limit: int, first: int, left: int) -> bool:
        """Take of the flow that is next, `left` tokens, until another is next; see `take`."""
        turns, queue, items, tokens = self._turns, flow.items, call.items, call.tokens
        start = last = flow.start
        until = min([turn[0] for turn in turns[1:3]]) if len(turns) > 1 else NEVER
        before, end, full = len(items), tokens + left, False
        most = before + left // call.least  # sequences
        while queue and start <= until and tokens < end and len(items) <= most:
            item = queue[0]
            ticket = item.ticket
            if ticket.over is None:
                size = item.tokens
                if len(items) >= CALL_SEQUENCES or tokens + size > (limit if items else first):
                    full = True
                    break
                items.append(item)
                tokens += size
                ticket.waiting -= 1
                last, start = start, start + size / flow.weight
            queue.popleft()
        taken = len(items) - before
        if taken:
            work = max(tokens - call.tokens, taken * call.least)
            call.keys[flow.key] = call.keys.get(flow.key, 0) + work
            call.tokens = tokens
            self._now = max(self._now, last)
            flow.start = start
            flow.waiting -= taken
            self.waiting -= taken
            heapq.heapreplace(turns, (start, next(self._orders), flow))
        return full

    def _ends(self, flow: Flow) -> None:
        """It is empty, and no other was served less."""
        heapq.heappop(self._turns)
        del self.flows[flow.key]
        self._weights -= flow.weight
        self._now = max(self._now, flow.start)

    def ahead(self, key: str, weight: int, sequences: int) -> int:
        """How many are served before the last of so many new ones of `key`, these included.

        All texts counted as equally long: an estimate.
        """
        flow = self.flows.get(key)
        waits, own_weight = (flow.waiting, flow.weight) if flow else (0, 0)
        own = waits + sequences
        others = (self._weights - own_weight) * own // weight
        return own + min(self.waiting - waits, others)

    def share(self, key: str, weight: int) -> float:
        """What part of the lane's work is due to `key` while all who wait do."""
        flow = self.flows.get(key)
        return weight / (self._weights - (flow.weight if flow else 0) + weight)

    def sweep(self) -> None:
        """Let go of sequences whose requests are over."""
        for flow in self.flows.values():
            live = [item for item in flow.items if item.ticket.over is None]
            flow.items.clear()
            flow.items.extend(live)

    def clear(self) -> None:
        """Nothing waits: forget who was served how much."""
        self.flows.clear()
        self._turns.clear()
        self._weights, self._now = 0, 0.0
