"""What runs on the hosts of `er embed --ray`: an actor that embeds one part after the other.

A part is kept in two steps: its rows with their vectors, a file that appears as a whole, then the
note that it is done. Who dies before the second has done nothing: whoever has the part next writes
the same file anew. A part whose note is there is passed over, so that Ray may run a task as often
as it likes.
"""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any, Protocol

import msgspec
import numpy as np

from er.cli import embed_ray_gateways
from er.cli.embed_ask import Got, Hopeless
from er.cli.embed_out import JsonLines, Parquet, Table
from er.cli.embed_ray_parts import LISTED, Chunk, InputPart, PartDone, PartReading, Scanned, scan
from er.cli.embed_ray_store import Store, StoreError
from er.cli.embed_rows import Damaged, Row, TooManyColumns, groups
from er.job import Vectors

TOLD_S = 1.0  # between two notes of an actor to the board
DONE = ".json"  # the end of a note's name


class Stop(Exception):  # noqa: N818 - it is the end, and the text says why
    """A part that can't be done; the text says why and what to do."""


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """What an actor must know of the plan."""

    source: Store
    out: Store
    id: str
    plain: bool
    field: str
    vector: str
    parquet: bool  # the output's kind
    kinds: dict[str, str]
    skip: bool
    inputs: int
    lane: Any  # embed_ray_gateways.Lane or embed_ray_vllm.Lane

    @property
    def notes(self) -> str:
        """The folder of what is known of the parts."""
        return self.out.under("_parts")

    @property
    def plan_path(self) -> str:
        return f"{self.notes}/plan-{self.id}.json"


class Engine(Protocol):
    """Whoever makes vectors of texts."""

    ahead: int
    waiting: str

    async def embed(self, texts: list[str]) -> Got: ...


def scanned(item: dict[str, Any], store: Store, asked: dict[str, Any]) -> dict[str, Any]:
    """The first look at a part, as a task of Ray: its description in, what it told out."""
    part = msgspec.json.decode(item["part"], type=InputPart)
    try:
        found = scan(store, part, **asked)
    except (StoreError, Damaged) as error:
        found = Scanned(number=part.number, error=_told(error))
    except TooManyColumns:
        cure = "a table is not for that: write .jsonl"
        name = store.name(part.file)
        found = Scanned(number=part.number, error=f"{name}: over 1000 different fields; {cure}")
    return {"scanned": pickle.dumps(found)}


def _told(error: Exception) -> str:
    """What went wrong; with a file it may be this host's alone, which is named then."""
    return f"{socket.gethostname()}: {error}" if isinstance(error, StoreError) else str(error)


class Embedder:
    """An actor of Ray. Parts come by threads of its own; all their requests share one loop."""

    def __init__(self, work: Work, board: Any) -> None:
        self._work, self._board = work, board
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._engine: Engine
        self._failed = ""  # why there is no engine, as every part is told: Ray would try for ever
        try:
            self._engine = self._here(_engine(work.lane))
        except Hopeless as error:
            self._failed = f"{socket.gethostname()}: {error}"
        self._told: dict[int, tuple[float, int, int]] = {}

    def _here(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        """A part: its rows and tokens, or why it is the end of the run; Result's fields."""
        part = msgspec.json.decode(item["part"], type=InputPart)
        listed: list[tuple[int, str]] = []
        done, stop = None, ""
        try:
            done = kept(self._work.out, self._work.notes, item["stem"])
            if done is None and self._failed:
                raise Stop(self._failed)
            if done is None:
                run = _Run(self._work, part, item["stem"], self._engine, self._note, listed)
                done = self._here(run.whole())
        except (Stop, StoreError, Damaged, Hopeless) as error:
            stop = _told(error)
        name = self._work.source.name(part.file)
        result = {
            "number": part.number,
            "stop": stop,
            "rows": done.rows if done else 0,
            "tokens": done.tokens if done else 0,
            "listed": [f"{name}: line {at} {why}" for at, why in listed],
        }
        return {"result": msgspec.json.encode(result)}

    def _note(self, number: int, rows: int, tokens: int) -> None:
        """Tell the board how far a part is; that it is away is nobody's trouble."""
        now = time.monotonic()
        if now - self._told.get(number, (0.0, 0, 0))[0] >= TOLD_S:
            self._told[number] = (now, rows, tokens)
            with contextlib.suppress(Exception):
                self._board.note.remote(number, rows, tokens, self._engine.waiting)


async def _engine(lane: Any) -> Engine:
    if isinstance(lane, embed_ray_gateways.Lane):
        return embed_ray_gateways.Gateways(lane)
    from er.cli import embed_ray_vllm  # it brings vLLM

    started: Engine = await embed_ray_vllm.start(lane)
    return started


def kept(out: Store, notes: str, stem: str) -> PartDone | None:
    """What is known of a part that is done; None where it is not. Raises StoreError."""
    note = out.read(f"{notes}/{stem}{DONE}")
    if note is None:
        return None
    with contextlib.suppress(msgspec.MsgspecError):
        return msgspec.json.decode(note, type=PartDone)
    return None


class _Run:
    """One part, from its file to its note."""

    def __init__(
        self,
        work: Work,
        part: InputPart,
        stem: str,
        engine: Engine,
        note: Any,
        listed: list[tuple[int, str]],
    ) -> None:
        self._work, self._part, self._stem = work, part, stem
        self._engine, self._note, self._listed = engine, note, listed
        self._name = work.source.name(part.file)
        self._reading = PartReading(work.source, part, field=work.field, plain=work.plain)
        self._pending: deque[tuple[Chunk, asyncio.Task[Got]]] = deque()
        self._path = work.out.writing(work.notes)
        self._writer: Any = None
        self._rows = self._missing = self._tokens = self._cut = self._dimensions = 0
        self._model = ""

    async def whole(self) -> PartDone:
        """Raises Stop, StoreError, Damaged, Hopeless."""
        chunks = self._chunks()
        try:
            while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
                texts = [row.text for row in chunk.rows if not row.wrong]
                self._pending.append((chunk, asyncio.create_task(self._ask(texts))))
                while len(self._pending) >= self._engine.ahead:
                    await self._take()
            while self._pending:
                await self._take()
            return await asyncio.to_thread(self._keep)
        finally:
            for _, task in self._pending:
                task.cancel()
            await asyncio.gather(*(task for _, task in self._pending), return_exceptions=True)
            self._path.unlink(missing_ok=True)

    async def _ask(self, texts: list[str]) -> Got:
        if not texts:
            return Got(np.empty((0, 0), np.float32), {}, 0, 0, "")
        return await self._engine.embed(texts)

    def _chunks(self) -> Iterator[Chunk]:
        most = self._work.inputs
        if self._part.parquet:
            yield from self._reading.batches(most, all_columns=True)
            return
        for group in groups(self._reading.rows(), 0, most):
            yield Chunk(group.rows)

    async def _take(self) -> None:
        chunk, task = self._pending[0]
        got = await task
        self._pending.popleft()
        good = [i for i, row in enumerate(chunk.rows) if not row.wrong]
        wrong = {good[i]: why for i, why in got.wrong.items()}
        self._tell(chunk.rows, wrong)
        if len(got.vectors):
            self._same(got)
            left = [i for i in good if i not in wrong]
            await asyncio.to_thread(self._write, chunk, left, got.vectors)
        self._rows += len(chunk.rows)
        self._missing += len(chunk.rows) - len(good) + len(wrong)
        self._tokens += got.tokens
        self._cut += got.cut
        self._note(self._part.number, self._rows, self._tokens)

    def _tell(self, rows: list[Row], wrong: dict[int, str]) -> None:
        """Name the rows that could not be embedded. Raises Stop where that is the end."""
        for place, why in sorted(wrong.items())[: LISTED - len(self._listed)]:
            self._listed.append((rows[place].line, why))
        if wrong and not self._work.skip:
            cure = "shorten it, cut what is too long with --cut, or leave it out with --bad skip"
            raise Stop(f"{self._name}: line {rows[min(wrong)].line} can't be embedded; {cure}")

    def _same(self, got: Got) -> None:
        """All vectors of a part are of one model and one size. Raises Stop."""
        dimensions = got.vectors.shape[1]
        for now, before in ((dimensions, self._dimensions), (got.model, self._model)):
            if before and now != before:
                raise Stop(f"the service answers as {now} now, and as {before} a moment ago")
        self._dimensions, self._model = dimensions, got.model

    def _write(self, chunk: Chunk, left: list[int], found: Vectors) -> None:
        work, path = self._work, self._path
        if self._writer is None:
            if not work.parquet:
                self._writer = JsonLines(path, work.vector)
            elif chunk.batch is None:
                self._writer = Parquet(path, work.vector, work.kinds, self._dimensions)
            else:
                self._writer = Table(path, work.vector, chunk.batch.schema, self._dimensions)
        if chunk.batch is None:
            self._writer.add([chunk.rows[i] for i in left], found)
            return
        batch = chunk.batch.take(left) if len(left) < len(chunk.rows) else chunk.batch
        if work.parquet:
            self._writer.add(batch, found)
            return
        rows = [chunk.rows[i] for i in left]
        values = [msgspec.json.encode(value) for value in batch.to_pylist()]
        self._writer.add(
            [row._replace(raw=raw) for row, raw in zip(rows, values, strict=True)], found
        )

    def _keep(self) -> PartDone:
        """The file, then the note of it."""
        work, part = self._work, self._part
        if (self._rows, self._reading.digest) != (part.rows, part.digest):
            raise Stop(f"{self._name} was changed meanwhile; begin anew with --force")
        size = 0
        if self._writer is not None:
            self._writer.close()
            size = self._path.stat().st_size
        done = PartDone(
            rows=self._rows,
            missing=self._missing,
            tokens=self._tokens,
            cut=self._cut,
            dimensions=self._dimensions,
            model=self._model,
            bytes=size,
        )
        if work.out.read(work.plan_path) is None:
            raise Stop(f"{work.out.place} was begun anew by somebody else meanwhile")
        if size:
            work.out.take(self._path, work.out.under(self._stem + ending(work.parquet)))
        work.out.put(f"{work.notes}/{self._stem}{DONE}", msgspec.json.encode(done))
        return done


def ending(parquet: bool) -> str:
    """Of the files with rows and vectors."""
    return ".parquet" if parquet else ".jsonl"


class Board:
    """One small actor of a run: that nobody else writes its output, and how far its parts are."""

    def __init__(self) -> None:
        self._parts: dict[int, tuple[int, int]] = {}
        self._waiting = ""

    def note(self, number: int, rows: int, tokens: int, waiting: str) -> None:
        """How far the part of that number is, and why nothing comes where that is so."""
        self._parts[number] = (rows, tokens)
        self._waiting = waiting

    def seen(self, over: list[int]) -> tuple[int, int, str]:
        """(rows, tokens, why nothing comes) of the parts under way, without those that are over."""
        for number in over:
            self._parts.pop(number, None)
        rows, tokens = (sum(c) for c in zip((0, 0), *self._parts.values(), strict=True))
        return rows, tokens, self._waiting
