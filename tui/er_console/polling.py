"""Ask the sources, each at its pace, and at once when systemd signals; fill the desk with it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

from er_console.desk import Desk
from er_console.state import Missing

UNITS_EVERY = 2  # of the ticks: signals tell of units, and the rest changes slowly
BLURRED_S = 5.0
PAUSE_S = 0.1
BURST_S = 0.05  # a restart is some 16 signals


class Polling:
    """What keeps the desk fresh. `pace` is how many seconds apart the ticks are now; `draw` is
    called for what must not wait for the next one."""

    def __init__(self, desk: Desk, pace: Callable[[], float], draw: Callable[[], None]) -> None:
        self._desk = desk
        self._pace = pace
        self._draw = draw
        self._asked = {name: asyncio.Event() for name in ("units", "status", "samples")}

    def loops(self) -> dict[str, Coroutine[Any, Any, None]]:
        """What is to run side by side, by name; none of them ends."""
        sources = self._desk.sources
        return {
            "units": self._keep_asking("units", sources.units, UNITS_EVERY),
            "status": self._keep_asking("status", sources.status, 1),
            "gpus": self._keep_asking("gpus", sources.gpus, UNITS_EVERY),
            "samples": self._keep_asking("samples", sources.samples, UNITS_EVERY),
            "changes": self._hear(),
        }

    async def _keep_asking(self, name: str, read: Callable[[], Awaitable[Any]], every: int) -> None:
        asked = False
        while True:
            pace = self._pace()
            first = self._desk.reading(name).at is None
            began = time.monotonic()
            await self.read(name, read, pace)
            if first or asked:
                self._draw()
            # From start to start: a slow answer must not make the next one late, and so unknown.
            pause = max(PAUSE_S, pace * every - (time.monotonic() - began))
            asked = await self._asked_for(name, pause)

    async def _asked_for(self, name: str, within_s: float) -> bool:
        """Waits until a source is asked for out of turn, or its turn has come (False)."""
        asked = self._asked.get(name)
        if asked is None:
            await asyncio.sleep(within_s)
            return False
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await asked.wait()
        found = asked.is_set()
        asked.clear()
        return found

    async def _hear(self) -> None:
        """What systemd signals is read and drawn at once, with what depends on it."""
        while True:
            try:
                await self._desk.sources.changed()
            except Exception:  # a fault there leaves the usual turns
                await asyncio.sleep(BLURRED_S)
                continue
            await asyncio.sleep(BURST_S)
            for asked in self._asked.values():
                asked.set()
            await asyncio.sleep(PAUSE_S)

    async def read(self, name: str, read: Callable[[], Awaitable[Any]], pace: float) -> None:
        """Ask a source once and put its answer, or why there is none, on the desk."""
        try:
            value = await read()
        except Missing as missing:
            self._desk.take(name, self._desk.reading(name).failed(missing), pace)
        except Exception as error:  # a fault in one source must neither end nor freeze the console
            wrong = Missing("wrong", f"{name}: {type(error).__name__}: {error}")
            self._desk.take(name, self._desk.reading(name).failed(wrong), pace)
        else:
            self._desk.take(name, self._desk.reading(name).took(value, self._desk.wall()), pace)

    async def read_all(self) -> None:
        """Ask all sources once, and draw: after an action, and in tests."""
        sources = self._desk.sources
        readings: dict[str, Callable[[], Awaitable[Any]]] = {
            "units": sources.units,
            "status": sources.status,
            "gpus": sources.gpus,
            "samples": sources.samples,
        }
        for name, read in readings.items():
            await self.read(name, read, self._pace())
        self._draw()
