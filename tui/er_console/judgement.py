"""Say what the readings mean: the verdict, and what has changed. Pure.

The rule above all: what is not known is said to be unknown. A verdict made of data older than
three intervals is UNKNOWN, however good the data was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from er_console.language import count, heard, noted, say
from er_console.looks import width_of
from er_console.parts import gateway, replicas
from er_console.state import Gateway, Replica, Snapshot, Status

EXIT_CODES = {"ok": 0, "degraded": 1, "down": 2, "unknown": 3}
# The verdict in one word; STARTING is DEGRADED or DOWN that ends by itself.
WORDS = {
    "ok": noted("OK"),
    "starting": noted("STARTING"),
    "degraded": noted("DEGRADED"),
    "down": noted("DOWN"),
    "unknown": noted("UNKNOWN"),
}
TELLING = 8  # cells; a shorter head of a cause ("GPU 1: …") says nothing alone
ANSWERING = ("up", "slow")
# How often, by the number's last digit.
TIMES = (noted("{n}th time"), noted("{n}st time"), noted("{n}nd time"), noted("{n}rd time"))
# How many answer, by their models' task; one and more of them.
TASKS = {
    "embed": (
        noted("{up} of {n} embedding replica answering"),
        noted("{up} of {n} embedding replicas answering"),
    ),
    "score": (
        noted("{up} of {n} reranker replica answering"),
        noted("{up} of {n} reranker replicas answering"),
    ),
    "": (
        noted("{up} of {n} replica of {model} answering"),
        noted("{up} of {n} replicas of {model} answering"),
    ),
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
    """One word, one sentence, and shorter ones for narrower screens, the longest first.

    `level` is the contract's, `word` also knows STARTING.
    """

    level: str
    word: str
    sentence: str
    shorter: tuple[str, ...] = ()

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


def told(replica: Replica, now: float) -> str:
    """'reranker failed: out of GPU memory (4m)'."""
    words = say("{part} {state}", part=replica.name, state=say(replica.state))
    return because(words, replica.reason, replica.since, now)


def because(said: str, reason: str, since: float | None = None, now: float = 0.0) -> str:
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


def tries(replica: Replica) -> int:
    """Which start of its engine this is, counted from 1 since somebody started its unit."""
    attempt = replica.sample.attempt if replica.sample else None
    return max(attempt or 1, (replica.restarts or 0) + 1)


def last_error(replica: Replica) -> str:
    """What its launcher met last, "" when nothing is known."""
    return replica.last_error or (replica.sample.last_error if replica.sample else "")


def plight(replica: Replica) -> tuple[str, str]:
    """(state in one word, the cause without its cure) of a replica that is not well."""
    again = replica.state == "starting" and tries(replica) > 1
    said = last_error(replica) if again else replica.reason
    return "restarting" if again else replica.state, heard(said.split("; ")[0])


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
    answering = sum(1 for r in found if r.state in ANSWERING)
    level = status.level if status.level in EXIT_CODES else "unknown"
    if level == "ok" and bad is not None and SEVERITY.get(bad.state, 4) > 4:
        # systemd knows of a stop a moment before the prober does.
        level = "degraded" if answering else "down"
    elif level == "ok" and found and not answering:
        level = "unknown"  # it says ok, and knows of no replica that answers: not believed
    if level == "ok":
        return Verdict("ok", WORDS["ok"], _answering(found, status))
    word = WORDS[level]
    out = [r for r in found if r.state not in ANSWERING]
    if out and all(r.state in ("starting", "restarting") for r in out):
        word = WORDS["starting"]
    if bad is None:
        return Verdict(level, word, heard(status.reason) or _answering(found, status))
    group = _worst_group(found)
    return Verdict(level, word, *_sentences(group, len(out), status, now))


def _worst_group(found: Sequence[Replica]) -> list[Replica]:
    """The replicas of the model that is worst off: the smallest part of them answers."""

    def plights(model: str) -> tuple[float, int]:
        own = [r for r in found if r.model == model]
        part = sum(1 for r in own if r.state in ANSWERING) / len(own)
        return -part, max(SEVERITY.get(r.state, 4) for r in own)

    model = max((r.model for r in found), key=plights)
    return [r for r in found if r.model == model]


def _sentences(
    group: Sequence[Replica], out: int, status: Status, now: float
) -> tuple[str, tuple[str, ...]]:
    """The whole sentence about the worst replica of a group, and its shorter forms."""
    bad = worst(group) or group[0]
    state, cause = plight(bad)
    short = _shortened(cause)
    answering, up = _answering(group, status), sum(1 for r in group if r.state in ANSWERING)
    whole, shorter = (_told_at_length(bad, state, why, out, now) for why in (cause, short))
    brief = say("{part} {state}", part=bad.name, state=say(state))
    return say("{count}; {worst}", count=answering, worst=whole), (
        say("{count}; {worst}", count=answering, worst=shorter),
        say("{count}; {worst}", count=f"{up}/{len(group)}", worst=shorter),
        because(brief, short, bad.since, now),
        because(brief, short),
    )


def _told_at_length(bad: Replica, state: str, cause: str, out: int, now: float) -> str:
    """The unit, its state, why, how often, for how long, and how many others are out."""
    unit = bad.unit.removesuffix(".service") or bad.name
    clauses = [say("{part} {state}", part=unit, state=say(state)), cause]
    n = tries(bad)
    if n > 1 and bad.state in ("starting", "restarting", "failed", "down"):
        clauses.append(_nth(n))
    said = because(say(", ").join(clause for clause in clauses if clause), "", bad.since, now)
    if out > 1:
        said = count(out - 1, "{said}; {n} more out", "{said}; {n} more out", said=said)
    return said


def _shortened(cause: str) -> str:
    """A cause without its particulars: "not enough GPU memory: 6.0 GiB wanted, …"."""
    head = cause.replace("：", ": ").split(": ")[0]
    return head if width_of(head) >= TELLING else cause


def _nth(n: int) -> str:
    ending = 0 if n % 100 in (11, 12, 13) or n % 10 > 3 else n % 10
    return say(TIMES[ending], n=n)


def _answering(group: Sequence[Replica], status: Status) -> str:
    """How many answer of all replicas, or of those of one model, named by its task if it can be."""
    n, up = len(group), sum(1 for r in group if r.state in ANSWERING)
    if not n:
        return say("no replica is configured")
    own = {m.name: m.task for m in status.models if m.replicas and not m.via}
    model = group[0].model
    if len(own) < 2 or any(r.model != model for r in group):
        return count(n, "{up} of {n} replica answering", "{up} of {n} replicas answering", up=up)
    task = own.get(model, "")
    one, more = TASKS.get(task, TASKS[""])
    if list(own.values()).count(task) > 1:
        one, more = TASKS[""]
    return count(n, one, more, up=up, model=model)


def _gateway_sentence(front: Gateway, now: float) -> str:
    said = say("no client gets an answer: the gateway is {state}", state=say(front.state))
    if front.state == "starting":
        said = say("the gateway is starting")
    elif front.state == "failed":
        said = say("no client gets an answer: the gateway has failed")
    return because(said, front.reason, front.since, now)


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
        return Verdict("unknown", WORDS["unknown"], because(said, why))
    if missing is not None:
        return Verdict("unknown", WORDS["unknown"], heard(missing.reason))
    return Verdict("unknown", WORDS["unknown"], say("nothing has been read yet"))


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
