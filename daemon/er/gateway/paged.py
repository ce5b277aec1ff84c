"""How often one key may read pages: lists of models, files and batches, metrics, the operator's.

They cost no ticket of its rate, so that whoever looks whether ER is there, or how a batch gets on,
takes nothing from its own requests. But they cost some work, so they have a bound of their own.
Each worker counts for itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from er.job import Refusal
from er.keys import Identity

PAGES, MINUTE_S = 600, 60.0
KEYS_MAX = 4096  # that are remembered


class Paged:
    """One worker's count."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._read: dict[str, tuple[float, int]] = {}  # key -> when its minute began, pages since

    def check(self, who: Identity) -> None:
        """Count a page of a key that has a rate. Raises Refusal 429."""
        now = self._clock()
        began, count = self._read.get(who.id, (now, 0))
        if now - began >= MINUTE_S:
            began, count = now, 0
        if count >= PAGES:
            wait_s = began + MINUTE_S - now
            raise Refusal(
                429,
                "rate_limit_exceeded",
                f"key {who.id} ({who.name}) has read {PAGES} pages in a minute, as many as a key "
                f"may; the next can be read in {wait_s:.1f} s",
                retry_after_s=wait_s,
            )
        if len(self._read) >= KEYS_MAX and who.id not in self._read:
            self._read.clear()
        self._read[who.id] = began, count + 1
