"""Feedback summed up by model and key: rates of clicks and ratings, and the online MRR. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from er.feedback import Given

RECENT = 50
HALF = 0.5  # a rating above is good, one below bad


class Sums:
    """What some feedbacks come to."""

    def __init__(self) -> None:
        self.feedbacks = self.clicks = self.ratings = self.good = self.bad = self.ranked = 0
        self._rated = self._reciprocal = 0.0

    def add(self, one: Given) -> None:
        """Count one request's."""
        self.feedbacks += 1
        if one.document is not None:
            self.clicks += 1
            self._reciprocal += 1.0 / one.rank if one.rank else 0.0
        if one.rating is not None:
            self.ratings += 1
            self._rated += one.rating
            self.good += one.rating > HALF
            self.bad += one.rating < HALF

    def shown(self, requests: int) -> dict[str, Any]:
        """Figures, of so many answered requests. None: of nothing.

        `mrr` is the mean of 1/rank of the clicked documents (Voorhees, TREC-8, 1999); one past the
        places that are remembered counts as 0. `satisfaction` is good / (good + bad).
        """
        judged = self.good + self.bad
        return {
            "requests": requests,
            "feedbacks": self.feedbacks,
            "clicks": self.clicks,
            "ratings": self.ratings,
            "good": self.good,
            "bad": self.bad,
            "mean_rating": _rounded(self._rated, self.ratings),
            "click_rate": _rounded(self.clicks, requests),
            "satisfaction": _rounded(self.good, judged),
            "mrr": _rounded(self._reciprocal, self.clicks),
        }


def answer(
    since: float,
    given: Sequence[Given],
    requests: Mapping[tuple[str, str], int],
    names: Mapping[str, str],
) -> dict[str, Any]:
    """What GET /feedback says, of `given` (oldest first), and of requests by key and model.

    `names` are the keys'. Keys that gave none are left out.
    """
    models = summed(given, lambda one: one.model)
    keys = summed(given, lambda one: one.key)
    of_models, of_keys = _by(requests, 1), _by(requests, 0)
    return {
        "since": since,
        "total": len(given),
        "models": [
            {"model": name, **models.get(name, Sums()).shown(of_models.get(name, 0))}
            for name in sorted(of_models | models)
        ],
        "keys": [
            {"key": key, "name": names.get(key, ""), **sums.shown(of_keys.get(key, 0))}
            for key, sums in sorted(keys.items())
        ],
        "recent": [_recent(one) for one in given[: -RECENT - 1 : -1]],
    }


def summed(given: Iterable[Given], by: Callable[[Given], str]) -> dict[str, Sums]:
    """The sums of each model or key."""
    found: dict[str, Sums] = {}
    for one in given:
        found.setdefault(by(one), Sums()).add(one)
    return found


def _by(requests: Mapping[tuple[str, str], int], place: int) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, count in requests.items():
        found[name[place]] = found.get(name[place], 0) + count
    return found


def _recent(one: Given) -> dict[str, Any]:
    return {
        "at": one.at,
        "request_id": one.id,
        "model": one.model,
        "key": one.key,
        "kind": "rating" if one.document is None else "click",
        "rank": one.rank,
        "rating": one.rating,
        "comment": one.comment,
    }


def _rounded(part: float, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None
