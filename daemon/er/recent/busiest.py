"""What the history is to keep of models, dialects and keys: counts that only grow. Pure.

Of keys only the busiest have series of their own, however many there are: whose turn it is follows
from what they asked in the last minutes. The others are counted as one.
"""

from __future__ import annotations

from collections.abc import Iterator

from er.recent.record import Sums, Told

CHARTED = 16  # keys at once
HALF_LIFE_S = 600.0  # of what a key asked
AGAIN_S = 10.0  # between two times that scores are made less
SCORES_MAX = 1024
AHEAD = 2.0  # so many times as busy must one be to take another's place
OTHERS = "others"  # no key's id: these begin with k and have nine letters

Name = tuple[str, str]  # "models", "dialects" or "keys"; which


class Busiest:
    """Totals since this process began to watch. Not for several threads at once."""

    def __init__(self, charted: int = CHARTED) -> None:
        """`charted`: how many keys have series of their own."""
        self._charted = charted
        self._totals: dict[Name, Sums] = {}
        self._scores: dict[str, float] = {}
        self._lessened_at: float | None = None

    def take(self, told: Told) -> None:
        """Count what a worker told."""
        self._lessen(told.at)
        for group in told.groups:
            name = group.name
            if group.kind == "keys":
                if name == "":
                    continue  # of whom nobody knows
                name = self._place(name, group.sums.requests)
            elif name is None:
                name = OTHERS
            self._totals.setdefault((group.kind, name), Sums()).add(group.sums)

    def totals(self) -> Iterator[tuple[Name, Sums]]:
        """What each came to."""
        yield from self._totals.items()

    def _place(self, key: str | None, requests: int) -> str:
        """The key itself where it has a series, else OTHERS."""
        if key is None:
            return OTHERS
        scores = self._scores
        scores[key] = scores.get(key, 0.0) + requests
        if ("keys", key) in self._totals:
            return key
        charted = [name for kind, name in self._totals if kind == "keys" and name != OTHERS]
        if len(charted) >= self._charted:
            idlest = min(charted, key=lambda name: scores.get(name, 0.0))
            if scores[key] <= AHEAD * scores.get(idlest, 0.0):
                return OTHERS
            del self._totals["keys", idlest]
        return key

    def _lessen(self, now: float) -> None:
        if self._lessened_at is None:
            self._lessened_at = now
        passed = now - self._lessened_at
        if passed >= AGAIN_S:
            less = 0.5 ** (passed / HALF_LIFE_S)
            self._scores = {key: less * score for key, score in self._scores.items()}
            self._lessened_at = now
        if len(self._scores) > SCORES_MAX:
            best = sorted(self._scores.items(), key=lambda item: -item[1])
            self._scores = dict(best[: SCORES_MAX // 2])
