"""How far scores are from a reference of the same model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Drift(NamedTuple):
    """Differences of scores: mean and largest absolute one, and how alike the two orders are."""

    mean: float
    largest: float
    rank_correlation: float  # -1 to 1


def drift(scores: Sequence[float], reference: Sequence[float]) -> Drift:
    """Score by score; both of the same pairs in the same order, any length from 1.

    The rank correlation is Spearman's (1904), the correlation of the ranks, equal scores with the
    mean of theirs; 0 where one side is all the same and the other is not, 1 where both are equal.
    Raises ValueError for lengths that differ, for none, and for NaN or infinity in either.
    """
    ours, theirs = (np.asarray(numbers, dtype=np.float64) for numbers in (scores, reference))
    if ours.shape != theirs.shape or ours.ndim != 1 or not ours.size:
        raise ValueError(f"{len(scores)} scores against {len(reference)} of the reference")
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        raise ValueError("a score is NaN or infinite")
    apart = np.abs(ours - theirs)
    return Drift(float(apart.mean()), float(apart.max()), _spearman(ours, theirs))


def _spearman(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    if np.array_equal(a, b):
        return 1.0
    x, y = (ranks - ranks.mean() for ranks in (_ranks(a), _ranks(b)))
    size = float(np.sqrt((x @ x) * (y @ y)))
    return float(np.clip(x @ y / size, -1, 1)) if size else 0.0


def _ranks(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 1, equal numbers with the mean of theirs."""
    _, which, counts = np.unique(numbers, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    middle: NDArray[np.float64] = last - (counts - 1) / 2
    return middle[which]
