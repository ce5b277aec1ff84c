"""What a peer may ask of a connection without asking for anything: a budget of control frames.

Each frame costs some microseconds, and a peer that sends nothing but PING, SETTINGS, WINDOW_UPDATE
or empty DATA takes the others' time. Requests, and the answers that are read, pay for such frames.
"""

from __future__ import annotations

BURST = 4000.0
A_SECOND = 400.0
A_REQUEST = 16.0  # what a request brings in
A_BYTE = 1 / 512  # what a byte of an answer brings in: who reads opens its window
FAULT = 4.0  # what it costs to make us reset a stream


class Guard:
    """One connection's budget."""

    __slots__ = ("_at", "left")

    def __init__(self, now: float) -> None:
        """`now` in seconds, of any clock."""
        self.left, self._at = BURST, now

    def earn(self, amount: float) -> None:
        """Something useful was done."""
        self.left = min(BURST, self.left + amount)

    def spent(self, amount: float, now: float) -> bool:
        """Take `amount`; whether that was more than there is."""
        self.left = min(BURST, self.left + (now - self._at) * A_SECOND) - amount
        self._at = now
        return self.left < 0
