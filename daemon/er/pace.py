"""What calls to engines took lately: when one is stuck, and how much gets done at all.

Pure: times are arguments, monotonic ns. Nothing is believed before enough was seen.
"""

from __future__ import annotations

from collections import deque

RECENT = 64  # calls remembered
ENOUGH = 16  # calls to have seen before one is called stuck
STUCK_TIMES = 3  # that many times what all but the slowest twentieth took
STUCK_MIN_NS = 50_000_000
WINDOW_NS = 250_000_000  # of full work, to take a rate from
SECOND_NS = 1_000_000_000


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
    """Tokens a second that all replicas of a model get done for this worker, when all are busy.

    Taken only while more waits than may be sent: what gets done otherwise says how much was asked.
    """

    def __init__(self) -> None:
        self.per_s = 0.0  # 0: never measured
        self._since: int | None = None  # when the present window of full work began
        self._tokens = 0

    def full(self, now: int) -> None:
        """More waits than may be sent."""
        if self._since is None:
            self._since, self._tokens = now, 0

    def idle(self) -> None:
        """All that waited could be sent."""
        self._since = None

    def done(self, tokens: int, now: int) -> None:
        """A call of `tokens` was answered."""
        if self._since is None:
            return
        self._tokens += tokens
        took = now - self._since
        if took >= WINDOW_NS:
            new = self._tokens * SECOND_NS / took
            self.per_s = 0.5 * (self.per_s + new) if self.per_s else new
            self._since, self._tokens = now, 0
