"""A quantile of a histogram that counts up to each bound, as Prometheus keeps them."""

from __future__ import annotations

from collections.abc import Mapping


def quantile_ms(cumulative: Mapping[float, float], q: float) -> float | None:
    """The q-quantile in milliseconds, straight lines inside a bucket; None without any count.

    `cumulative` maps upper bounds in seconds (the last may be infinite) to counts up to there.
    """
    bounds = sorted(cumulative)
    if not bounds or cumulative[bounds[-1]] <= 0:
        return None
    rank = q * cumulative[bounds[-1]]
    below, low = 0.0, 0.0
    for bound in bounds:
        count = cumulative[bound]
        if count >= rank and count > below:
            if bound == float("inf"):
                return round(low * 1000.0, 3)
            share = (rank - below) / (count - below)
            return round((low + share * (bound - low)) * 1000.0, 3)
        below, low = count, bound
    return round(low * 1000.0, 3)
