"""Requests over their key's rate that are held until their turn: `rate_wait` of er.toml.

Each key has a line of its own in each worker, in the order in which its requests came; who comes
while one stands there goes to its end, also where the window would let it pass just now. Whoever
would stand longer than `rate_wait`, or past its deadline, is refused at once. So is one whose turn
another worker took, once its time is over. A request that is held has its place of max_concurrency
and its texts in memory, so no more than a quarter of the places hold some.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from er import limits
from er.limits import Limits, Taken, Unleased
from er.quantities import Rate

SECOND_NS = 1_000_000_000
SHORTEST_S = 0.001  # of a timer
LEASES_MOST = 20  # answers that one waits for, while others take what they bring
LEASE_S = 0.005  # until it is known whether a lease came
LATE_NS = 250_000_000  # that a turn may come later than reckoned: one by one they are some ms late


class _Held:
    """One request that waits."""

    def __init__(self, rate: Rate, until: int) -> None:
        self.rate = rate
        self.until = until  # on the clock of the windows, ns
        self.told: asyncio.Future[Taken] = asyncio.get_running_loop().create_future()


class Turns:
    """The lines of one worker."""

    def __init__(
        self, limits: Limits, wait_s: float, most: int, *, clock: Callable[[], int] = limits.now_ns
    ) -> None:
        """`wait_s`: the longest that one is held; `most`: at once. `clock`: of the windows, ns."""
        self._limits, self._wait_ns, self._most = limits, int(wait_s * SECOND_NS), most
        self._clock = clock
        self.lines: dict[str, deque[_Held]] = {}  # by key; none is empty
        self._held = 0

    async def take(self, key_id: str, rate: Rate, left_ns: int) -> Taken:
        """Count a request of a key, once its turn comes, if that is soon enough.

        `left_ns`: until its deadline. Raises LimitsFull.
        """
        now, line = self._clock(), self.lines.get(key_id)
        if line is None:
            taken = await self._known(key_id, rate)
            if taken.allowed:
                return taken
            now, line = self._clock(), self.lines.get(key_id)
        wait_s = self._limits.wait_s(key_id, rate, len(line or ()), now)
        if wait_s * SECOND_NS > min(self._wait_ns, left_ns) or self._held >= self._most:
            return Taken(False, rate.count, 0, wait_s, float(rate.period_s), 0, 0)
        held = _Held(rate, now + min(self._wait_ns + LATE_NS, left_ns))
        if line is None:
            line = self.lines[key_id] = deque()
            self._later(key_id, wait_s)
        line.append(held)
        self._held += 1
        try:
            return await held.told
        finally:
            self._held -= 1

    async def _known(self, key_id: str, rate: Rate) -> Taken:
        """What the key's window says, asked for where hosts share it."""
        for _ in range(LEASES_MOST):
            try:
                return self._limits.take(key_id, rate, self._clock())
            except Unleased as empty:
                await empty.filled()
        return Taken(False, rate.count, 0, SHORTEST_S, float(rate.period_s), 0, 0)

    def _later(self, key_id: str, wait_s: float) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(max(SHORTEST_S, wait_s), self._turn, key_id)

    def _turn(self, key_id: str) -> None:
        """Let in who may pass now; refuse who can't any more; look again when the next may."""
        line = self.lines[key_id]
        while line:
            first = line[0]
            if not first.told.done():  # done: its client left
                now = self._clock()
                try:
                    taken = self._limits.take(key_id, first.rate, now)
                except Unleased as empty:
                    empty.wanted(1)
                    self._later(key_id, LEASE_S)
                    return
                except Exception as error:
                    first.told.set_exception(error)
                    line.popleft()
                    continue
                wait_s = taken.retry_after_s
                if not taken.allowed and now + wait_s * SECOND_NS <= first.until:
                    self._later(key_id, wait_s)
                    return
                first.told.set_result(taken)
            line.popleft()
        del self.lines[key_id]
