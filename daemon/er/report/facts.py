"""What a report is made from, and the figures that follow from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from er.capacity.result import Capacity, Row
from er.history.hourly import HOUR_S, LOCAL, Hour, Times
from er.history.quantile import quantile_ms
from er.usage import Sums

TOP = 8  # rows of a table
EVENTS = 12
QUANTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}
# Hours in one figure of a plot, for spans up to so many hours.
STEPS = ((8 * 24, 1), (62 * 24, 6), (500 * 24, 24))


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What was read. Hours are counted since 1970, UTC; `until` is not in it."""

    host: str
    version: str
    made: float  # Unix seconds
    since: int
    until: int
    used: Sequence[Mapping[str, Any]]  # rows of `er usage --by hour,key,team,model`
    hours: Sequence[Hour]
    quality: Mapping[str, Any] | None = None  # the answer to GET /quality
    feedback: Mapping[str, Any] | None = None
    unasked: str = ""  # why the gateway could not be asked for these two
    capacity: Capacity | None = None
    unmeasured: str = ""  # why the last measurement can't be read
    damaged: Sequence[str] = ()


class Group(NamedTuple):
    """One key, team or model."""

    name: str
    sums: Sums


class Incident(NamedTuple):
    """A replica that went out (`kind` out), or the gateway that began (gateway)."""

    at: float
    kind: str
    name: str
    text: str
    seconds: float | None  # None: still out, or not known


class Step(NamedTuple):
    """One figure of the plots: an hour or several. None: nobody counted."""

    begins: int  # hour
    sums: Sums
    quantiles: dict[str, float | None]


class Used(NamedTuple):
    """How much of a model's measured capacity was used."""

    model: str
    row: Row
    peak_texts: float  # texts a second in the busiest minute
    mean_texts: float
    mean_tokens: float | None  # of this model's texts
    mean_inputs: float  # texts of its requests


class Summary(NamedTuple):
    """All figures of a report."""

    facts: Facts
    step_h: int
    total: Sums
    success: float | None
    steps: list[Step]
    quantiles: dict[str, float | None]
    timed: float  # requests whose time is known
    worst: tuple[int, float] | None  # the step with the highest p99
    known_s: float
    peaks: dict[str, float]
    keys: list[Group]
    teams: list[Group]
    models: list[Group]
    rest: int  # keys that are not shown
    refusals: list[tuple[str, float]]
    availability: list[tuple[str, float, float]]  # replica, seconds up, seconds known
    incidents: list[Incident]  # newest first
    more_incidents: int
    used: list[Used]


def summary(facts: Facts) -> Summary:
    """The figures. Pure."""
    step_h = next((h for most, h in STEPS if facts.until - facts.since <= most), 24 * 7)
    total = Sums()
    for row in facts.used:
        total = total.plus(_sums(row))
    asked = total.requests + total.refused
    steps = _steps(facts, step_h)
    times = _times([hour.times for hour in facts.hours])
    slowest = [(step.begins, p99) for step in steps if (p99 := step.quantiles["p99"]) is not None]
    refusals: dict[str, float] = {}
    peaks: dict[str, float] = {}
    for hour in facts.hours:
        for code, n in hour.refusals.items():
            refusals[code] = refusals.get(code, 0.0) + n
        for name, value in hour.peaks.items():
            peaks[name] = max(value, peaks.get(name, 0.0))
    keys = _groups(facts.used, "key")
    incidents = _incidents(facts)
    return Summary(
        facts=facts,
        step_h=step_h,
        total=total,
        success=total.requests / asked if asked else None,
        steps=steps,
        quantiles={name: quantile_ms(times.cumulative(), q) for name, q in QUANTILES.items()},
        timed=sum(count for _, count in times.counts),
        worst=max(slowest, key=lambda one: one[1], default=None),
        known_s=sum(hour.known_s for hour in facts.hours),
        peaks=peaks,
        keys=keys[:TOP],
        teams=[group for group in _groups(facts.used, "team") if group.name][:TOP],
        models=_groups(facts.used, "model")[:TOP],
        rest=max(0, len(keys) - TOP),
        refusals=sorted(refusals.items(), key=lambda one: (-one[1], one[0])),
        availability=_availability(facts.hours),
        incidents=incidents[:EVENTS],
        more_incidents=max(0, len(incidents) - EVENTS)
        + sum(hour.more_events for hour in facts.hours),
        used=_used(facts),
    )


def _sums(row: Mapping[str, Any]) -> Sums:
    return Sums(*(int(row[name]) for name in Sums._fields))


def _times(several: Sequence[Times]) -> Times:
    found: dict[float, float] = {}
    for times in several:
        for bound, count in times.counts:
            own = float("inf") if bound is None else bound
            found[own] = found.get(own, 0.0) + count
    whole = Times()
    whole.add(found)
    return whole


def _steps(facts: Facts, step_h: int) -> list[Step]:
    first = facts.since // step_h * step_h
    begins = range(first, facts.until, step_h)
    sums = dict.fromkeys(begins, Sums())
    for row in facts.used:
        at = hour_of(str(row["hour"])) // step_h * step_h
        sums[at] = sums.get(at, Sums()).plus(_sums(row))
    times: dict[int, list[Times]] = {}
    for hour in facts.hours:
        times.setdefault(hour.hour // step_h * step_h, []).append(hour.times)
    found = []
    for at in begins:
        counts = _times(times.get(at, [])).cumulative()
        own = {name: quantile_ms(counts, q) for name, q in QUANTILES.items()}
        found.append(Step(at, sums[at], own))
    return found


def hour_of(text: str) -> int:
    """Hours since 1970 of "2026-11-26T20:00Z", as usage writes them."""
    return int(datetime.fromisoformat(text).timestamp()) // HOUR_S


def _groups(used: Sequence[Mapping[str, Any]], by: str) -> list[Group]:
    """The busiest first. A key is shown by its name and id."""
    found: dict[str, Sums] = {}
    names: dict[str, str] = {}
    for row in used:
        name = str(row[by])
        found[name] = found.get(name, Sums()).plus(_sums(row))
        if by == "key":
            names[name] = f"{row['name']} ({name})" if row["name"] else name
    order = sorted(found, key=lambda n: (-found[n].tokens, -sum(found[n]), n))
    return [Group(names.get(name, name), found[name]) for name in order]


def _availability(hours: Sequence[Hour]) -> list[tuple[str, float, float]]:
    found: dict[str, tuple[float, float]] = {}
    for hour in hours:
        for name, own in hour.replicas.items():
            up, known = found.get(name, (0.0, 0.0))
            found[name] = (up + own.up_s, known + own.known_s)
    return [(name, up, known) for name, (up, known) in sorted(found.items())]


def _incidents(facts: Facts) -> list[Incident]:
    """Newest first; a replica's way out with how long it was out."""
    events = sorted((e for hour in facts.hours for e in hour.events), key=lambda e: e.at)
    found: list[Incident] = []
    out: dict[str, int] = {}
    for event in events:
        if event.kind == "back":
            if event.name in out:
                at = out.pop(event.name)
                found[at] = found[at]._replace(seconds=event.at - found[at].at)
            continue
        if event.kind == "out":
            out[event.name] = len(found)
        seconds = event.seconds if event.kind == "gateway" else None
        found.append(Incident(event.at, event.kind, event.name, event.text, seconds))
    return found[::-1]


def _used(facts: Facts) -> list[Used]:
    """Each measured model's share, against the shape of request that is nearest to its texts.

    Of clients with keys: the measurement itself is none.
    """
    if facts.capacity is None:
        return []
    mine = [row for row in facts.used if row["key"] != LOCAL]
    models = {group.name: group.sums for group in _groups(mine, "model")}
    found = []
    for measured in facts.capacity.models:
        rows = [row for row in measured.rows if row.rate > 0]
        if not rows:
            continue
        sums = models.get(measured.model, Sums())
        tokens = sums.tokens / sums.texts if sums.texts else None
        inputs = sums.texts / sums.requests if sums.requests else 1.0
        row = min(rows, key=lambda r: _far(r.mean_tokens, tokens) + _far(r.inputs, inputs))
        own = [h.models[measured.model] for h in facts.hours if measured.model in h.models]
        known_s = sum(hour.known_s for hour in facts.hours)
        peak = max((one.peak_texts for one in own), default=0.0)
        mean = sums.texts / known_s if known_s else 0.0
        found.append(Used(measured.model, row, peak, mean, tokens, inputs))
    return found


def _far(a: float, b: float | None) -> float:
    return abs(a - b) / max(a, b) if b else 0.0
