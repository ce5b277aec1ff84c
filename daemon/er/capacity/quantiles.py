"""A quantile of measured times with the interval that the true one lies in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

Z = 1.96  # 95 % of a normal distribution
LEAST = 100  # times without which a p99 says nothing


class Quantile(NamedTuple):
    """Seconds."""

    value: float
    low: float
    high: float  # infinite: the sample is too small to say


def quantile(ordered: Sequence[float], q: float) -> Quantile | None:
    """The q-quantile of times in ascending order; None without any.

    The interval is that of order statistics: how many of n times lie below the true quantile is
    binomial, here by its normal approximation (David and Nagaraja, Order Statistics, 7.1).
    """
    n = len(ordered)
    if not n:
        return None
    spread = Z * math.sqrt(n * q * (1 - q))
    low = max(0, math.floor(n * q - spread) - 1)
    high = math.ceil(n * q + spread)
    value = ordered[min(n - 1, math.ceil(n * q) - 1)]
    return Quantile(value, ordered[low], ordered[high] if high < n else math.inf)
