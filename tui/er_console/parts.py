"""Merge what the sources say into one list of parts: gateway, replicas, GPUs. Pure.

The gateway's own status counts when it is fresh. Without it systemd is asked, then the launchers'
samples; a replica known from those alone is "running", never "up", since only the gateway's
prober has seen a right answer. Times are unix seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from er_console.language import heard, say
from er_console.state import (
    GATEWAY_UNIT,
    TARGET_UNIT,
    Gateway,
    Gpu,
    Replica,
    Sample,
    Snapshot,
    Unit,
)

UNIT_WORDS = {
    "active": "running",
    "reloading": "running",
    "activating": "starting",
    "deactivating": "stopping",
    "failed": "failed",
    "inactive": "stopped",
}
DOING = {"start": "starting", "stop": "stopping", "restart": "restarting"}
REPLICA_PREFIX = "er-vllm@"
UNITLESS = "replica:"  # the key of a replica that no unit runs


@dataclass(frozen=True, slots=True)
class Pending:
    """A start, stop or restart that this console asked for and that has not ended yet."""

    verb: str
    since: float


def unit_of(replica: str) -> str:
    """The systemd unit of a replica."""
    return f"{REPLICA_PREFIX}{replica}.service"


def replica_of(unit: str) -> str:
    """The replica's name in a unit's, or an empty string for other units."""
    if unit.startswith(REPLICA_PREFIX) and unit.endswith(".service"):
        return unit[len(REPLICA_PREFIX) : -len(".service")]
    return ""


def is_drained(replica: Replica) -> bool:
    """True when D would take it back into service."""
    return bool(replica.drained_by) or replica.state in ("drained", "draining")


def key_of(replica: Replica) -> str:
    """What names a replica in a table: its unit, or its name where no unit runs it."""
    return replica.unit or f"{UNITLESS}{replica.name}"


def named_by(key: str) -> str:
    """The replica's name in such a key, or an empty string."""
    return key.removeprefix(UNITLESS) if key.startswith(UNITLESS) else replica_of(key)


def fresh_units(snapshot: Snapshot, now: float) -> Mapping[str, Unit]:
    """systemd's units by name; empty when they are not known or too old. Polled at half pace."""
    return snapshot.units.fresh(now, 2 * snapshot.limit_s()) or {}


def unit_word(unit: Unit) -> str:
    """A unit's state in one word."""
    if not unit.loaded:
        return "missing"
    if unit.sub == "auto-restart":
        return "starting"
    return UNIT_WORDS.get(unit.active, "unknown")


def unit_reason(unit: Unit) -> str:
    """Why a unit is as it is, from its STATUS text or its result."""
    if not unit.loaded:
        return say("systemd has no such unit (sudo er apply makes it)")
    if unit.active == "inactive":
        # Not its STATUS text: systemd keeps the last one of a unit that has ended.
        if unit.result not in ("", "success"):
            return say("ended with {result}", result=unit.result)
        if unit.since is None:
            return say("not started since boot")
        return say("stopped in good order")
    if unit.text and unit.active != "failed":
        return unit.text
    if unit.sub == "auto-restart":
        return say("ended ({result}), systemd starts it again", result=unit.result or "?")
    if unit.active == "failed":
        result = unit.result or say("failed")
        if not unit.text:
            return result
        last = heard(unit.text)
        return say("{result}, its last word: {text}", result=result, text=last)
    return ""


def gateway(
    snapshot: Snapshot, now: float, pending: Mapping[str, Pending] | None = None
) -> Gateway:
    """The gateway, as its status says, else as systemd says, else unknown with the reason."""
    status = snapshot.status.fresh(now, snapshot.limit_s())
    unit = fresh_units(snapshot, now).get(GATEWAY_UNIT)
    if status is not None:
        found = status.gateway
        if unit is not None and unit.active in ("deactivating", "failed", "inactive"):
            word, why = unit_word(unit), unit_reason(unit)
            found = replace(found, state=word, since=unit.since, reason=why, source="systemd")
    elif unit is not None and unit.loaded:
        found = Gateway(
            state=unit_word(unit),
            since=unit.since,
            reason=unit_reason(unit),
            status_text=unit.text,
            restarts=unit.restarts,
            source="systemd",
        )
    else:
        missing = snapshot.status.missing
        state = "down" if missing is not None and missing.kind == "refused" else "unknown"
        found = Gateway(state=state, reason=missing.reason if missing else "", source="")
    waiting = (pending or {}).get(GATEWAY_UNIT)
    if waiting is not None:
        return replace(found, state=DOING[waiting.verb], since=waiting.since)
    return found


def with_unit(replica: Replica, unit: Unit | None) -> Replica:
    """A replica from the gateway's status, corrected by what systemd knows for certain."""
    if unit is None or not unit.loaded:
        return replica
    found = replace(
        replica,
        unit=unit.name,
        unit_state=unit.active,
        status_text=unit.text or replica.status_text,
        restarts=unit.restarts if unit.restarts is not None else replica.restarts,
    )
    word = unit_word(unit)
    stands_still = word in ("stopped", "failed", "stopping")
    if stands_still and replica.state not in (word, "waiting"):
        return replace(found, state=word, since=unit.since, reason=unit_reason(unit))
    return found


def from_unit(unit: Unit, sample: Sample | None) -> Replica:
    """A replica known from systemd, and from its launcher's sample when there is one."""
    reason = unit_reason(unit)
    if not reason and sample is not None:
        reason = sample.last_error or sample.phase
    return Replica(
        name=replica_of(unit.name),
        state=unit_word(unit),
        since=unit.since,
        reason=reason,
        gpus=tuple(str(gpu.index) for gpu in sample.gpus) if sample else (),
        unit=unit.name,
        unit_state=unit.active,
        status_text=unit.text,
        restarts=unit.restarts,
        pid=unit.pid,
        sample=sample,
        source="systemd",
    )


def from_sample(sample: Sample, now: float, limit_s: float) -> Replica:
    """A replica known from its launcher's sample alone: a machine without systemd."""
    written = sample.time if sample.time is not None else 0.0
    lives = now - written <= max(5.0, limit_s)
    ready = sample.phase in ("ready", "up", "serving")
    state = ("running" if ready else "starting") if lives else "unknown"
    reason = sample.last_error or sample.phase
    if not lives:
        reason = say("its launcher last wrote {n} s ago", n=int(now - written))
    return Replica(
        name=sample.name,
        state=state,
        since=sample.phase_since,
        reason="" if state == "running" else reason,
        gpus=tuple(str(gpu.index) for gpu in sample.gpus),
        pid=sample.pid,
        sample=sample,
        source="launcher",
    )


def replicas(
    snapshot: Snapshot, now: float, pending: Mapping[str, Pending] | None = None
) -> tuple[Replica, ...]:
    """Every replica anybody knows of, in the gateway's order, then by name."""
    status = snapshot.status.fresh(now, snapshot.limit_s())
    units = fresh_units(snapshot, now)
    samples = {s.name: s for s in snapshot.samples.fresh(now, snapshot.limit_s()) or ()}
    found: dict[str, Replica] = {}
    if status is not None:
        for replica in status.replicas:
            found[replica.name] = with_unit(replica, units.get(unit_of(replica.name)))
    for unit in units.values():
        name = replica_of(unit.name)
        if name and name not in found and (unit.loaded or unit.active != "inactive"):
            known = from_unit(unit, samples.get(name))
            found[name] = replace(known, model=_known_model(snapshot, name))
    if status is None and not units:
        for sample in samples.values():
            known = from_sample(sample, now, snapshot.limit_s())
            found[sample.name] = replace(known, model=_known_model(snapshot, sample.name))
    waiting = pending or {}
    return tuple(
        replace(r, state=DOING[waiting[r.unit].verb], since=waiting[r.unit].since, reason="")
        if r.unit in waiting
        else r
        for r in found.values()
    )


def _known_model(snapshot: Snapshot, name: str) -> str:
    """A replica's model from the last status, however old: er.toml seldom moves it."""
    last = snapshot.status.value
    return next((r.model for r in last.replicas if r.name == name), "") if last else ""


def gpus(snapshot: Snapshot, now: float) -> tuple[Gpu, ...]:
    """The GPUs: the gateway's list, else the driver's, else the launchers' samples."""
    status = snapshot.status.fresh(now, snapshot.limit_s())
    driver = snapshot.gpus.fresh(now, 2 * snapshot.limit_s()) or ()
    if status is not None and status.gpus:
        own = {gpu.uuid: gpu for gpu in driver}
        told = {gpu.uuid for gpu in status.gpus}
        gone = (gpu for gpu in driver if gpu.lost and gpu.uuid not in told)
        return (*(_with_driver(gpu, own.get(gpu.uuid)) for gpu in status.gpus), *gone)
    owners: dict[str, list[str]] = {}
    cards: dict[str, Gpu] = {gpu.uuid: gpu for gpu in driver}
    for replica in replicas(snapshot, now):
        for gpu in replica.sample.gpus if replica.sample else ():
            owners.setdefault(gpu.uuid, []).append(replica.name)
            cards.setdefault(gpu.uuid, gpu)
    return tuple(
        replace(gpu, replicas=gpu.replicas or tuple(owners.get(uuid, ())))
        for uuid, gpu in cards.items()
    )


def _with_driver(gpu: Gpu, driver: Gpu | None) -> Gpu:
    """A card from the status, with what the driver alone tells of it."""
    if driver is None:
        return gpu
    return replace(
        gpu,
        throttle=gpu.throttle or driver.throttle,
        ecc_errors=driver.ecc_errors,
        others=driver.others,
        lost=driver.lost,
    )


def target(snapshot: Snapshot, now: float) -> Unit | None:
    """er.target, when systemd knows it."""
    unit = fresh_units(snapshot, now).get(TARGET_UNIT)
    return unit if unit is not None and unit.loaded else None
