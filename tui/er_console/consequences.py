"""Say what an action will do, and to whom, before it is done. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from er_console.judgement import lasted
from er_console.language import count, noted, say
from er_console.looks import Looks
from er_console.parts import gateway, replica_of, replicas
from er_console.state import GATEWAY_UNIT, TARGET_UNIT, Key, Missing, Replica, Snapshot, Status

TYPED_MAX = 32
# verb: (what stands on the button, the question)
VERBS = {
    "start": (noted("Start"), noted("Start {unit}?")),
    "stop": (noted("Stop"), noted("Stop {unit}?")),
    "restart": (noted("Restart"), noted("Restart {unit}?")),
}
RUNS = ("up", "slow", "degraded", "running", "starting", "drained", "draining")
ALL = {
    "start": noted("Start all of ER (er.target)?"),
    "stop": noted("Stop all of ER (er.target)?"),
    "restart": noted("Restart all of ER (er.target)?"),
}


@dataclass(frozen=True, slots=True)
class Question:
    """A confirmation: title, sentences of consequence, and what must be typed, if anything."""

    title: str
    sentences: tuple[str, ...]
    button: str
    type_this: str = ""

    def shown(self, looks: Looks) -> Question:
        """The same in letters that the terminal has."""
        said = tuple(looks.words(sentence) for sentence in self.sentences)
        return replace(self, title=looks.words(self.title), sentences=said)


def about_unit(verb: str, unit: str, snapshot: Snapshot, now: float) -> Question:
    """The question for start, stop or restart of a unit."""
    if unit == TARGET_UNIT:
        return _about_target(verb, snapshot, now)
    if unit == GATEWAY_UNIT:
        return _about_gateway(verb, snapshot, now)
    name = replica_of(unit)
    found = replicas(snapshot, now)
    replica = next((r for r in found if r.name == name), Replica(name=name, state="unknown"))
    if verb == "start":
        said = say("It loads its model, then takes requests as soon as an answer came back right.")
        return _question(verb, unit, [said])
    sentences = [*_in_flight(replica), *_left(replica, found, snapshot)]
    if verb == "stop":
        sentences.append(say("It stays stopped until it, or er.target, is started again."))
    last = answers(replica) and not _others(replica, found)
    return _question(verb, unit, sentences, name if verb == "stop" and last else "")


def needless(verb: str, unit: str, snapshot: Snapshot, now: float) -> Missing | None:
    """Why a verb would change nothing for a unit, and what to press instead; None if it would.

    er.target may always be asked: it starts what stands still.
    """
    if unit == TARGET_UNIT:
        return None
    if unit == GATEWAY_UNIT:
        state = gateway(snapshot, now).state
        runs = state in RUNS
    else:
        name = replica_of(unit)
        replica = next((r for r in replicas(snapshot, now) if r.name == name), None)
        state = replica.state if replica else "unknown"
        runs = state in RUNS or (replica is not None and replica.unit_state == "active")
    if verb == "start" and runs and state != "stopped":
        why = say("{unit} runs already, so a start changes nothing", unit=unit)
        return Missing("needless", why, say("R restarts it"))
    if verb == "stop" and state == "stopped":
        why = say("{unit} is stopped already", unit=unit)
        return Missing("needless", why, say("s starts it"))
    return None


def _question(verb: str, unit: str, sentences: Sequence[str], typed: str = "") -> Question:
    button, title = VERBS[verb]
    return Question(say(title, unit=unit), tuple(sentences), say(button), typed)


def about_drain(replica: Replica, snapshot: Snapshot, now: float) -> Question:
    """The question for a drain; it holds until an operator takes it back."""
    found = replicas(snapshot, now)
    sentences = [*_in_flight(replica), *_left(replica, found, snapshot)]
    sentences.append(say("It stays out, restarts included, until it is resumed (D again)."))
    last = answers(replica) and not _others(replica, found)
    title = say("Drain {replica}?", replica=replica.name)
    return Question(title, tuple(sentences), say("Drain"), replica.name if last else "")


def about_revoke(key: Key, used_s: float | None) -> Question:
    """The question for a revocation; `used_s` is how long ago the key was last used."""
    name = key.name or key.id
    sentences = [say("Every client that uses it gets 401 from its next request on, for ever.")]
    if used_s is None:
        sentences.append(say("As far as is known it was never used."))
    else:
        sentences.append(say("It was last used {span} ago.", span=lasted(used_s)))
    recent = used_s is not None and used_s < 3600
    # What must be typed has to be typable, on any keyboard and terminal.
    plain = name.isascii() and name == name.strip() and len(name) <= TYPED_MAX
    typed = (name if plain else key.id) if recent else ""
    both = f"{key.name} ({key.id})" if key.name else key.id
    return Question(say("Revoke key {key}?", key=both), tuple(sentences), say("Revoke"), typed)


def answers(replica: Replica) -> bool:
    """True when clients are served by this replica now."""
    return replica.state in ("up", "slow", "running", "unknown")


def _others(replica: Replica, found: Sequence[Replica]) -> list[Replica]:
    return [
        r
        for r in found
        if r.name != replica.name and r.model == replica.model and r.state in ("up", "slow")
    ]


def _in_flight(replica: Replica) -> list[str]:
    if not replica.tokens:
        return []
    tokens = f"{replica.tokens:,.0f}"
    return [
        say("{n} tokens in flight get up to 10 s to finish; the rest is retried.", n=tokens),
    ]


def _dependent(replica: Replica, status: Status | None) -> list[str]:
    if status is None or not replica.model:
        return []
    return [model.name for model in status.models if model.via == replica.model]


def _left(replica: Replica, found: Sequence[Replica], snapshot: Snapshot) -> list[str]:
    """Who serves the model meanwhile."""
    model = replica.model or say("its model")
    if not answers(replica):
        return [say("It answers nobody now, so no client loses anything.")]
    others = _others(replica, found)
    if others:
        return [
            count(
                len(others),
                "{model} stays served by {n} other replica.",
                "{model} stays served by {n} other replicas.",
                model=model,
            )
        ]
    sentences = [
        say(
            "It is the only replica of {model}: clients get 503 until one answers again.",
            model=model,
        )
    ]
    via = _dependent(replica, snapshot.status.value)
    if via:
        models = ", ".join(via)
        sentences.append(say("So do clients of {models}, which uses its vectors.", models=models))
    return sentences


def _about_gateway(verb: str, snapshot: Snapshot, now: float) -> Question:
    front = gateway(snapshot, now)
    if verb == "start":
        said = say("It takes requests as soon as a worker answers.")
        return _question(verb, GATEWAY_UNIT, [said])
    sentences = []
    if front.in_flight:
        sentences.append(
            count(
                front.in_flight,
                "{n} request in flight will be finished first.",
                "{n} requests in flight will be finished first.",
            )
        )
    if verb == "restart":
        said = say("Its sockets stay open: new requests wait a few seconds, nobody is refused.")
        return _question(verb, GATEWAY_UNIT, [*sentences, said])
    said = say(
        "Its sockets stay open, so the next call starts it again; to end service stop er.target."
    )
    typed = "gateway" if front.state == "up" else ""
    return _question(verb, GATEWAY_UNIT, [*sentences, said], typed)


def _about_target(verb: str, snapshot: Snapshot, now: float) -> Question:
    n = len(replicas(snapshot, now))
    parts = say("the gateway")
    if n:
        parts = count(n, "the gateway and {n} replica", "the gateway and {n} replicas")
    title, button = say(ALL[verb]), say(VERBS[verb][0])
    if verb == "start":
        said = say(
            "Starts what stands still or failed of {parts}; what runs is left alone.", parts=parts
        )
        return Question(title, (said,), button)
    said = say(
        "Stops and starts {parts}: every client waits or gets 503 until the models are loaded.",
        parts=parts,
    )
    if verb == "stop":
        said = say(
            "Stops {parts} and closes the port: clients get no connection until it is started.",
            parts=parts,
        )
    return Question(title, (said,), button, "er.target")
