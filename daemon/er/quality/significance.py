"""Whether a difference between two models over the same queries could be chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

FEWEST = 6  # queries: of five, no p is below 0.05 (2 of 32 signs)
ROUNDS = 10_000
EXACT_UP_TO = 13  # queries: 2 to the 13th signs are tried one and all
SEED = 20261126
LEVEL = 0.95


class Significance(NamedTuple):
    """The mean of a - b, how likely one as large is by chance, and where the true one may lie."""

    difference: float
    p: float  # two-sided
    low: float  # of the 95% interval
    high: float


def significance(a: Sequence[float], b: Sequence[float]) -> Significance:
    """Of a measure by query, two models over the same queries in the same order; from 2 queries.

    p: Fisher's paired randomisation test: where the models are alike, each query's difference could
    as well have the other sign (Smucker, Allan and Carterette, CIKM 2007); all signs for few
    queries, else 10,000 drawn ones with a fixed seed, of which p is (as large + 1) / (drawn + 1)
    (Phipson and Smyth, 2010). The interval: bootstrap over queries, percentiles (Efron, 1979;
    Sakai, SIGIR 2006). Raises ValueError for lengths that differ, under 2 queries, NaN or infinity.
    """
    ours, theirs = (np.asarray(numbers, dtype=np.float64) for numbers in (a, b))
    if ours.shape != theirs.shape or ours.ndim != 1 or ours.size < 2:
        raise ValueError(f"{len(a)} queries against {len(b)}; it takes the same, 2 at least")
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        raise ValueError("a measure is NaN or infinite")
    apart = ours - theirs
    mean = float(apart.mean())
    chance = np.random.default_rng(SEED)
    if apart.size <= EXACT_UP_TO:
        bits = np.arange(2**apart.size)[:, None] >> np.arange(apart.size) & 1
        extra = 0
    else:
        bits = chance.integers(0, 2, size=(ROUNDS, apart.size))
        extra = 1
    turned = np.abs((1 - 2 * bits) @ apart) / apart.size
    # What is as large but for rounding is as large.
    as_large = int((turned >= abs(mean) - 1e-12).sum())
    drawn = apart[chance.integers(0, apart.size, size=(ROUNDS, apart.size))].mean(axis=1)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    p = (as_large + extra) / (len(turned) + extra)
    return Significance(mean, p, float(low), float(high))
