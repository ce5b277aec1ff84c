"""The asking part of `er embed`: groups of rows to the service, several at once, kept in order."""

from __future__ import annotations

import asyncio
import shutil
import signal
import time
from collections import deque
from pathlib import Path
from typing import TextIO

import msgspec
import uvloop

from er.cli.bench_load import Where, Wrong
from er.cli.embed_ask import Got, Service, Wish, cards
from er.cli.embed_part import Done, Part, Plan
from er.cli.embed_rows import Group, Reading, Source, groups
from er.cli.screen import age, clean
from er.quantities import bytes_text

LISTED = 20  # lines of bad rows that are shown
AHEAD = 2  # groups asked or waiting for each client, so that a slow answer holds up nobody soon
TICK_S = 0.2
LINE_NUMBER = 11.5  # bytes that a number of a vector takes as text


class Stop(Exception):  # noqa: N818 - it is the end, and the text says why
    """It can't go on; the text says why and what to do."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done, as the command line has it."""

    where: Where
    key: str
    plan: Plan  # its model "" where none was named
    cut: bool
    skip: bool  # rows that can't be embedded
    inputs: int
    clients: int
    output: Path
    lines: bool  # the output is JSON lines


class Progress:
    """One line that changes, on a terminal; nothing of it anywhere else."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._shown, self._drawn = stream, 0.0, False

    def show(self, text: str) -> None:
        """Draw it, if the last time is a moment ago."""
        now = time.monotonic()
        if now - self._shown < TICK_S / 2 or not self._stream.isatty():
            return
        self._shown, self._drawn = now, True
        width = shutil.get_terminal_size().columns - 1
        self._stream.write(f"\r{clean(text)[:width]}\x1b[K")
        self._stream.flush()

    def say(self, text: str) -> None:
        """A line that stays, terminal or not."""
        self.end()
        print(text, file=self._stream, flush=True)

    def end(self) -> None:
        """Take the line away."""
        if self._drawn:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._drawn = False


def embed(asked: Asked, source: Source, part: Part, progress: Progress) -> None:
    """Have all rows that are not in `part` yet embedded and put there.

    Raises Stop, Hopeless and Wrong (the service's no), Unreached, Damaged, OSError.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_interruptible(_Run(asked, source, part, progress)))


async def _interruptible(run: _Run) -> None:
    """The run; Ctrl-C and SIGTERM end it between two writes. Raises Stop then."""
    work = asyncio.ensure_future(run.whole())
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, work.cancel)
    try:
        await work
    except asyncio.CancelledError:
        raise Stop("interrupted") from None


class _Run:
    """All requests of one run."""

    def __init__(self, asked: Asked, source: Source, part: Part, progress: Progress) -> None:
        self._asked, self._source, self._part, self._progress = asked, source, part, progress
        self._began = time.monotonic()
        self._before = (part.rows, part.tokens)
        self._listed = 0
        self._pending: deque[tuple[Group, asyncio.Task[Got]]] = deque()

    async def whole(self) -> None:
        """Every row."""
        asked, plan, part = self._asked, self._asked.plan, self._part
        if not plan.model:
            plan = msgspec.structs.replace(plan, model=await self._model())
        self._fit(plan)
        if part.rows == plan.rows:
            return
        wish = Wish(
            model=plan.model,
            kind=plan.kind,
            instruction=plan.instruction,
            dimensions=plan.dimensions,
            cut=asked.cut,
        )
        service = Service(asked.where, asked.key, wish, asked.clients)
        drawing = asyncio.create_task(self._draw(service))
        try:
            await self._all(service)
        finally:
            tasks = [drawing, *(task for _, task in self._pending)]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            service.close()

    async def _model(self) -> str:
        """The first embedding model of the service. Raises Wrong, Unreached."""
        for card in await cards(self._asked.where, self._asked.key):
            if card.get("model_type", "embedding") == "embedding":
                return str(card["id"])
        raise Wrong("no embedding model is served there")

    def _fit(self, plan: Plan) -> None:
        """The work file is for this, or becomes so. Raises Stop."""
        part, output = self._part, self._asked.output
        begun = part.plan
        if begun is not None and (other := plan.differs(begun)):
            cure = "go on as then, or begin anew with --force"
            raise Stop(f"{part.path} was begun with another {other}; {cure}")
        if output.exists() and not (begun or plan).overwrite:
            raise Stop(f"{output} is there already; to write it anew: --force")
        if begun is None:
            part.begin(plan)

    async def _all(self, service: Service) -> None:
        asked, first = self._asked, self._part.rows
        rows = Reading(self._source, skip=first)
        for group in groups(rows, first, asked.inputs):
            texts = [group.rows[i].text for i in group.good]
            self._pending.append((group, asyncio.create_task(service.embed(texts))))
            while len(self._pending) >= AHEAD * asked.clients:
                await self._take()
        while self._pending:
            await self._take()

    async def _take(self) -> None:
        """Wait for the oldest group's answer and put it into the work file. Raises Stop."""
        group, task = self._pending[0]
        got = await task
        self._pending.popleft()
        part, good = self._part, group.good
        wrong = {good[i]: why for i, why in got.wrong.items()}
        self._tell(group, wrong)
        dimensions = got.vectors.shape[1] if len(got.vectors) else 0
        for now, before, what in (
            (dimensions, part.dimensions, "vectors of {} numbers"),
            (got.model, part.model, "the model {}"),
        ):
            if now and before and now != before:
                said = f"{what.format(now)}, and what is there came with {what.format(before)}"
                raise Stop(f"the service answers with {said}; begin anew with --force")
        if dimensions and not part.dimensions:
            self._warn_of_space(dimensions)
        missing = sorted({i for i, row in enumerate(group.rows) if row.wrong} | wrong.keys())
        done = Done(
            first=group.first,
            count=len(group.rows),
            missing=missing,
            tokens=got.tokens,
            cut=got.cut,
            dimensions=dimensions,
            model=got.model,
        )
        part.append(done, got.vectors)

    def _tell(self, group: Group, wrong: dict[int, str]) -> None:
        """Name the rows that the service could not embed. Raises Stop where that is the end."""
        for place, why in sorted(wrong.items()):
            self._listed += 1
            if self._listed <= LISTED:
                self._progress.say(f"line {group.rows[place].line} {clean(why)}")
        if wrong and not self._asked.skip:
            cure = "shorten it, cut what is too long with --cut, or leave it out with --bad skip"
            line = group.rows[min(wrong)].line
            raise Stop(f"{self._source.name}: line {line} can't be embedded; {cure}")

    def _warn_of_space(self, dimensions: int) -> None:
        """Say it now if the disk has no room for the work file and the output."""
        asked = self._asked
        size = self._source.path.stat().st_size if self._source.path is not None else 0
        number = LINE_NUMBER if asked.lines else 4
        needs = asked.plan.rows * dimensions * (4 + number) + size
        free = shutil.disk_usage(asked.output.absolute().parent).free
        if needs > free:
            wants = f"about {bytes_text(needs)} will be needed for {asked.output}"
            self._progress.say(f"note: {wants}, and {bytes_text(free)} are free there")

    async def _draw(self, service: Service) -> None:
        while True:
            self._progress.show(self._line(service.waiting))
            await asyncio.sleep(TICK_S)

    def _line(self, waiting: str) -> str:
        part, total = self._part, self._asked.plan.rows
        took = max(time.monotonic() - self._began, 1e-9)
        rows, tokens = part.rows - self._before[0], part.tokens - self._before[1]
        text = f"{part.rows:,} of {total:,} rows, {100 * part.rows / max(total, 1):.1f} %"
        if rows:
            left = age((total - part.rows) * took / rows)
            text += f", {rows / took:,.0f} rows/s, {tokens / took:,.0f} tokens/s, {left} left"
        return text + (f", waiting: {waiting}" if waiting else "")
