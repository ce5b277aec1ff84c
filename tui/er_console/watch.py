"""`--watch`: the one frame of --once again and again in the plain terminal; no Textual.

On a terminal the frame is painted over itself, without the alternate screen, so that the last one
stays. Elsewhere, and as JSON, there is one line for each change of the verdict: a log.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import TextIO

from er_console.judgement import EXIT_CODES, Verdict, verdict, worst
from er_console.look import as_json, frame, snapshot
from er_console.looks import Looks, fit
from er_console.parts import gateway, replicas
from er_console.sources import Sources
from er_console.state import Snapshot

MIN_WIDTH, MAX_WIDTH = 60, 200
UP, HOME, CLEAR_ROW, CLEAR_BELOW, CLEAR = "\x1b[{}F", "\x1b[H", "\x1b[K", "\x1b[J", "\x1b[2J"


def terminal_size() -> os.terminal_size:
    """As it is now; COLUMNS and LINES, which tell how it was once, count where there is none."""
    try:
        return os.get_terminal_size(sys.stdout.fileno())
    except (OSError, ValueError):
        return shutil.get_terminal_size()


@dataclass(slots=True)
class Watch:
    """`style`: "frame" is painted over itself, "line" and "json" are one row for each change."""

    sources: Sources
    looks: Looks
    interval_s: float
    style: str
    out: TextIO = field(default_factory=lambda: sys.stdout)
    wall: Callable[[], float] = time.time
    size: Callable[[], os.terminal_size] = terminal_size
    exit_code: int = EXIT_CODES["unknown"]
    _before: Snapshot = field(default_factory=Snapshot)
    _said: tuple[object, ...] = ()
    _rows: int = 0
    _size: tuple[int, int] = (0, 0)

    async def look(self) -> None:
        """One look at all sources, shown. Raises OSError when nobody can be shown anything."""
        now = self.wall()
        found = await snapshot(self.sources, now, self._before)
        self._before = found = replace(found, interval_s=self.interval_s)
        judged = verdict(found, now)
        self.exit_code = judged.exit_code
        if self.style == "frame":
            self._paint(found, now)
            return
        said = _told_apart(found, judged, now)
        if said == self._said:
            return
        self._said = said
        if self.style == "json":
            row = as_json(found, judged, now, ascii_only=self.looks.ascii_only, indent=None)
        else:
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(now))
            row = self.looks.words(f"{stamp} {judged.word} {judged.sentence}")
        self._write(row + "\n")

    def _paint(self, found: Snapshot, now: float) -> None:
        """The frame, over the last one; afresh when the terminal's size has changed."""
        size = self.size()
        width = max(MIN_WIDTH, min(MAX_WIDTH, size.columns))
        more = "~" if self.looks.ascii_only else "…"
        # A row that wraps, or more rows than there are, would spoil the way back up.
        shown = [
            fit(row, min(width, size.columns) - 1, more=more).rstrip()
            for row in frame(found, now, self.looks, width, self.sources.tag)
        ][: max(1, size.lines - 1)]
        start = UP.format(self._rows) if self._rows else ""
        if self._size not in ((0, 0), tuple(size)):
            start = CLEAR + HOME
        self._rows, self._size = len(shown), (size.columns, size.lines)
        body = "".join(row + CLEAR_ROW + "\n" for row in shown)
        self._write(start + body + CLEAR_BELOW)

    def _write(self, said: str) -> None:
        self.out.write(said)
        self.out.flush()


def _told_apart(found: Snapshot, judged: Verdict, now: float) -> tuple[object, ...]:
    """What makes a verdict another one: not the time that it has lasted."""
    parts = replicas(found, now)
    bad = worst(parts)
    answering = sum(1 for part in parts if part.state in ("up", "slow"))
    unknown = judged.level == "unknown" and found.status.missing is not None
    missing = found.status.missing.kind if unknown and found.status.missing is not None else ""
    named = (bad.name, bad.state) if bad is not None else ()
    return judged.word, answering, len(parts), named, gateway(found, now).state, missing


async def keep_watching(watch: Watch, pause: Callable[[float], Awaitable[object]]) -> int:
    """Look until a signal or the reader ends it.

    Returns the exit code: the last verdict's after ctrl+c or when the reader has gone, else 128
    and the signal's number.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[int] = loop.create_future()

    def end(number: int) -> None:
        if not ended.done():
            ended.set_result(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, end, number)
    looking = asyncio.create_task(_looks(watch, pause))
    looking.add_done_callback(lambda _: end(0))
    try:
        await ended
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.remove_signal_handler(number)
    if looking.done():
        looking.result()
        return watch.exit_code
    looking.cancel()
    await asyncio.wait({looking})
    return watch.exit_code if ended.result() == signal.SIGINT else 128 + ended.result()


async def _looks(watch: Watch, pause: Callable[[float], Awaitable[object]]) -> None:
    """One look each interval, from start to start; ends when the reader has gone."""
    while True:
        began = time.monotonic()
        try:
            await watch.look()
        except OSError:
            # The pipe's reader or the terminal has gone; Python must not complain at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return
        await pause(max(0.0, watch.interval_s - (time.monotonic() - began)))
