"""A day of figures in three resolutions: what the gateway did while nobody looked.

Pure: both clocks are arguments. `now` is a steady clock in seconds that no one sets, `wall` is Unix
seconds. All is kept on the steady clock, and the wall clock is only a label put on when it is read
or stored, so that a clock set forward or back moves no figure and makes no gap. A figure that
nobody knows is None, never 0. The room takes at most SERIES_MAX series of 6 KB, half of them at the
most of keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from er.history.quantile import quantile_ms
from er.history.ring import Path, Ring
from er.small_file import DAMAGED

QUIET_S = 10.0  # samples further apart than this have a gap between them: nobody watched
SERIES_MAX = 400
# Seconds a figure, and how many of them are kept: 10 minutes, 2 hours, 26 hours.
KEPT = ((2.0, 300), (15.0, 480), (120.0, 780))
# What can be asked for, in seconds, and the resolution that answers.
SPANS = {300: 2.0, 3600: 15.0, 86400: 120.0}
REQUESTS: Path = ("requests_per_s",)
OK: Path = ("ok_per_s",)  # given, and kept as the next
SUCCESS: Path = ("success_rate",)
QUANTILES = {"p50_ms": 0.50, "p95_ms": 0.95, "p99_ms": 0.99}
# These are in every answer, known or not.
ALWAYS = (
    "requests_per_s",
    "sequences_per_s",
    "tokens_per_s",
    "success_rate",
    *QUANTILES,
    "in_flight",
    "queued",
)
GROUPS = ("refusals_per_s", "models", "dialects", "keys", "replicas")


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """What is known at one moment. A path is where the figure stands in the answer."""

    counts: Mapping[Path, float]  # only ever grow; kept as how much a second
    levels: Mapping[Path, float] = {}  # kept as their mean
    peaks: Mapping[Path, float] = {}  # kept as the highest seen
    # Whose requests' times ((): all): upper bound in seconds -> how many up to there, for ever.
    latency: Mapping[Path, Mapping[float, float]] = {}


class Damaged(Exception):  # noqa: N818 - the state of a file
    """Bytes that are no stored history."""


class _Stored(msgspec.Struct, frozen=True):
    """A stored history: for each ring when its oldest figure begins, and its series as floats."""

    version: int
    rings: list[tuple[float, int, float, list[tuple[list[str], bytes]]]]


class History:
    """The rings and what is going on in each of them. Not for several threads at once."""

    def __init__(self) -> None:
        self._rings = [Ring(step, count) for step, count in KEPT]
        self._open = [_Open() for _ in KEPT]

    def add(self, now: float, sample: Sample) -> None:
        """Note a sample, about every two seconds."""
        for ring, open_ in zip(self._rings, self._open, strict=True):
            open_.add(now, sample, ring)

    def answer(self, now: float, wall: float, seconds: int) -> dict[str, Any]:
        """The last `seconds` (a key of SPANS) as arrays, oldest first, one figure each `step_s`.

        `from` is when the first figure begins, in Unix seconds. Raises KeyError for another span.
        """
        step = SPANS[seconds]
        ring = next(r for r in self._rings if r.step == step)
        points = round(seconds / step)
        first = ring.end(now, QUIET_S) - points + 1
        found: dict[str, Any] = {
            "seconds": seconds,
            "step_s": step,
            "from": round(wall - now + first * step, 3),
            "time": wall,
        }
        found |= {name: [None] * points for name in ALWAYS}
        found |= {name: {} for name in GROUPS}
        for path, values in ring.since(first, points):
            _put(found, path, values)
        return found

    def packed(self, now: float, wall: float) -> bytes:
        """All of it as bytes, to be stored."""
        rings = []
        for ring in self._rings:
            first, series = ring.packed()
            rings.append((ring.step, ring.count, wall - now + first * ring.step, series))
        return msgspec.msgpack.encode(_Stored(1, rings))

    @classmethod
    def unpacked(cls, data: bytes, now: float, wall: float) -> History:
        """What was stored, without what has become too old or is yet to come. Raises Damaged."""
        try:
            stored = msgspec.msgpack.decode(data, type=_Stored)
        except DAMAGED as error:
            raise Damaged(str(error)) from None
        if stored.version != 1:
            raise Damaged(f"version {stored.version}")
        found = cls()
        kept = {(ring.step, ring.count): ring for ring in found._rings}
        for step, count, begins, series in stored.rings:
            ring = kept.get((step, count))
            if ring is not None:
                try:
                    # Rounded: the steady clock of another boot has other beginnings of steps.
                    ring.take(round((begins - wall + now) / step), ring.at(now), series)
                except (ValueError, OverflowError) as error:
                    raise Damaged(str(error)) from None
        return found


class _Open:
    """The figure that a ring is about to write: the sample it began with and what came since."""

    def __init__(self) -> None:
        self._began: tuple[float, Sample] | None = None
        self._last = 0.0
        self._index = 0
        self._sums: dict[Path, tuple[float, int]] = {}
        self._highest: dict[Path, float] = {}

    def add(self, now: float, sample: Sample, ring: Ring) -> None:
        """Write what is known by now; begin the next figure where the step is over."""
        index = ring.at(now)
        if self._began is None or now - self._last > QUIET_S or self._fell(sample):
            self._begin(now, sample, index)
            ring.go_on(index)
            return
        self._last = now
        for path, value in sample.levels.items():
            total, n = self._sums.get(path, (0.0, 0))
            self._sums[path] = (total + value, n + 1)
        for path, value in sample.peaks.items():
            self._highest[path] = max(value, self._highest.get(path, value))
        figures = dict(self._figures(now, sample))
        # A step in which no sample fell lies between two that did: the same holds for it.
        for i in range(self._index, max(index, self._index + 1)):
            ring.write(i, figures, SERIES_MAX)
        if index > self._index:
            self._begin(now, sample, index)
            ring.go_on(index)

    def _begin(self, now: float, sample: Sample, index: int) -> None:
        self._began, self._last, self._index = (now, sample), now, index
        self._sums, self._highest = {}, {}

    def _fell(self, sample: Sample) -> bool:
        """Whether the counters began anew: differences across that mean nothing."""
        assert self._began is not None
        return sample.counts.get(REQUESTS, 0.0) < self._began[1].counts.get(REQUESTS, 0.0)

    def _figures(self, now: float, sample: Sample) -> Iterator[tuple[Path, float]]:
        assert self._began is not None
        then, old = self._began
        seconds = max(now - then, 1e-9)
        for path, count in sample.counts.items():
            if path != OK:
                yield path, max(0.0, count - old.counts.get(path, 0.0)) / seconds
        asked = sample.counts.get(REQUESTS, 0.0) - old.counts.get(REQUESTS, 0.0)
        if asked > 0 and OK in sample.counts:
            right = sample.counts[OK] - old.counts.get(OK, 0.0)
            yield SUCCESS, min(1.0, max(0.0, right / asked))
        for whose, times in sample.latency.items():
            before = old.latency.get(whose, {})
            spent = {bound: n - before.get(bound, 0.0) for bound, n in times.items()}
            for name, q in QUANTILES.items():
                value = quantile_ms(spent, q)
                if value is not None:
                    yield (*whose, name), value
        yield from ((path, total / n) for path, (total, n) in self._sums.items())
        yield from self._highest.items()


def _put(found: dict[str, Any], path: Path, values: list[float | None]) -> None:
    """Put `values` where `path` says; groups on the way are made."""
    for name in path[:-1]:
        found = found.setdefault(name, {})
    found[path[-1]] = values


__all__ = ["SPANS", "Damaged", "History", "Path", "Sample"]
