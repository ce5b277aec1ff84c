"""One batch from its first line to its last: checked, computed in what others leave, handed over.

Its truth is on the disk: whoever runs it next goes on where the results end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO

import msgspec

from er import journal, metrics
from er.batches import Batch, Counts, File, Line, NotThere, Problem, Results, Status, lines
from er.batches.records import new_id
from er.batches.results import Result
from er.batches.source import Source
from er.gateway.hand import Barred, Hand, Room, Tools
from er.gateway.surely import in_thread, surely

TICK_S = 0.5  # how often it is looked whether the batch has to end
SYNC_S = 2.0  # how old results may be that are not on the disk yet
FLUSH_S = 0.05  # results of so long are written together
UNWRITTEN_MAX = 32 << 20  # bytes of results in memory, from which on no line is begun
HAND_BYTES, LINE_BYTES = 8 << 20, 32 << 10  # of lines in hand; what the smallest counts for


class Run:
    """One batch while it is run."""

    def __init__(self, tools: Tools, owner: str, batch: Batch) -> None:
        self.owner, self.batch = owner, batch
        self.moved = time.monotonic()  # when a line was done last
        self._tools = tools
        self._hand, self._bytes = Hand(tools, owner, batch), Room(HAND_BYTES)
        self._hands: set[asyncio.Task[None]] = set()
        self._done: list[tuple[Result, asyncio.Future[None]]] = []
        self._flushing: asyncio.Task[None] | None = None
        self._synced = time.monotonic()
        self._unwritten = 0  # bytes of results
        self._barred = ""
        self._results: Results | None = None

    async def go(self) -> None:
        """Run it to its end; cancelling leaves it as it stands."""
        if self.batch.status == "validating":
            await self._check()
        if self.batch.status == "in_progress":
            await self._compute()
        if self.batch.status == "finalizing":
            await self._finish()
        await self._write(partial(self._tools.store.close, self.owner, self.batch.id))

    # -- its record --------------------------------------------------------------------------

    async def _write(self, work: Callable[[], None]) -> None:
        await self._tools.disk.write(work)

    async def _became(self, batch: Batch) -> None:
        self.batch = batch
        await self._write(partial(self._tools.store.save, self.owner, batch))

    def _log(self, text: str) -> None:
        journal.log("info", f"batch {self.batch.id} of {self.owner} {text}")

    async def _fail(self, problems: tuple[Problem, ...]) -> None:
        metrics.batches_ended.labels("failed").inc()
        await self._became(self.batch.became("failed", time.time(), errors=problems))
        self._log(f"failed: {len(problems)} problems with its file, {problems[0].code} the first")

    # -- checked -----------------------------------------------------------------------------

    async def _check(self) -> None:
        """Look at every line before the first is computed."""
        check = lines.Check(self.batch.endpoint, self._tools.body_max)
        try:
            path = await asyncio.to_thread(self._input)
            with path.open("rb") as file:
                source = Source(file.readline, self._tools.body_max)
                while not source.over and not check.hopeless:
                    if (ending := self._ending()) is not None:
                        await self._ends(ending)
                        return
                    await asyncio.to_thread(_look, source, check)
                    self.moved = time.monotonic()
        except (NotThere, FileNotFoundError):
            gone = Problem(code="no_file", message="the input file is gone", param="input_file_id")
            await self._fail((gone,))
            return
        check.end()
        if check.problems:
            await self._fail(tuple(check.problems))
            return
        counts = Counts(total=check.requests)
        begun = self.batch.became("in_progress", time.time(), request_counts=counts)
        await self._became(begun)
        self._log(f"begins: {counts.total} lines for {self.batch.endpoint}")

    def _input(self) -> Path:
        file: File = self._tools.store.file(self.owner, self.batch.input_file_id)
        return self._tools.store.folder(self.owner) / file.id

    # -- computed ----------------------------------------------------------------------------

    async def _compute(self) -> None:
        with contextlib.ExitStack() as opened:
            # To its end: late, it might cut off what another has written by then.
            await self._write(partial(self._take_up, opened))
            results, total = self._results, self.batch.request_counts.total
            assert results is not None
            self.moved = time.monotonic()
            if done := results.completed + results.failed:
                self._log(f"goes on: {done} of {total} lines are done")
            ending = self._ending() if done < total else "completed"
            if ending is None:
                ending = await self._until_ended(results)
            if ending in ("expired", "failed"):
                await self._leave_unanswered(results, ending)
            await self._write(results.sync)
        await self._ends(ending, results)

    def _take_up(self, opened: contextlib.ExitStack) -> None:
        self._results = Results(*self._tools.store.results(self.owner, self.batch.id))
        opened.callback(self._results.close)

    async def _until_ended(self, results: Results) -> Status:
        """Compute what is not done, until that is all or the batch has to end; as what it does."""
        feeding = asyncio.create_task(self._feed(results))
        ending: Status | None = None
        try:
            while ending is None:
                await asyncio.wait([feeding], timeout=TICK_S)
                if feeding.done():
                    return self._fed(feeding)
                ending = self._ending()
                await self._count(results)
            return ending
        finally:
            # Who holds the lock next must not find somebody still writing.
            await surely(self._let_go(feeding))

    def _fed(self, feeding: asyncio.Task[None]) -> Status:
        """What a batch ends as whose last line was given out."""
        try:
            feeding.result()
        except (NotThere, FileNotFoundError):
            self._barred = "the input file is gone"
        return "failed" if self._barred else "completed"

    async def _let_go(self, feeding: asyncio.Task[None]) -> None:
        """End all that is at work here; what was answered by now is written."""
        tasks = [feeding, *self._hands]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._flushing is not None:
            # One write more, unless the disk refuses: then these lines are computed again.
            done, _ = await asyncio.wait([self._flushing], timeout=TICK_S)
            if not done:
                self._flushing.cancel()
                await asyncio.gather(self._flushing, return_exceptions=True)

    async def _count(self, results: Results) -> None:
        """Show how far it is. Only the owner wants to know, so a disk that is full may refuse."""
        counts = Counts(
            total=self.batch.request_counts.total,
            completed=results.completed,
            failed=results.failed,
        )
        if counts != self.batch.request_counts:
            self.batch = msgspec.structs.replace(self.batch, request_counts=counts)
            with contextlib.suppress(OSError):
                # To its end: it must not be late, and put back what another has made of it.
                await in_thread(self._tools.store.save, self.owner, self.batch)

    def _ending(self) -> Status | None:
        """What the batch has to end as now, done or not."""
        tools, batch = self._tools, self.batch
        if tools.store.cancelled_at(self.owner, batch.id) is not None:
            return "cancelled"
        try:
            self._hand.who()
        except Barred as barred:
            self._barred = str(barred)
        if self._barred:
            return "failed"
        return "expired" if time.time() >= batch.expires_at else None

    async def _feed(self, results: Results) -> None:
        """Start the lines that are not done, as many as may be in hand, and wait for the last."""
        path = await asyncio.to_thread(self._input)
        with path.open("rb") as file:
            source = _checked(file)
            while not source.over:
                group = await asyncio.to_thread(source.group)
                for number, raw in group:
                    if raw is None or results.is_done(number):
                        continue
                    bare = lines.bare(raw, number)
                    if not bare:
                        continue
                    line = lines.read(bare, number, self.batch.endpoint)
                    weight = max(LINE_BYTES, len(line.body))
                    await self._bytes.take(weight)
                    hand = asyncio.create_task(self._do(line, weight))
                    self._hands.add(hand)
                    hand.add_done_callback(self._hands.discard)
        while self._hands:
            await asyncio.wait(list(self._hands))
        if (
            not self._barred
            and results.completed + results.failed != self.batch.request_counts.total
        ):
            raise RuntimeError("lines of a batch are missing")

    async def _do(self, line: Line, weight: int) -> None:
        """Have one line answered and its result written."""
        try:
            status, request_id, body = await self._hand.answer(line)
            text = lines.answered(self.batch.id, line, status, request_id, body)
            await self._put(Result(line.number, status == 200, text))
            self.moved = time.monotonic()
            metrics.batch_lines.labels("ok" if status == 200 else "failed").inc()
        except Barred as barred:
            self._barred = str(barred)
        finally:
            self._bytes.give(weight)

    # -- written -----------------------------------------------------------------------------

    async def _put(self, result: Result) -> None:
        """Return once the result stands in its file."""
        size = len(result.text)
        self._holds(size)
        try:
            await self._write_soon(result)
        finally:
            self._holds(-size)

    def _holds(self, size: int) -> None:
        self._unwritten += size
        if self._unwritten > UNWRITTEN_MAX:
            self._hand.go_on.clear()
        else:
            self._hand.go_on.set()

    async def _write_soon(self, result: Result) -> None:
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._done.append((result, written))
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush())
        await written

    async def _flush(self) -> None:
        assert self._results is not None
        results = self._results
        while self._done:
            await asyncio.sleep(FLUSH_S)
            group, self._done = self._done, []
            write = partial(results.write, [result for result, _ in group])
            try:
                size = sum(len(result.text) for result, _ in group)
                await self._tools.disk.grow(write, size, self.owner)
            except BaseException:
                for _, written in group:
                    written.cancel()
                raise
            for _, written in group:
                if not written.done():
                    written.set_result(None)
            if time.monotonic() - self._synced > SYNC_S:
                await self._write(results.sync)
                self._synced = time.monotonic()

    async def _leave_unanswered(self, results: Results, ending: Status) -> None:
        """Say of each line that is not done why."""
        code, text = "batch_expired", "the completion window ended before this line's turn came"
        if ending == "failed":
            code, text = "batch_failed", self._barred
        try:
            path = await asyncio.to_thread(self._input)
            file = path.open("rb")
        except (NotThere, FileNotFoundError):
            return
        with file:
            source = _checked(file)
            while not source.over:
                group = await asyncio.to_thread(source.group)
                left = [
                    Result(n, False, lines.unanswered(self.batch.id, line, code, text))
                    for n, raw in group
                    if raw is not None and not results.is_done(n)
                    if (bare := lines.bare(raw, n))
                    for line in (lines.read(bare, n, self.batch.endpoint),)
                ]
                await self._write(partial(results.write, left))
                metrics.batch_lines.labels("failed").inc(len(left))

    # -- handed over -------------------------------------------------------------------------

    async def _ends(self, ending: Status, results: Results | None = None) -> None:
        """It will come to `ending`, whatever happens to this process."""
        good = 0 if results is None else results.completed
        bad = 0 if results is None else results.failed
        problems = self.batch.errors
        if ending == "failed":
            problems = (Problem(code="key_not_permitted", message=self._barred),)
        cancelling = self._tools.store.cancelled_at(self.owner, self.batch.id)
        total = self.batch.request_counts.total
        await self._became(
            self.batch.became(
                "finalizing",
                time.time(),
                ending=ending,
                errors=problems,
                cancelling_at=cancelling if ending == "cancelled" else None,
                output_file_id=new_id("file-") if good else None,
                error_file_id=new_id("file-") if bad else None,
                request_counts=Counts(total=total, completed=good, failed=bad),
            )
        )

    async def _finish(self) -> None:
        """Make its results files of the owner, and say that it is over."""
        store, batch = self._tools.store, self.batch
        assert batch.ending is not None
        await self._write(partial(store.hand_over, self.owner, batch))
        await self._became(batch.became(batch.ending, time.time()))
        metrics.batches_ended.labels(batch.ending).inc()
        counts = batch.request_counts
        took_s = time.time() - batch.created_at
        why = f" ({self.batch.errors[0].message})" if self.batch.errors else ""
        self._log(
            f"is {batch.ending}{why}: {counts.total} lines, {counts.completed} answered, "
            f"{counts.failed} failed, {took_s:.0f} s after it came"
        )


def _checked(file: BinaryIO) -> Source:
    """The lines of a file that was checked: none is too long, though max_body is less by now."""
    return Source(file.readline, os.fstat(file.fileno()).st_size)


def _look(source: Source, check: lines.Check) -> None:
    for number, raw in source.group():
        if raw is None:
            check.too_long(number)
        else:
            check.look(raw, number)
