"""A first-time walk: what is needed at night is at most three keys from opening the console."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from textual import events
from textual.pilot import Pilot
from textual.widgets import TextArea

from console_live import until
from console_states import NOW, never
from er_console.console import Console
from er_console.demo import Demo
from er_console.looks import Looks
from er_console.parts import replica_of, unit_of
from er_console.screens.dialogs import Confirm
from er_console.screens.key_boxes import Secret
from er_console.screens.logs import LogsPage
from er_console.sources.machine import Machine
from er_console.state import Missing, Outcome, Unit
from fakes import EngineProcess
from running import DIMENSIONS, Gateway

pytestmark = pytest.mark.slow

KEYS_MAX = 3
FAILED_S = 50.0  # of the demo: embedding-1 has failed
SIZES = [(80, 24), (120, 40)]


class Walk:
    """A console just opened, and how many keys were pressed since."""

    def __init__(self, app: Console, pilot: Pilot[None]) -> None:
        self.app = app
        self.pilot = pilot
        self.pressed = 0

    async def press(self, *keys: str) -> None:
        """One after another, each seen through."""
        for key in keys:
            self.pressed += 1
            await self.pilot.press(key)
            await self.pilot.pause()
        await self.pilot.pause()
        assert self.pressed <= KEYS_MAX

    @property
    def seen(self) -> str:
        """What stands on the screen, as one line."""
        strips = self.app.screen._compositor.render_strips(self.app.size)
        rows = ("".join(segment.text for segment in strip) for strip in strips)
        return " ".join(" ".join(row.strip(" │") for row in rows).split())


class Asked(Demo):
    """The demo an instant after its replica failed, keeping what was asked for."""

    def __init__(self) -> None:
        super().__init__(wall=lambda: NOW, pause=never, start_at=FAILED_S)
        self.asked: list[tuple[str, str]] = []

    async def act(self, verb: str, unit: str) -> Outcome:
        self.asked.append((verb, unit))
        return Outcome(True, "done")


@asynccontextmanager
async def opened(size: tuple[int, int]) -> AsyncIterator[tuple[Walk, Asked]]:
    """The console on the demo, as it stands when it was just opened."""
    sources = Asked()
    app = Console(sources, Looks(), polls=False, wall=lambda: NOW)
    async with app.run_test(size=size) as pilot:
        await app.read_all()
        await pilot.pause()
        yield Walk(app, pilot), sources


@pytest.mark.parametrize("size", SIZES)
async def test_why_a_replica_is_down_is_seen_at_once(size: tuple[int, int]) -> None:
    """No key at all: the header names it, and the panel says the whole cause."""
    async with opened(size) as (walk, _):
        assert "embedding-1 failed: not enough GPU memory: 6.0 GiB wanted" in walk.seen
        assert "free on GPU 1" in walk.seen and walk.pressed == 0


@pytest.mark.parametrize("size", SIZES)
async def test_its_log_is_two_keys_away(size: tuple[int, int]) -> None:
    """w puts the cursor on it, l opens its log."""
    async with opened(size) as (walk, _):
        await walk.press("w", "l")
        assert isinstance(walk.app.screen, LogsPage) and walk.app.screen.unit == "embedding-1"
        assert "embedding-1 ERR" in walk.seen


@pytest.mark.parametrize("size", SIZES)
async def test_it_is_restarted_with_three_keys(size: tuple[int, int]) -> None:
    """w, R, and y to the question that says what will happen to whom."""
    async with opened(size) as (walk, sources):
        await walk.press("w", "R")
        assert isinstance(walk.app.screen, Confirm) and not sources.asked
        assert "er-vllm@embedding-1.service" in walk.app.screen.question.title
        assert "no client loses anything" in " ".join(walk.app.screen.question.sentences)
        await walk.press("y")
        assert sources.asked == [("restart", "er-vllm@embedding-1.service")]


@pytest.mark.parametrize("size", SIZES)
async def test_a_key_is_rotated_with_three_keys(size: tuple[int, int]) -> None:
    """4, O, enter: the new secret is on the screen, the old one stays valid for a day."""
    async with opened(size) as (walk, _):
        await walk.press("4", "O")
        assert "stays valid" in walk.seen and "24h" in walk.seen
        await walk.press("enter")
        assert isinstance(walk.app.screen, Secret) and "sk-er-kq7m2xw5a-" in walk.seen


@pytest.mark.parametrize(
    ("keys", "led_to"),
    [
        ("wRy", "restarts"),
        ("4Nqweb\r", "Key(id='k"),
        ("/qre\r", "filter: qre"),
        ("5/qerr\r", "filter: qerr"),
        ("6eqhi", "text: qhi"),
    ],
)
async def test_what_a_slow_link_brings_at_once_is_not_lost(keys: str, led_to: str) -> None:
    """Keys typed ahead come in one go: each does what it would have done; q in a word quits not."""
    async with opened((80, 24)) as (walk, sources):
        for key in keys:
            name = {"\r": "enter", "/": "slash"}.get(key, key)
            walk.app.post_message(events.Key(name, key if key.isprintable() else None))

        def told() -> list[str]:
            screen = walk.app.screen
            said = ["restarts" for verb, _ in sources.asked if verb == "restart"]
            said += [f"filter: {page.filter}" for page in walk.app.pages.values()]
            said += [f"text: {area.text}" for area in screen.query(TextArea)]
            return [*said, repr(screen.key) if isinstance(screen, Secret) else ""]

        await until(walk.pilot, lambda: any(said.startswith(led_to) for said in told()))
        assert walk.app.is_running


class Steered(Machine):
    """A real gateway's sockets; its engines are the units, and a restart is one of the process."""

    def __init__(self, runtime: Path, engines: Mapping[str, EngineProcess]) -> None:
        super().__init__(runtime)
        self.engines = engines
        self.manages_units = True

    async def units(self) -> Mapping[str, Unit]:
        names = [unit_of(name) for name in self.engines]
        return {name: Unit(name, "active", "running", since=NOW) for name in names}

    async def act(self, verb: str, unit: str) -> Outcome:
        assert verb == "restart"
        await asyncio.to_thread(self.engines[replica_of(unit)].start)
        return Outcome(True, f"{unit} is active (running)")

    def why_not_units(self) -> Missing | None:
        return None


async def test_a_real_replica_and_a_real_key(tmp_path: Path) -> None:
    """An engine of a running gateway dies: three keys restart it, it turns up; then a key."""
    with EngineProcess(dim=DIMENSIONS) as one, EngineProcess(dim=DIMENSIONS) as two:
        running = Gateway(tmp_path, [one, two])
        running.start()
        sources = Steered(running.runtime, {"e0": one, "e1": two})
        app = Console(sources, Looks())
        try:
            async with app.run_test(size=(80, 24)) as pilot:
                walk = Walk(app, pilot)
                await until(pilot, lambda: "2 of 2 replicas" in walk.seen)
                two.kill()
                await until(pilot, lambda: "e1 down: " in walk.seen)
                await walk.press("w", "R", "y")
                await until(pilot, lambda: state_of(app, "e1") == "up")
                walk.pressed = 0
                await walk.press("4", "O")
                await until(pilot, lambda: "24h" in walk.seen)
                await walk.press("enter")
                await until(pilot, lambda: isinstance(app.screen, Secret))
                assert isinstance(app.screen, Secret)
                secret = app.screen._secret
                assert (await asyncio.to_thread(running.embed, key=secret)).status == 200
        finally:
            sources.close()
            running.kill()


def state_of(app: Console, name: str) -> str:
    """A replica's state on the desk."""
    status = app.desk.snapshot.status.value
    return next((r.state for r in status.replicas if r.name == name), "") if status else ""
