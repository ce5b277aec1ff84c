"""Say what an action will do, and to whom, before it is done. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from er_console.judgement import lasted, plural
from er_console.looks import Looks
from er_console.parts import gateway, replica_of, replicas
from er_console.state import GATEWAY_UNIT, TARGET_UNIT, Key, Replica, Snapshot, Status

TYPED_MAX = 32
VERBS = {"start": "Start", "stop": "Stop", "restart": "Restart"}


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
        said = "It loads its model, then takes requests as soon as an answer came back right."
        if replica.state in ("up", "slow", "running", "starting", "drained", "draining"):
            said = "It runs already: nothing changes."
        return Question(f"Start {unit}?", (said,), "Start")
    sentences = [*_in_flight(replica), *_left(replica, found, snapshot)]
    if verb == "stop":
        sentences.append("It stays stopped until it, or er.target, is started again.")
    last = answers(replica) and not _others(replica, found)
    typed = name if verb == "stop" and last else ""
    return Question(f"{VERBS[verb]} {unit}?", tuple(sentences), VERBS[verb], typed)


def about_drain(replica: Replica, snapshot: Snapshot, now: float) -> Question:
    """The question for a drain; it holds until an operator takes it back."""
    found = replicas(snapshot, now)
    sentences = [*_in_flight(replica), *_left(replica, found, snapshot)]
    sentences.append("It stays out, restarts included, until it is resumed (D again).")
    last = answers(replica) and not _others(replica, found)
    return Question(
        f"Drain {replica.name}?", tuple(sentences), "Drain", replica.name if last else ""
    )


def about_revoke(key: Key, used_s: float | None) -> Question:
    """The question for a revocation; `used_s` is how long ago the key was last used."""
    name = key.name or key.id
    sentences = ["Every client that uses it gets 401 from its next request on, for ever."]
    if used_s is None:
        sentences.append("As far as is known it was never used.")
    else:
        sentences.append(f"It was last used {lasted(used_s)} ago.")
    recent = used_s is not None and used_s < 3600
    # What must be typed has to be typable, on any keyboard and terminal.
    plain = name.isascii() and name == name.strip() and len(name) <= TYPED_MAX
    typed = (name if plain else key.id) if recent else ""
    both = f"{key.name} ({key.id})" if key.name else key.id
    return Question(f"Revoke key {both}?", tuple(sentences), "Revoke", typed)


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
    return [
        f"{replica.tokens:,.0f} tokens in flight get up to 10 s to finish; the rest is retried."
    ]


def _dependent(replica: Replica, status: Status | None) -> list[str]:
    if status is None or not replica.model:
        return []
    return [model.name for model in status.models if model.via == replica.model]


def _left(replica: Replica, found: Sequence[Replica], snapshot: Snapshot) -> list[str]:
    """Who serves the model meanwhile."""
    model = replica.model or "its model"
    if not answers(replica):
        return ["It answers nobody now, so no client loses anything."]
    others = _others(replica, found)
    if others:
        return [f"{model} stays served by {plural(len(others), 'other replica')}."]
    sentences = [f"It is the only replica of {model}: clients get 503 until one answers again."]
    via = _dependent(replica, snapshot.status.value)
    if via:
        sentences.append(f"So do clients of {', '.join(via)}, which uses its vectors.")
    return sentences


def _about_gateway(verb: str, snapshot: Snapshot, now: float) -> Question:
    front = gateway(snapshot, now)
    in_flight = f"{plural(front.in_flight, 'request')} in flight" if front.in_flight else ""
    title = f"{VERBS[verb]} {GATEWAY_UNIT}?"
    if verb == "start":
        said = "It takes requests as soon as a worker answers."
        if front.state in ("up", "degraded", "running", "starting"):
            said = "It runs already: nothing changes."
        return Question(title, (said,), "Start")
    finish = [f"{in_flight} will be finished first."] if in_flight else []
    if verb == "restart":
        said = "Its sockets stay open: new requests wait a few seconds, nobody is refused."
        return Question(title, (*finish, said), "Restart")
    said = "Its sockets stay open, so the next call starts it again; to end service stop er.target."
    return Question(title, (*finish, said), "Stop", "gateway" if front.state == "up" else "")


def _about_target(verb: str, snapshot: Snapshot, now: float) -> Question:
    found = replicas(snapshot, now)
    parts = f"the gateway and {plural(len(found), 'replica')}" if found else "the gateway"
    if verb == "start":
        said = f"Starts what stands still or failed of {parts}; what runs is left alone."
        return Question("Start all of ER (er.target)?", (said,), "Start")
    if verb == "stop":
        said = f"Stops {parts} and closes the port: clients get no connection until it is started."
        return Question("Stop all of ER (er.target)?", (said,), "Stop", "er.target")
    said = f"Stops and starts {parts}: every client waits or gets 503 until the models are loaded."
    return Question("Restart all of ER (er.target)?", (said,), "Restart", "er.target")
