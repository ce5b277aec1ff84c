"""What each hour (UTC) came to, for reports: requests, times, refusals, replicas, mishaps. Pure.

Sums, not means: hours can be added up, and a quantile of a week is one of all its requests. `now`
is the steady clock, `wall` Unix seconds; an hour is the wall clock's. A clock set back begins a row
of the same hour anew, and readers add them up.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Literal, NamedTuple

import msgspec

from er.history import QUIET_S, Sample

HOUR_S = 3600
MINUTE_S = 60.0
EVENTS_MAX = 200  # of an hour; how many more there were is counted
MODELS_MAX = 64
REASON_MAX = 200  # characters
LOCAL = "local"  # the key of gateway.sock
Kind = Literal["out", "back", "gateway"]


class Event(msgspec.Struct, frozen=True, array_like=True):
    """A replica went out, came back, or the gateway began; `seconds` for how long it was away."""

    at: float  # Unix seconds
    kind: Kind
    name: str  # the replica's; "" for the gateway
    text: str  # why
    seconds: float | None = None


class Times(msgspec.Struct):
    """How many requests took how long: the upper bound in seconds (None: none) and the count."""

    counts: list[tuple[float | None, float]] = []

    def add(self, more: Mapping[float, float]) -> None:
        """Add counts of each bucket, by its upper bound."""
        found = {_bound(bound): count for bound, count in self.counts}
        for bound, count in more.items():
            if count > 0:
                found[bound] = found.get(bound, 0.0) + count
        self.counts = [(None if b == float("inf") else b, found[b]) for b in sorted(found)]

    def cumulative(self) -> dict[float, float]:
        """Counts up to each bound, as er.history.quantile takes them."""
        n, found = 0.0, {}
        for bound, count in sorted((_bound(b), c) for b, c in self.counts):
            n += count
            found[bound] = n
        return found


class OfModel(msgspec.Struct):
    """What one model's requests came to."""

    requests: float = 0.0
    texts: float = 0.0
    peak_texts: float = 0.0  # texts a second, in the busiest minute
    times: Times = msgspec.field(default_factory=Times)


class OfReplica(msgspec.Struct):
    """How long a replica was seen to be up, of how long it was looked at."""

    up_s: float = 0.0
    known_s: float = 0.0


class Hour(msgspec.Struct):
    """All of one hour, or of a part of it. `id` tells a row that was written twice."""

    id: int
    hour: int  # since 1970
    known_s: float = 0.0  # how long somebody counted
    requests: float = 0.0
    ok: float = 0.0
    texts: float = 0.0
    tokens: float = 0.0
    refusals: dict[str, float] = {}
    times: Times = msgspec.field(default_factory=Times)
    models: dict[str, OfModel] = {}
    replicas: dict[str, OfReplica] = {}
    peaks: dict[str, float] = {}  # in_flight, queued; requests, texts and tokens a second
    events: list[Event] = []
    more_events: int = 0


class Seen(NamedTuple):
    """A replica as the ledger has it."""

    state: str
    reason: str


class State(msgspec.Struct):
    """What is stored of the hour that is not over, for the process that comes next."""

    hour: Hour
    until: float  # Unix seconds: it is known up to there
    gateway: float | None  # when the gateway began
    out: dict[str, float]  # replicas that are out, and since when
    up: list[str]


class Hourly:
    """Adds up samples. Not for several threads at once."""

    def __init__(self, stored: State | None = None) -> None:
        self.over: list[Hour] = []  # hours that are over; the caller takes them away
        self.news = False  # an event came, which the caller is to store
        self._hour = stored.hour if stored else None
        self._until = stored.until if stored else 0.0
        self._gateway = stored.gateway if stored else None
        self._out = dict(stored.out) if stored else {}
        self._up = set(stored.up) if stored else set[str]()
        self._knew = stored is not None
        self._last: tuple[float, Sample] | None = None
        self._minute: tuple[int, dict[str, float]] | None = None

    def add(
        self,
        now: float,
        wall: float,
        sample: Sample,
        replicas: Mapping[str, Seen],
        gateway: float | None,
    ) -> None:
        """Note a sample, about every two seconds; `gateway` is when it began, in Unix seconds."""
        hour = self._at(wall)
        if gateway is not None and (self._gateway is None or abs(gateway - self._gateway) > 1.0):
            away = max(0.0, gateway - self._until) if self._knew else None
            self._note(Event(wall, "gateway", "", "", away))
            self._gateway = gateway
        if self._last is not None:
            then, old = self._last
            self._count(hour, now, sample, old)
            gap = now - then
            if 0 < gap <= QUIET_S:
                hour.known_s += gap
                for name, seen in replicas.items():
                    known = hour.replicas.setdefault(name, OfReplica())
                    known.known_s += gap
                    known.up_s += gap if seen.state == "up" else 0.0
        self._watch(wall, replicas)
        self._last, self._until, self._knew = (now, sample), wall, True

    def state(self) -> State | None:
        """To be stored; None before the first sample."""
        if self._hour is None:
            return None
        return State(self._hour, self._until, self._gateway, self._out, sorted(self._up))

    def _at(self, wall: float) -> Hour:
        index = int(wall // HOUR_S)
        if self._hour is None or self._hour.hour != index:
            if self._hour is not None:
                self.over.append(self._hour)
            self._hour = Hour(random.SystemRandom().getrandbits(53), index)
        return self._hour

    def _note(self, event: Event) -> None:
        assert self._hour is not None
        self.news = True
        if len(self._hour.events) < EVENTS_MAX:
            self._hour.events.append(event)
        else:
            self._hour.more_events += 1

    def _watch(self, wall: float, replicas: Mapping[str, Seen]) -> None:
        """Note who went out or came back. One that never was up is not out: it is starting."""
        for name, seen in replicas.items():
            if seen.state == "up":
                if name in self._out:
                    self._note(Event(wall, "back", name, "", wall - self._out.pop(name)))
                self.news = self.news or name not in self._up
                self._up.add(name)
            elif name in self._up and seen.state != "unknown":
                self._up.discard(name)
                self._out[name] = wall
                self._note(Event(wall, "out", name, f"{seen.state}: {seen.reason}"[:REASON_MAX]))
        self._up &= replicas.keys()
        self._out = {name: since for name, since in self._out.items() if name in replicas}

    def _count(self, hour: Hour, now: float, new: Sample, old: Sample) -> None:
        minute: dict[str, float] = {}
        for path, count in new.counts.items():
            more = _grown(count, old.counts.get(path, 0.0))
            match path:
                case ("requests_per_s",):
                    hour.requests += more
                    minute["requests"] = more
                case ("ok_per_s",):
                    hour.ok += more
                case ("sequences_per_s",):
                    hour.texts += more
                    minute["texts"] = more
                case ("tokens_per_s",):
                    hour.tokens += more
                    minute["tokens"] = more
                case ("keys", key, "sequences_per_s") if key == LOCAL:
                    minute[LOCAL] = more
                case ("refusals_per_s", code) if more:
                    hour.refusals[code] = hour.refusals.get(code, 0.0) + more
                case ("models", name, figure) if more and (own := _of(hour, name)):
                    if figure == "requests_per_s":
                        own.requests += more
                    elif figure == "sequences_per_s":
                        own.texts += more
                        minute[f"model {name}"] = more
        for whose, times in new.latency.items():
            spent = _buckets(times, old.latency.get(whose, {}))
            if whose == ():
                hour.times.add(spent)
            elif whose[0] == "models" and any(spent.values()) and (own := _of(hour, whose[1])):
                own.times.add(spent)
        for path, level in new.peaks.items():
            hour.peaks[path[0]] = max(level, hour.peaks.get(path[0], 0.0))
        self._peaks(hour, now, minute)

    def _peaks(self, hour: Hour, now: float, more: Mapping[str, float]) -> None:
        """Sums of a minute of the steady clock, and the highest of clients' ones, a second."""
        index = int(now // MINUTE_S)
        if self._minute is None or self._minute[0] != index:
            self._minute = (index, {})
        sums = self._minute[1]
        for name, n in more.items():
            sums[name] = sums.get(name, 0.0) + n
        if sums.get(LOCAL, 0.0) > sums.get("texts", 0.0) / 2:
            return  # a measurement, er embed: not what clients ask for
        for name in more.keys() - {LOCAL}:
            rate = round(sums[name] / MINUTE_S, 3)
            if name.startswith("model "):
                own = hour.models[name.removeprefix("model ")]
                own.peak_texts = max(rate, own.peak_texts)
            elif rate:
                hour.peaks[name] = max(rate, hour.peaks.get(name, 0.0))


def _of(hour: Hour, name: str) -> OfModel | None:
    if name not in hour.models and len(hour.models) >= MODELS_MAX:
        return None
    return hour.models.setdefault(name, OfModel())


def _grown(new: float, old: float) -> float:
    """What came since; counters that fell began anew."""
    return new - old if new >= old else new


def _buckets(times: Mapping[float, float], old: Mapping[float, float]) -> dict[float, float]:
    """What came since, for each bucket alone, of counts up to each bound."""
    found, below = {}, 0.0
    fell = any(times.get(bound, 0.0) < n for bound, n in old.items())
    for bound in sorted(times):
        spent = times[bound] - (0.0 if fell else old.get(bound, 0.0))
        found[bound] = max(0.0, spent - below)
        below = spent
    return found


def _bound(bound: float | None) -> float:
    return float("inf") if bound is None else bound


__all__ = ["LOCAL", "Event", "Hour", "Hourly", "OfModel", "OfReplica", "Seen", "State", "Times"]
