"""Vectors and scores that are known: the same tokens, model and engine give the same numbers again.

Exact: an entry is found by a digest over the engine's name (`engines`), the task, who may see it
(`scope`) and the token ids; it holds the whole float32 numbers that an engine answered. Workers
share it through files. Whatever is wrong with those is a miss and a line in the journal. What these
don't know several hosts may share (`shared`), under the name that the engine has between hosts.

A look is for the event loop: microseconds, no waiting. Writing is a thread's, which collects what
comes and takes at most a twentieth of a core; what comes faster than it can write is not kept.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import lmdb
import numpy as np

from er import journal, metrics
from er.cache.digests import Engine
from er.cache.engines import identities
from er.cache.generation import WIRE, Generation, place
from er.cache.layout import DIGEST, CorruptError
from er.cache.plan import Numbers, Plan, Rows, content, distinct
from er.cache.store import DAMAGED, BusyError, Store
from er.config import Config
from er.job import Ids, Task

if TYPE_CHECKING:
    from er.cache.shared import Keeping, Looking

ROUND_S = 0.25
SHARE = 1 / 20  # of a core, for writing
PENDING_BYTES = 8 << 20  # computed and not yet written
AGAIN_S = 60.0  # after trouble with the files
COUNTS = (
    *(metrics.cache_hits, metrics.cache_misses),
    *(metrics.cache_shared_hits, metrics.cache_shared_misses),
)
AT_A_TIME = 64  # looked up between two chances for another thread

__all__ = ["Cache", "Plan"]


class Cache:
    """One process's view of the cache. With size 0 it only finds the repeats within a request."""

    def __init__(self, config: Config, folder: Path, runtime: Path) -> None:
        """`folder` is CACHE_DIRECTORY/vectors. Nothing is opened here, but by the thread."""
        self._config, self._runtime = config, runtime
        self._by_key = config.cache.scope == "key"
        self._store = Store(folder, config.cache.size)
        self._engines: dict[str, Engine] = {}  # by model; never changed, but replaced
        self._reading = threading.Lock()  # held while LMDB is read: a handle is closed after it
        self._pending: dict[bytes, tuple[str, Numbers]] = {}
        self._writing: dict[bytes, tuple[str, Numbers]] = {}
        self._pending_bytes = 0
        self._unkept = 0
        self._fault: Exception | None = None  # what a look met; the thread deals with it
        self._told = ""
        self._closed_until = self._mute_until = 0.0
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self.looking: Looking | None = None  # what other hosts know
        self._keeping: Keeping | None = None
        if config.cache.shared and config.state is not None:
            from er.cache import shared  # with it alone

            self.looking = shared.Looking(config.state)
            self._keeping = shared.Keeping(config.state, config.cache.shared)
        if config.cache.size:
            self._thread = threading.Thread(target=self._work, name="cache", daemon=True)
            self._thread.start()

    # -- for the event loop ------------------------------------------------------------------

    def answers(self, model: str) -> bool:
        """Whether it may know anything of `model`, or keep it."""
        return model in self._engines

    def plan(self, model: str, task: Task, sequences: Sequence[Ids], who: str, width: int) -> Plan:
        """What of `sequences` (at least one) is known to `who` (a key's id) and what is to compute.

        `model` is a configured name, `width` the numbers in one of its vectors.
        """
        engine = self._engines.get(model) if self._store.generations else None
        shape = (width,) if task == "embed" else ()
        plan = Plan(sequences)
        if len(sequences) == 1:
            if engine is not None:
                self._plan_one(plan, engine, sequences[0], who, shape)
            return plan
        contents = [content(ids) for ids in sequences]
        firsts, source = distinct(contents)
        plan.repeats(firsts, source)
        if engine is None:
            return plan
        who = who if self._by_key else ""
        digests = engine.digests.of(who, [contents[i] for i in firsts])
        plan.keep(self._put, engine, digests, shape)
        found = self._found(digests, shape)
        if found:
            plan.answered(found)
        if plan.wanted and self.looking is not None and engine.shared is not None:
            places = plan.places if plan.places is not None else range(len(contents))
            plan.shared = engine.shared.of(who, [contents[i] for i in places])
        # Numbers of one object, changed without a call in between: other threads add to them too.
        engine.hits += plan.known
        engine.misses += len(plan.wanted)
        return plan

    def _plan_one(
        self, plan: Plan, engine: Engine, ids: Ids, who: str, shape: tuple[int, ...]
    ) -> None:
        """What `plan` does for a single sequence, the usual case, without lists and loops."""
        text, who = content(ids), who if self._by_key else ""
        hashing = engine.digests.begun(who).copy()
        hashing.update(text)
        digest = hashing.digest()
        row = None
        fresh = self._pending.get(digest) or self._writing.get(digest)
        if fresh is not None and fresh[1].shape == shape:
            row = fresh[1]
        else:
            byte, bit = place(digest)
            for generation in self._store.generations:
                if generation.bits[byte] & bit:
                    row = self._read_one(digest, shape)
                    break
        if row is None:
            plan.keep(self._put, engine, (digest,), shape)
            engine.misses += 1
            if self.looking is not None and engine.shared is not None:
                plan.shared = engine.shared.of(who, (text,))
        else:
            plan.whole(row)
            engine.hits += 1

    def _read_one(self, digest: bytes, shape: tuple[int, ...]) -> Numbers | None:
        """`_read` for one."""
        size = 4 * (shape[0] if shape else 1)
        try:
            with self._reading:
                for age, generation in enumerate(self._store.generations):
                    numbers = generation.read_one(digest, size)
                    if numbers is not None:
                        row = np.frombuffer(numbers, WIRE).reshape(shape)
                        if age:
                            self._queue("", digest, row)
                        return row
        except (OSError, lmdb.Error, CorruptError) as error:
            self._fault = error
        return None

    def _found(self, digests: Sequence[bytes], shape: tuple[int, ...]) -> dict[int, Numbers]:
        """The rows of `shape` that are known, by position in `digests`."""
        found: dict[int, Numbers] = {}
        maybe: list[tuple[int, bytes]] = []
        generations, pending, writing = self._store.generations, self._pending, self._writing
        for position, digest in enumerate(digests):
            fresh = pending.get(digest) or writing.get(digest)
            if fresh is not None and fresh[1].shape == shape:
                found[position] = fresh[1]
                continue
            byte, bit = place(digest)
            for generation in generations:
                if generation.bits[byte] & bit:
                    maybe.append((position, digest))
                    break
        for begin in range(0, len(maybe), AT_A_TIME):
            self._read(maybe[begin : begin + AT_A_TIME], shape, found)
        return found

    def _read(
        self, wanted: list[tuple[int, bytes]], shape: tuple[int, ...], found: dict[int, Numbers]
    ) -> None:
        """Look into the files; what only the older generation has is written into the newest."""
        size = 4 * (shape[0] if shape else 1)
        try:
            with self._reading:
                for age, generation in enumerate(self._store.generations):
                    numbers = generation.read(wanted, size)
                    for position, digest in wanted:
                        if position in numbers:
                            row = np.frombuffer(numbers[position], WIRE).reshape(shape)
                            found[position] = row
                            if age:
                                self._queue("", digest, row)
                    wanted = [entry for entry in wanted if entry[0] not in numbers]
        except (OSError, lmdb.Error, CorruptError) as error:
            self._fault = error

    def _put(
        self,
        engine: Engine,
        digests: Sequence[bytes],
        shared: Sequence[bytes] | None,
        rows: Rows,
    ) -> None:
        for position, digest in enumerate(digests):
            self._queue(engine.names.own, digest, rows[position])
        if shared is not None and self._keeping is not None:
            for position, digest in enumerate(shared):
                self._keeping.put(engine.names.shared, digest, rows[position])

    def _queue(self, name: str, digest: bytes, row: Numbers) -> None:
        if self._pending_bytes >= PENDING_BYTES:
            self._unkept += 1
            return
        self._pending[digest] = (name, row)
        self._pending_bytes += row.nbytes + DIGEST

    # -- the thread --------------------------------------------------------------------------

    async def end(self) -> None:
        """Ask nobody any more, and close."""
        if self.looking is not None:
            await self.looking.close()
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """Write what waits and let go of the files."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(5.0)

    def _work(self) -> None:
        pause = 0.0
        while not self._closing.wait(pause):
            began = time.thread_time()
            self._round()
            pause = max(ROUND_S, (time.thread_time() - began) * (1 / SHARE - 1))
        self._round()
        self._shut(self._store.leave())
        if self._keeping is not None:
            self._keeping.close()

    def _round(self) -> None:
        """Follow engines and files, write what came. Never raises."""
        now = time.monotonic()
        try:
            self._learn()
            if self._engines and now >= self._closed_until:
                if self._fault is not None:
                    fault, self._fault = self._fault, None
                    raise fault
                self._shut(self._store.follow())
            self._flush(now)
            if self._keeping is not None:
                self._unkept += self._keeping.flush(now, self._learn)
            if self._told and self._store.generations and now >= self._mute_until:
                journal.log("notice", "the cache of vectors works again")
                self._told = ""
        except BusyError:
            pass  # the next round
        except DAMAGED as error:
            self._shut(self._store.drop())
            self._tell(f"is damaged and begun anew: {error}")
        except (OSError, lmdb.Error) as error:
            self._shut(self._store.leave())
            self._closed_until = now + AGAIN_S
            self._tell(f"can't be used, tried again every {AGAIN_S:.0f} s: {error}")
        except Exception as error:
            journal.mishap(error, "keeping vectors")
            self._closed_until = now + AGAIN_S
            self._shut(self._store.leave())
        self._count()

    def _learn(self) -> set[str]:
        """Look which engine answers for each model; the names of all of them."""
        named = identities(self._config, self._runtime, time.time())
        if named != {model: engine.names for model, engine in self._engines.items()}:
            tasks = {m.name: m.task for m in self._config.models}
            self._count()
            self._engines = {m: Engine(names, m, tasks[m]) for m, names in named.items()}
        return {name for names in named.values() for name in names}

    def _flush(self, now: float) -> None:
        """Write what was computed by engines that still are the ones that answer."""
        if not self._pending:
            return
        self._writing, self._pending, self._pending_bytes = self._pending, {}, 0
        try:
            waiting = list(self._writing.items())
            # Asked after the answers came: a vector is kept only under the name of the engine that
            # was there before it was asked for and still is. "" is one that was kept already.
            good = {"", *self._learn()}
            entries = [(digest, row) for digest, (name, row) in waiting if name in good]
            if not self._store.generations or now < self._mute_until:
                self._unkept += len(waiting)
            elif entries:
                self._store.write(entries)
        except DAMAGED:
            raise
        except (OSError, lmdb.Error) as error:
            self._mute_until = now + AGAIN_S
            self._tell(f"takes nothing new for {AGAIN_S:.0f} s: {error}")
        finally:
            self._writing = {}

    def _shut(self, generations: Sequence[Generation]) -> None:
        """Close handles that are in `generations` of the store no more."""
        if generations:
            with self._reading:  # whoever read them is done; whoever comes finds others
                pass
        for generation in generations:
            generation.close()

    def _tell(self, text: str) -> None:
        if text != self._told:
            self._told = text
            journal.log("warning", f"the cache of vectors {text}")

    def _count(self) -> None:
        """Counts to the metrics, which cost more than a look."""
        for model, engine in self._engines.items():
            for count, news in zip(COUNTS, engine.news(), strict=True):
                if news:
                    count.labels(model).inc(news)
        unkept, self._unkept = self._unkept, 0
        if unkept:
            metrics.cache_unkept.inc(unkept)
