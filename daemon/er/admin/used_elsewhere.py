"""Quotas over hosts: tells what this host's keys used this month, and hears what the others' did.

Each host keeps one entry a month, of its own figures alone, so nothing is ever counted twice, and
what is told late is told whole. Only keys with a quota are asked for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from er import keys, shared_state, usage
from er.config import State, directory
from er.journal import Seldom, log, mishap
from er.shared_state import Away
from er.usage import elsewhere
from er.usage.monthly import Monthly, Spent

EVERY_S = 1.0
KEPT_S = 62 * 86400  # of an entry: its month and as much again


class UsedElsewhere:
    """The admin process's task, where [state] is set."""

    def __init__(self, state: State, host: str, *, now: Callable[[], float] = time.time) -> None:
        """`now` is in Unix seconds."""
        self._state, self._host, self._now = state, host, now
        self._client = shared_state.connect(state)
        self._monthly: Monthly | None = None
        self._told: dict[str, Spent] = {}
        self._begins = 0
        self._heard: dict[str, Spent] | None = None
        self._seldom = Seldom()

    async def run(self) -> None:
        """For ever. Why the shared state is away is another task's to say."""
        try:
            while True:
                try:
                    await self.round()
                except Away:
                    self._told = {}  # what it has by then is not known: all is told again
                except OSError as error:
                    if self._seldom.due("disk"):
                        told = f"{error.filename}: {error.strerror}"
                        log("warning", f"quotas: what other hosts use is not written: {told}")
                except Exception as error:
                    mishap(error, "sharing what quotas count")
                await asyncio.sleep(EVERY_S)
        finally:
            await self._client.aclose()

    async def round(self) -> None:
        """Tell and hear once. Raises Away, OSError."""
        now, state = self._now(), directory("state")
        if self._monthly is None:
            self._monthly = await asyncio.to_thread(Monthly.open, usage.folder(state), now)
        begins = self._monthly.begins(now)
        if begins != self._begins:
            self._begins, self._told, self._heard = begins, {}, None
        mine = self._monthly.all(now)
        changed = {key: spent for key, spent in mine.items() if self._told.get(key) != spent}
        bounded = await asyncio.to_thread(_with_quota)
        with shared_state.asked(self._state):
            if changed:
                await self._tell(changed)
                self._told |= changed
            found = await self._hear(bounded) if bounded else {}
        if found != self._heard:
            await asyncio.to_thread(elsewhere.write, directory("runtime"), begins, found)
            self._heard = found

    async def _tell(self, changed: dict[str, Spent]) -> None:
        name = self._name(self._host)
        await self._client.sadd(self._hosts(), self._host)
        await self._client.hset(
            name,
            mapping={key: f"{spent.requests} {spent.tokens}" for key, spent in changed.items()},
        )
        await self._client.expire(name, KEPT_S)
        await self._client.expire(self._hosts(), KEPT_S)

    async def _hear(self, bounded: list[str]) -> dict[str, Spent]:
        found: dict[str, Spent] = {}
        hosts = {
            host.decode(errors="replace") for host in await self._client.smembers(self._hosts())
        }
        for host in sorted(hosts - {self._host}):
            told = await self._client.hmget(self._name(host), bounded)
            for key, figures in zip(bounded, told, strict=True):
                if figures is not None and (spent := _spent(figures)) is not None:
                    before = found.get(key, Spent(0, 0))
                    found[key] = Spent(
                        before.requests + spent.requests, before.tokens + spent.tokens
                    )
        return found

    def _hosts(self) -> str:
        return shared_state.key(self._state.name, "spent", str(self._begins))

    def _name(self, host: str) -> str:
        return shared_state.key(self._state.name, "spent", str(self._begins), host)


def _spent(figures: bytes) -> Spent | None:
    """As it was told; None where it is no such thing. More figures than these two may follow."""
    parts = figures.split()
    if len(parts) < 2 or not all(part.isdigit() and len(part) < 19 for part in parts[:2]):
        return None
    return Spent(int(parts[0]), int(parts[1]))


def _with_quota() -> list[str]:
    """The ids of keys with a quota, as last known."""
    try:
        return [one.id for one in keys.read(keys.path()) if one.quota is not None]
    except keys.KeysError:
        return []
