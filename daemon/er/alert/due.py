"""Which messages are due: pure, the clock is an argument.

A status is told once it has lasted `after`, and again every `again`. Time in trouble is summed up
over short breaks, so that one that comes and goes is told of too, once its bad moments make up
`after`. That it is over is told once it was over for `after`; with each change told in the last
six hours that time doubles, up to an hour: a flapping state ends as one that lasts. What was told
changes with `sent` alone, so a message that reached nobody stays due.
"""

from __future__ import annotations

import msgspec

from er.alert import Ending, Facts, Message
from er.config import Alert

GAP_S = 15.0  # more than that between two looks nobody vouches for
FLAPS_S = 6 * 3600.0  # changes told within this time make the next one wait
SETTLE_MOST_S = 3600.0
FORGET_S = 400 * 86400.0  # what ended is known for so long
LEVELS = ("ok", "degraded", "down")


class Told(msgspec.Struct, kw_only=True):
    """Of one ending: the last stage that was told, and when."""

    stage: int
    at: float


class Memory(msgspec.Struct, kw_only=True):
    """What is known of one alert; it outlives the process. Times are Unix seconds."""

    told: int = 0  # index in LEVELS
    told_at: float = 0.0
    since: float | None = None  # when the trouble began
    bad_s: float = 0.0  # how long it was worse than told
    calm_s: float = 0.0  # for how long, without a break, it is no worse than told
    good_s: float = 0.0  # and better than told
    looked: float | None = None
    changes: list[float] = []  # when a change for the better was told
    endings: dict[str, Told] = {}


def level_of(status: str, on: tuple[str, ...]) -> int:
    """How bad the status is for who wants to be told of `on`."""
    if status == "down" and "down" in on:
        return 2
    return 1 if status in ("down", "degraded") and "degraded" in on else 0


def look(memory: Memory, alert: Alert, facts: Facts, now: float) -> list[Message]:
    """Take in what is known now; the messages that are due, each until it is `sent`."""
    passed = 0.0 if memory.looked is None else min(max(now - memory.looked, 0.0), GAP_S)
    memory.looked = now
    due = [] if facts.status == "unknown" else _status(memory, alert, facts, now, passed)
    if facts.endings is not None:
        due += _endings(memory, alert, facts, now)
    wanted = [message for message in due if message.event in alert.on]
    for message in due:
        if message.event not in alert.on:  # "recovered": it is over, and nobody asked
            sent(memory, message, now)
    return wanted


def _status(memory: Memory, alert: Alert, facts: Facts, now: float, passed: float) -> list[Message]:
    level = level_of(facts.status, alert.on)
    _count(memory, alert, level, now, passed)
    if level > memory.told and memory.bad_s >= alert.after_s:
        return [_said(memory, facts, level)]
    if level < memory.told and memory.good_s >= settle_s(memory, alert, now):
        return [_said(memory, facts, level)]
    lasts = level == memory.told and level > 0
    if lasts and not 0 <= now - memory.told_at < alert.again_s:
        return [_said(memory, facts, level)]
    return []


def _count(memory: Memory, alert: Alert, level: int, now: float, passed: float) -> None:
    if level and memory.since is None:
        memory.since = now
    if level > memory.told:
        # Where the last look saw none, it began somewhere between.
        memory.bad_s += passed if memory.calm_s == 0.0 else passed / 2
        memory.calm_s = 0.0
    else:
        memory.calm_s += passed or 1e-9
        if memory.calm_s >= alert.after_s:
            memory.bad_s = 0.0
            if not memory.told and not level:
                memory.since = None
    memory.good_s = memory.good_s + passed if level < memory.told else 0.0


def settle_s(memory: Memory, alert: Alert, now: float) -> float:
    """How long it has to be better before that is told."""
    lately = sum(1 for at in memory.changes if 0 <= now - at < FLAPS_S)
    return float(min(alert.after_s * 2**lately, max(SETTLE_MOST_S, alert.after_s)))


def _said(memory: Memory, facts: Facts, level: int) -> Message:
    name = LEVELS[level]
    return Message(
        event="down" if name == "down" else "degraded" if name == "degraded" else "recovered",
        status=facts.status,
        reason=facts.reason,
        since=memory.since,
        before=LEVELS[memory.told],
        repeated=level == memory.told,
    )


def _endings(memory: Memory, alert: Alert, facts: Facts, now: float) -> list[Message]:
    """One message for each kind, however many keys end at once."""
    assert facts.endings is not None
    known = {one.mark for one in facts.endings}
    found: dict[str, list[Ending]] = {}
    for one in facts.endings:
        told = memory.endings.get(one.mark)
        worse = one.stage > (told.stage if told else 0)
        old = told is not None and one.lasting and not 0 <= now - told.at < alert.again_s
        if one.event in alert.on and (worse or (one.stage != 0 and old)):
            found.setdefault(one.event, []).append(one)
    # What is not seen for once (a certificate not read yet, a key file closed) is not forgotten.
    old_marks = [m for m, told in memory.endings.items() if now - told.at > FORGET_S]
    for mark in set(old_marks) - known:
        del memory.endings[mark]
    due = [
        Message(event=many[0].event, status=facts.status, endings=tuple(many))
        for many in found.values()
    ]
    over = tuple(
        one for one in facts.endings if one.lasting and not one.stage and one.mark in memory.endings
    )
    if over:
        due.append(Message(event="recovered", status=facts.status, endings=over))
    return due


def sent(memory: Memory, message: Message, now: float) -> None:
    """Note that `message`, which was due, has reached its receiver."""
    if message.endings:
        for one in message.endings:
            if message.event == "recovered":
                memory.endings.pop(one.mark, None)
            else:
                memory.endings[one.mark] = Told(stage=one.stage, at=now)
        return
    level = LEVELS.index(message.event) if message.event in LEVELS else 0
    if level < memory.told:
        memory.changes = [at for at in memory.changes if 0 <= now - at < FLAPS_S] + [now]
    memory.told, memory.told_at = level, now
    memory.bad_s = memory.good_s = 0.0
    if not level:
        memory.since = None
