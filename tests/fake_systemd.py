"""A stand-in for systemd on a private D-Bus: ER's units, jobs that end as told, and its signals."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from dbus_fast import BusType, Message, MessageType, Variant
from dbus_fast.aio import MessageBus

from er_console.sources.systemd import JOB, MANAGER, MANAGER_PATH, SYSTEMD
from er_console.sources.units import ALWAYS, IN_SERVICE, IN_SOCKET, IN_UNIT, name_of, path_of

CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:path={socket}</listen><policy context="default">
<allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/>
</policy></busconfig>
"""
SIGNATURES = {
    "StateChangeTimestampMonotonic": "t",
    "MainPID": "u",
    "NRestarts": "u",
    "Wants": "as",
}
PROPERTY = "org.freedesktop.DBus.Error"
INTERFACES = {"StatusText": IN_SERVICE, "MainPID": IN_SERVICE, "NRestarts": IN_SERVICE}


def listens(path: Path) -> bool:
    """Whether somebody takes connections there; the file alone is there a moment earlier."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


@contextmanager
def private_bus(folder: Path) -> Iterator[str]:
    """A dbus-daemon of the test's own; yields its address."""
    path = folder / "bus"
    (folder / "bus.conf").write_text(CONFIG.format(socket=path))
    command = ["dbus-daemon", f"--config-file={folder}/bus.conf", "--nofork", "--nopidfile"]
    daemon = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        limit = time.monotonic() + 10
        while not listens(path):
            assert daemon.poll() is None and time.monotonic() < limit, "no dbus-daemon"
            time.sleep(0.01)
        yield f"unix:path={path}"
    finally:
        daemon.terminate()
        daemon.wait()
        path.unlink(missing_ok=True)


def facts(active: str = "active", sub: str = "running", **more: Any) -> dict[str, Any]:
    """What a unit is made of; `more` are further properties."""
    stands = {"LoadState": "loaded", "ActiveState": active, "SubState": sub}
    return {**stands, "StateChangeTimestampMonotonic": 5_000_000, "Result": "success", **more}


def service(active: str = "active", sub: str = "running", **more: Any) -> dict[str, Any]:
    """The same of a service."""
    return facts(active, sub, **{"StatusText": "", "MainPID": 4100, "NRestarts": 0, **more})


class FakeSystemd:
    """`units` are its units' properties, `unloaded` those that only a question would load.

    `refuses` is the D-Bus error with which StartUnit and the like are answered, `result` how their
    jobs end and `then` what the unit is after it (None: the job does not end), `silent` gives no
    answer at all. `asked` are the methods called, `loads` the units that a question has loaded.
    """

    def __init__(self, bus: MessageBus) -> None:
        self.bus = bus
        self.units: dict[str, dict[str, Any]] = {
            "er.target": facts(sub="active", Wants=["er-gateway.service", "er-vllm@one.service"]),
            "er-gateway.service": service(StatusText="4 workers"),
            **{name: facts(sub="listening") for name in ALWAYS if name.endswith(".socket")},
            "er-vllm@one.service": service(NRestarts=3),
        }
        self.unloaded: set[str] = set()
        self.refuses = ""
        self.said = "no"
        self.result: str | None = "done"
        self.then: dict[str, Any] | None = None
        self.silent = False
        self.lacks: set[str] = set()  # properties that this systemd has not
        self.asked: list[str] = []
        self.loads: list[str] = []
        self._jobs = 0
        bus.add_message_handler(self._answer)

    @classmethod
    async def on(cls, address: str) -> FakeSystemd:
        """On this bus, under systemd's name."""
        bus = await MessageBus(address, BusType.SYSTEM).connect()
        found = cls(bus)
        await bus.request_name(SYSTEMD)
        return found

    def leave(self) -> None:
        """Gone from the bus."""
        self.bus.disconnect()

    def signal(self, member: str, signature: str, body: list[Any]) -> None:
        """A signal of the manager."""
        self.bus.send(Message.new_signal(MANAGER_PATH, MANAGER, member, signature, body))

    def change(
        self, name: str, *, tell: bool = True, hide: tuple[str, ...] = (), **new: Any
    ) -> None:
        """Other properties, told by PropertiesChanged; those in `hide` without their values."""
        self.units.setdefault(name, service())
        self.units[name].update(new)
        for interface in {INTERFACES.get(fact, IN_UNIT) for fact in new} if tell else ():
            mine = {f: v for f, v in new.items() if INTERFACES.get(f, IN_UNIT) == interface}
            shown = {f: variant(f, v) for f, v in mine.items() if f not in hide}
            body = [interface, shown, [f for f in mine if f in hide]]
            properties = "org.freedesktop.DBus.Properties"
            changed = ("PropertiesChanged", "sa{sv}as", body)
            self.bus.send(Message.new_signal(path_of(name), properties, *changed))

    def end_job(self, number: int, name: str, result: str) -> None:
        """JobRemoved."""
        self.signal("JobRemoved", "uoss", [number, job_path(number), name, result])

    def _answer(self, asked: Message) -> Message | bool | None:
        if asked.message_type is not MessageType.METHOD_CALL or not asked.interface:
            return None
        if asked.interface not in (MANAGER, "org.freedesktop.DBus.Properties"):
            return None
        self.asked.append(asked.member or "")
        if self.silent:
            return True
        if asked.member == "Get":
            return self._get(asked)
        if asked.member == "ListUnitsByPatterns":
            return self._list(asked)
        if asked.member in ("StartUnit", "StopUnit", "RestartUnit"):
            return self._begin(asked)
        return Message.new_method_return(asked)

    def _get(self, asked: Message) -> Message:
        interface, fact = asked.body
        if interface == JOB:
            unknown = "org.freedesktop.DBus.Error.UnknownObject"
            return Message.new_error(asked, unknown, "no such job")
        if fact in self.lacks:
            return Message.new_error(asked, f"{PROPERTY}.UnknownProperty", "Unknown property")
        name = name_of(asked.path or "")
        if name in self.unloaded:
            self.loads.append(name)
            path = path_of(name)
            self.signal("UnitNew", "so", [name, path])
            self.signal("UnitRemoved", "so", [name, path])
        known = self.units.get(name) or facts("inactive", "dead", LoadState="not-found")
        default = {"MainPID": 0, "NRestarts": 0, "Wants": []}.get(fact, "")
        found = variant(fact, known.get(fact, default))
        assert interface in (INTERFACES.get(fact, IN_UNIT), IN_SERVICE, IN_SOCKET)
        return Message.new_method_return(asked, "v", [found])

    def _list(self, asked: Message) -> Message:
        rows = [
            [n, n, u["LoadState"], u["ActiveState"], u["SubState"], "", path_of(n), 0, "", "/"]
            for n, u in self.units.items()
            if n not in self.unloaded and any(fnmatch(n, pattern) for pattern in asked.body[1])
        ]
        return Message.new_method_return(asked, "a(ssssssouso)", [rows])

    def _begin(self, asked: Message) -> Message:
        if self.refuses:
            return Message.new_error(asked, self.refuses, self.said)
        self._jobs += 1
        number, name = self._jobs, asked.body[0]
        if self.result is not None:
            if self.then is not None:
                self.change(name, **self.then)
            # As systemd does it: the answer first, and the end right behind it.
            asyncio.get_running_loop().call_soon(self.end_job, number, name, self.result)
        return Message.new_method_return(asked, "o", [job_path(number)])


def job_path(number: int) -> str:
    """A job's object path."""
    return f"{MANAGER_PATH}/job/{number}"


def variant(fact: str, value: Any) -> Variant:
    """A property as D-Bus has it."""
    return Variant(SIGNATURES.get(fact, "s"), value)
