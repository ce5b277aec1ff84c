"""Say what the readings mean: the verdict, what is wrong, what to do, what has changed. Pure.

The rule above all: what is not known is said to be unknown. A verdict made of data older than
three intervals is UNKNOWN, however good the data was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from er_console.parts import fresh_units, gateway, gpus, replicas, target
from er_console.state import GATEWAY_UNIT, Gateway, Replica, Snapshot, Status

EXIT_CODES = {"ok": 0, "degraded": 1, "down": 2, "unknown": 3}
# How badly a replica's state reads; the worst is named in the verdict.
SEVERITY = {
    "failed": 9,
    "down": 8,
    "missing": 7,
    "stopped": 6,
    "stopping": 5,
    "waiting": 5,
    "unknown": 4,
    "drained": 3,
    "draining": 3,
    "restarting": 2,
    "starting": 2,
    "slow": 1,
    "running": 0,
    "up": 0,
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """One word, one sentence, and a brief one for narrow screens.

    `level` is the contract's, `word` also knows STARTING.
    """

    level: str
    word: str
    sentence: str
    brief: str = ""

    @property
    def exit_code(self) -> int:
        """0 ok, 1 degraded, 2 down, 3 unknown."""
        return EXIT_CODES.get(self.level, 3)


@dataclass(frozen=True, slots=True)
class Advice:
    """Something wrong, its evidence, and the one thing to do."""

    what: str
    todo: str
    severe: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """A part that went from one state to another, as this console saw it."""

    time: float
    part: str
    before: str
    after: str
    reason: str


def lasted(seconds: float) -> str:
    """A duration in one short word: 4s, 12m, 3h, 5d."""
    seconds = max(0.0, seconds)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds)}s"


def plural(count: float, one: str, many: str = "") -> str:
    """'1 replica', '2 replicas'."""
    return f"{count:.0f} {one if count == 1 else many or one + 's'}"


def told(replica: Replica, now: float) -> str:
    """'reranker failed: out of GPU memory (4m)'."""
    words = f"{replica.name} {replica.state}"
    if replica.reason:
        words += f": {replica.reason}"
    if replica.since is not None:
        words += f" ({lasted(now - replica.since)})"
    return words


def worst(found: Sequence[Replica]) -> Replica | None:
    """The replica that is worst off, None when all are well."""
    ranked = [r for r in found if SEVERITY.get(r.state, 4) > 0]
    return max(ranked, key=lambda r: SEVERITY.get(r.state, 4), default=None)


def verdict(snapshot: Snapshot, now: float) -> Verdict:
    """The header's line."""
    status = snapshot.status.fresh(now, snapshot.limit_s())
    if status is None:
        return _without_status(snapshot, now)
    front = gateway(snapshot, now)
    if front.state in ("stopped", "failed", "stopping"):
        return Verdict("down", "DOWN", _gateway_sentence(front, now))
    return _with_status(snapshot, status, now)


def _with_status(snapshot: Snapshot, status: Status, now: float) -> Verdict:
    found = replicas(snapshot, now)
    bad = worst(found)
    answering = sum(1 for r in found if r.state in ("up", "slow"))
    one = answering == 1 or len(found) == 1
    count = f"{answering} of {plural(len(found), 'replica')} answer{'s' if one else ''}"
    if not found:
        count = "no replica is configured"
    level = status.level if status.level in EXIT_CODES else "unknown"
    if level == "ok" and bad is not None and SEVERITY.get(bad.state, 4) > 4:
        # systemd knows of a stop a moment before the prober does.
        level = "degraded" if answering else "down"
    elif level == "ok" and found and not answering:
        level = "unknown"  # it says ok, and knows of no replica that answers: not believed
    if level == "ok":
        return Verdict("ok", "OK", count)
    sentence = f"{count} | {told(bad, now)}" if bad else (status.reason or count)
    brief = f"{answering}/{len(found)} | {told(bad, now)}" if bad else sentence
    word = level.upper()
    out = [r for r in found if r.state not in ("up", "slow")]
    if out and all(r.state in ("starting", "restarting") for r in out):
        word = "STARTING"
    return Verdict(level, word, sentence, brief)


def _gateway_sentence(front: Gateway, now: float) -> str:
    since = f" ({lasted(now - front.since)})" if front.since is not None else ""
    reason = f": {front.reason}" if front.reason else ""
    if front.state == "starting":
        return f"the gateway is starting{reason}{since}"
    word = {"failed": "has failed"}.get(front.state, f"is {front.state}")
    return f"no client gets an answer: the gateway {word}{reason}{since}"


def _without_status(snapshot: Snapshot, now: float) -> Verdict:
    """What may be said without a fresh status: down if that is certain, else unknown."""
    front = gateway(snapshot, now)
    if front.state in ("stopped", "failed", "stopping", "down"):
        return Verdict("down", "DOWN", _gateway_sentence(front, now))
    if front.state == "starting":
        return Verdict("down", "STARTING", _gateway_sentence(front, now))
    missing = snapshot.status.missing
    age = snapshot.status.age(now)
    if age is not None:
        why = f": {missing.reason}" if missing else ""
        return Verdict("unknown", "UNKNOWN", f"no word from the gateway for {lasted(age)}{why}")
    if missing is not None:
        return Verdict("unknown", "UNKNOWN", missing.reason)
    return Verdict("unknown", "UNKNOWN", "nothing has been read yet")


def advice(snapshot: Snapshot, now: float) -> list[Advice]:
    """What is wrong and what to do, worst first; empty when there is nothing to say."""
    found: list[Advice] = []
    found += _about_gateway(snapshot, now)
    for replica in replicas(snapshot, now):
        found += _about_replica(replica, now)
    status = snapshot.status.fresh(now, snapshot.limit_s())
    if status is not None:
        found += _about_traffic(status)
    for gpu in gpus(snapshot, now):
        if gpu.throttle:
            found.append(
                Advice(f"GPU {gpu.index} is throttled: {gpu.throttle}", "check its cooling")
            )
        if gpu.temperature is not None and gpu.temperature >= 90:
            found.append(Advice(f"GPU {gpu.index} is at {gpu.temperature:.0f} C", "check cooling"))
    return sorted(found, key=lambda a: not a.severe)


def _about_gateway(snapshot: Snapshot, now: float) -> list[Advice]:
    front = gateway(snapshot, now)
    found: list[Advice] = []
    aim = target(snapshot, now)
    if front.state in ("stopped", "failed"):
        todo = (
            "s on 'all' starts everything" if aim is None or aim.active != "active" else "s on it"
        )
        found.append(Advice(f"the gateway is {front.state}", todo, severe=True))
    elif snapshot.status.missing is not None:
        missing = snapshot.status.missing
        found.append(Advice(f"no gateway figures: {missing.reason}", missing.remedy, severe=True))
    for unit in fresh_units(snapshot, now).values():
        if unit.name.endswith(".socket") and unit.active == "failed":
            what = f"{unit.name} has failed ({unit.result}): its address is taken or not allowed"
            found.insert(
                0, Advice(what, f"journalctl -u {unit.name}, then s on 'all'", severe=True)
            )
    if front.config_differs:
        found.append(Advice("er.toml differs from what runs", "sudo er apply --dry-run"))
    if (
        GATEWAY_UNIT not in fresh_units(snapshot, now)
        and snapshot.units.missing is not None
        and not found
    ):
        missing = snapshot.units.missing
        if missing.kind != "off":
            found.append(Advice(f"no unit states: {missing.reason}", missing.remedy))
    return found


def _about_replica(replica: Replica, now: float) -> list[Advice]:
    if replica.state in ("failed", "down"):
        todo = "R restarts it, l shows its log"
        if not replica.unit:
            todo = f"look where it runs: {replica.address}" if replica.address else ""
        return [Advice(told(replica, now), todo, severe=True)]
    if replica.state == "missing":
        return [Advice(told(replica, now), "sudo er apply", severe=True)]
    if replica.state == "stopped":
        return [Advice(told(replica, now), "s starts it")]
    if replica.state == "drained" and replica.drained_by == "operator":
        return [Advice(f"{replica.name} is drained by an operator", "D takes it back")]
    if replica.state == "waiting":
        return [Advice(told(replica, now), "it goes on by itself when that is there")]
    last = replica.sample.last_error if replica.sample else ""
    if replica.state == "starting" and last:
        restarts = replica.restarts or 0
        tries = f" (restart {restarts})" if restarts else ""
        return [Advice(f"{replica.name} starts again{tries}; last time: {last}", "l shows its log")]
    return []


def _about_traffic(status: Status) -> list[Advice]:
    found: list[Advice] = []
    traffic, front = status.traffic, status.gateway
    rate, window = traffic.success_rate, traffic.window_s or 60
    if rate is not None and rate < 0.99:
        found.append(
            Advice(f"{100 * (1 - rate):.1f} % of requests fail", "5 shows the log", rate < 0.9)
        )
    full = front.max_concurrency
    if full and front.in_flight is not None and front.in_flight >= 0.9 * full:
        words = f"{front.in_flight:.0f} of {full:.0f} requests in flight: soon 503 overloaded"
        found.append(Advice(words, "add a replica, or raise max_concurrency"))
    limited = traffic.refusals.get("rate_limit_exceeded", 0)
    served = (traffic.requests_per_s or 0) * window
    if limited and limited >= 0.05 * max(served, 1):
        words = f"{plural(limited, 'request')} over a key's rate limit in {window:.0f} s"
        found.append(Advice(words, "er keys set raises it"))
    return found


def changes(before: Snapshot, after: Snapshot, now: float, then: float = 0.0) -> list[Change]:
    """The parts whose state differs; the snapshot before is judged at `then` (0: at `now`).

    What a reading's age alone has changed is a change too.
    """
    then = then or now
    old = {r.name: r for r in replicas(before, then)}
    found = []
    for replica in replicas(after, now):
        earlier = old.get(replica.name)
        if earlier is not None and earlier.state != replica.state:
            reason = replica.reason
            found.append(Change(now, replica.name, earlier.state, replica.state, reason))
    first, second = gateway(before, then), gateway(after, now)
    known = bool(before.status.at or before.units.at)
    if known and first.state != second.state:
        found.append(Change(now, "gateway", first.state, second.state, second.reason))
    return found
