"""What each replica was given in the last minute: rates, from counters that only ever grow."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

WINDOW_S = 60.0
# The workers' counters by replica -> the figure that their growth is.
COUNTED = {
    "er_batch_tokens_sum": "tokens_per_s",
    "er_batch_sequences_sum": "sequences_per_s",
    "er_batch_sequences_count": "calls_per_s",
}
UNKNOWN: Mapping[str, float | None] = dict.fromkeys(COUNTED.values())
Counts = Mapping[str, Mapping[str, float]]  # replica -> figure -> how many so far


def by_replica(counted: Iterable[tuple[str, dict[str, str], float]]) -> dict[str, dict[str, float]]:
    """The counters of COUNTED among metrics given as (name, labels, value)."""
    found: dict[str, dict[str, float]] = {}
    for name, labels, value in counted:
        if name in COUNTED:
            found.setdefault(labels["replica"], {})[COUNTED[name]] = value
    return found


class Work:
    """A window of such counts. Feed it about every two seconds, in seconds of a steady clock."""

    def __init__(self, window_s: float = WINDOW_S) -> None:
        self._window_s = window_s
        self._seen: deque[tuple[float, Counts]] = deque()

    def add(self, now: float, counts: Counts) -> None:
        """Note the counts at `now`."""
        self._seen.append((now, counts))
        # One older than the window stays: the window's own beginning.
        while len(self._seen) > 2 and self._seen[1][0] <= now - self._window_s:
            self._seen.popleft()

    def of(self, replica: str) -> dict[str, float | None]:
        """That replica's figures; None = not known (yet), or its counters began anew."""
        figures = dict(UNKNOWN)
        if len(self._seen) < 2:
            return figures
        (then, old), (now, new) = self._seen[0], self._seen[-1]
        # One that was given nothing yet is in no metric.
        before, after = old.get(replica, {}), new.get(replica, {})
        for name in figures:
            more = after.get(name, 0.0) - before.get(name, 0.0)
            if more >= 0:
                figures[name] = round(more / max(now - then, 1e-9), 3)
        return figures

    def figures(self, replicas: Iterable[str]) -> dict[str, dict[str, float | None]]:
        """`of` each of them, by name."""
        return {name: self.of(name) for name in replicas}


def in_engine(sample: Mapping[str, Any] | None) -> dict[str, float | None]:
    """How long sequences took in the engine in the last minute, by its launcher's sample."""
    told = (sample or {}).get("engine") or {}
    return {"p50_ms": told.get("p50_ms"), "p95_ms": told.get("p95_ms")}
