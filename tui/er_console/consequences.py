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
# What clients of a model get whose only replica goes.
ALONE = {
    "stop": noted("It is the only replica of {model}: clients get 503 until one is started."),
    "restart": noted("It is the only replica of {model}: clients get 503 until it answers again."),
    "drain": noted("It is the only replica of {model}: clients get 503 until it is resumed."),
}
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
        return _question(verb, unit, [said, *_how_long(replica, found)])
    sentences = [*_in_flight(verb, replica), *_left(verb, replica, found, snapshot)]
    if verb == "restart":
        sentences += _how_long(replica, found)
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
    sentences = [*_in_flight("drain", replica), *_left("drain", replica, found, snapshot)]
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


def _in_flight(verb: str, replica: Replica) -> list[str]:
    """What becomes of the work that is there: a drain waits for it, a stop for a while."""
    if not replica.tokens:
        return []
    tokens = f"{replica.tokens:,.0f}"
    if verb == "drain":
        return [say("{n} tokens in flight there will finish.", n=tokens)]
    return [
        say("{n} tokens in flight get up to 10 s to finish; the rest is retried.", n=tokens),
    ]


def _load_s(replica: Replica, found: Sequence[Replica]) -> float | None:
    """How long its last start took, or another's of its model; None where nobody knows."""
    own = [replica, *(r for r in found if r.model == replica.model)]
    return next((r.sample.load_s for r in own if r.sample and r.sample.load_s), None)


def _how_long(replica: Replica, found: Sequence[Replica]) -> list[str]:
    seconds = _load_s(replica, found)
    if seconds is None:
        return []
    return [say("Its last start took {span}.", span=lasted(seconds))]


def _left(verb: str, replica: Replica, found: Sequence[Replica], snapshot: Snapshot) -> list[str]:
    """Who serves the model meanwhile; who is hit, by which names, when nobody does."""
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
    return [say(ALONE[verb], model=model), *_who_else(replica, snapshot.status.value)]


def _who_else(replica: Replica, status: Status | None) -> list[str]:
    """The model's other names, the models that use it, and how many requests are in flight."""
    if status is None or not replica.model:
        return []
    sentences = []
    aliases = [alias for m in status.models if m.name == replica.model for alias in m.aliases]
    if aliases:
        sentences.append(say("Its clients also call it {names}.", names=", ".join(aliases)))
    via = [model.name for model in status.models if model.via == replica.model]
    if via:
        models = ", ".join(via)
        sentences.append(say("So do clients of {models}, which uses its vectors.", models=models))
    if status.gateway.in_flight:
        sentences.append(
            count(
                status.gateway.in_flight,
                "{n} request is in flight in the gateway, of all models together.",
                "{n} requests are in flight in the gateway, of all models together.",
            )
        )
    return sentences


def _about_gateway(verb: str, snapshot: Snapshot, now: float) -> Question:
    front = gateway(snapshot, now)
    if verb == "start":
        said = say("It takes requests as soon as a worker answers.")
        return _question(verb, GATEWAY_UNIT, [said])
    sentences = _requests(snapshot)
    if verb == "restart":
        said = say("Its sockets stay open: new requests wait a few seconds, nobody is refused.")
        return _question(verb, GATEWAY_UNIT, [*sentences, said])
    said = say(
        "Its sockets stay open, so the next call starts it again; to end service stop er.target."
    )
    typed = "gateway" if front.state == "up" else ""
    return _question(verb, GATEWAY_UNIT, [*sentences, said], typed)


def _about_target(verb: str, snapshot: Snapshot, now: float) -> Question:
    found = replicas(snapshot, now)
    n = len(found)
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
    longest = max((r.sample.load_s or 0.0 for r in found if r.sample), default=0.0)
    more = []
    if verb == "restart" and longest:
        more = [say("The longest of their last starts took {span}.", span=lasted(longest))]
    if verb == "stop":
        said = say(
            "Stops {parts} and closes the port: clients get no connection until it is started.",
            parts=parts,
        )
    status = snapshot.status.value
    if status is not None and status.gateway.in_flight and found:
        # The engines end beside the gateway, and wait no longer than that.
        ends = count(
            status.gateway.in_flight,
            "{n} request in flight gets up to 10 s to finish.",
            "{n} requests in flight get up to 10 s to finish.",
        )
        more.insert(0, ends)
    sentences = [said, *more]
    return Question(title, tuple(sentences), button, "er.target")


def _requests(snapshot: Snapshot) -> list[str]:
    """How many requests will be finished before the gateway ends."""
    status = snapshot.status.value
    if status is None or not status.gateway.in_flight:
        return []
    return [
        count(
            status.gateway.in_flight,
            "{n} request in flight will be finished first.",
            "{n} requests in flight will be finished first.",
        )
    ]
