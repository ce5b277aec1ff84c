"""What the console knows of ER: readings of each source, and the one list of parts they make.

Pure: no clock, no file, no socket. The admin API's JSON (GET /status) is read leniently, since a
console may meet an older or newer gateway: what is absent or of another type is None, never 0.
Times are unix seconds. Each source has its own reading with its own age and its own reason for
being absent, so that one missing part never hides the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

T = TypeVar("T")

GATEWAY_UNIT = "er-gateway.service"
TARGET_UNIT = "er.target"


class Missing(Exception):  # noqa: N818  (it is a state of the world, not a mistake)
    """A source that gives nothing now: why, what to do about it, and which kind of why.

    Kinds: absent (nothing there), refused (nobody listens), rights, stopped (on purpose not asked),
    late, wrong (answered nonsense or an error), off (this machine has no such thing).
    """

    def __init__(self, kind: str, reason: str, remedy: str = "") -> None:
        super().__init__(f"{reason}. {remedy}" if remedy else reason)
        self.kind = kind
        self.reason = reason
        self.remedy = remedy


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
        return replace(self, missing=missing)

    def fresh(self, now: float, limit_s: float) -> T | None:
        """The value when it is at most `limit_s` old, else None."""
        if self.value is None or self.at is None or now - self.at > limit_s:
            return None
        return self.value

    def age(self, now: float) -> float | None:
        """Seconds since the last good answer, None when there never was one."""
        return None if self.at is None else max(0.0, now - self.at)


@dataclass(frozen=True, slots=True)
class Unit:
    """One systemd unit as `systemctl show` has it. `since` is its last change of state."""

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
    """One GPU. Bytes, percent, degrees C, watts; None where the card or driver does not say."""

    index: int | None
    uuid: str
    name: str
    memory_used: float | None = None
    memory_total: float | None = None
    utilization: float | None = None
    temperature: float | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    throttle: str = ""
    replicas: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sample:
    """What a replica's launcher wrote a moment ago (RUNTIME_DIRECTORY/replicas/NAME.json)."""

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


@dataclass(frozen=True, slots=True)
class Replica:
    """One replica, its facts merged from all sources. `source` says who vouches for its state."""

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
    drained_by: str = ""
    sample: Sample | None = None
    source: str = "gateway"


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


@dataclass(frozen=True, slots=True)
class Key:
    """A client's credential as the admin API lists it; its secret is not in it."""

    id: str
    name: str
    created: str = ""
    expires: str = ""
    last_used: str = ""
    rate_limit: str = ""
    models: tuple[str, ...] = ()
    previous_valid_until: str = ""
    revoked: str = ""


@dataclass(frozen=True, slots=True)
class LogLine:
    """One journal record: unix seconds, short unit name, syslog priority 0 to 7, text."""

    time: float
    unit: str
    priority: int
    text: str


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


# Reading JSON ------------------------------------------------------------------------------


def number(value: object) -> float | None:
    """The value if it is a number (bool is none), else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value)


def whole(value: object) -> int | None:
    """The value as an int if it is a number, else None."""
    found = number(value)
    return None if found is None else int(found)


def text(value: object) -> str:
    """The value if it is a string, else an empty one. Control characters never reach a terminal."""
    if not isinstance(value, str):
        return ""
    return "".join(c if c.isprintable() else " " for c in value)


def objects(value: object) -> list[Mapping[str, Any]]:
    """The objects of a JSON list; anything else in it is passed over."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def texts(value: object) -> tuple[str, ...]:
    """The list's members as short texts."""
    if not isinstance(value, list):
        return ()
    return tuple(text(v) if isinstance(v, str) else str(v) for v in value)


def read_gpu(data: Mapping[str, Any]) -> Gpu:
    """One member of `gpus`."""
    return Gpu(
        index=whole(data.get("index")),
        uuid=text(data.get("uuid")),
        name=text(data.get("name")),
        memory_used=number(data.get("memory_used")),
        memory_total=number(data.get("memory_total")),
        utilization=number(data.get("utilization")),
        temperature=number(data.get("temperature")),
        power_w=number(data.get("power_w")),
        power_limit_w=number(data.get("power_limit_w")),
        throttle=text(data.get("throttle")),
        replicas=texts(data.get("replicas")),
    )


def read_sample(data: Mapping[str, Any]) -> Sample:
    """A launcher's sample."""
    engine = data.get("engine")
    engine = engine if isinstance(engine, dict) else {}
    return Sample(
        name=text(data.get("name")),
        phase=text(data.get("phase")),
        phase_since=number(data.get("phase_since")),
        attempt=whole(data.get("attempt")),
        last_error=text(data.get("last_error")),
        time=number(data.get("time")),
        pid=whole(data.get("pid")),
        gpus=tuple(read_gpu(gpu) for gpu in objects(data.get("gpu"))),
        running=number(engine.get("running")),
        waiting=number(engine.get("waiting")),
        rss_bytes=number(data.get("rss_bytes")),
        vllm_version=text(data.get("vllm_version")),
    )


def read_replica(data: Mapping[str, Any], model: str) -> Replica:
    """One member of a model's `replicas`."""
    sample = data.get("sample")
    return Replica(
        name=text(data.get("name")),
        state=text(data.get("state")) or "unknown",
        model=text(data.get("model")) or model,
        since=number(data.get("since")),
        reason=text(data.get("reason")),
        address=text(data.get("address")),
        gpus=texts(data.get("gpu")),
        unit=text(data.get("unit")),
        unit_state=text(data.get("unit_state")),
        status_text=text(data.get("status_text")),
        restarts=whole(data.get("restarts")),
        pid=whole(data.get("pid")),
        tokens=number(data.get("in_flight_tokens")),
        drained_by=text(data.get("drained_by")),
        sample=read_sample(sample) if isinstance(sample, dict) else None,
    )


def read_gateway(data: Mapping[str, Any]) -> Gateway:
    """The object `gateway`."""
    return Gateway(
        state=text(data.get("state")) or "unknown",
        since=number(data.get("since")),
        reason=text(data.get("reason")),
        workers=number(data.get("workers")),
        listen=texts(data.get("listen")),
        in_flight=number(data.get("in_flight")),
        queued=number(data.get("queued")),
        max_concurrency=number(data.get("max_concurrency")),
        config_differs=data.get("config_differs") is True,
        status_text=text(data.get("status_text")),
        restarts=whole(data.get("restarts")),
    )


def read_traffic(data: Mapping[str, Any]) -> Traffic:
    """The object `traffic`."""
    refusals = data.get("refusals")
    refusals = refusals if isinstance(refusals, dict) else {}
    figures = {
        name: number(data.get(name))
        for name in Traffic.__dataclass_fields__
        if name not in ("refusals",)
    }
    counted = {str(code): number(n) or 0.0 for code, n in refusals.items()}
    return Traffic(refusals=counted, **figures)


def read_status(data: Mapping[str, Any]) -> Status:
    """GET /status from its JSON. Raises Missing("wrong") when it is not a status at all."""
    if not isinstance(data, dict) or not isinstance(data.get("status"), str):
        raise Missing("wrong", "the admin API's answer is not a status", "upgrade er-console")
    models: list[Model] = []
    replicas: list[Replica] = []
    for item in objects(data.get("models")):
        name = text(item.get("name"))
        own = [read_replica(found, name) for found in objects(item.get("replicas"))]
        replicas += own
        models.append(
            Model(
                name=name,
                task=text(item.get("task")),
                via=text(item.get("via")),
                aliases=texts(item.get("aliases")),
                replicas=tuple(replica.name for replica in own),
            )
        )
    machine = data.get("machine")
    machine = machine if isinstance(machine, dict) else {}
    gateway = data.get("gateway")
    traffic = data.get("traffic")
    return Status(
        version=text(data.get("version")),
        level=data["status"],
        reason=text(data.get("reason")),
        gateway=read_gateway(gateway if isinstance(gateway, dict) else {}),
        models=tuple(models),
        replicas=tuple(replicas),
        gpus=tuple(read_gpu(gpu) for gpu in objects(data.get("gpus"))),
        traffic=read_traffic(traffic if isinstance(traffic, dict) else {}),
        machine={name: number(value) for name, value in machine.items()},
        raw=data,
    )


def read_key(data: Mapping[str, Any]) -> Key:
    """One member of GET /keys."""
    revoked = data.get("revoked")
    return Key(
        id=text(data.get("id")),
        name=text(data.get("name")),
        created=text(data.get("created")),
        expires=text(data.get("expires")),
        last_used=text(data.get("last_used")),
        rate_limit=text(data.get("rate_limit")),
        models=texts(data.get("models")),
        previous_valid_until=text(data.get("previous_valid_until")),
        revoked=text(revoked) if isinstance(revoked, str) else ("yes" if revoked is True else ""),
    )
