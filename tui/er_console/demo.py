"""The same sources, played: a recorded day of two GPUs, opened just before an outage.

For people who want to see the console without a GPU, for its screenshots and its tests. What is
shown is a pure function of the clock and of what the operator did; nothing real is touched.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from er_console import played_logs, played_quality, played_status, played_traffic, recorded
from er_console.graded import Quality
from er_console.played import PlayedConfig, PlayedTrial
from er_console.played_keys import PlayedKeys
from er_console.reading import read_status
from er_console.state import (
    Gpu,
    Key,
    LogLine,
    Missing,
    Outcome,
    Past,
    Recent,
    Sample,
    Status,
    Unit,
)
from er_console.story import EMBEDDING, LOAD_S, RERANKER, STOP_S, Story


class Demo:
    """Sources from a play. `wall` is the clock; `pause` waits as asyncio.sleep does.

    `start_at` seconds of the play are over already when it begins.
    """

    tag = "DEMO"
    manages_units = True

    def __init__(
        self,
        *,
        wall: Callable[[], float] = time.time,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        start_at: float = 0.0,
    ) -> None:
        self._wall = wall
        self._pause = pause
        self.story = Story(wall() - start_at)
        self._keys = PlayedKeys(wall())
        self.config = PlayedConfig()
        self.trial = PlayedTrial(EMBEDDING, RERANKER)

    async def status(self) -> Status:
        """The status of this moment; with the gateway stopped there is none, as in life."""
        now = self._wall()
        if self.story.gateway(now).state in ("stopped", "stopping"):
            raise Missing("stopped", "the gateway is stopped", "sudo systemctl start er.target")
        return read_status(played_status.status_json(self.story, now))

    async def units(self) -> Mapping[str, Unit]:
        """The units of the play."""
        return played_status.units(self.story, self._wall())

    async def changed(self) -> None:
        """Never: the play is drawn as often as it is looked at."""
        await asyncio.Event().wait()

    async def gpus(self) -> tuple[Gpu, ...]:
        """The cards of the status, healthy."""
        found = read_status(played_status.status_json(self.story, self._wall()))
        return tuple(replace(gpu, ecc_errors=0, throttle="") for gpu in found.gpus)

    async def samples(self) -> tuple[Sample, ...]:
        """None: the play's samples are in its status."""
        return ()

    async def history(self, seconds: int) -> Past:
        """The traffic of the last 300, 3600 or 86400 seconds."""
        past = recorded.history(self.story, seconds, self._wall())
        return replace(past, parts=played_traffic.parts(past))

    async def recent(self, seconds: int) -> Recent:
        """The requests of the last 60 or 300 seconds."""
        return played_traffic.recent(self.story.figures, seconds, self._wall())

    async def keys(self) -> tuple[Key, ...]:
        """The play's keys."""
        now = self._wall()
        return self._keys.all(now, self.story.figures(now))

    async def create_key(self, options: Mapping[str, Any]) -> tuple[Key, str]:
        """A new key of the play; good for nothing."""
        return self._keys.create(options, self._wall())

    async def rotate_key(self, key_id: str, grace: str) -> tuple[Key, str]:
        """A new secret of the play."""
        return self._keys.rotate(key_id, grace, self._wall())

    async def change_key(self, key_id: str, fields: Mapping[str, Any]) -> Key:
        """A key of the play, changed."""
        return self._keys.change(key_id, fields, self._wall())

    async def revoke_key(self, key_id: str) -> None:
        """The key leaves the list."""
        self._keys.revoke(key_id)

    async def quality(self) -> Quality:
        """The canary's runs, and what clients said."""
        return played_quality.quality(self.story, self._wall())

    async def drain(self, replica: str, on: bool) -> Outcome:
        """In or out at once."""
        self.story.drain(self._wall(), replica, on)
        said = "gets no new requests" if on else "takes requests again"
        return Outcome(True, f"{replica} {said}")

    async def act(self, verb: str, unit: str) -> Outcome:
        """A stop takes two seconds, a load eight more."""
        self.story.ask(self._wall(), verb, unit)
        await self._pause(STOP_S if verb == "stop" else STOP_S + LOAD_S)
        state = "inactive (dead)" if verb == "stop" else "active (running)"
        return Outcome(True, f"{unit} is {state}")

    async def follow(
        self, unit: str, level: int = 7, key: str = ""
    ) -> AsyncIterator[Sequence[LogLine]]:
        """The night's lines, those of the last two minutes, then a few a second."""
        wanted = played_logs.Wanted(unit, level, key)
        yield played_logs.earlier(self.story, self._wall(), wanted)
        while True:
            await self._pause(1.0)
            yield played_logs.lines(self.story, self._wall(), wanted)

    async def lines_of(self, request: str) -> Sequence[LogLine]:
        """Of a request of the last ten minutes."""
        now = self._wall()
        found = played_logs.lines_of(self.story, now, request)
        return found or played_traffic.lines_of(self.story.figures, request, now)

    async def record_of(self, line: LogLine) -> Sequence[tuple[str, str]]:
        """What the line itself says."""
        return played_logs.record_of(line)

    def why_not_units(self) -> Missing | None:
        """Everybody may everything in a play."""
        return None

    def close(self) -> None:
        """Nothing runs in the background."""
