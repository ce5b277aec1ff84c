"""What systemd says of ER's units: facts that signals change, and how a job ended. Pure.

`Book` keeps the facts by unit; `systemd` fills it from the bus. Names become object paths and back
as systemd escapes them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from er_console.language import noted, say
from er_console.state import GATEWAY_UNIT, TARGET_UNIT, Outcome, Unit

SOCKET_UNITS = ("er-gateway-http.socket", "er-gateway-local.socket", "er-gateway-admin.socket")
ALWAYS = (TARGET_UNIT, GATEWAY_UNIT, *SOCKET_UNITS)
REPLICAS = "er-vllm@*.service"
UNIT_PATH = "/org/freedesktop/systemd1/unit/"
IN_UNIT = "org.freedesktop.systemd1.Unit"
IN_SERVICE = "org.freedesktop.systemd1.Service"
IN_SOCKET = "org.freedesktop.systemd1.Socket"
OF_ALL = ("LoadState", "ActiveState", "SubState", "StateChangeTimestampMonotonic")
OF_SERVICES = ("StatusText", "MainPID", "NRestarts", "Result")
UNLOADED = {"ActiveState": "inactive", "SubState": "dead"}
REFUSALS = (
    "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired",
    "org.freedesktop.DBus.Error.AccessDenied",
    "org.freedesktop.DBus.Error.AuthFailed",
)
REFUSED = {
    "start": noted("systemd refuses {operator} to start {unit} (polkit)"),
    "stop": noted("systemd refuses {operator} to stop {unit} (polkit)"),
    "restart": noted("systemd refuses {operator} to restart {unit} (polkit)"),
}
FAILED = {
    "start": noted("start failed, {why}"),
    "stop": noted("stop failed, {why}"),
    "restart": noted("restart failed, {why}"),
}
# systemd's words for how a job ended, as sentences; "done" and "failed" say nothing more.
ENDS = {
    "canceled": noted("somebody else's request took its place; {stands}"),
    "timeout": noted("systemd waited for it too long; {stands}"),
    "dependency": noted("a unit that it needs did not start; {stands}"),
    "skipped": noted("there was nothing to do in its state; {stands}"),
    "invalid": noted("that can't be done in its state; {stands}"),
    "assert": noted("an Assert= line of the unit does not hold; {stands}"),
    "unsupported": noted("this system can't do it; {stands}"),
    "": noted("how it ended is not known; {stands}"),
}


def replica_unit(name: str) -> bool:
    """Whether a replica runs in the unit of this name."""
    return name.startswith("er-vllm@") and name.endswith(".service")


def ours(name: str) -> bool:
    """Whether the unit of this name is one of ER's."""
    return name in ALWAYS or replica_unit(name)


def path_of(name: str) -> str:
    """The unit's object path: every byte but letters and digits (no digit first) is _xx."""
    kept = [
        chr(byte)
        if chr(byte).isascii() and chr(byte).isalnum() and not (place == 0 and chr(byte).isdigit())
        else f"_{byte:02x}"
        for place, byte in enumerate(name.encode())
    ]
    return UNIT_PATH + ("".join(kept) or "_")


def name_of(path: str) -> str:
    """The unit's name from its object path; empty for another path."""
    if not path.startswith(UNIT_PATH):
        return ""
    escaped = path[len(UNIT_PATH) :].encode()
    found = re.sub(rb"_([0-9a-f]{2})", lambda hit: bytes([int(hit[1], 16)]), escaped)
    return found.decode(errors="replace")


def asked_of(name: str) -> tuple[tuple[str, str], ...]:
    """Interface and property of each fact that is read of the unit of this name."""
    found = [(IN_UNIT, fact) for fact in OF_ALL]
    if name == TARGET_UNIT:
        found.append((IN_UNIT, "Wants"))
    elif name.endswith(".socket"):
        found.append((IN_SOCKET, "Result"))
    elif name.endswith(".service"):
        found += [(IN_SERVICE, fact) for fact in OF_SERVICES]
    return tuple(found)


def asked_of_unloaded(name: str) -> tuple[tuple[str, str], ...]:
    """The same of a unit that systemd does not hold in memory: all else is in UNLOADED."""
    return tuple(row for row in asked_of(name) if row[1] in ("LoadState", "Wants"))


def read_unit(name: str, facts: Mapping[str, Any], boot_s: float) -> Unit:
    """A unit from its facts. `boot_s` is the unix time of the monotonic clock's zero."""
    changed_us = _whole(facts.get("StateChangeTimestampMonotonic"))
    return Unit(
        name=name,
        active=_text(facts.get("ActiveState")) or "unknown",
        sub=_text(facts.get("SubState")),
        text=_text(facts.get("StatusText")),
        since=boot_s + changed_us / 1e6 if changed_us else None,
        pid=_whole(facts.get("MainPID")) or None,
        restarts=_whole(facts.get("NRestarts")),
        result=_text(facts.get("Result")),
        loaded=facts.get("LoadState", "loaded") == "loaded",
    )


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


class Book:
    """The facts of ER's units. What arrives while all are read anew is written again on top of
    what was read (`begin`, `put_all`): an answer may be older than the signal that overtook it."""

    def __init__(self) -> None:
        self._facts: dict[str, dict[str, Any]] = {}
        self._meanwhile: list[tuple[str, dict[str, Any]]] | None = None

    def begin(self) -> None:
        """All facts are being read anew."""
        self._meanwhile = []

    def put_all(self, facts: Mapping[str, Mapping[str, Any]]) -> None:
        """All facts as read since `begin`."""
        self._facts = {name: dict(known) for name, known in facts.items()}
        for name, changed in self._meanwhile or ():
            if name in self._facts:
                self._facts[name].update(changed)
        self._meanwhile = None

    def change(self, name: str, changed: Mapping[str, Any]) -> bool:
        """A signal's facts; True when one that the console shows is another than before."""
        shown = {fact for _, fact in asked_of(name)}
        news = {fact: value for fact, value in changed.items() if fact in shown}
        if self._meanwhile is not None:
            self._meanwhile.append((name, news))
        known = self._facts.get(name)
        if known is None or all(known.get(fact) == value for fact, value in news.items()):
            return False
        known.update(news)
        return True

    def drop(self, name: str) -> bool:
        """systemd has unloaded the unit: forgotten, unless it always belongs to ER."""
        if name in ALWAYS or name in self.wanted() or name not in self._facts:
            return False
        del self._facts[name]
        return True

    def knows(self, name: str) -> bool:
        """Whether the unit is in the book."""
        return name in self._facts

    def wanted(self) -> set[str]:
        """The replicas' units that er.target wants."""
        return wanted_by(self._facts.get(TARGET_UNIT, {}))

    def differs(self, listed: Iterable[tuple[str, str, str]]) -> bool:
        """Whether systemd's list (name, active, sub) has a unit in another state than the book."""
        return any(
            active != self._facts.get(name, {}).get("ActiveState", "inactive")
            or (name in self._facts and sub != self._facts[name].get("SubState"))
            for name, active, sub in listed
        )

    def units(self, boot_s: float) -> dict[str, Unit]:
        """The units by name."""
        return {name: read_unit(name, facts, boot_s) for name, facts in self._facts.items()}


def wanted_by(target: Mapping[str, Any]) -> set[str]:
    """The replicas' units among the Wants of er.target's facts."""
    found = target.get("Wants")
    return {name for name in found if replica_unit(name)} if isinstance(found, list) else set()


def ended(verb: str, unit: str, result: str, now: Unit | None) -> Outcome:
    """How a job ended: by systemd's result of that job, and by how the unit stands after it."""
    stands = unit
    if now is not None:
        stands = say("{unit} is {active} ({sub})", unit=unit, active=now.active, sub=now.sub)
    look = f"journalctl -u {unit}"
    if result != "done":
        end = stands
        if result != "failed":
            end = say(ENDS[result if result in ENDS else ""], stands=stands)
        return Outcome(False, say(FAILED[verb], why=end), look)
    good = now is None or (now.active in ("inactive", "failed")) == (verb == "stop")
    return Outcome(good, stands, "" if good else look)


def refused(verb: str, unit: str, error: str, said: str, operator: str) -> Outcome:
    """Why systemd did not even begin: `error` is D-Bus's name of it, `said` systemd's words.

    Where polkit can't be started, its unit being masked, say, these are of polkit and not of ours.
    """
    if error in REFUSALS or re.search("polkit|policykit", said, re.IGNORECASE):
        reason = say(REFUSED[verb], operator=operator, unit=unit)
        return Outcome(False, reason, f"sudo systemctl {verb} {unit}")
    why = " ".join(said.split()) or error
    return Outcome(False, say(FAILED[verb], why=why), f"systemctl status {unit}")
