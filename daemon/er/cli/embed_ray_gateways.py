"""One actor of `er embed --ray` as a client of one or several gateways: whichever answers.

A group goes to the gateway with the fewest of this actor's requests. One that does not answer, or
says 429 or 503, rests as long as it says, and its groups go to the others.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import msgspec

from er.cli.bench_load import Where
from er.cli.embed_ask import PATIENCE_S, TRIES, Away, Got, Hopeless, Service, Wish
from er.cli.embed_ray_store import Secret

PAUSE_S, PAUSE_MAX_S = 0.5, 15.0  # of a gateway that does not say how long
FIRST_S = 60.0  # for the first answer of any: what never answers is more likely not there


class Lane(msgspec.Struct, frozen=True, kw_only=True):
    """Whom to ask for what, with how many requests at once."""

    gateways: tuple[Where, ...]
    key: Secret
    wish: Wish
    clients: int

    cpus: float = 1.0  # what an actor takes of its host
    gpus: float = 0.0


class _Gateway:
    """One of them, as this actor knows it."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.asked = 0  # requests on their way
        self.rests_until, self.failed = 0.0, 0


class Gateways:
    """All of them, behind the one method that a lane has."""

    def __init__(self, lane: Lane, now: Callable[[], float] = time.monotonic) -> None:
        self._now, self._patience_s = now, FIRST_S
        self._all = [
            _Gateway(Service(where, lane.key.value, lane.wish, lane.clients, patient=False))
            for where in lane.gateways
        ]
        self._places = asyncio.Semaphore(lane.clients)
        self.ahead = 2 * lane.clients  # groups that a part asks for before the first is there
        self._heard = now()
        self.waiting = ""  # why nothing comes at the moment

    async def embed(self, texts: Sequence[str]) -> Got:
        """The vectors of `texts`. Raises Hopeless."""
        refused = 0
        async with self._places:
            while True:
                gateway = await self._next()
                gateway.asked += 1
                try:
                    got = await gateway.service.embed(texts)
                except Away as away:
                    self._away(gateway, away)
                    refused += away.status not in (0, 429, 503)
                    silent = self._now() - self._heard
                    if refused >= TRIES or (away.status != 429 and silent > self._patience_s):
                        raise Hopeless(str(away)) from None
                    self.waiting = str(away)
                else:
                    self._heard, self._patience_s = self._now(), PATIENCE_S
                    gateway.failed, self.waiting = 0, ""
                    return got
                finally:
                    gateway.asked -= 1

    def _away(self, gateway: _Gateway, away: Away) -> None:
        pause_s = min(PAUSE_S * 2**gateway.failed, PAUSE_MAX_S)
        gateway.failed = min(gateway.failed + 1, 10)
        until = self._now() + max(pause_s, away.retry_s)
        gateway.rests_until = max(gateway.rests_until, until)

    async def _next(self) -> _Gateway:
        """The one to ask now, of those that don't rest; waits for the first to have rested."""
        while True:
            now = self._now()
            ready = [g for g in self._all if g.rests_until <= now]
            if ready:
                return min(ready, key=lambda g: g.asked)
            await asyncio.sleep(min(g.rests_until for g in self._all) - now)
