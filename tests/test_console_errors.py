"""What stands on the screen when systemd changes something, or a part does not answer, and why."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from er_console.console import Console
from er_console.looks import Looks
from er_console.sources.admin import Admin
from er_console.sources.systemd import Systemd
from er_console.state import Unit
from fake_systemd import FakeSystemd, private_bus
from test_console_screens import Play, press, text, toasts
from test_console_systemd import DENIED, ONE, until

pytestmark = pytest.mark.slow


class OnBus(Play):
    """A play whose units and actions are systemd's, as far as there is one."""

    def __init__(self, systemd: Systemd) -> None:
        super().__init__()
        self.systemd = systemd

    async def units(self) -> dict[str, Unit]:
        return dict(await self.systemd.units())

    async def changed(self) -> None:
        await self.systemd.changed()

    async def act(self, verb: str, unit: str) -> Any:
        return await self.systemd.act(verb, unit)


@asynccontextmanager
async def beside(
    systemd: Systemd, every_s: float = 1.0
) -> AsyncIterator[tuple[Console, Pilot[None]]]:
    """The console on that systemd, with its ticks; the gateway of the play is well."""
    app = Console(OnBus(systemd), Looks())
    app.interval_s = every_s
    async with app.run_test(size=(120, 40)) as pilot:
        try:
            yield app, pilot
        finally:
            systemd.close()


async def shown(app: Console, words: str) -> None:
    """Until the screen has this, however it is broken into rows."""
    await until(lambda: words in re.sub(r"[\s│]+", " ", text(app)))


async def test_no_bus(tmp_path: Path) -> None:
    """In a container: the rest goes on, and an action says the same."""
    async with beside(Systemd(address=f"unix:path={tmp_path}/none", booted=tmp_path)) as (
        app,
        pilot,
    ):
        await shown(
            app, "no unit states: there is no D-Bus system bus here, by which systemd is asked"
        )
        assert "● OK" in text(app)
        await press(pilot, "j", "R", "y")
        await until(lambda: "there is no D-Bus system bus here" in toasts(app))
        assert "systemctl status" in toasts(app)


async def test_a_bus_that_dies_and_comes_back(tmp_path: Path) -> None:
    """The last known states until they are old; then what is missing; then the states again."""
    now = [100.0]
    with private_bus(tmp_path) as address:
        fake = await FakeSystemd.on(address)
        systemd = Systemd(address=address, booted=tmp_path, monotonic=lambda: now[0])
        app = Console(OnBus(systemd), Looks(), wall=lambda: now[0])
        running = app.run_test(size=(120, 40))
        pilot = await running.__aenter__()
        await until(lambda: ONE in (app.desk.snapshot.units.value or {}))
        fake.result = None
        await press(pilot, "j", "R", "y")
        await until(lambda: "RestartUnit" in fake.asked)
    await until(lambda: "the connection to the system bus has ended" in toasts(app))
    assert "It may have been done all the same" in toasts(app)
    now[0] += 10.0
    await shown(app, "no unit states: ")
    assert "D-Bus" in text(app) or "system bus" in text(app)
    with private_bus(tmp_path) as address:
        fake = await FakeSystemd.on(address)
        now[0] += 60.0
        await until(lambda: app.desk.snapshot.units.missing is None)
        await until(lambda: "no unit states" not in text(app))
        systemd.close()
        fake.leave()
        await running.__aexit__(None, None, None)


FAILURES = [
    (DENIED, "", None, ("(polkit)", "sudo systemctl restart")),
    (
        "org.freedesktop.systemd1.NoSuchUnit",
        "Unit er-vllm@x.service not found.",
        None,
        ("restart failed, Unit er-vllm@x.service not found.", "systemctl status"),
    ),
    ("", "", "failed", ("restart failed, er-vllm@one.service is active", "journalctl -u")),
    ("", "", "canceled", ("somebody else's request took its place", "journalctl -u")),
]


async def test_actions_that_fail(tmp_path: Path) -> None:
    """polkit refuses, no such unit, the job fails, another's takes its place: the reason, and the
    command that does it or tells more; the row is as it was."""
    with private_bus(tmp_path) as address:
        fake = await FakeSystemd.on(address)
        async with beside(Systemd(address=address, booted=tmp_path)) as (app, pilot):
            await until(lambda: bool(re.search(r"one .*● running", text(app))))
            await press(pilot, "G", "k")
            for refuses, said, result, words in FAILURES:
                fake.refuses, fake.said, fake.result = refuses, said, result
                await press(pilot, "R", "y")
                await until(lambda words=words: all(w in toasts(app) for w in words))  # type: ignore[misc]
                assert app.desk.pending == {}
        fake.leave()


async def test_a_change_is_on_the_screen_before_the_next_tick(tmp_path: Path) -> None:
    """Ticks are ten seconds apart here; a failed unit stands there at once, its restart too."""
    with private_bus(tmp_path) as address:
        fake = await FakeSystemd.on(address)
        systemd = Systemd(address=address, booted=tmp_path)
        async with beside(systemd, every_s=10.0) as (app, pilot):
            await until(lambda: bool(re.search(r"one .*● running", text(app))))
            began = asyncio.get_running_loop().time()
            fake.change(ONE, ActiveState="failed", SubState="failed")
            await until(lambda: bool(re.search(r"one .*✖ failed", text(app))))
            assert asyncio.get_running_loop().time() - began < 2
            fake.result = None
            await press(pilot, "G", "k", "R", "y")
            await until(lambda: "restarting" in text(app))
            fake.change(ONE, ActiveState="active", SubState="running")
            fake.end_job(1, ONE, "done")
            await until(lambda: bool(re.search(r"one .*● running", text(app))))
        fake.leave()


async def _serve(listener: socket.socket, kind: str) -> None:
    """Takes what is asked and does not answer it, closes with it unread, or writes nonsense."""
    loop = asyncio.get_running_loop()
    held = []
    while True:
        connection, _ = await loop.sock_accept(listener)
        held.append(connection)
        if kind == "garbage":
            await loop.sock_recv(connection, 4096)
            connection.send(b'HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n{"a":')
        if kind != "hangs":
            await asyncio.sleep(0.05)
            connection.close()


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("hangs", "the admin API did not answer within 0 s"),
        ("resets", "broke: Connection reset by peer"),
        ("garbage", "the admin API's answer can't be read"),
    ],
)
async def test_an_admin_api_that_is_sick(tmp_path: Path, kind: str, words: str) -> None:
    """The verdict is unknown, with the reason; keys say the same; units go on."""

    class Sick(Play):
        admin = Admin(tmp_path / "admin.sock", by_systemd=False, timeout_s=0.2)

        async def status(self) -> Any:
            return await self.admin.status()

        async def keys(self) -> Any:
            return await self.admin.keys()

    listener = socket.socket(socket.AF_UNIX)
    listener.setblocking(False)
    listener.bind(str(tmp_path / "admin.sock"))
    listener.listen()
    server = asyncio.create_task(_serve(listener, kind))
    app = Console(Sick(), Looks())
    async with app.run_test(size=(120, 40)) as pilot:
        await shown(app, words)
        assert "? UNKNOWN" in text(app) and "● running" in text(app)
        await press(pilot, "4")
        await shown(app, words)
    server.cancel()
    listener.close()
