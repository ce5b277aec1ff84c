"""Ask and steer systemd over D-Bus: unit states by signals; start, stop, restart and their ends.

All of ER's units are read once; from then on systemd's signals keep them true (`changed` tells of
each), and every half minute all is read again, for safety. An action's result is that of systemd's
own job for it.
"""

from __future__ import annotations

import asyncio
import grp
import os
import pwd
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from er_console.language import say
from er_console.sources.units import (
    ALWAYS,
    OF_ALL,
    REPLICAS,
    UNIT_PATH,
    UNLOADED,
    Book,
    asked_of,
    asked_of_unloaded,
    ended,
    name_of,
    ours,
    path_of,
    read_unit,
    refused,
    wanted_by,
)
from er_console.state import TARGET_UNIT, Missing, Outcome, Unit

if TYPE_CHECKING:
    from dbus_fast import Message

    from er_console.sources.bus import Bus

BOOTED = Path("/run/systemd/system")
SYSTEMD = "org.freedesktop.systemd1"
MANAGER_PATH = "/org/freedesktop/systemd1"
MANAGER = "org.freedesktop.systemd1.Manager"
JOB = "org.freedesktop.systemd1.Job"
ANSWER_S = 5.0
BEGIN_S = 25.0  # polkit may have to be started, and to ask others
LOOK_EVERY_S = 30.0
RETRY_FIRST_S, RETRY_MOST_S = 0.5, 30.0
METHODS = {"start": "StartUnit", "stop": "StopUnit", "restart": "RestartUnit"}
RULES = (
    f"type='signal',sender='{SYSTEMD}',interface='org.freedesktop.DBus.Properties',"
    f"member='PropertiesChanged',path_namespace='{UNIT_PATH.rstrip('/')}'",
    *(
        f"type='signal',sender='{SYSTEMD}',interface='{MANAGER}',member='{member}'"
        for member in ("UnitNew", "UnitRemoved", "JobRemoved", "Reloading")
    ),
    "type='signal',sender='org.freedesktop.DBus',interface='org.freedesktop.DBus',"
    f"member='NameOwnerChanged',arg0='{SYSTEMD}'",
)


def operator() -> str:
    """Who sits here: the user's name (a container's user may have none), and who became root."""
    uid = os.geteuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = f"uid {uid}"
    before = os.environ.get("SUDO_USER", "")
    return f"{before} as {name}" if before and uid == 0 else name


def may_steer() -> Missing | None:
    """Why this user can't start and stop ER's units, None when polkit's rule lets them."""
    if os.geteuid() == 0:
        return None
    try:
        group = grp.getgrnam("er")
    except KeyError:
        reason = say("not root, and there is no group er here")
        return Missing("rights", reason, "sudo er-console")
    if group.gr_gid in (*os.getgroups(), os.getegid()):
        return None
    user = operator()
    reason = say("{user} is not in group er", user=user)
    if user in group.gr_mem:
        reason = say("{user} is not in group er yet: log in again", user=user)
    remedy = say("{command}, then log in again", command=f"sudo usermod -aG er {user}")
    return Missing("rights", reason, remedy)


class Systemd:
    """systemd on the system bus. `since` is converted with both clocks, given for tests.

    `address` is another bus, for tests; `answer_s` is how long an answer may take.
    """

    def __init__(
        self,
        *,
        address: str | None = None,
        booted: Path = BOOTED,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        answer_s: float = ANSWER_S,
    ) -> None:
        self._address = address
        self.booted = booted
        self._wall = wall
        self._monotonic = monotonic
        self._answer_s = answer_s
        self._bus: Bus | None = None
        self._owner = ""  # systemd's own name on the bus: only its signals count
        self._book = Book()
        self._stale = True  # all is to be read anew
        self._new = False  # a unit of ours was loaded: its state may be another than known
        self._looked_at = 0.0
        self._gone: Missing | None = None
        self._retry_at, self._retry_s = 0.0, RETRY_FIRST_S
        self._jobs: dict[str, asyncio.Future[str]] = {}
        self._acting = 0
        self._stir = asyncio.Event()
        self._asking = asyncio.Lock()

    def runs(self) -> bool:
        """True when systemd is PID 1 here."""
        return self.booted.is_dir()

    async def changed(self) -> None:
        """Returns when there is something that the last `units` did not have."""
        await self._stir.wait()

    async def units(self) -> Mapping[str, Unit]:
        """ER's units by name. Raises Missing."""
        if not self.runs():
            reason = say("systemd is not PID 1 here: ER runs, if at all, as plain processes")
            remedy = say("start and stop er-gateway and er-vllm NAME by hand")
            raise Missing("off", reason, remedy)
        async with self._asking:
            self._stir.clear()
            try:
                await self._catch_up(await self._connected())
            except Exception as error:
                self._stale = True
                raise self._why(error) from None
        return self._book.units(self._wall() - self._monotonic())

    async def act(self, verb: str, unit: str) -> Outcome:
        """Start, stop or restart, as polkit allows; returns when systemd's job has ended.

        Raises Missing when systemd can't be asked, or is lost before the end is known.
        """
        method = METHODS.get(verb)
        if method is None:
            raise ValueError(verb)
        async with self._asking:
            bus = await self._connected()
        self._acting += 1
        try:
            return await self._asked_to(bus, method, verb, unit)
        except Exception as error:
            why = self._why(error)
            remedy = say("It may have been done all the same: systemctl status {unit}", unit=unit)
            raise Missing(why.kind, why.reason, remedy) from None
        finally:
            self._acting -= 1
            if not self._acting:
                self._jobs.clear()

    async def _asked_to(self, bus: Bus, method: str, verb: str, unit: str) -> Outcome:
        from er_console.sources.bus import Refused

        try:
            [job] = await self._call(bus, method, "ss", [unit, "replace"], limit_s=BEGIN_S)
        except Refused as error:
            return refused(verb, unit, error.name, error.said, operator())
        result = await self._end_of(bus, job)
        return ended(verb, unit, result, read_unit(unit, await self._facts(bus, unit), 0.0))

    def close(self) -> None:
        """Leaves the bus."""
        if self._bus is not None:
            self._bus.close()
            self._bus = None

    # The connection -------------------------------------------------------------------------

    async def _connected(self) -> Bus:
        """The connection, made anew when it is time for that. Raises Missing."""
        from er_console.sources.bus import Bus, Refused

        if self._bus is not None:
            return self._bus
        if self._gone is not None and self._monotonic() < self._retry_at:
            raise self._gone
        bus = None
        try:
            bus = await Bus.connect(self._address, self._hear, self._lost)
            # All asked at once: on a busy machine each wait for an answer costs a turn.
            matches = (bus.match(rule, limit_s=self._answer_s) for rule in RULES)
            await asyncio.gather(self._find_owner(bus), *matches, self._subscribe(bus))
        except Exception as error:
            if bus is not None:
                bus.close()
            nobody = isinstance(error, Refused) and error.name.endswith("NameHasNoOwner")
            self._gone = self._absent() if nobody else self._why(error)
            self._retry_at = self._monotonic() + self._retry_s
            self._retry_s = min(2 * self._retry_s, RETRY_MOST_S)
            raise self._gone from None
        self._bus, self._gone, self._retry_s, self._stale = bus, None, RETRY_FIRST_S, True
        return bus

    async def _find_owner(self, bus: Bus) -> None:
        from er_console.sources.bus import DAEMON, DAEMON_PATH

        asked = (DAEMON, DAEMON_PATH, DAEMON, "GetNameOwner", "s", [SYSTEMD])
        self._owner = str((await bus.call(*asked, limit_s=self._answer_s))[0])

    async def _subscribe(self, bus: Bus) -> None:
        from er_console.sources.bus import Refused

        try:
            await self._call(bus, "Subscribe")
        except Refused as error:
            if not error.name.endswith("AlreadySubscribed"):
                raise

    def _lost(self) -> None:
        """The bus has ended: told at once, tried again at once, then with patience."""
        self._bus, self._stale = None, True
        gone = say("the connection to the system bus has ended")
        for job in self._jobs.values():
            if not job.done():
                job.set_exception(Missing("late", gone))
                job.exception()  # nobody may be waiting for it
        self._stir.set()

    def _absent(self) -> Missing:
        return Missing("absent", say("systemd is not on the system bus now"), "systemctl status")

    def _why(self, error: Exception) -> Missing:
        """What went wrong with the bus, as reason and remedy."""
        from er_console.sources.bus import Refused

        if isinstance(error, Missing):
            return error
        if isinstance(error, TimeoutError):
            reason = say("systemd does not answer on the system bus")
            return Missing("late", reason, "systemctl status")
        if isinstance(error, FileNotFoundError | ConnectionRefusedError):
            reason = say("there is no D-Bus system bus here, by which systemd is asked")
            return Missing("absent", reason, "sudo apt install dbus, systemctl status dbus")
        if isinstance(error, PermissionError):
            reason = say("no right to use the D-Bus system bus")
            return Missing("rights", reason, "sudo er-console")
        if isinstance(error, Refused):
            reason = say("systemd answers on the system bus: {said}", said=error.said or error.name)
            return Missing("wrong", reason, "systemctl status")
        reason = say("the connection to the system bus has ended")
        return Missing("late", reason, "systemctl status dbus")

    async def _call(
        self,
        bus: Bus,
        member: str,
        signature: str = "",
        body: list[Any] | None = None,
        limit_s: float | None = None,
    ) -> list[Any]:
        """A method of systemd's manager."""
        limit = limit_s or self._answer_s
        asked = (SYSTEMD, MANAGER_PATH, MANAGER, member, signature, body or [])
        return await bus.call(*asked, limit_s=limit)

    # Reading --------------------------------------------------------------------------------

    async def _catch_up(self, bus: Bus) -> None:
        """Read what signals alone do not tell."""
        if self._new and not self._stale:
            listed = await self._listed(bus)
            self._stale = self._book.differs(listed)
        self._new = False
        if self._stale or self._monotonic() - self._looked_at >= LOOK_EVERY_S:
            await self._look(bus)

    async def _listed(self, bus: Bus) -> list[tuple[str, str, str]]:
        """ER's loaded units: name, active, sub. Unlike reading its facts, it loads none."""
        [rows] = await self._call(bus, "ListUnitsByPatterns", "asas", [[], [*ALWAYS, REPLICAS]])
        return [(row[0], row[3], row[4]) for row in rows]

    async def _look(self, bus: Bus) -> None:
        """Read all facts of all units: ER's own, the wanted replicas, and those that run."""
        self._stale = False
        self._book.begin()
        loaded = {name: active for name, active, _ in await self._listed(bus)}

        async def facts(name: str) -> dict[str, Any]:
            return await self._facts(bus, name, loaded=name in loaded)

        target = await facts(TARGET_UNIT)
        running = {name for name, active in loaded.items() if active != "inactive"}
        names = sorted({*ALWAYS, *wanted_by(target), *running} - {TARGET_UNIT})
        found = await asyncio.gather(*(facts(name) for name in names))
        self._book.put_all({TARGET_UNIT: target, **dict(zip(names, found, strict=True))})
        self._looked_at = self._monotonic()

    async def _facts(self, bus: Bus, name: str, *, loaded: bool = True) -> dict[str, Any]:
        """A unit's facts, by one question each: all of them at once would be 400 properties.

        Of a unit that is not loaded only what is not known without asking: systemd reads its files
        for each question, and forgets it again.
        """
        asked = asked_of(name) if loaded else asked_of_unloaded(name)
        values = await asyncio.gather(*(self._fact(bus, name, *fact) for fact in asked))
        found = {fact: value for (_, fact), value in zip(asked, values, strict=True)}
        return found if loaded else {**UNLOADED, **found}

    async def _fact(self, bus: Bus, name: str, interface: str, fact: str) -> Any:
        """One fact; None when this systemd knows no such property."""
        from er_console.sources.bus import PROPERTIES, Refused

        asked = (SYSTEMD, path_of(name), PROPERTIES, "Get", "ss", [interface, fact])
        try:
            return (await bus.call(*asked, limit_s=self._answer_s))[0].value
        except Refused:
            if fact in OF_ALL:
                raise
            return None

    # Signals --------------------------------------------------------------------------------

    def _hear(self, message: Message) -> None:
        body = message.body
        if message.sender == "org.freedesktop.DBus":
            if message.member == "NameOwnerChanged" and body[0] == SYSTEMD:
                # systemd was started anew in its place; it may know of us no more.
                self._owner = body[2]
                self.close()
                self._lost()
            return
        if message.sender != self._owner:
            return  # any user may send signals to us; only systemd's own count
        if message.member == "PropertiesChanged":
            self._take(name_of(message.path or ""), body)
        elif message.member == "JobRemoved":
            self._job_ended(body[1], body[3])
        elif message.member == "UnitNew" and ours(body[0]):
            self._new = True
            self._stir.set()
        elif message.member == "UnitRemoved" and ours(body[0]):
            if self._book.drop(body[0]):
                self._stir.set()
        elif message.member == "Reloading" and not body[0]:
            self._stale = True
            self._stir.set()

    def _take(self, name: str, body: list[Any]) -> None:
        """PropertiesChanged of a unit: interface, values by name, names whose value is not told."""
        if not ours(name):
            return
        shown = {fact for _, fact in asked_of(name)}
        if not self._book.knows(name) or shown.intersection(body[2]):
            self._stale = True
            self._stir.set()
        if self._book.change(name, {fact: variant.value for fact, variant in body[1].items()}):
            self._stir.set()

    # Jobs -----------------------------------------------------------------------------------

    def _job(self, path: str) -> asyncio.Future[str]:
        return self._jobs.setdefault(path, asyncio.get_running_loop().create_future())

    def _job_ended(self, path: str, result: str) -> None:
        # A job may end before the answer that names it has been looked at: so all are kept.
        if self._acting and not self._job(path).done():
            self._job(path).set_result(result)

    async def _end_of(self, bus: Bus, path: str) -> str:
        """systemd's result of the job; empty when it went unheard."""
        from er_console.sources.bus import PROPERTIES, Refused

        while True:
            done, _ = await asyncio.wait([self._job(path)], timeout=LOOK_EVERY_S)
            if done:
                return await self._job(path)
            try:
                asked = (SYSTEMD, path, PROPERTIES, "Get", "ss", [JOB, "State"])
                await bus.call(*asked, limit_s=self._answer_s)
            except Refused:
                return ""
