"""Axes: which values a plot's lines of the grid stand at, and how they are written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple


class Axis(NamedTuple):
    """From `low` to `high`, both among the `ticks`."""

    low: float
    high: float
    ticks: Sequence[float]
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """Where a value stands, 0 (low) to 1."""
        low, high, value = self.low, self.high, min(max(value, self.low), self.high)
        if self.logarithmic:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return (value - low) / (high - low)


def linear(most: float) -> Axis:
    """From 0 to a round number that is not under `most`, with 2 to 5 steps."""
    most = most if most > 0 else 1.0
    unit = 10.0 ** math.floor(math.log10(most))
    step = next(s * unit for s in (0.2, 0.5, 1.0, 2.0) if most <= 5 * s * unit)
    count = max(1, math.ceil(most / step - 1e-9))
    ticks = [i * step for i in range(count + 1)]
    return Axis(0.0, ticks[-1], ticks)


def decades(least: float, most: float) -> Axis:
    """Powers of ten around values over 0."""
    first = math.floor(math.log10(max(least, 1e-3)))
    last = max(first + 1, math.ceil(math.log10(max(most, 1e-3)) - 1e-9))
    ticks = [10.0**i for i in range(first, last + 1)]
    return Axis(ticks[0], ticks[-1], ticks, logarithmic=True)


def ratio() -> Axis:
    """From 0 to 1."""
    return Axis(0.0, 1.0, (0.0, 0.25, 0.5, 0.75, 1.0))


def short(value: float) -> str:
    """In few letters: 1200 is 1.2k."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


__all__ = ["Axis", "decades", "linear", "ratio", "short"]
