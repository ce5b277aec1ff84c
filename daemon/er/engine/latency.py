"""How long an engine took to answer in the last minute, from the histogram that it keeps itself.

vLLM counts each sequence's time from its arrival to its answer; of a pooling model it calls that
the time to the first token. Asked once a second by the sampler, so no request pays for it.
"""

from __future__ import annotations

import contextlib
import re
from collections import deque
from collections.abc import Mapping

from er.history.quantile import quantile_ms

WINDOW_S = 60.0
NAME = "vllm:time_to_first_token_seconds_bucket"
ROW = re.compile(rf'^{NAME}\{{[^}}]*le="([^"]+)"[^}}]*\}} (\S+)$', re.MULTILINE)


def histogram(text: str) -> dict[float, float]:
    """Upper bound in seconds (the last is infinite) -> sequences up to there; {} where untold."""
    found: dict[float, float] = {}
    for bound, value in ROW.findall(text):
        with contextlib.suppress(ValueError):
            found[float(bound)] = found.get(float(bound), 0.0) + float(value)
    return found


class Latency:
    """A window of such histograms. `now` is in seconds of a steady clock."""

    def __init__(self, window_s: float = WINDOW_S) -> None:
        self._window_s = window_s
        self._seen: deque[tuple[float, Mapping[float, float]]] = deque()

    def add(self, now: float, counted: Mapping[float, float]) -> None:
        """Note what is counted by now; a count that fell is a new engine's."""
        last = self._seen[-1][1] if self._seen else {}
        if any(counted.get(bound, 0.0) < n for bound, n in last.items()):
            self._seen.clear()
        self._seen.append((now, counted))
        # One older than the window stays: the window's own beginning.
        while len(self._seen) > 2 and self._seen[1][0] <= now - self._window_s:
            self._seen.popleft()

    def figures(self) -> dict[str, float | None]:
        """p50_ms and p95_ms; None where nothing was answered within the window."""
        first, last = (self._seen[0][1], self._seen[-1][1]) if self._seen else ({}, {})
        spent = {bound: n - first.get(bound, 0.0) for bound, n in last.items()}
        return {"p50_ms": quantile_ms(spent, 0.50), "p95_ms": quantile_ms(spent, 0.95)}
