"""The last five minutes of requests: by model, dialect and key, the slowest, and those that failed.

Pure: both clocks are arguments, as in `history`. `now` is the steady clock (CLOCK_BOOTTIME, in
seconds), `wall` a label in Unix seconds. Its size is bounded whatever clients and keys there are:
beyond KEYS_MAX keys in five seconds the others are one, and of requests only the slowest and the
newest failed ones of each code are kept.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from er.history.quantile import quantile_ms
from er.metrics import SECONDS
from er.recent.record import BUCKETS, EACH_CODE, KINDS, SLOWEST, Group, Kind, Seen, Sums, Told

STEP_S = 5.0
SPANS = (60, 300)  # what can be asked for
KEPT_S = 300.0 + 2 * STEP_S
AHEAD_S = 2.0  # a record from later than this is of another boot
KEYS_MAX = 256  # in one step
KEYS_SHOWN, SLOWEST_SHOWN, FAILED_SHOWN = 50, 20, 30
BOUNDS = (*SECONDS, float("inf"))

Name = tuple[Kind, str | None]


class Recent:
    """Steps of five seconds, and what all of them came to. Not for several threads at once."""

    def __init__(self, began: float) -> None:
        """`began` is when somebody began to watch."""
        self._since = began
        self._steps: dict[int, _Step] = {}

    def add(self, told: Told, now: float) -> bool:
        """Take in what a worker told; False: it is too old, or from the future."""
        if not now - KEPT_S < told.at < now + AHEAD_S:
            return False
        self._since = min(self._since, told.at)
        step = self._steps.setdefault(int(told.at // STEP_S), _Step())
        for group in told.groups:
            step.add(group)
        step.note(told)
        self._forget(now)
        return True

    def _forget(self, now: float) -> None:
        oldest = (now - KEPT_S) // STEP_S
        for index in [index for index in self._steps if index < oldest]:
            del self._steps[index]

    def answer(self, now: float, wall: float, seconds: int) -> dict[str, Any]:
        """The last `seconds` (one of SPANS), rates over the `window_s` that somebody watched."""
        first = (now - seconds) // STEP_S
        steps = [step for index, step in sorted(self._steps.items()) if index >= first]
        window_s = max(1.0, now - max(first * STEP_S, self._since))
        found: dict[str, Any] = {
            "seconds": seconds,
            "window_s": round(window_s, 1),
            "time": wall,
        }
        for kind in KINDS:
            found[kind] = list(_rows(kind, steps, window_s))
        begins = now - seconds
        seen = (one for step in steps for one in step.slowest if one.ended >= begins)
        slowest = heapq.nlargest(SLOWEST_SHOWN, seen, key=lambda one: one.total_ns)
        found["slowest"] = [_shown(one, now, wall) for one in slowest]
        failed = [one for step in steps for one in step.failed() if one.ended >= begins]
        found["failed"] = [_shown(one, now, wall) for one in _newest(failed)]
        return found


class _Step:
    """What ended in five seconds."""

    def __init__(self) -> None:
        self.sums: dict[Name, Sums] = {}
        self.titles: dict[str, str] = {}
        self.slowest: list[Seen] = []
        self._failed: dict[str, list[Seen]] = {}
        self._keys = 0

    def add(self, group: Group) -> None:
        name = (group.kind, group.name)
        sums = self.sums.get(name)
        if sums is None:
            if group.kind == "keys" and group.name is not None:
                if self._keys >= KEYS_MAX:
                    name = ("keys", None)
                else:
                    self._keys += 1
                    self.titles[group.name] = group.title
            sums = self.sums.setdefault(name, Sums())
        sums.add(group.sums)

    def note(self, told: Told) -> None:
        both = [*self.slowest, *told.slowest]
        self.slowest = heapq.nlargest(2 * SLOWEST, both, key=lambda one: one.total_ns)
        for one in told.failed:
            of_code = self._failed.setdefault(one.code, [])
            of_code.append(one)
            del of_code[: -2 * EACH_CODE]

    def failed(self) -> Iterator[Seen]:
        for of_code in self._failed.values():
            yield from of_code


def _rows(kind: Kind, steps: Iterable[_Step], window_s: float) -> Iterator[dict[str, Any]]:
    """The busiest first; what is left of them is one row, whose name is null."""
    whole: dict[str | None, Sums] = {}
    titles: dict[str, str] = {}
    for step in steps:
        titles |= step.titles
        for (of_kind, name), sums in step.sums.items():
            if of_kind == kind:
                whole.setdefault(name, Sums()).add(sums)
    rest = whole.pop(None, None)
    order = sorted(whole, key=lambda name: (-whole[name].requests, name or ""))
    if kind == "keys":
        for name in order[KEYS_SHOWN:]:
            rest = rest or Sums()
            rest.add(whole[name])
        order = order[:KEYS_SHOWN]
    for name in order:
        own = {"id": name, "name": titles.get(name or "", "")} if kind == "keys" else {"name": name}
        yield own | figures(whole[name], window_s)
    if rest is not None:
        nobody = {"id": None, "name": None} if kind == "keys" else {"name": None}
        yield nobody | figures(rest, window_s)


def figures(sums: Sums, window_s: float) -> dict[str, float | int | None]:
    """Rates and quantiles of what came in `window_s` seconds; None: of nothing."""
    times = cumulative(sums.times)
    return {
        "requests": sums.requests,
        "requests_per_s": round(sums.requests / window_s, 3),
        "sequences_per_s": round(sums.sequences / window_s, 3),
        "tokens_per_s": round(sums.tokens / window_s, 3),
        "success_rate": round(sums.ok / sums.requests, 6) if sums.requests else None,
        "refused": sums.refused,
        "failed": sums.failed,
        "p50_ms": quantile_ms(times, 0.50),
        "p95_ms": quantile_ms(times, 0.95),
        "p99_ms": quantile_ms(times, 0.99),
    }


def cumulative(times: list[int]) -> Mapping[float, float]:
    """Counts up to each bound, of counts of each bucket."""
    found: dict[float, float] = {}
    n = 0
    for bound, more in zip(BOUNDS, times or [0] * BUCKETS, strict=True):
        n += more
        found[bound] = float(n)
    return found


def _newest(failed: list[Seen]) -> list[Seen]:
    """The newest of each code: many of one must not hide the only one of another."""
    failed.sort(key=lambda one: -one.ended)
    taken: dict[str, int] = {}
    found = []
    for one in failed:
        taken[one.code] = taken.get(one.code, 0) + 1
        if taken[one.code] <= EACH_CODE:
            found.append(one)
    return found[:FAILED_SHOWN]


def _shown(one: Seen, now: float, wall: float) -> dict[str, Any]:
    """As the answer has it; `rest_ms` is what none of the four parts is."""
    parts = (one.queue_ns, one.tokenise_ns, one.engine_ns, one.encode_ns)
    names = ("queue_ms", "tokenise_ms", "engine_ms", "encode_ms")
    split = {name: round(ns / 1e6, 3) for name, ns in zip(names, parts, strict=True)}
    return {
        "time": round(wall - now + one.ended, 3),
        "id": one.id,
        "key": one.key,
        "key_name": one.key_name,
        "model": one.model,
        "dialect": one.dialect,
        "replica": one.replica,
        "status": one.status,
        "code": one.code,
        "path": one.path,
        "client": one.client,
        "items": one.items,
        "tokens": one.tokens,
        **split,
        "rest_ms": round(max(0, one.total_ns - sum(parts)) / 1e6, 3),
        "total_ms": round(one.total_ns / 1e6, 3),
    }


__all__ = ["SPANS", "Recent"]
