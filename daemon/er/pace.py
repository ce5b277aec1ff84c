"""What calls to engines took lately: when one is stuck, and how much gets done at all.

Pure: times are arguments, monotonic ns. Nothing is believed before enough was seen.
"""

from __future__ import annotations

import math
from collections import Counter, deque

RECENT = 64  # calls remembered
ENOUGH = 16  # calls to have seen before one is called stuck
STUCK_TIMES = 3  # that many times what all but the slowest twentieth took
STUCK_MIN_NS = 50_000_000
WINDOW_NS = 250_000_000  # of full work, to take a rate from
WINDOWS = 4  # to have seen before it is believed: the first calls of a rush are small
KEPT_NS = 10_000_000_000  # after full work; then the next may be of another kind
SECOND_NS = 1_000_000_000
PROMISE_MAX_S = 30
SLOT_NS = 250_000_000
PROMISED = 0.8  # of what can be done: what comes is never quite even


class Pace:
    """One replica's recent calls, as this worker saw them."""

    def __init__(self) -> None:
        self._calls: deque[tuple[int, int]] = deque(maxlen=RECENT)  # (ns, tokens in flight)

    def add(self, ns: int, tokens: int) -> None:
        """A call was answered after `ns`; `tokens` were on the replica when it had been sent."""
        self._calls.append((ns, tokens))

    def stuck_ns(self, tokens: int) -> int | None:
        """How long a call sent with `tokens` in flight may take; None: that can't be said yet.

        A high percentile and not a mean, as calls of a few and of thousands of tokens alternate;
        one larger than any seen gets longer in proportion.
        """
        if len(self._calls) < ENOUGH:
            return None
        slow = sorted(ns for ns, _ in self._calls)[-1 - len(self._calls) // 20]
        most = max(seen for _, seen in self._calls)
        return max(STUCK_MIN_NS, STUCK_TIMES * slow * max(tokens, most) // max(1, most))


class Rate:
    """Sequences a second that a model's replicas get done for this worker while they are full.

    Taken only while no call is free: what gets done otherwise says how much was asked.
    """

    def __init__(self) -> None:
        self.per_s = 0.0  # 0: not known
        self.each = 1.0  # tokens that such a sequence has, on average
        self._measured = 0.0
        self._windows = 0
        self._seen = 0  # when work was full last
        self._since: int | None = None  # when the present window of full work began
        self._done = self._tokens = 0
        self._promised: dict[int, _Told] = {}  # by slot of time

    def full(self, now: int) -> None:
        """No call is free."""
        self._seen = now
        if self._since is None:
            self._since, self._done, self._tokens = now, 0, 0

    def idle(self) -> None:
        """One is."""
        self._since = None

    def fresh(self, now: int) -> bool:
        """Whether `per_s` is known; one from long ago is forgotten, as nothing would mend it."""
        if self._since is None and now - self._seen > KEPT_NS:
            self.per_s, self._measured, self._windows = 0.0, 0.0, 0
        return self.per_s > 0

    def done(self, sequences: int, tokens: int, now: int) -> None:
        """A call of so many was answered."""
        if self._since is None:
            return
        self._done += sequences
        self._tokens += tokens
        took = now - self._since
        if took >= WINDOW_NS:
            new = self._done * SECOND_NS / took
            # Up at once, down slowly: a rate that is too low would refuse what could be done.
            share = 1 if new >= self._measured else 1 / 8
            self._measured += (new - self._measured) * share
            self.each += (self._tokens / self._done - self.each) * share
            self._windows += 1
            if self._windows >= WINDOWS:
                self.per_s = self._measured
            self._since, self._done, self._tokens = now, 0, 0

    def promise(
        self, sequences: int, wait_s: float, now: int, key: str = "", share: float = 1.0
    ) -> int:
        """In how many whole seconds, `wait_s` at the least, to come back with so many sequences.

        Into each slot of time no more are sent than can be computed in it: those who come back
        when they were told to come no faster than they are served. What is due to `key`, its
        `share`, it is promised whatever others were: who is refused all the time fills no slot.
        """
        slots, room = self._promised, self.per_s * PROMISED * SLOT_NS / SECOND_NS
        for slot in [slot for slot in slots if slot < now // SLOT_NS]:
            del slots[slot]
        first = min(max(1, math.ceil(wait_s)), PROMISE_MAX_S)
        for seconds in range(first, PROMISE_MAX_S + 1):
            slot = (now + seconds * SECOND_NS) // SLOT_NS
            told = slots.get(slot)
            if not room or told is None or told.all < room or told.keys[key] < room * share:
                break
        slots.setdefault(slot, _Told()).add(key, sequences)
        return seconds


class _Told:
    """How many sequences were told to come back in one slot of time."""

    def __init__(self) -> None:
        self.all = 0
        self.keys: Counter[str] = Counter()

    def add(self, key: str, sequences: int) -> None:
        self.all += sequences
        self.keys[key] += sequences
