"""Which request stands for a bucket of the histogram of times: the newest seen there.

Of the files of prometheus_client none has room for that. The workers tell the slowest requests of
each half second anyway, so those are what there is to choose from.
"""

from __future__ import annotations

from bisect import bisect_left

from er.exposition.told import Noted
from er.metrics import SECONDS
from er.recent.record import Seen

SECOND_NS = 1e9
_Place = tuple[str, str, int]  # model, part, bucket


class Exemplars:
    """At most one for each model, part and bucket."""

    def __init__(self, models: frozenset[str]) -> None:
        self._models = models
        self._newest: dict[_Place, Noted] = {}

    def note(self, one: Seen, ahead_s: float) -> None:
        """Take in a request; `ahead_s` is what Unix time is ahead of its clock."""
        if one.status >= 400 or not one.items or one.model not in self._models:
            return  # it is in no histogram
        parts = (
            ("queue", one.queue_ns),
            ("tokenise", one.tokenise_ns),
            ("engine", one.engine_ns),
            ("encode", one.encode_ns),
            ("total", one.total_ns),
        )
        at = round(one.ended + ahead_s, 3)
        for part, ns in parts:
            seconds = ns / SECOND_NS
            place = (one.model, part, bisect_left(SECONDS, seconds))
            before = self._newest.get(place)
            if before is None or before.at <= at:
                self._newest[place] = Noted(*place, one.id, seconds, at)

    def all(self) -> list[Noted]:
        """Those that stand now."""
        return list(self._newest.values())
