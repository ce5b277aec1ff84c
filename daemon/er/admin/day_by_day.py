"""Tells the shared state what this host writes down day by day: usage and feedback.

On its start the days of some weeks, then those that changed. What the shared state lost comes back
with the next start at the latest.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from hashlib import blake2b

from er import days, shared_state
from er.config import State, directory
from er.days import Kind
from er.journal import Seldom, log, mishap
from er.shared_state import Away

EVERY_S = 60.0
SPARING = 50  # reading takes at most that part of the time
FIRST_DAYS, LATER_DAYS = 35, 2  # how far back it looks at its start, and from then on


class DayByDay:
    """The admin process's task, where [state] is set."""

    def __init__(self, state: State, host: str, *, now: Callable[[], float] = time.time) -> None:
        """`now` is in Unix seconds."""
        self._state, self._host, self._now = state, host, now
        self._client = shared_state.connect(state)
        self._told: dict[tuple[Kind, int], bytes] = {}  # digests
        self._days = FIRST_DAYS
        self._seldom = Seldom()

    async def run(self) -> None:
        """For ever. Why the shared state is away is another task's to say."""
        try:
            while True:
                began = time.monotonic()
                try:
                    await self.round()
                    self._days = LATER_DAYS
                except Away:
                    self._told, self._days = {}, FIRST_DAYS
                except OSError as error:
                    if self._seldom.due("disk"):
                        told = f"{error.filename}: {error.strerror}"
                        log("warning", f"usage and feedback are not told to other hosts: {told}")
                except Exception as error:
                    mishap(error, "telling usage and feedback to other hosts")
                await asyncio.sleep(max(EVERY_S, SPARING * (time.monotonic() - began)))
        finally:
            await self._client.aclose()

    async def round(self) -> None:
        """Tell what changed since the last time. Raises Away, OSError."""
        last = int(self._now() // days.DAY_S)
        found = await asyncio.to_thread(
            days.lines_of, directory("state"), last - self._days + 1, last
        )
        for (kind, day), lines in found.items():
            digest = blake2b(b"\n".join(lines), digest_size=16).digest()
            if self._told.get((kind, day)) == digest:
                continue
            entry = await asyncio.to_thread(days.packed, lines)
            await days.put(self._client, self._state, self._host, kind, day, entry)
            self._told[kind, day] = digest
