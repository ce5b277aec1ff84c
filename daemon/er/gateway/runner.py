"""Runs batches: in one worker of all that there are, the one that holds the lock.

When that worker dies or drains the kernel frees the lock, and another goes on within a second.
"""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from er import journal, metrics
from er.batches import Batch, NotThere, Store
from er.batches.records import OVER
from er.batches.store import share
from er.config import Config
from er.config.state import host_name
from er.gateway.hand import Tools
from er.gateway.run import Run
from er.gateway.surely import in_thread
from er.hosts import Hosts
from er.quantities import bytes_text

if TYPE_CHECKING:
    from er.gateway.mirror import Mirror

LOOK_S = 0.5  # how often it is looked for the lock, and for new batches
MIRROR_S = 1.0  # how often what has changed goes into the shared state
AGAIN_S = 1.0  # before a disk that refused something is asked again
ROOM_S = 2.0  # how old it may be what the folder takes
SWEEP_S = 60.0
RUNS = 4  # batches at once
TURN_S = 600.0  # of a batch, when those of others who have less wait
STALLED_S = 10.0  # without a line done, after which another's turn has come
PAUSE_S = 5.0  # before a batch that ended with a mistake of ours is run again
Key = tuple[str, str]  # owner, id
LIVING = ("validating", "in_progress", "finalizing", "cancelling")


class Disk:
    """Does what writes, in threads; waits and says so once while there is no room for it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._said: dict[str, str] = {}  # why it waits, by whose it is; "": the disk
        self._looked = -ROOM_S  # when it was looked
        self._taken: dict[str, int] = {}  # bytes, by owner

    async def write(self, work: Callable[[], None]) -> None:
        """Do `work`; again, while the disk refuses it. Once begun it ends, cancelled or not."""
        waited = False
        while True:
            try:
                await in_thread(work)
            except OSError as error:
                why = os.strerror(error.errno) if error.errno else str(error)
                room = " (df)" if error.errno == errno.ENOSPC else ""
                self._say("", f"{why}; make room in {self._store.root}{room}")
                waited = True
                await asyncio.sleep(AGAIN_S)
                continue
            if waited:
                self._say("", "")
            return

    async def grow(self, work: Callable[[], None], size: int, owner: str) -> None:
        """The same, once the quota has room for the `size` bytes that it adds to the owner's."""
        waited = False
        while why := await self._over_quota(size, owner):
            waited = True
            self._say(owner, why)
            await asyncio.sleep(AGAIN_S)
        if waited:
            self._say(owner, "")
        await self.write(work)
        self._taken[owner] = self._taken.get(owner, 0) + size

    async def _over_quota(self, size: int, owner: str) -> str:
        """Why `size` bytes more are too many; empty: they are not."""
        if time.monotonic() - self._looked > ROOM_S or self._room(owner) < size:
            self._taken = await asyncio.to_thread(self._store.taken)
            self._looked = time.monotonic()
        room = self._room(owner)
        if size <= room:
            return ""
        used, own = sum(self._taken.values()), self._taken.get(owner, 0)
        return (
            f"they take {bytes_text(used)} of the {bytes_text(self._store.quota)} of [batches] "
            f"quota, {bytes_text(own)} of it key {owner}'s, which may have "
            f"{bytes_text(room + own)}; raise it, or have files deleted"
        )

    def _room(self, owner: str) -> int:
        """Bytes that the owner may add."""
        own = self._taken.get(owner, 0)
        return share(self._store.quota, sum(self._taken.values()) - own) - own

    def _say(self, whose: str, wrong: str) -> None:
        said = self._said.pop(whose, "")
        if wrong:
            self._said[whose] = wrong
        if wrong and not said:
            journal.log("warning", f"batches wait for room: {wrong}")
        elif said and not wrong:
            journal.log("notice", "batches go on: there is room again")


class Going(NamedTuple):
    """A batch that is run, since when (monotonic s)."""

    run: Run
    task: asyncio.Task[None]
    began: float


def mirror_of(config: Config, store: Store, hosts: Hosts | None) -> Mirror | None:
    """What has this host's batches in the shared state; None where none are."""
    if not config.batches.shared or config.state is None or hosts is None:
        return None
    from er.gateway.mirror import Mirror  # with it alone
    from er.gateway.mirrored import Batches

    name = host_name(config.host)
    return Mirror(store, Batches(config.state, name, config.batches.shared), hosts, name)


class Runner:
    """One worker's part in it."""

    def __init__(self, tools: Tools, mirror: Mirror | None = None) -> None:
        self._tools, self._store, self._mirror = tools, tools.store, mirror
        self._turn: asyncio.Task[set[Key]] | None = None  # of the mirror, under way
        self._turned = -MIRROR_S  # when the last one was begun
        self._runs: dict[Key, Going] = {}  # in the order in which they were begun
        self._known: dict[Key, Batch] = {}  # those that wait: nobody changes them meanwhile
        self._ends: set[Key] = set()  # those of them that end as soon as they have their turn
        self._not_before: dict[Key, float] = {}  # monotonic seconds
        self._swept = -SWEEP_S

    async def run(self) -> None:
        """Try for the lock, and with it run batches, until cancelled."""
        if not self._store.quota:
            return
        while True:
            try:
                lock = await asyncio.to_thread(self._store.lock)
                if lock is not None:
                    try:
                        await self._hold(lock)
                    finally:
                        os.close(lock)
            except OSError as error:
                self._complain("run", error)
            except Exception as error:
                journal.mishap(error, "running batches")
            await asyncio.sleep(LOOK_S)

    async def _hold(self, lock: int) -> None:
        try:
            await self._reflect(first=True)  # what is another's by now is not begun here
            while True:
                await self._reflect()
                found = await asyncio.to_thread(self._living)
                # Looked at after the list: what stood there then is nobody else's.
                if not self._store.holds(lock):
                    return
                self._settle()
                self._begin(found)
                self._tell(found)
                if time.monotonic() - self._swept > SWEEP_S:
                    self._swept = time.monotonic()
                    try:
                        await asyncio.to_thread(self._store.sweep, time.time())
                    except OSError as error:
                        self._complain("removed", error)
                await asyncio.sleep(LOOK_S)
        finally:
            tasks = [going.task for going in self._runs.values()]
            for task in tasks:
                task.cancel()
            turn, self._turn = self._turn, None
            await asyncio.gather(*tasks, *([turn] if turn else []), return_exceptions=True)
            self._runs.clear()
            self._known.clear()
            self._tell({})

    async def _reflect(self, *, first: bool = False) -> None:
        """Have the mirror take its turns; stop what is another host's by now."""
        if self._mirror is None:
            return
        now = time.monotonic()
        if self._turn is None and (first or now - self._turned >= MIRROR_S):
            self._turned = now
            self._turn = asyncio.create_task(asyncio.to_thread(self._mirror.turn, now))
        if self._turn is None or not (first or self._turn.done()):
            return
        turn, self._turn = self._turn, None
        try:
            for key in await turn:
                if (going := self._runs.pop(key, None)) is not None:
                    going.task.cancel()
                    await asyncio.gather(going.task, return_exceptions=True)
                self._known.pop(key, None)
                await asyncio.to_thread(self._mirror.let_go, key)
        except OSError as error:
            self._complain("shared", error)
        except Exception as error:
            journal.mishap(error, "sharing batches")

    def _complain(self, what: str, error: OSError) -> None:
        if _shouts.due(what):
            where = error.filename or self._store.root
            journal.log("err", f"batches can't be {what}: {where}: {error.strerror}")

    def _living(self) -> dict[Key, Batch]:
        """The batches that are not over, the oldest first. Runs in a thread. Raises OSError."""
        found, ends, now = {}, set(), time.time()
        for key in self._store.open_batches():
            if key in self._runs:
                found[key] = self._runs[key].run.batch
                continue
            try:
                batch = found[key] = self._known.get(key) or self._store.begun(*key)
            except NotThere:
                continue  # being made
            except OSError as error:
                self._complain("read", error)
                continue
            if batch.expires_at <= now or self._store.cancelled_at(*key) is not None:
                ends.add(key)
        self._known = {key: batch for key, batch in found.items() if key not in self._runs}
        self._ends = ends
        return found

    def _settle(self) -> None:
        """Take away the runs that have ended."""
        for key, (_, task, _) in list(self._runs.items()):
            if not task.done():
                continue
            del self._runs[key]
            if not task.cancelled() and (error := task.exception()) is not None:
                journal.mishap(error, f"running {key[1]}")
                self._not_before[key] = time.monotonic() + PAUSE_S

    def _begin(self, found: dict[Key, Batch]) -> None:
        """Start what may run: few at once, of each owner one before a second."""
        now = time.monotonic()
        for key in self._not_before.keys() - found.keys():
            del self._not_before[key]
        waiting = [key for key in found if key not in self._runs]
        waiting = [key for key in waiting if self._not_before.get(key, 0.0) <= now]
        # What only has to end needs no turn.
        for key in [key for key in waiting if key in self._ends]:
            if len(self._runs) < 2 * RUNS:
                waiting.remove(key)
                self._start(key, found[key], now)
        while waiting:
            busy = Counter(owner for owner, _ in self._runs)
            if len(self._runs) >= RUNS:
                self._park(waiting, busy, now)  # and start another once it has ended
                return
            key = min(waiting, key=lambda k: (busy[k[0]], self._not_before.get(k, 0.0), k[1]))
            waiting.remove(key)
            self._start(key, found[key], now)

    def _start(self, key: Key, batch: Batch, now: float) -> None:
        run = Run(self._tools, key[0], batch)
        self._runs[key] = Going(run, asyncio.create_task(run.go()), now)

    def _park(self, waiting: Sequence[Key], busy: Counter[str], now: float) -> None:
        """End a run so that another has its turn: of those that get nothing done, or one of an
        owner who has two more than one who waits, or has one more and had it for long.
        """
        least = min(busy[owner] for owner, _ in waiting)
        going = [(key, one) for key, one in self._runs.items() if not one.task.done()]
        stalled = [x for x in going if now - x[1].run.moved > STALLED_S]
        many = [x for x in reversed(going) if busy[x[0][0]] - least > 1]
        long = [x for x in going if busy[x[0][0]] > least and now - x[1].began > TURN_S]
        for key, one in (stalled + many + long)[:1]:
            self._not_before[key] = one.run.moved = now
            one.task.cancel()

    def _tell(self, found: dict[Key, Batch]) -> None:
        counts = Counter(batch.status for batch in found.values() if batch.status not in OVER)
        for status in LIVING:
            metrics.batches.labels(status).set(counts[status])  # type: ignore[index]


_shouts = journal.Seldom()
