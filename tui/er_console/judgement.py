"""Say what the readings mean: the verdict, what is wrong, what to do, what has changed. Pure.

The rule above all: what is not known is said to be unknown. A verdict made of data older than
three intervals is UNKNOWN, however good the data was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from er_console.language import count, heard, noted, say
from er_console.parts import fresh_units, gateway, gpus, replicas, target
from er_console.state import GATEWAY_UNIT, Gateway, Replica, Snapshot, Status

EXIT_CODES = {"ok": 0, "degraded": 1, "down": 2, "unknown": 3}
# The verdict in one word; STARTING is DEGRADED or DOWN that ends by itself.
WORDS = {
    "ok": noted("OK"),
    "starting": noted("STARTING"),
    "degraded": noted("DEGRADED"),
    "down": noted("DOWN"),
    "unknown": noted("UNKNOWN"),
}
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
    if seconds >= 86400:
        return say("{n}d", n=int(seconds // 86400))
    if seconds >= 3600:
        return say("{n}h", n=int(seconds // 3600))
    if seconds >= 60:
        return say("{n}m", n=int(seconds // 60))
    return say("{n}s", n=int(seconds))


def plural(count: float, one: str, many: str = "") -> str:
    """'1 replica', '2 replicas'."""
    return f"{count:.0f} {one if count == 1 else many or one + 's'}"


def told(replica: Replica, now: float) -> str:
    """'reranker failed: out of GPU memory (4m)'."""
    words = say("{part} {state}", part=replica.name, state=say(replica.state))
    return _because(words, replica.reason, replica.since, now)


def _because(said: str, reason: str, since: float | None, now: float) -> str:
    """What is so, with its reason and how long it has been so, as far as they are known."""
    if reason:
        said = say("{said}: {reason}", said=said, reason=heard(reason))
    if since is not None:
        said = say("{said} ({span})", said=said, span=lasted(now - since))
    return said


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
        return Verdict("down", WORDS["down"], _gateway_sentence(front, now))
    return _with_status(snapshot, status, now)


def _with_status(snapshot: Snapshot, status: Status, now: float) -> Verdict:
    found = replicas(snapshot, now)
    bad = worst(found)
    answering = sum(1 for r in found if r.state in ("up", "slow"))
    whole = _answering(answering, len(found))
    level = status.level if status.level in EXIT_CODES else "unknown"
    if level == "ok" and bad is not None and SEVERITY.get(bad.state, 4) > 4:
        # systemd knows of a stop a moment before the prober does.
        level = "degraded" if answering else "down"
    elif level == "ok" and found and not answering:
        level = "unknown"  # it says ok, and knows of no replica that answers: not believed
    if level == "ok":
        return Verdict("ok", WORDS["ok"], whole)
    sentence = brief = heard(status.reason) or whole
    if bad:
        sentence = say("{count}; {worst}", count=whole, worst=told(bad, now))
        brief = told(bad, now)
    word = WORDS[level]
    out = [r for r in found if r.state not in ("up", "slow")]
    if out and all(r.state in ("starting", "restarting") for r in out):
        word = WORDS["starting"]
    return Verdict(level, word, sentence, brief)


def _answering(up: int, n: int) -> str:
    if not n:
        return say("no replica is configured")
    return count(n, "{up} of {n} replica answering", "{up} of {n} replicas answering", up=up)


def _gateway_sentence(front: Gateway, now: float) -> str:
    said = say("no client gets an answer: the gateway is {state}", state=say(front.state))
    if front.state == "starting":
        said = say("the gateway is starting")
    elif front.state == "failed":
        said = say("no client gets an answer: the gateway has failed")
    return _because(said, front.reason, front.since, now)


def _without_status(snapshot: Snapshot, now: float) -> Verdict:
    """What may be said without a fresh status: down if that is certain, else unknown."""
    front = gateway(snapshot, now)
    if front.state in ("stopped", "failed", "stopping", "down"):
        return Verdict("down", WORDS["down"], _gateway_sentence(front, now))
    if front.state == "starting":
        return Verdict("down", WORDS["starting"], _gateway_sentence(front, now))
    missing = snapshot.status.missing
    age = snapshot.status.age(now)
    if age is not None:
        said = say("no word from the gateway for {span}", span=lasted(age))
        why = missing.reason if missing else ""
        return Verdict("unknown", WORDS["unknown"], _because(said, why, None, now))
    if missing is not None:
        return Verdict("unknown", WORDS["unknown"], heard(missing.reason))
    return Verdict("unknown", WORDS["unknown"], say("nothing has been read yet"))


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
        which = "?" if gpu.index is None else gpu.index
        if gpu.throttle:
            what = say("GPU {gpu} is throttled: {why}", gpu=which, why=heard(gpu.throttle))
            found.append(Advice(what, say("check its cooling and its power limit")))
        if gpu.temperature is not None and gpu.temperature >= 90:
            degrees = f"{gpu.temperature:.0f}"
            what = say("GPU {gpu} is at {degrees} C", gpu=which, degrees=degrees)
            found.append(Advice(what, say("check its cooling")))
    return sorted(found, key=lambda a: not a.severe)


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
    if replica.state in ("failed", "down"):
        todo = say("R restarts it, l shows its log")
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
    last = heard(replica.sample.last_error) if replica.sample else ""
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


def _about_traffic(status: Status) -> list[Advice]:
    found: list[Advice] = []
    traffic, front = status.traffic, status.gateway
    rate, window = traffic.success_rate, traffic.window_s or 60
    if rate is not None and rate < 0.99:
        what = say("{share} % of requests fail", share=f"{100 * (1 - rate):.1f}")
        found.append(Advice(what, say("5 shows the log"), rate < 0.9))
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
