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


def crossing(points: Sequence[tuple[float, float, float]], goal: float) -> float:
    """The rate at which a p99 that only grows with the rate passes the goal; infinite: nowhere.

    `points`: (rate, weight, p99) of what was tried. Neighbours that fall with the rate are taken
    together, by weight, in logarithms (pool adjacent violators: Barlow et al., 1972): a lucky
    sample at a high rate is outvoted by its neighbours. 0: every one is over the goal.
    """
    blocks: list[list[float]] = []  # weight, weighted rate, weighted log of p99
    for rate, weight, p99 in sorted(points):
        level = math.log(min(max(p99, goal / 100), goal * 100) / goal)
        blocks.append([weight, weight * rate, weight * level])
        while len(blocks) > 1 and blocks[-2][2] / blocks[-2][0] >= blocks[-1][2] / blocks[-1][0]:
            last = blocks.pop()
            blocks[-1] = [a + b for a, b in zip(blocks[-1], last, strict=True)]
    centres = [(rate / weight, level / weight) for weight, rate, level in blocks]
    over = next((i for i, (_, level) in enumerate(centres) if level > 0), None)
    if over is None:
        return math.inf
    if over == 0:
        return 0.0
    (low, under), (high, above) = centres[over - 1], centres[over]
    return low + (high - low) * -under / (above - under)
