"""The console on a real gateway's sockets, and waiting for what it shows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from textual.pilot import Pilot

from er_console.console import Console
from er_console.looks import Looks
from er_console.sources.machine import Machine

PATIENCE_S = 20.0


@asynccontextmanager
async def beside(runtime: Path) -> AsyncIterator[tuple[Console, Pilot[None]]]:
    """The console with its pollers, on the sockets in that runtime directory."""
    machine = Machine(runtime)
    app = Console(machine, Looks())
    try:
        async with app.run_test(size=(120, 40)) as pilot:
            yield app, pilot
    finally:
        machine.close()


def text(app: Console) -> str:
    """What stands on the screen, row by row, as a person reads it."""
    rows = [
        "".join(segment.text for segment in strip)
        for strip in app.screen._compositor.render_strips(app.size)
    ]
    return "\n".join(rows)


async def until(pilot: Pilot[None], found: Callable[[], bool]) -> None:
    """As soon as it is so; fails after a while."""
    limit = time.monotonic() + PATIENCE_S
    while not found():
        assert time.monotonic() < limit, "not in time"
        await asyncio.sleep(0.05)
        await pilot.pause()
