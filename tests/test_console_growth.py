"""A console that is left open for a week does not grow: memory, tasks, threads, files, queues."""

from __future__ import annotations

import asyncio
import functools
import gc
import json
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
from textual.cache import FIFOCache, LRUCache
from textual.pilot import Pilot

from console_states import NOW
from er_console.console import Console
from er_console.demo import Demo
from er_console.desk import CHANGES_MAX, Desk
from er_console.judgement import Change
from er_console.looks import Looks
from er_console.panels import HISTORY_POINTS
from er_console.screens.page import PAGES
from er_console.state import Reading

pytestmark = pytest.mark.slow

WEEK_S = 604800
REPORT = Path(__file__).parent / "reports" / "console-week.json"
# Blocks of memory that one turn (every page, a box, a held log) may leave behind: one reading that
# is kept for ever has hundreds.
BLOCKS_A_TURN = 50
NOISE = 1000  # blocks that come and go in a process in which other tests ran before


@dataclass(frozen=True, slots=True)
class Held:
    """What the process holds at a moment."""

    turns: int
    blocks: int
    tasks: int
    threads: int
    files: int
    queued: int


class Week(Demo):
    """The demo whose clock is moved by hand; who waits, waits for it to move."""

    def __init__(self) -> None:
        self.now = NOW
        self.moved = asyncio.Event()
        super().__init__(wall=lambda: self.now, pause=self._pause)

    async def _pause(self, seconds: float) -> None:
        await self.moved.wait()

    def move(self, seconds: float) -> None:
        """It is later."""
        self.now += seconds
        self.moved.set()
        self.moved.clear()


def held(app: Console, turns: int) -> Held:
    """As counted after a full collection, without caches: they have their bounds."""
    for found in gc.get_objects():
        if isinstance(found, functools._lru_cache_wrapper):
            found.cache_clear()
        elif isinstance(found, LRUCache | FIFOCache):
            found.clear()
    gc.collect()
    pumps = [app, *app.screen_stack, *app.pages.values()]
    return Held(
        turns,
        sys.getallocatedblocks(),
        len(asyncio.all_tasks()),
        threading.active_count(),
        len(list(Path("/proc/self/fd").iterdir())),
        sum(pump._message_queue.qsize() for pump in pumps),
    )


async def fill(app: Console, week: Week) -> None:
    """What is kept of the past, and has its bounds, is full before it is watched."""
    for _ in range(HISTORY_POINTS):
        week.move(1.0)
        await app.read("status", week.status, 1.0)
    app.desk.changes.extend([Change(NOW, "one", "up", "down", "why")] * CHANGES_MAX)


async def turn(app: Console, pilot: Pilot[None], week: Week, step_s: float) -> None:
    """Look at every page, hold and follow the log, open a box and leave it; time goes on."""
    for _, digit, _ in PAGES:
        await pilot.press(digit)
        await tick(app, pilot, week, step_s)
    await pilot.press("5", "k")
    await tick(app, pilot, week, step_s)
    await pilot.press("G", "4", "O", "escape", "1", "j")
    await tick(app, pilot, week, step_s)


async def tick(app: Console, pilot: Pilot[None], week: Week, step_s: float) -> None:
    """What a second brings, a while later."""
    week.move(step_s)
    await app.read_all()
    await pilot.pause()


async def watched(turns: int) -> list[Held]:
    """A week in that many turns; what is held after each tenth of it."""
    week = Week()
    app = Console(week, Looks(), polls=False, wall=lambda: week.now)
    found = []
    async with app.run_test(size=(120, 40)) as pilot:
        await fill(app, week)
        step_s = WEEK_S / turns / (len(PAGES) + 2)
        for number in range(turns):
            await turn(app, pilot, week, step_s)
            if (number + 1) % (turns // 10) == 0:
                found.append(held(app, number + 1))
    return found


def judge(found: list[Held]) -> None:
    """The last tenth holds what the second did (the first fills what is bounded)."""
    first, last = found[1], found[-1]
    assert (last.tasks, last.threads, last.files) == (first.tasks, first.threads, first.files)
    assert last.queued <= first.queued + 3
    bound = BLOCKS_A_TURN * (last.turns - first.turns) + NOISE
    assert last.blocks - first.blocks < bound, [each.blocks for each in found]


async def test_a_week_on_the_screen_leaves_nothing_behind() -> None:
    """Every page is drawn again and again."""
    judge(await watched(10))


async def test_a_week_of_readings_leaves_nothing_behind() -> None:
    """What is kept of the past and of changes is bounded: a replica fails and comes back."""
    week = Week()
    desk = Desk(week, Looks(), wall=lambda: week.now)
    kept = []
    for number in range(20000):
        week.move(WEEK_S / 20000)
        if number % 100 == 0:  # the same ones again: what is asked is how they are kept
            good, bad = await Demo(wall=lambda: week.now).status(), await week.status()
        desk.take("status", Reading(good if number % 2 else bad, week.now), 1.0)
        if number in (2000, 19999):
            kept.append((len(desk.changes), max(len(desk.history.of("p95_ms")), 1)))
    assert kept[0] == kept[1]


@pytest.mark.long
@pytest.mark.timeout(3600)
async def test_ten_thousand_screens_leave_nothing_behind() -> None:
    """As above, 40 times as often; the report says what was held when."""
    began = time.monotonic()
    found = await watched(1200)
    took = round(time.monotonic() - began)
    report = {"seconds": took, "held": [asdict(one) for one in found]}
    REPORT.write_text(json.dumps(report, indent=1) + "\n")
    judge(found)
