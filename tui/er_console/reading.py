"""Read the admin API's JSON and the launchers' samples into typed facts, leniently. Pure.

A console may meet an older or newer gateway: what is absent or of another type is None, never 0,
and unknown members are passed over. Control characters never reach a terminal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from er_console.hosts import Host, Shared
from er_console.state import (
    Ended,
    Gateway,
    Gpu,
    Key,
    Missing,
    Model,
    Past,
    Proof,
    Recent,
    Replica,
    Sample,
    Status,
    Sums,
    Traffic,
    Use,
    User,
)

USUAL_SCOPES = {"inference", "metrics"}
KINDS = ("models", "keys", "dialects")

NUMBER_MAX = 1e15  # no time, byte or rate of ER's is larger, and clocks break far above


def number(value: object) -> float | None:
    """The value if it is a number that ER can mean (bool, NaN, 1e300 are none), else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) <= NUMBER_MAX else None


def whole(value: object) -> int | None:
    """The value as an int if it is a number, else None."""
    found = number(value)
    return None if found is None else int(found)


def text(value: object) -> str:
    """The value if it is a string, else an empty one. Control characters never reach a terminal."""
    if not isinstance(value, str):
        return ""
    return printable(value)


def printable(said: str) -> str:
    """The same, with a blank for each control character: none may reach a terminal."""
    return "".join(c if c.isprintable() else " " for c in said)


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
        throttle=text(data["throttle"]) if "throttle" in data else None,
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
        identity=text(data.get("identity")),
        load_s=number(data.get("load_s")),
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
        tokens_per_s=number(data.get("tokens_per_s")),
        sequences_per_s=number(data.get("sequences_per_s")),
        calls_per_s=number(data.get("calls_per_s")),
        p50_ms=number(data.get("p50_ms")),
        p95_ms=number(data.get("p95_ms")),
        last_error=text(data.get("last_error")),
        drained_by=text(data.get("drained_by")),
        sample=read_sample(sample) if isinstance(sample, dict) else None,
        proof=read_proof(data.get("proof")),
    )


def read_proof(data: object) -> Proof | None:
    """What speaks for a replica's numbers; None from a gateway that does not say."""
    if not isinstance(data, dict):
        return None
    return Proof(**{name: number(data.get(name)) for name in Proof.__dataclass_fields__})


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


def read_past(data: Mapping[str, Any]) -> Past:
    """GET /history. Raises Missing("wrong") when it is not a history at all."""
    span, step, start = whole(data.get("seconds")), number(data.get("step_s")), data.get("from")
    asked = data.get("requests_per_s")
    if not span or not step or step <= 0 or number(start) is None or not isinstance(asked, list):
        raise Missing("wrong", "the admin API's answer is not a history", "upgrade er-console")
    names = ("requests_per_s", "sequences_per_s", "p95_ms", "in_flight", "queued")
    series = {name: _row(data.get(name), len(asked)) for name in names}
    refused = data.get("refusals_per_s")
    causes = list(refused.values()) if isinstance(refused, dict) else []
    # Where requests were counted and none of that cause is known of, none was refused.
    watched = tuple(None if value is None else 0.0 for value in series["requests_per_s"])
    series["refused_per_s"] = _total([_row(row, len(asked)) for row in causes] + [watched])
    replicas = data.get("replicas")
    parts = objects(list(replicas.values())) if isinstance(replicas, dict) else []
    series["replicas_up"] = _total([_row(part.get("up"), len(asked)) for part in parts])
    alone = {
        (kind, text(name)): {
            text(figure): _row(values, len(asked)) for figure, values in figures.items()
        }
        for kind in KINDS
        for name, figures in _object(data.get(kind)).items()
        if isinstance(figures, dict)
    }
    return Past(span, step, float(start or 0.0), series, alone)


def read_recent(data: Mapping[str, Any]) -> Recent:
    """GET /traffic. Raises Missing("wrong") when it is not what was asked for at all."""
    span = whole(data.get("seconds"))
    if not span or not isinstance(data.get("slowest"), list):
        raise Missing("wrong", "the admin API's answer is no traffic", "upgrade er-console")
    names = {"keys": "id"}
    sums = {
        kind: tuple(_sums(item, names.get(kind, "name")) for item in objects(data.get(kind)))
        for kind in KINDS
    }
    slowest, failed = (tuple(map(_ended, objects(data.get(k)))) for k in ("slowest", "failed"))
    return Recent(span, number(data.get("window_s")), sums, slowest, failed)


def _sums(data: Mapping[str, Any], name: str) -> Sums:
    numbers = {f: number(data.get(f)) for f in Sums.__slots__ if f not in ("name", "title")}
    own = data.get(name)
    title = text(data.get("name")) if name == "id" else ""
    return Sums(None if own is None else text(own), title, **numbers)


TEXTS = ("id", "key", "key_name", "model", "dialect", "replica", "code", "path", "client")


def _ended(data: Mapping[str, Any]) -> Ended:
    fields: dict[str, Any] = {name: text(data.get(name)) for name in TEXTS}
    for name in Ended.__slots__:
        if name not in TEXTS:
            fields[name] = number(data.get(name))
    return Ended(**fields | {"status": whole(data.get("status"))})


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _row(values: object, length: int) -> tuple[float | None, ...]:
    """The list's numbers, as many as asked for; what is not there is unknown."""
    found = [number(value) for value in values] if isinstance(values, list) else []
    return tuple((found + [None] * length)[:length])


def _total(rows: list[tuple[float | None, ...]]) -> tuple[float | None, ...]:
    """The sum of what is known at each moment; unknown where nothing is."""
    columns = [
        [value for value in column if value is not None] for column in zip(*rows, strict=True)
    ]
    return tuple(sum(known) if known else None for known in columns)


def read_status(data: Mapping[str, Any]) -> Status:
    """GET /status from its JSON. Raises Missing("wrong") when it is not a status at all."""
    if not isinstance(data, dict) or not isinstance(data.get("status"), str):
        raise Missing("wrong", "the admin API's answer is not a status", "upgrade er-console")
    models: list[Model] = []
    replicas: list[Replica] = []
    for item in objects(data.get("models")):
        name = text(item.get("name"))
        own = [read_replica(found, name) for found in objects(item.get("replicas"))]
        # A model with `via` lists the replicas of the model whose vectors it uses.
        known = {replica.name for replica in replicas}
        replicas += [replica for replica in own if replica.name not in known]
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
        hosts=tuple(read_host(host) for host in objects(data.get("hosts"))),
        shared=read_shared(data.get("state")),
    )


def read_host(data: Mapping[str, Any]) -> Host:
    """One of GET /status's hosts from its JSON."""
    rows = objects(data.get("replicas"))
    return Host(
        name=text(data.get("name")),
        state=text(data.get("state")) or "unknown",
        own=data.get("own") is True,
        silent_s=number(data.get("silent_s")),
        distance_ms=number(data.get("distance_ms")),
        requests=number(data.get("requests")),
        tokens=sum(number(row.get("in_flight_tokens")) or 0.0 for row in rows),
        up=sum(row.get("state") == "up" for row in rows),
        replicas=len(rows),
        odd=texts(data.get("odd")),
    )


def read_shared(data: object) -> Shared | None:
    """The member `state` of GET /status, which is null where hosts share nothing."""
    if not isinstance(data, dict):
        return None
    return Shared(
        state=text(data.get("state")),
        since=number(data.get("since")),
        reason=text(data.get("reason")),
        keys_reason=text(_object(data.get("keys")).get("reason")),
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
        use=read_use(data.get("use")),
        old_users=read_users(data.get("previous_used_by")),
        team=text(data.get("team")),
        bounds=tuple(read_bounds(data)),
    )


def read_bounds(data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What bounds a key beside its rate and models; scopes only where they are not the usual."""
    scopes = texts(data.get("scopes"))
    if scopes and set(scopes) != USUAL_SCOPES:
        yield "scopes", ", ".join(scopes)
    if networks := texts(data.get("networks")):
        yield "networks", ", ".join(networks)
    if (most := whole(data.get("concurrency"))) is not None:
        yield "concurrency", str(most)
    for name in ("token_limit", "quota"):
        if said := text(data.get(name)):
            yield name, said
    if (weight := whole(data.get("weight"))) not in (None, 1):
        yield "weight", str(weight)


def read_use(data: object) -> Use:
    """What a key uses of its limit; all unknown from a gateway that does not say."""
    if not isinstance(data, dict):
        return Use()
    return Use(
        limit=text(data.get("limit")),
        used=number(data.get("used")),
        minute=number(data.get("requests_last_minute")),
        limited=number(data.get("limited_last_minute")),
    )


def read_users(data: object) -> tuple[User, ...] | None:
    """Who used an old secret."""
    if not isinstance(data, list):
        return None
    return tuple(
        User(text(one.get("client")), moment(text(one.get("last")))) for one in objects(data)
    )


def moment(stamp: str) -> float | None:
    """The unix time of an ISO stamp, None when it is none."""
    try:
        return datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp()
    except (ValueError, OverflowError, OSError):
        return None
