"""What the console knows of ER: typed facts, and each source's newest reading with its age.

Pure: no clock, no file, no socket. Times are unix seconds; None is "nobody knows". Each source
has its own reading with its own age and its own reason for being absent, so that one missing part
never hides the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from er_console.hosts import Host, Shared

T = TypeVar("T")

GATEWAY_UNIT = "er-gateway.service"
TARGET_UNIT = "er.target"


class Missing(Exception):  # noqa: N818  (it is a state of the world, not a mistake)
    """A source that gives nothing now: why, what to do about it, and which kind of why.

    Kinds: absent (nothing there), refused (nobody listens), rights, stopped (on purpose not asked),
    late, wrong (answered nonsense or an error), off (this machine has no such thing), older (a
    gateway that does not know the question), needless (an action that would change nothing).
    `about` names the field of a form that was wrong.
    """

    def __init__(self, kind: str, reason: str, remedy: str = "", about: str = "") -> None:
        super().__init__(f"{reason}. {remedy}" if remedy else reason)
        self.kind = kind
        self.reason = reason
        self.remedy = remedy
        self.about = about


@dataclass(frozen=True, slots=True)
class Reading(Generic[T]):
    """The last good value of a source with its time, and why the newest try failed, if it did."""

    value: T | None = None
    at: float | None = None
    missing: Missing | None = None

    def took(self, value: T, now: float) -> Reading[T]:
        """A good answer."""
        return Reading(value, now, None)

    def failed(self, missing: Missing) -> Reading[T]:
        """A failed try: the old value stays, and keeps its age."""
        # Its traceback holds the frame that caught it, there the reading before: so all of them.
        missing.__traceback__ = missing.__context__ = None
        return replace(self, missing=missing)

    def fresh(self, now: float, limit_s: float) -> T | None:
        """The value when it is at most `limit_s` old, else None.

        One from the future is old too: the clock was set back, and its age is not known.
        """
        if self.value is None or self.at is None or abs(now - self.at) > limit_s:
            return None
        return self.value

    def age(self, now: float) -> float | None:
        """Seconds since the last good answer, None when there never was one."""
        return None if self.at is None else max(0.0, now - self.at)


@dataclass(frozen=True, slots=True)
class Unit:
    """One systemd unit as systemd tells it on D-Bus. `since` is its last change of state."""

    name: str
    active: str
    sub: str = ""
    text: str = ""
    since: float | None = None
    pid: int | None = None
    restarts: int | None = None
    result: str = ""
    loaded: bool = True


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU. Bytes, percent, degrees C, watts; None where the card or driver does not say.

    `throttle`: what slows it down, "" for nothing. `ecc_errors`: memory errors since boot that
    could not be corrected. `others`: processes on it that are none of ER's, in words. `lost`: the
    driver lists it and can't reach it.
    """

    index: int | None
    uuid: str
    name: str
    memory_used: float | None = None
    memory_total: float | None = None
    utilization: float | None = None
    temperature: float | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    throttle: str | None = None
    ecc_errors: float | None = None
    others: tuple[str, ...] = ()
    lost: bool = False
    replicas: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sample:
    """What a replica's launcher wrote a moment ago (its sample.json)."""

    name: str
    phase: str
    phase_since: float | None
    attempt: int | None
    last_error: str
    time: float | None
    pid: int | None
    gpus: tuple[Gpu, ...]
    running: float | None
    waiting: float | None
    rss_bytes: float | None
    vllm_version: str
    identity: str = ""
    load_s: float | None = None  # from its engine's last start to its first right answer


@dataclass(frozen=True, slots=True)
class Proof:
    """When a replica's numbers were last found right (unix seconds), and how many were wrong."""

    answered: float | None = None  # a client's texts
    probed: float | None = None  # the gateway's own question, which took probe_ms
    probe_ms: float | None = None
    wrong: float | None = None  # answers since its launcher began


@dataclass(frozen=True, slots=True)
class Replica:
    """One replica, its facts merged from all sources. `source` says who vouches for its state.

    `tokens` are in flight; the rates are what the gateway gave it in the last minute, the ms how
    long a sequence then was in its engine.
    """

    name: str
    state: str
    model: str = ""
    since: float | None = None
    reason: str = ""
    address: str = ""
    gpus: tuple[str, ...] = ()
    unit: str = ""
    unit_state: str = ""
    status_text: str = ""
    restarts: int | None = None
    pid: int | None = None
    tokens: float | None = None
    tokens_per_s: float | None = None
    sequences_per_s: float | None = None
    calls_per_s: float | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None
    last_error: str = ""
    drained_by: str = ""
    sample: Sample | None = None
    source: str = "gateway"
    proof: Proof | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """A model clients name; `via` is the model whose vectors it uses, when it has no replica."""

    name: str
    task: str
    via: str
    aliases: tuple[str, ...]
    replicas: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Gateway:
    """The gateway's own figures; None where nobody knows."""

    state: str
    since: float | None = None
    reason: str = ""
    workers: float | None = None
    listen: tuple[str, ...] = ()
    in_flight: float | None = None
    queued: float | None = None
    max_concurrency: float | None = None
    config_differs: bool = False
    status_text: str = ""
    restarts: int | None = None
    source: str = "gateway"


@dataclass(frozen=True, slots=True)
class Traffic:
    """Rates a second and latencies in ms over the last `window_s`; success from 0 to 1."""

    requests_per_s: float | None = None
    sequences_per_s: float | None = None
    tokens_per_s: float | None = None
    success_rate: float | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    in_flight: float | None = None
    queued: float | None = None
    requests_total: float | None = None
    refusals: Mapping[str, float] = field(default_factory=dict)
    window_s: float | None = None


@dataclass(frozen=True, slots=True)
class Past:
    """GET /history: series by name, oldest first, one figure each `step_s` seconds from `start` on.

    Names as in Traffic, and refused_per_s and replicas_up, which are sums. None: nobody knows.
    `parts` has those of one ("models" | "dialects" | "keys", its name or id).
    """

    span_s: int
    step_s: float
    start: float
    series: Mapping[str, tuple[float | None, ...]]
    parts: Mapping[tuple[str, str], Mapping[str, tuple[float | None, ...]]] = field(
        default_factory=dict
    )


@dataclass(frozen=True, slots=True)
class Sums:
    """What the requests of one model, key or dialect came to. `name` None: all others together."""

    name: str | None
    title: str = ""  # a key's name
    requests: float | None = None
    requests_per_s: float | None = None
    sequences_per_s: float | None = None
    tokens_per_s: float | None = None
    success_rate: float | None = None
    refused: float | None = None
    failed: float | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """One request that is over, without its text; the parts of its time add up to the total."""

    time: float | None
    id: str
    key: str = ""
    key_name: str = ""
    model: str = ""
    dialect: str = ""
    replica: str = ""
    status: int | None = None
    code: str = ""
    path: str = ""
    client: str = ""
    items: float | None = None
    tokens: float | None = None
    queue_ms: float | None = None
    tokenise_ms: float | None = None
    engine_ms: float | None = None
    encode_ms: float | None = None
    rest_ms: float | None = None
    total_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Recent:
    """GET /traffic: the last `span_s` seconds by model, dialect and key; slowest, failed ones."""

    span_s: int
    window_s: float | None
    sums: Mapping[str, tuple[Sums, ...]]  # of "models", "dialects", "keys"; the busiest first
    slowest: tuple[Ended, ...]
    failed: tuple[Ended, ...]  # newest first


@dataclass(frozen=True, slots=True)
class Status:
    """GET /status, typed. `raw` is the JSON it came from, for --json."""

    version: str
    level: str
    reason: str
    gateway: Gateway
    models: tuple[Model, ...]
    replicas: tuple[Replica, ...]
    gpus: tuple[Gpu, ...]
    traffic: Traffic
    machine: Mapping[str, float | None]
    raw: Mapping[str, Any]
    hosts: tuple[Host, ...] = ()  # that serve together; none on a machine alone
    shared: Shared | None = None  # without [state]


@dataclass(frozen=True, slots=True)
class Use:
    """How much of its limit a key uses: `limit` in force, requests in its window, in a minute."""

    limit: str = ""  # "100/minute", "off"; "" where nobody says
    used: float | None = None
    minute: float | None = None
    limited: float | None = None  # of the minute's, refused by the limit


@dataclass(frozen=True, slots=True)
class User:
    """An address that used a key's old secret, and when it did last (unix seconds)."""

    client: str
    last: float | None


BOUNDS = ("scopes", "networks", "concurrency", "token_limit", "quota", "weight")  # the API's names


@dataclass(frozen=True, slots=True)
class Key:
    """A client's credential as the admin API lists it; its secret is not in it.

    `old_users` used the secret before the last rotation since then; None: nobody knows.
    """

    id: str
    name: str
    created: str = ""
    expires: str = ""
    last_used: str = ""
    rate_limit: str = ""
    models: tuple[str, ...] = ()
    previous_valid_until: str = ""
    revoked: str = ""
    use: Use = Use()
    old_users: tuple[User, ...] | None = None
    team: str = ""
    bounds: tuple[tuple[str, str], ...] = ()  # of BOUNDS, those it has, as written


@dataclass(frozen=True, slots=True)
class LogLine:
    """One journal record: unix seconds, short unit name, syslog priority 0 to 7, text.

    `request` and `key` are ids, "" where the record has none; `cursor` finds it in the journal
    again. `lost` is for a line of our own: so many came too fast to be shown, just before.
    """

    time: float
    unit: str
    priority: int
    text: str
    request: str = ""
    key: str = ""
    cursor: str = ""
    lost: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an action on a unit, replica or key ended, in a sentence; a remedy if it failed."""

    ok: bool
    text: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All readings at one moment."""

    status: Reading[Status] = field(default_factory=Reading)
    units: Reading[Mapping[str, Unit]] = field(default_factory=Reading)
    gpus: Reading[tuple[Gpu, ...]] = field(default_factory=Reading)
    samples: Reading[tuple[Sample, ...]] = field(default_factory=Reading)
    interval_s: float = 1.0

    def limit_s(self) -> float:
        """Age above which nothing is believed any more: three intervals, at least three seconds."""
        return max(3.0, 3 * self.interval_s)
