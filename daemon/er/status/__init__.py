"""One screen of truth: what GET /status and `er status --json` say, from facts gathered elsewhere.

`build` is pure: the same facts give the same answer, with the gateway up or down. Every time is in
Unix seconds, every size in bytes; None means "not known".
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import orjson

from er import __version__, small_file
from er.config import Config, ConfigError, Replica, applied_path, edited_path, load, successor
from er.fingerprint import Fingerprint, parsed, together
from er.ledger import VERDICT_AGE_S, Ledger
from er.small_file import DAMAGED
from er.status.judged import verdict
from er.status.work import UNKNOWN, in_engine
from er.systemctl import GATEWAY, Unit, replica_unit

SAMPLE_FRESH_S = 5.0  # a launcher writes one a second
READY = "ready"  # the launcher's phase once its engine answered right
ENDING = ("draining", "stopping vLLM")  # its last phases
WAITING = "waiting"  # phases that begin so: no model folder or no GPU yet, tried again by itself


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What the ledger's row of one replica says."""

    state: str = "unknown"  # unknown, starting, up, down; a drain stands beside it
    since: float = 0.0
    reason: str = ""
    checked: float = 0.0
    drained_by: str | None = None  # operator, launcher, host
    in_flight_tokens: int = 0
    answered: float | None = None  # when it last answered a client's texts right
    wrong: int = 0  # wrong answers since its launcher last began


class GatewayFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the gateway's own processes."""

    workers: int = 0  # alive
    since: float | None = None  # the oldest worker's start
    in_flight: int = 0
    queued: int = 0
    unseen: str = ""  # why the gateway's ledger could not be read, "" when it was
    config_differs: bool = False  # er.toml says other things than what the units run from
    pid: int | None = None


class _Card(msgspec.Struct):
    """The types of a GPU's row in a sample; msgspec refuses others."""

    uuid: str
    index: int | None = None
    name: str | None = None
    memory_used: float | None = None
    memory_total: float | None = None
    utilization: float | None = None
    temperature: float | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    throttled: dict[str, bool] | None = None
    ecc_errors: dict[str, float] | None = None


class _Sample(msgspec.Struct):
    """The types of a launcher's sample, as far as anything is done with it here."""

    time: float = 0.0
    pid: int | None = None
    phase: str | None = None
    phase_since: float | None = None
    last_error: str | None = None
    load_s: float | None = None
    attempt: float | None = None
    engine: dict[str, float | None] | None = None
    gpu: list[_Card] = []


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """All that `build` looks at. `units` is None where systemd does not run the machine."""

    config: Config
    now: float
    gateway: GatewayFacts
    seen: Mapping[str, Seen]
    samples: Mapping[str, dict[str, Any]]
    units: Mapping[str, Unit] | None
    traffic: dict[str, Any]
    work: Mapping[str, dict[str, float | None]] = {}  # by replica, see er.status.work
    machine: dict[str, Any] | None
    probes: Mapping[str, tuple[float, float]] = {}  # the last right one: when, and its ms
    tls: dict[str, Any] | None = None  # of HTTPS, see er.tls.facts; None without it
    state: dict[str, Any] | None = None  # see er.shared_state.verdict; None without [state]
    hosts: tuple[dict[str, Any], ...] = ()  # see er.members.shown; none on a machine alone


def build(facts: Facts) -> dict[str, Any]:
    """The whole answer, in the shape of tests/golden/status.json."""
    models = [
        {
            "name": model.name,
            "task": model.task,
            "via": model.via,
            "aliases": list(model.aliases),
            "fingerprint": _fingerprint(facts, model.name),
            "replicas": [_replica(facts, r) for r in facts.config.replicas_of(model.name)],
        }
        for model in facts.config.models
    ]
    gateway = _gateway(facts)
    status, reason = verdict(models, gateway, facts.state)
    return {
        "version": __version__,
        "time": facts.now,
        "status": status,
        "reason": reason,
        "gateway": gateway,
        "state": facts.state,
        "models": models,
        "gpus": gpus(facts),
        "traffic": {
            **facts.traffic,
            "in_flight": facts.gateway.in_flight,
            "queued": facts.gateway.queued,
        },
        "machine": facts.machine,
        "hosts": list(facts.hosts),
    }


def _gateway(facts: Facts) -> dict[str, Any]:
    unit = (facts.units or {}).get(GATEWAY)
    known = facts.gateway
    if known.workers:
        state, reason = "up", ""
    elif known.unseen and (unit is None or unit.state in ("active", "reloading")):
        state, reason = "unknown", known.unseen
    elif unit is not None and unit.loaded:
        state = {"active": "starting", "activating": "starting", "failed": "failed"}.get(
            unit.state, "stopped"
        )
        cure = (
            "sudo systemctl start er.target" if state == "stopped" else "journalctl -u er-gateway"
        )
        # What a unit that ended said last ("draining") is no reason any more.
        told = "" if state == "stopped" else unit.status_text
        reason = f"{told or 'its unit is ' + unit.state}; {cure}"
    else:
        state, reason = "stopped", "no worker runs; start it: er-gateway"
    return {
        "state": state,
        "since": known.since if known.workers or unit is None else unit.since,
        "reason": reason,
        "workers": known.workers,
        "listen": list(facts.config.gateway.listen),
        "tls": facts.tls,
        "in_flight": known.in_flight,
        "queued": known.queued,
        "max_concurrency": facts.config.gateway.max_concurrency,
        "config_differs": known.config_differs,
        "config": str(facts.config.source),
        "unit": GATEWAY if unit is not None and unit.loaded else None,
        "unit_state": unit.state if unit is not None and unit.loaded else None,
        "status_text": unit.status_text if unit is not None else "",
        "restarts": unit.restarts if unit is not None else None,
        "pid": known.pid or (unit.pid if unit is not None and unit.pid else None),
    }


def _replica(facts: Facts, replica: Replica) -> dict[str, Any]:
    seen = facts.seen.get(replica.name, Seen())
    sample = facts.samples.get(replica.name)
    unit = None if replica.url else (facts.units or {}).get(replica_unit(replica.name))
    if unit is not None and not unit.loaded:
        unit = None
    state, reason, since = replica_state(replica, seen, sample, unit, facts.now)
    pid = (sample or {}).get("pid") if fresh(sample, facts.now) else None
    return {
        "name": replica.name,
        "state": state,
        "since": since,
        "reason": reason,
        "model": replica.model,
        "address": replica.address,
        "gpu": list(replica.gpu),
        "unit": replica_unit(replica.name) if unit is not None else None,
        "unit_state": unit.state if unit is not None else None,
        "status_text": unit.status_text if unit is not None else "",
        "restarts": unit.restarts if unit is not None else None,
        "pid": pid or (unit.pid if unit is not None and unit.pid else None),
        "in_flight_tokens": seen.in_flight_tokens,
        **facts.work.get(replica.name, UNKNOWN),
        **in_engine(sample if fresh(sample, facts.now) else None),
        "last_error": (sample or {}).get("last_error"),
        "drained_by": seen.drained_by,
        "proof": _proof(seen, facts.probes.get(replica.name)),
        "sample": sample if fresh(sample, facts.now) else None,
    }


def _fingerprint(facts: Facts, model: str) -> str | None:
    """What its living launchers say that its answers are of; None where none says it."""
    said = []
    for replica in facts.config.replicas_of(model):
        if replica.host:
            continue
        sample = facts.samples.get(replica.name) or {}
        if replica.url is not None:
            said.append(Fingerprint())
        elif fresh(sample, facts.now) and sample.get("fingerprint"):
            said.append(parsed(sample["fingerprint"]))
    return str(together(said)) if said else None


def _proof(seen: Seen, probe: tuple[float, float] | None) -> dict[str, Any]:
    """What speaks for the replica's numbers: its last right answers, and how many were wrong."""
    at, ms = probe or (None, None)
    return {"answered": seen.answered, "probed": at, "probe_ms": ms, "wrong": seen.wrong}


def replica_state(
    replica: Replica, seen: Seen, sample: dict[str, Any] | None, unit: Unit | None, now: float
) -> tuple[str, str, float | None]:
    """One replica's (state, reason, since), from verdict, launcher's sample and unit together.

    A fresh verdict that it answers wins over everything but a drain; why it does not answer is
    best known to its launcher, then to its unit, then to the prober.
    """
    fresh_verdict = now - seen.checked <= VERDICT_AGE_S
    phase, said, phase_since = _phase(sample, now)
    if seen.drained_by == "operator":
        state = "draining" if seen.in_flight_tokens > 0 else "drained"
        return state, f"drained by the operator; back with: er resume {replica.name}", seen.since
    if seen.drained_by == "host":
        state = "draining" if seen.in_flight_tokens > 0 else "drained"
        return state, "its host has it drained; er hosts", seen.since
    if fresh_verdict and seen.state == "up":
        return "up", "", seen.since
    # Once the engine was ready, what was met since (a wrong number, silence, its end) is the news:
    # the launcher's sample may be a second older.
    if phase == READY and fresh_verdict and seen.state in ("down", "starting"):
        return seen.state, seen.reason, seen.since
    if seen.drained_by and (phase == READY or not phase):
        state = "draining" if seen.in_flight_tokens > 0 else "drained"
        if unit is None or unit.state not in ("failed", "inactive"):
            return state, "its launcher is stopping it", seen.since
    if phase == READY:
        return "up", "its launcher says it answers; the gateway has not looked", phase_since
    if phase in ENDING:
        return "draining", "its launcher is stopping it", phase_since
    if phase:
        state = "waiting" if phase.startswith(WAITING) else "starting"
        return state, _joined(phase, said), phase_since
    if unit is not None and unit.state == "failed":
        text = said or unit.status_text or f"ended with {unit.result}"
        return "failed", f"{text}; journalctl -u {replica_unit(replica.name)}", unit.since
    if unit is not None and unit.state == "inactive":
        cure = f"sudo systemctl start {replica_unit(replica.name)}"
        return "stopped", _joined(f"its unit is not running; {cure}", said), unit.since
    if unit is not None and unit.state in ("activating", "deactivating"):
        return "starting", unit.status_text or unit.state, unit.since
    if fresh_verdict and seen.state in ("starting", "down"):
        return seen.state, _joined(seen.reason, said), seen.since
    if replica.url:
        return "unknown", f"nobody has asked {replica.url} lately", None
    return "stopped", _joined(f"er-vllm {replica.name} is not running", said), None


def _phase(sample: dict[str, Any] | None, now: float) -> tuple[str, str, float | None]:
    """(phase or "" without a living launcher, its last error, since)."""
    if sample is None:
        return "", "", None
    said = str(sample.get("last_error") or "")
    if not fresh(sample, now):
        return "", said, None
    return str(sample.get("phase") or "starting"), said, sample.get("phase_since")


def _joined(text: str, more: str) -> str:
    return f"{text}; last error: {more}" if more and more not in text else text


def fresh(sample: dict[str, Any] | None, now: float) -> bool:
    """Whether a living launcher wrote it; a clock set back does not make it old for ever."""
    return sample is not None and abs(now - float(sample.get("time") or 0.0)) <= SAMPLE_FRESH_S


def gpus(facts: Facts) -> list[dict[str, Any]]:
    """Every GPU that a launcher sees, once, with the replicas on it."""
    found: dict[str, dict[str, Any]] = {}
    for name, sample in sorted(facts.samples.items()):
        if not fresh(sample, facts.now):
            continue
        for gpu in sample.get("gpu") or []:
            row = found.setdefault(str(gpu.get("uuid")), {**gpu, "replicas": []})
            row["replicas"].append(name)
    return sorted(found.values(), key=lambda g: (g.get("index") is None, g.get("index")))


# -- where the facts come from ---------------------------------------------------------------


def seen_in(ledger: Ledger, config: Config) -> dict[str, Seen]:
    """The ledger's rows of the configured replicas."""
    result = {}
    began = time.time() - time.monotonic()
    for name in {r.name for r in config.replicas} & set(ledger.replicas()):
        row = ledger.verdict(name)
        by = row.drained_by
        result[name] = Seen(
            state=row.health,
            since=row.since,
            reason="" if by else row.reason,
            checked=row.checked,
            drained_by=("operator" if "operator" in by else by[0]) if by else None,
            in_flight_tokens=ledger.tokens_in_flight(name),
            answered=began + row.answered / 1e9 if row.answered else None,
            wrong=row.wrong,
        )
    return result


def gateway_in(ledger: Ledger, config: Config) -> GatewayFacts:
    """What the ledger's slots say of the gateway; workers that died without a word don't count."""
    workers = [w for w in ledger.workers() if _is_worker(w.pid)]
    return GatewayFacts(
        workers=len(workers),
        in_flight=sum(w.requests for w in workers),
        queued=sum(w.queued for w in workers),
        config_differs=differs(config),
    )


def _is_worker(pid: int) -> bool:
    try:
        return b"er.worker" in (Path("/proc") / str(pid) / "cmdline").read_bytes()
    except OSError:
        return False


def read_samples(runtime: Path, config: Config) -> dict[str, dict[str, Any]]:
    """The launchers' samples, by replica; one that can't be read is left out."""
    found = {r.name: sample_of(runtime, r.name) for r in config.replicas}
    return {name: sample for name, sample in found.items() if sample is not None}


def sample_of(runtime: Path, name: str) -> dict[str, Any] | None:
    """What the launcher of replica `name` said last, None where that can't be read."""
    try:
        text = small_file.read(runtime / "replicas" / name / "sample.json")
        msgspec.json.decode(text, type=_Sample)
        return dict(orjson.loads(text))
    except (OSError, *DAMAGED, orjson.JSONDecodeError):
        return None


def units_of(config: Config) -> list[str]:
    """The units whose state belongs to the answer."""
    return [GATEWAY, *(replica_unit(r.name) for r in config.replicas if not r.url)]


def differs(config: Config) -> bool:
    """Whether er.toml says other things than `config`, where `config` is the applied one."""
    edited = edited_path()
    if config.source != applied_path() or not os.access(edited, os.R_OK):
        return False
    try:
        other = load(edited)
    except ConfigError:
        return True
    return msgspec.structs.replace(other, source=config.source) != successor.without(config)
