"""What is wrong, by which evidence, and the one thing to do about it; silent otherwise. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from er_console.judgement import ANSWERING, Advice, because, last_error, told
from er_console.language import count, heard, say
from er_console.parts import fresh_units, gateway, gpus, replicas, target
from er_console.state import GATEWAY_UNIT, Gpu, Replica, Snapshot, Status

FULL, IDLE = 90.0, 50.0  # percent of the time in which the GPU was busy
CROWD = 8  # so many sequences wait before that says anything
QUEUE = 64  # and in the gateway
ODD, ODD_MS = 1.5, 5.0  # times the median of its model, and by so much at least
LOOP, LOOP_S = 3, 600.0  # so often restarted, and not up for so long


def advice(snapshot: Snapshot, now: float) -> list[Advice]:
    """What is wrong and what to do, worst first; empty when there is nothing to say."""
    found: list[Advice] = []
    found += _about_gateway(snapshot, now)
    parts, cards = replicas(snapshot, now), gpus(snapshot, now)
    for replica in parts:
        found += _about_replica(replica, now)
    status = snapshot.status.fresh(now, snapshot.limit_s())
    if status is not None:
        found += _about_traffic(status) + _about_shared(status, now)
        if not parts:
            todo = say("name models and replicas in er.toml (er help configuration), sudo er apply")
            found.append(Advice(say("no replica is configured"), todo))
        for replica in parts:
            if replica.state in ANSWERING:
                found += _about_load(replica, cards) + _about_pace(replica, parts)
        found += _about_queue(status, parts, cards)
    for gpu in cards:
        found += _about_gpu(gpu)
    found += _about_lost(snapshot, parts, now)
    return sorted(found, key=lambda a: not a.severe)


def _about_shared(status: Status, now: float) -> list[Advice]:
    """This host goes on without what hosts share, or with other keys than they have."""
    shared = status.shared
    if shared is None:
        return []
    if shared.state == "away":
        what = because(heard(shared.reason), "", shared.since, now)
        todo = say("traffic goes on with the last known keys and limits; er check says more")
        return [Advice(what, todo)]
    what, _, todo = shared.keys_reason.partition("; ")
    return [Advice(heard(what), heard(todo) or say("er check says more"))] if what else []


def _cards_of(replica: Replica, cards: Sequence[Gpu]) -> list[Gpu]:
    return [gpu for gpu in cards if replica.name in gpu.replicas and gpu.utilization is not None]


def _about_load(replica: Replica, cards: Sequence[Gpu]) -> list[Advice]:
    """More waits in the engine than it works on: as many parts of the time are waiting (Little)."""
    sample = replica.sample
    if sample is None or sample.waiting is None or sample.running is None:
        return []
    whole = sample.waiting + sample.running
    if sample.waiting < CROWD or sample.waiting <= whole / 2:
        return []
    own = _cards_of(replica, cards)
    if not own:
        return []
    waits, busy = f"{100 * sample.waiting / whole:.0f}", min(g.utilization or 0.0 for g in own)
    if busy > FULL:
        what = say(
            "{replica} is full: {share} % of the time in it is waiting, its GPU is {busy} % busy",
            replica=replica.name,
            share=waits,
            busy=f"{busy:.0f}",
        )
        return [Advice(what, say("add a replica of this model"))]
    if busy < IDLE:
        what = say(
            "{replica} starves its GPU: {share} % of the time in it is waiting, "
            "the GPU is {busy} % busy",
            replica=replica.name,
            share=waits,
            busy=f"{busy:.0f}",
        )
        return [Advice(what, say("its engine's front end is the narrow place: add a replica"))]
    return []


def _about_queue(status: Status, parts: Sequence[Replica], cards: Sequence[Gpu]) -> list[Advice]:
    """Much waits in the gateway, and no GPU is busy."""
    queued = status.gateway.queued if status.gateway.queued is not None else status.traffic.queued
    up = [r for r in parts if r.state in ANSWERING]
    own = {gpu.uuid: gpu.utilization or 0.0 for r in up for gpu in _cards_of(r, cards)}
    if queued is None or queued < QUEUE or not own or max(own.values()) >= IDLE:
        return []
    what = say(
        "{n} sequences wait in the gateway, and no GPU is more than {busy} % busy",
        n=f"{queued:.0f}",
        busy=f"{max(own.values()):.0f}",
    )
    return [Advice(what, say("more workers in [gateway], or fewer, larger requests"))]


def _about_pace(replica: Replica, parts: Sequence[Replica]) -> list[Advice]:
    """One that is slower than the others of its model."""
    own = [r.p95_ms for r in parts if r.model == replica.model and r.p95_ms is not None]
    if replica.p95_ms is None or len(own) < 2:
        return []
    usual = median(own)
    if replica.p95_ms <= ODD * usual or replica.p95_ms - usual < ODD_MS:
        return []
    what = say(
        "{replica} is slow: p95 {own} ms, the median of its model is {usual} ms",
        replica=replica.name,
        own=f"{replica.p95_ms:.0f}",
        usual=f"{usual:.0f}",
    )
    return [Advice(what, say("look at its GPU and its log (l); R restarts it"))]


def _about_gpu(gpu: Gpu) -> list[Advice]:
    which = "?" if gpu.index is None else gpu.index
    found: list[Advice] = []
    if gpu.lost:
        what = say("GPU {gpu} is lost: its driver can't reach it", gpu=which)
        found.append(Advice(what, say("dmesg shows why; restart the machine"), severe=True))
    if gpu.ecc_errors:
        what = count(
            gpu.ecc_errors,
            "GPU {gpu} has {n} memory error that could not be corrected",
            "GPU {gpu} has {n} memory errors that could not be corrected",
            gpu=which,
        )
        todo = say("drain what runs on it (D); nvidia-smi -q -d ECC")
        found.append(Advice(what, todo, severe=True))
    # At its power limit a card is at work, not sick.
    if gpu.throttle and gpu.throttle != say("power cap"):
        what = say("GPU {gpu} is throttled: {why}", gpu=which, why=heard(gpu.throttle))
        found.append(Advice(what, say("check its cooling and its power limit")))
    if gpu.temperature is not None and gpu.temperature >= 90:
        degrees = f"{gpu.temperature:.0f}"
        what = say("GPU {gpu} is at {degrees} C", gpu=which, degrees=degrees)
        found.append(Advice(what, say("check its cooling")))
    if gpu.others:
        what = say("GPU {gpu} is used by others too: {who}", gpu=which, who=", ".join(gpu.others))
        found.append(Advice(what, say("end them, or give the replica another GPU")))
    return found


def _about_lost(snapshot: Snapshot, parts: Sequence[Replica], now: float) -> list[Advice]:
    """A GPU that er.toml names, and the driver does not list (any more)."""
    there = snapshot.gpus.fresh(now, 2 * snapshot.limit_s())
    if not there:
        return []
    known = {str(gpu.index) for gpu in there} | {gpu.uuid for gpu in there}
    found: list[Advice] = []
    for replica in parts:
        gone = [gpu for gpu in replica.gpus if gpu.isdigit() and gpu not in known]
        if gone:
            what = say(
                "{replica} wants GPU {gpu}, and the driver lists none of that number",
                replica=replica.name,
                gpu=", ".join(gone),
            )
            found.append(Advice(what, say("nvidia-smi; dmesg shows whether it was lost"), True))
    return found


def _about_gateway(snapshot: Snapshot, now: float) -> list[Advice]:
    front = gateway(snapshot, now)
    found: list[Advice] = []
    aim = target(snapshot, now)
    missing = snapshot.status.missing
    if front.state in ("stopped", "failed"):
        whole = aim is None or aim.active != "active"
        todo = say("s on 'all' starts everything") if whole else say("s on it starts it")
        what = say("the gateway is {state}", state=say(front.state))
        found.append(Advice(what, todo, severe=True))
    elif missing is not None:
        what = say("no gateway figures: {reason}", reason=heard(missing.reason))
        found.append(Advice(what, heard(missing.remedy), severe=True))
    for unit in fresh_units(snapshot, now).values():
        if unit.name.endswith(".socket") and unit.active == "failed":
            what = say(
                "{unit} has failed ({result}): its address is taken or not allowed",
                unit=unit.name,
                result=unit.result,
            )
            todo = say("journalctl -u {unit}, then s on 'all'", unit=unit.name)
            found.insert(0, Advice(what, todo, severe=True))
    if front.config_differs:
        found.append(Advice(say("er.toml differs from what runs"), "sudo er apply --dry-run"))
    blind = snapshot.units.missing
    unseen = GATEWAY_UNIT not in fresh_units(snapshot, now)
    if unseen and blind is not None and blind.kind != "off" and not found:
        what = say("no unit states: {reason}", reason=heard(blind.reason))
        found.append(Advice(what, heard(blind.remedy)))
    return found


def _about_replica(replica: Replica, now: float) -> list[Advice]:
    if _in_loop(replica, now):
        last = heard(last_error(replica))
        n = replica.restarts or 0
        what = say("{replica} was restarted {n} times", replica=replica.name, n=n)
        if last:
            what = say(
                "{replica} was restarted {n} times; last time: {reason}",
                replica=replica.name,
                n=n,
                reason=last,
            )
        if replica.state in ANSWERING:
            return [Advice(what, say("it answers now; l shows its log"))]
        return [Advice(what, say("l shows its log; S stops it until that is mended"), severe=True)]
    if replica.state in ("failed", "down"):
        todo = say("w goes to it; there R restarts it, l shows its log")
        if not replica.unit:
            where = replica.address
            todo = say("look where it runs: {address}", address=where) if where else ""
        return [Advice(told(replica, now), todo, severe=True)]
    if replica.state == "missing":
        return [Advice(told(replica, now), "sudo er apply", severe=True)]
    if replica.state == "stopped":
        return [Advice(told(replica, now), say("s starts it"))]
    if replica.state == "drained" and replica.drained_by == "operator":
        what = say("{replica} is drained by an operator", replica=replica.name)
        return [Advice(what, say("D takes it back"))]
    if replica.state == "waiting":
        return [Advice(told(replica, now), say("it goes on by itself when that is there"))]
    last = heard(last_error(replica))
    if replica.state == "starting" and last:
        what = say("{replica} starts again; last time: {reason}", replica=replica.name, reason=last)
        if replica.restarts:
            what = say(
                "{replica} starts again (restart {n}); last time: {reason}",
                replica=replica.name,
                n=replica.restarts,
                reason=last,
            )
        return [Advice(what, say("l shows its log"))]
    return []


def _in_loop(replica: Replica, now: float) -> bool:
    """Restarted again and again, and not well for long enough since."""
    if (replica.restarts or 0) < LOOP or replica.state in ("stopped", "stopping", "drained"):
        return False
    if replica.state not in ANSWERING:
        return True
    return replica.since is not None and now - replica.since < LOOP_S


def _about_traffic(status: Status) -> list[Advice]:
    found: list[Advice] = []
    traffic, front = status.traffic, status.gateway
    rate, window = traffic.success_rate, traffic.window_s or 60
    if rate is not None and rate < 0.99:
        what = say("{share} % of requests are refused or fail", share=f"{100 * (1 - rate):.1f}")
        found.append(Advice(what, say("3, then b, shows which and why"), rate < 0.9))
    full = front.max_concurrency
    if full and front.in_flight is not None and front.in_flight >= 0.9 * full:
        what = say(
            "{n} of {most} requests in flight: soon 503 overloaded",
            n=f"{front.in_flight:.0f}",
            most=f"{full:.0f}",
        )
        found.append(Advice(what, say("add a replica, or raise max_concurrency")))
    limited = traffic.refusals.get("rate_limit_exceeded", 0)
    served = (traffic.requests_per_s or 0) * window
    if limited and limited >= 0.05 * max(served, 1):
        what = count(
            limited,
            "{n} request over a key's rate limit in {window} s",
            "{n} requests over a key's rate limit in {window} s",
            window=f"{window:.0f}",
        )
        found.append(Advice(what, say("er keys set raises it")))
    return found
