"""Traffic of the last minute: rates, success and latency, from counters that only ever grow."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import msgspec

from er.history.quantile import quantile_ms

WINDOW_S = 60.0


class Counters(msgspec.Struct, frozen=True, kw_only=True):
    """What the workers have counted so far, all together. Missing counts read as 0."""

    requests: float = 0
    ok: float = 0  # answered with what was asked for
    sequences: float = 0
    tokens: float = 0
    refusals: Mapping[str, float] = {}  # by code
    # Cumulative histogram of a request's whole time: upper bound in seconds -> how many.
    latency: Mapping[float, float] = {}


class Traffic:
    """A window of samples. Feed it about every two seconds."""

    def __init__(self, window_s: float = WINDOW_S) -> None:
        self.window_s = window_s
        self._samples: deque[tuple[float, Counters]] = deque()

    def add(self, now: float, counters: Counters) -> None:
        """Note the counters at `now` (seconds of a steady clock)."""
        if self._samples and counters.requests < self._samples[-1][1].requests:
            self._samples.clear()  # counters began anew: differences across that mean nothing
        self._samples.append((now, counters))
        # One sample older than the window stays: the window's own beginning.
        while len(self._samples) > 2 and self._samples[1][0] <= now - self.window_s:
            self._samples.popleft()

    def figures(self) -> dict[str, Any]:
        """The traffic part of GET /status but for in_flight and queued; None = not known yet."""
        if len(self._samples) < 2:
            return quiet(self._samples[-1][1].requests if self._samples else None)
        (then, old), (now, new) = self._samples[0], self._samples[-1]
        seconds = max(now - then, 1e-9)
        requests = new.requests - old.requests
        ok = new.ok - old.ok
        spent = {b: n - old.latency.get(b, 0.0) for b, n in new.latency.items()}
        refused = {c: round(n - old.refusals.get(c, 0.0)) for c, n in new.refusals.items()}
        return {
            "requests_per_s": round(requests / seconds, 3),
            "sequences_per_s": round((new.sequences - old.sequences) / seconds, 3),
            "tokens_per_s": round((new.tokens - old.tokens) / seconds, 3),
            "success_rate": round(ok / requests, 6) if requests > 0 else None,
            "p50_ms": quantile_ms(spent, 0.50),
            "p95_ms": quantile_ms(spent, 0.95),
            "p99_ms": quantile_ms(spent, 0.99),
            "requests_total": round(new.requests),
            "refusals": {code: n for code, n in sorted(refused.items()) if n > 0},
            "window_s": round(seconds, 1),
        }


def quiet(requests_total: float | None = None) -> dict[str, Any]:
    """The same figures when nothing is known of the last minute."""
    names = ("requests_per_s", "sequences_per_s", "tokens_per_s", "success_rate")
    unknown: dict[str, Any] = dict.fromkeys((*names, "p50_ms", "p95_ms", "p99_ms"))
    total = None if requests_total is None else round(requests_total)
    return {**unknown, "requests_total": total, "refusals": {}, "window_s": 0.0}
