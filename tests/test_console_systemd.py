"""The console and systemd over D-Bus: what signals change, jobs and their ends, a bus that goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from dbus_fast import BusType, Message, Variant
from dbus_fast.aio import MessageBus

from er_console.desk import Desk
from er_console.language import speak
from er_console.looks import Looks
from er_console.polling import Polling
from er_console.sources import systemd as source
from er_console.sources.systemd import Systemd
from er_console.sources.units import (
    IN_UNIT,
    Book,
    ended,
    name_of,
    ours,
    path_of,
    read_unit,
    refused,
)
from er_console.state import Missing, Unit
from fake_systemd import FakeSystemd, facts, private_bus, service
from test_console_screens import Play

ONE, TWO = "er-vllm@one.service", "er-vllm@two.service"
DENIED = "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired"


# The pure core -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "escaped"),
    [
        ("er.target", "er_2etarget"),
        ("er-vllm@emb-0.service", "er_2dvllm_40emb_2d0_2eservice"),
        ("0a", "_30a"),
        ("a_b", "a_5fb"),
    ],
)
def test_names_are_escaped_as_systemd_does(name: str, escaped: str) -> None:
    """And back."""
    assert path_of(name).rpartition("/")[2] == escaped
    assert name_of(path_of(name)) == name


def test_what_is_no_units_path_is_nobodys() -> None:
    """A job's, for one."""
    assert name_of("/org/freedesktop/systemd1/job/7") == ""
    assert [ours(n) for n in ("er.target", ONE, "sshd.service", "er-vllm@x.timer")] == [
        True,
        True,
        False,
        False,
    ]


def test_facts_become_a_unit() -> None:
    """Times move from the monotonic clock to unix time; nonsense is unknown."""
    made = service("activating", "auto-restart", NRestarts=3, MainPID=0, StatusText="attempt 4")
    unit = read_unit(ONE, made, 1000.0)
    assert (unit.active, unit.sub, unit.restarts, unit.pid) == (
        "activating",
        "auto-restart",
        3,
        None,
    )
    assert (unit.since, unit.text, unit.result, unit.loaded) == (
        1005.0,
        "attempt 4",
        "success",
        True,
    )
    odd = read_unit(ONE, {"LoadState": "not-found", "NRestarts": "x", "StatusText": 4}, 0.0)
    assert (odd.active, odd.restarts, odd.text, odd.loaded) == ("unknown", None, "", False)


def book() -> Book:
    """One wanted replica, and one that merely runs."""
    found = Book()
    found.begin()
    units = {"er.target": facts(Wants=[ONE, "er-gateway.service"]), ONE: service(), TWO: service()}
    found.put_all(units)
    return found


def test_only_what_the_console_shows_is_a_change() -> None:
    """systemd tells of memory and CPU too."""
    kept = book()
    assert not kept.change(ONE, {"MemoryCurrent": 5, "ActiveState": "active"})
    assert kept.change(ONE, {"ActiveState": "failed", "SubState": "failed"})
    assert kept.units(0.0)[ONE].active == "failed"
    assert not kept.change("er-vllm@new.service", {"ActiveState": "active"})


def test_an_unloaded_unit_is_forgotten_unless_it_is_wanted() -> None:
    """er.target names its own replicas; a mistyped one goes."""
    kept = book()
    assert kept.drop(TWO) and not kept.knows(TWO)
    assert not kept.drop(ONE) and not kept.drop("er.target") and kept.knows(ONE)


def test_a_signal_outlives_an_older_answer() -> None:
    """All is being read; the change that came meanwhile is newer than what was read."""
    kept = book()
    kept.begin()
    kept.change(ONE, {"ActiveState": "failed"})
    kept.put_all({ONE: service("active")})
    assert kept.units(0.0)[ONE].active == "failed"


@pytest.mark.parametrize(
    ("verb", "result", "active", "good", "words"),
    [
        ("start", "done", "active", True, "er.target is active (sub)"),
        ("start", "done", "failed", False, "er.target is failed (sub)"),
        ("stop", "done", "inactive", True, "er.target is inactive (sub)"),
        ("stop", "done", "active", False, "is active"),
        ("start", "failed", "failed", False, "start failed, er.target is failed (sub)"),
        ("start", "canceled", "inactive", False, "somebody else's request took its place"),
        ("restart", "timeout", "failed", False, "waited for it too long"),
        ("start", "dependency", "inactive", False, "a unit that it needs did not start"),
        ("start", "skipped", "inactive", False, "nothing to do"),
        ("start", "a-new-word", "inactive", False, "how it ended is not known"),
    ],
)
def test_the_end_of_a_job_in_words(
    verb: str, result: str, active: str, good: bool, words: str
) -> None:
    """systemd's result of that job counts, and how the unit stands after it."""
    found = ended(verb, "er.target", result, Unit("er.target", active, "sub"))
    assert (found.ok, words in found.text) == (good, True), found.text
    assert found.remedy == ("" if good else "journalctl -u er.target")


def test_a_refusal_names_the_command_that_may() -> None:
    """polkit's no, and systemd's own words for everything else."""
    for error in (DENIED, "org.freedesktop.DBus.Error.AccessDenied"):
        found = refused("restart", ONE, error, "Interactive authentication required.", "joe")
        assert found.text == f"systemd refuses joe to restart {ONE} (polkit)"
        assert found.remedy == f"sudo systemctl restart {ONE}"
    for error, said in (  # as systemd 257 told it, and as others do
        ("org.freedesktop.systemd1.UnitMasked", "Unit polkit.service is masked."),
        (
            "org.freedesktop.DBus.Error.NoReply",
            "Could not activate remote peer 'org.freedesktop.PolicyKit1': unit failed",
        ),
    ):
        found = refused("stop", ONE, error, said, "joe")
        assert found.text == f"systemd refuses joe to stop {ONE} (polkit)"
        assert found.remedy == f"sudo systemctl stop {ONE}"
    found = refused(
        "start", ONE, "org.freedesktop.systemd1.NoSuchUnit", f"Unit {ONE} not found.", ""
    )
    assert found.text == f"start failed, Unit {ONE} not found."
    speak("zh")
    try:
        assert "polkit" in refused("stop", ONE, DENIED, "", "joe").text
        assert "stop" not in refused("stop", ONE, DENIED, "", "joe").text
    finally:
        speak("en")


# On a bus ----------------------------------------------------------------------------------


@asynccontextmanager
async def running(tmp_path: Path, **given: Any) -> AsyncIterator[tuple[Systemd, FakeSystemd]]:
    """The console's side, and systemd's, on a bus of their own."""
    with private_bus(tmp_path) as address:
        fake = await FakeSystemd.on(address)
        found = Systemd(address=address, booted=tmp_path, **given)
        try:
            yield found, fake
        finally:
            found.close()
            fake.leave()


async def until(found: Callable[[], bool]) -> None:
    """As soon as it is so."""
    async with asyncio.timeout(10):
        while not found():  # noqa: ASYNC110 - it is not always an event of ours
            await asyncio.sleep(0.01)


async def test_all_units_are_read_once_and_kept_by_signals(tmp_path: Path) -> None:
    """One look; then nothing is asked again, and a change is told within moments."""
    async with running(tmp_path) as (systemd, fake):
        units = await systemd.units()
        assert set(units) == set(fake.units)
        assert (units[ONE].restarts, units["er-gateway.service"].text) == (3, "4 workers")
        asked = len(fake.asked)
        for _ in range(3):
            await systemd.units()
        assert len(fake.asked) == asked
        waiting = asyncio.create_task(systemd.changed())
        await asyncio.sleep(0.05)
        assert not waiting.done()
        fake.change(ONE, ActiveState="activating", SubState="auto-restart")
        async with asyncio.timeout(2):
            await waiting
        assert (await systemd.units())[ONE].sub == "auto-restart"
        assert len(fake.asked) == asked


async def test_a_value_that_is_not_told_is_asked_for(tmp_path: Path) -> None:
    """PropertiesChanged may name a property without its value."""
    async with running(tmp_path) as (systemd, fake):
        await systemd.units()
        fake.change(ONE, StatusText="loading weights", hide=("StatusText",))
        await systemd.changed()
        assert (await systemd.units())[ONE].text == "loading weights"


async def test_a_replica_that_is_new_or_gone(tmp_path: Path) -> None:
    """Started by name; then stopped and unloaded. One that er.target wants stays in the list."""
    async with running(tmp_path) as (systemd, fake):
        await systemd.units()
        fake.change(TWO, tell=False, ActiveState="activating", SubState="start")
        fake.signal("UnitNew", "so", [TWO, path_of(TWO)])
        await systemd.changed()
        assert (await systemd.units())[TWO].active == "activating"
        for name in (ONE, TWO):
            fake.change(name, ActiveState="inactive", SubState="dead")
            fake.signal("UnitRemoved", "so", [name, path_of(name)])
            fake.unloaded.add(name)
        await until(lambda: not systemd._book.knows(TWO))
        assert (await systemd.units())[ONE].active == "inactive"


async def test_looking_does_not_chase_its_own_tail(tmp_path: Path) -> None:
    """To read an unloaded unit is to load it, of which systemd tells: no reason to read again."""
    async with running(tmp_path) as (systemd, fake):
        for name in fake.units:
            fake.units[name].update(ActiveState="inactive", SubState="dead")
        fake.unloaded.update(fake.units)
        await systemd.units()
        loads = len(fake.loads)
        assert 0 < loads <= len(fake.units) + 1  # each once, and what er.target wants
        for _ in range(5):
            await asyncio.sleep(0.05)
            await systemd.units()
        assert len(fake.loads) == loads


async def test_after_a_reload_all_is_read_again(tmp_path: Path) -> None:
    """`er apply` has given er.target another replica."""
    async with running(tmp_path) as (systemd, fake):
        await systemd.units()
        fake.units["er.target"]["Wants"] = [ONE, TWO]
        fake.signal("Reloading", "b", [True])
        fake.signal("Reloading", "b", [False])
        await systemd.changed()
        found = (await systemd.units())[TWO]
        assert (found.active, found.loaded) == ("inactive", False)


async def test_every_half_minute_all_is_read_again(tmp_path: Path) -> None:
    """A signal that went missing costs half a minute at most."""
    now = [100.0]
    async with running(tmp_path, monotonic=lambda: now[0]) as (systemd, fake):
        await systemd.units()
        fake.change(ONE, tell=False, ActiveState="failed")
        assert (await systemd.units())[ONE].active == "active"
        now[0] += source.LOOK_EVERY_S
        assert (await systemd.units())[ONE].active == "failed"


async def test_signals_of_others_do_not_count(tmp_path: Path) -> None:
    """Any user of the machine may send a signal to the console."""
    async with running(tmp_path) as (systemd, fake):
        await systemd.units()
        assert systemd._bus is not None and systemd._address is not None
        liar = await MessageBus(systemd._address, BusType.SYSTEM).connect()
        body = [IN_UNIT, {"ActiveState": Variant("s", "failed")}, []]
        properties = "org.freedesktop.DBus.Properties"
        lie = Message.new_signal(path_of(ONE), properties, "PropertiesChanged", "sa{sv}as", body)
        lie.destination = systemd._bus._bus.unique_name
        await liar.send(lie)
        fake.change("er-gateway.service", StatusText="5 workers")
        await systemd.changed()
        units = await systemd.units()
        assert units["er-gateway.service"].text == "5 workers" and units[ONE].active == "active"
        liar.disconnect()


async def test_a_job_is_waited_for_and_told_by_its_own_result(tmp_path: Path) -> None:
    """Done, failed, taken over by somebody else's, refused."""
    async with running(tmp_path) as (systemd, fake):
        fake.then = {"ActiveState": "inactive", "SubState": "dead"}
        found = await systemd.act("stop", ONE)
        assert found.ok and found.text == f"{ONE} is inactive (dead)"
        fake.then = {"ActiveState": "activating", "SubState": "auto-restart"}
        fake.result = "failed"
        found = await systemd.act("start", ONE)
        assert not found.ok and found.text == f"start failed, {ONE} is activating (auto-restart)"
        fake.result = None
        acting = asyncio.create_task(systemd.act("restart", ONE))
        await until(lambda: "RestartUnit" in fake.asked)
        fake.end_job(99, ONE, "done")  # somebody else's
        await asyncio.sleep(0.05)
        assert not acting.done()
        fake.end_job(3, ONE, "canceled")
        assert "somebody else's request" in (await acting).text
        fake.refuses = DENIED
        found = await systemd.act("start", ONE)
        assert not found.ok and found.remedy == f"sudo systemctl start {ONE}"
        fake.refuses, fake.said = "org.freedesktop.systemd1.NoSuchUnit", "Unit x not found."
        assert "Unit x not found." in (await systemd.act("start", "er-vllm@x.service")).text
        assert systemd._jobs == {}
        with pytest.raises(ValueError, match="kill"):
            await systemd.act("kill", ONE)


async def test_a_job_whose_end_went_unheard_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """systemd knows of no such job any more: how the unit stands is told."""
    monkeypatch.setattr(source, "LOOK_EVERY_S", 0.1)
    async with running(tmp_path) as (systemd, fake):
        fake.result = None
        assert "how it ended is not known" in (await systemd.act("start", ONE)).text


async def test_a_bus_that_dies_is_told_at_once_and_found_again(tmp_path: Path) -> None:
    """In the middle of a job too; nothing hangs, and later all is as before."""
    now = [100.0]
    with private_bus(tmp_path) as address:
        fake = await FakeSystemd.on(address)
        systemd = Systemd(address=address, booted=tmp_path, monotonic=lambda: now[0])
        await systemd.units()
        fake.result = None
        acting = asyncio.create_task(systemd.act("restart", ONE))
        await until(lambda: "RestartUnit" in fake.asked)
        news = asyncio.create_task(systemd.changed())
    async with asyncio.timeout(2):
        await news
        with pytest.raises(Missing, match=r"has ended.*may have been done all the same"):
            await acting
    for _ in range(3):
        with pytest.raises(Missing, match="no D-Bus system bus here") as found:
            await systemd.units()
    assert found.value.kind == "absent"
    with private_bus(tmp_path) as address:
        fake = await FakeSystemd.on(address)
        with pytest.raises(Missing):
            await systemd.units()  # not yet: with patience
        now[0] += source.RETRY_MOST_S
        assert (await systemd.units())[ONE].active == "active"
        fake.change(ONE, ActiveState="failed")
        await systemd.changed()
        assert (await systemd.units())[ONE].active == "failed"
        systemd.close()
        fake.leave()


async def test_systemd_started_anew_is_heard_again(tmp_path: Path) -> None:
    """daemon-reexec: away from the bus for a moment, then under another name of its own."""
    now = [100.0]
    async with running(tmp_path, monotonic=lambda: now[0]) as (systemd, fake):
        await systemd.units()
        fake.leave()
        await systemd.changed()
        with pytest.raises(Missing, match="not on the system bus now"):
            await systemd.units()
        assert systemd._address is not None
        again = await FakeSystemd.on(systemd._address)
        now[0] += source.RETRY_MOST_S
        await systemd.units()
        assert "Subscribe" in again.asked
        again.change(ONE, ActiveState="failed")
        await systemd.changed()
        assert (await systemd.units())[ONE].active == "failed"
        again.leave()


async def test_a_systemd_that_hangs_is_late(tmp_path: Path) -> None:
    """No answer within the limit, when all is read and when something is begun."""
    async with running(tmp_path, answer_s=0.1) as (systemd, fake):
        fake.silent = True
        with pytest.raises(Missing, match="does not answer") as found:
            await systemd.units()
        assert found.value.kind == "late"


async def test_without_systemd_or_without_a_bus_it_says_so(tmp_path: Path) -> None:
    """Plain processes; and a container that has systemd's folder but no socket."""
    with pytest.raises(Missing, match="plain processes") as off:
        await Systemd(booted=tmp_path / "no").units()
    nowhere = Systemd(address=f"unix:path={tmp_path}/none", booted=tmp_path)
    with pytest.raises(Missing, match="no D-Bus system bus here") as absent:
        await nowhere.units()
    with pytest.raises(Missing, match="no D-Bus system bus here") as unasked:
        await nowhere.act("start", ONE)
    assert unasked.value.remedy == absent.value.remedy, "nothing was begun"
    assert (off.value.kind, absent.value.kind) == ("off", "absent")
    assert absent.value.remedy


async def test_a_socket_that_speaks_no_dbus_is_no_bus(tmp_path: Path) -> None:
    """Nonsense instead of a login."""

    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-nonsense\r\n")
        writer.close()

    server = await asyncio.start_unix_server(nonsense, str(tmp_path / "bus"))
    with pytest.raises(Missing, match="connection to the system bus has ended"):
        await Systemd(address=f"unix:path={tmp_path}/bus", booted=tmp_path).units()
    server.close()


async def test_a_fault_in_the_signals_leaves_the_usual_turns() -> None:
    """And a source that fails is a reason on the desk, not an end."""

    class Broken(Play):
        async def changed(self) -> None:
            raise ZeroDivisionError

        async def units(self) -> Any:
            raise ZeroDivisionError

    desk = Desk(Broken(), Looks())
    drawn = asyncio.Event()
    polling = Polling(desk, lambda: 0.05, drawn.set)
    loops = [asyncio.ensure_future(loop) for loop in polling.loops().values()]
    async with asyncio.timeout(5):
        await drawn.wait()
        while desk.reading("status").at is None:  # noqa: ASYNC110 - no event of ours
            await asyncio.sleep(0.01)
    assert not any(loop.done() for loop in loops)
    missing = desk.reading("units").missing
    assert missing is not None and "ZeroDivisionError" in missing.reason
    for loop in loops:
        loop.cancel()
