"""The vectors that hosts share: two generations in the shared state, as there are two on disk.

A generation is a hash, digest to value: a checksum of both, then the numbers. `look.lua` asks the
two newest, `keep.lua` writes the newest and begins the next when that holds half of the size; both
say how they lie. Whatever is wrong there is a miss.

A look is for the event loop: what is wanted while one call is under way goes with the next one, no
request waits longer than `WAIT_S` for a call, and where one fails nobody asks for a while. Writing
is for the cache's thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
import zlib
from collections.abc import Callable, Container, Sequence
from typing import Any, NamedTuple

import numpy as np

from er import journal, shared_state
from er.cache.generation import WIRE
from er.cache.layout import CHECKSUM
from er.cache.plan import Numbers, Plan
from er.config.state import address
from er.config.structs import State
from er.shared_state import Away

WAIT_S = 0.05  # for an answer
# That nobody asks after a call that failed or was late, and after many.
AWAY_S, AWAY_MOST_S = 0.5, 8.0
LOOKED, KEPT = 256, 64  # entries of one call
STAYS_S = 7 * 86400
PENDING_BYTES = 8 << 20  # computed and not yet written
MUTE_S = 5.0  # after a write that failed
OUTAGES = ("unreachable", "late", "starting")  # of these who follows the shared state tells
SHORT = (
    "has under a fifth of its memory left: raise its maxmemory, or lower [cache] shared on every "
    "host"
)
BESIDE = 96  # bytes that an entry takes beside its value: key, table, pointers


def pack(digest: bytes, row: Numbers) -> bytes:
    """Its value in the shared state."""
    numbers = np.ascontiguousarray(row, WIRE).tobytes()
    return zlib.crc32(numbers, zlib.crc32(digest)).to_bytes(CHECKSUM, "little") + numbers


def unpack(digest: bytes, value: bytes | None, shape: tuple[int, ...]) -> Numbers | None:
    """The numbers in a value; None where they are none of `shape`, or not what was kept."""
    size = 4 * (shape[0] if shape else 1)
    if value is None or len(value) != CHECKSUM + size:
        return None
    checksum = zlib.crc32(memoryview(value)[CHECKSUM:], zlib.crc32(digest))
    if value[:CHECKSUM] != checksum.to_bytes(CHECKSUM, "little"):
        return None
    return np.frombuffer(value, WIRE, offset=CHECKSUM).reshape(shape)


Values = list[bytes | None]


class _Asked(NamedTuple):
    digests: Sequence[bytes]
    told: asyncio.Future[Values]


class Looking:
    """Asks for one worker."""

    def __init__(self, state: State) -> None:
        self._state, self._head = state, shared_state.key(state.name, "vectors")
        self._script = shared_state.Script("er.cache", "look.lua")
        self._client: Any = None
        self._asked: list[_Asked] = []
        self._task: asyncio.Task[None] | None = None
        self._until, self._pause = 0.0, AWAY_S

    @property
    def awake(self) -> bool:
        """Whether there is any sense in asking now."""
        return time.monotonic() >= self._until

    def asked(self, plan: Plan) -> asyncio.Future[Values] | None:
        """Ask for what `plan` wants, a few at most; None where there is no sense in it.

        What it says is for `learned`. It never fails; who does not wait any more cancels it.
        """
        if plan.shared is None or not self.awake:
            return None
        return self._ask(plan.shared)

    def learned(self, plan: Plan, values: Sequence[bytes | None]) -> None:
        """Take into `plan` what came of it."""
        found = {}
        for position, (digest, value) in enumerate(zip(plan.shared or (), values, strict=False)):
            row = unpack(digest, value, plan.shape)
            if row is not None:
                found[position] = row
        plan.engine.shared_hits += len(found)
        plan.engine.shared_misses += len(values) - len(found)
        plan.learned(found)

    async def complete(self, plan: Plan) -> None:
        """Ask for all that `plan` wants, and take it into it."""
        if plan.shared is None:
            return
        pieces = [plan.shared[i : i + LOOKED] for i in range(0, len(plan.shared), LOOKED)]
        told = await asyncio.gather(*map(self._ask, pieces))
        if not all(told):  # what some of them found stands at other places then
            return
        self.learned(plan, [value for part in told for value in part])

    def _ask(self, digests: Sequence[bytes]) -> asyncio.Future[Values]:
        """What there is of these; [] where nobody says."""
        loop = asyncio.get_running_loop()
        told: asyncio.Future[Values] = loop.create_future()
        if not self.awake:
            told.set_result([])
            return told
        self._asked.append(_Asked(digests, told))
        if self._task is None:
            self._task = loop.create_task(self._run())
        return told

    async def close(self) -> None:
        """Ask no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._task = None
        self._let_go()  # a task that is cancelled before it begins ends nothing
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(Exception):
                await client.aclose()

    async def _run(self) -> None:
        try:
            while self._asked:
                await self._round()
        except Exception as error:
            journal.mishap(error, "looking for vectors that hosts share")
        finally:
            self._task = None
            self._let_go()

    def _let_go(self) -> None:
        """Nobody waits any more."""
        for one in self._asked:
            _tell(one, [])
        self._asked.clear()

    async def _round(self) -> None:
        some: list[_Asked] = []
        count = 0
        while self._asked and (not some or count + len(self._asked[0].digests) <= LOOKED):
            one = self._asked.pop(0)
            if not one.told.done():
                some.append(one)
                count += len(one.digests)
        if some and not await self._answered(some):
            self._until = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, AWAY_MOST_S)
            self._let_go()
        elif some:
            self._until, self._pause = 0.0, AWAY_S

    async def _answered(self, some: Sequence[_Asked]) -> bool:
        """Ask for these, and tell all of them; whether the answer came in time."""
        values: Values = []
        call = asyncio.create_task(self._call([d for one in some for d in one.digests]))
        try:
            in_time, _ = await asyncio.wait({call}, timeout=WAIT_S)
            if not in_time:  # it goes on, as a connection may have to be made; nobody waits for it
                self._until = math.inf
                for one in some:
                    _tell(one, [])
                self._let_go()
            values = await call
        except Away:  # who follows the shared state tells of it
            return False
        finally:
            call.cancel()
            for one in some:
                _tell(one, values[: len(one.digests)])
                values = values[len(one.digests) :]
        return bool(in_time)

    async def _call(self, digests: Sequence[bytes]) -> Values:
        """What the script finds. Raises Away."""
        with shared_state.asked(self._state):
            if self._client is None:
                self._client = shared_state.connect(self._state)
            words: list[bytes | int] = [BESIDE, *digests]
            found: Values = await self._script.later(self._client, [self._head], words)
        return found


def _tell(one: _Asked, values: Values) -> None:
    if not one.told.done():
        one.told.set_result(values)


class Keeping:
    """Writes for one worker: `put` is for the event loop, all else for a thread, which may wait."""

    def __init__(self, state: State, size: int) -> None:
        """`size`: bytes of both generations."""
        self._state, self._half = state, size // 2
        self._head = shared_state.key(state.name, "vectors")
        self._script = shared_state.Script("er.cache", "keep.lua")
        self._client: Any = None
        self._pending: dict[bytes, tuple[str, Numbers]] = {}
        self._bytes = self._unkept = 0
        self._until = 0.0  # monotonic; nothing is written before
        self._said = ""

    def put(self, name: str, digest: bytes, row: Numbers) -> None:
        """Have it written, what an engine of that name between hosts computed."""
        if self._bytes >= PENDING_BYTES:
            self._unkept += 1
            return
        self._pending[digest] = (name, row)
        self._bytes += row.nbytes + len(digest)

    def flush(self, now: float, names: Callable[[], Container[str]]) -> int:
        """Write what came of engines that still have one of these `names`; how many were dropped.

        Never raises for what is wrong with the server.
        """
        waiting, self._pending, self._bytes = self._pending, {}, 0
        unkept, self._unkept = self._unkept, 0
        if not waiting:
            return unkept
        if now < self._until:
            return unkept + len(waiting)
        there, good = list(waiting.items()), names()  # at once: the loop may just be adding one
        entries = [(digest, row) for digest, (name, row) in there if name in good]
        try:
            kept = self._keep(entries)
        except Away as away:
            self._until = now + MUTE_S
            if away.cause not in OUTAGES:
                self._say(away.text)
            return unkept + len(waiting)
        if kept < len(entries):
            self._until = now + MUTE_S
            self._say(f"the shared state ({address(self._state.url)}) {SHORT}")
        else:
            self._say("")
        return unkept + len(waiting) - kept

    def _keep(self, entries: Sequence[tuple[bytes, Numbers]]) -> int:
        """How many the server had the memory for. Raises Away; then some may be kept."""
        with shared_state.asked(self._state):
            if self._client is None:
                self._client = shared_state.connect_now(self._state)
            for begin in range(0, len(entries), KEPT):
                words: list[bytes | int] = [self._half, STAYS_S, BESIDE]
                for digest, row in entries[begin : begin + KEPT]:
                    words += (digest, pack(digest, row))
                if not self._script.now(self._client, [self._head], words):
                    return begin
        return len(entries)

    def _say(self, why: str) -> None:
        """Why nothing is kept there, once; "": it is again."""
        if why != self._said:
            self._said = why
            if why:
                journal.log("warning", f"no vectors are shared with other hosts: {why}")
            else:
                journal.log("notice", "vectors are shared with other hosts again")

    def close(self) -> None:
        """Let go of the connection."""
        if self._client is not None:
            self._client.close()
