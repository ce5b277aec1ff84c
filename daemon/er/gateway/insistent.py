"""Who is told no (401, 403, 429) again and again on one connection: each further no is held.

A client that heeds Retry-After never comes so far. One that sends again at once, ten thousand times
a second, would take a worker's time from all others; held, it gets no further than its connections
times four a second. It is the answer that waits, not the connection: behind a proxy the next
request there may be anybody's. Other refusals count for nothing: a 503 is nobody's fault, and a job
may have many bad texts.
"""

from __future__ import annotations

TOLD_NO = frozenset((401, 403, 429))
FREE = 20  # in a row, less than PAUSE_S apart
PAUSE_S = 1.0
HELD_S = 0.25


class Insistent:
    """One connection's."""

    __slots__ = ("_last", "refused")

    def __init__(self) -> None:
        self.refused = 0  # in a row; a good answer makes it 0
        self._last = 0.0

    def hold_s(self, status: int, now: float) -> float:
        """How long to hold the answer that is about to be said, s; `now` on the loop's clock."""
        if status not in TOLD_NO:
            if status < 400:
                self.refused = 0
            return 0.0
        if now - self._last > PAUSE_S:
            self.refused = 0
        self.refused += 1
        held = 0.0 if self.refused <= FREE else HELD_S
        self._last = now + held
        return held
