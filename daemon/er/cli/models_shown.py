"""What a pull shows while it goes on: one line that is rewritten, or one every ten seconds."""

from __future__ import annotations

import shutil
import time
from collections import deque
from collections.abc import Callable
from typing import TextIO

from er.cli.screen import age, clean
from er.quantities import bytes_text

OFTEN_S = 0.2  # on a terminal
SELDOM_S = 10.0  # elsewhere: in a log
WINDOW_S = 15.0  # that the rate is of


class Shown:
    """The watcher of a pull. Bytes that were there before it began make no rate."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._clock = stream, clock
        self._terminal = stream.isatty()
        self.begun = False
        self._size = self._there = 0
        self._came = 0
        self._path = ""
        self._marks: deque[tuple[float, int]] = deque([(clock(), 0)])
        self._said_at = clock()

    def begin(self, size: int, there: int) -> None:
        """Of `size` bytes `there` are there."""
        self.begun = True
        self._size, self._there, self._came = size, there, 0
        self._marks = deque([(self._clock(), 0)])
        self._said_at = self._clock()

    def moved(self, path: str, count: int) -> None:
        """As a Watcher."""
        self._path = path
        self._there += count
        self._came += max(0, count)
        now = self._clock()
        if now - self._said_at >= (OFTEN_S if self._terminal else SELDOM_S):
            self._said_at = now
            self._say(now)

    def note(self, text: str) -> None:
        """As a Watcher."""
        self.clear()
        print(clean(text), file=self._stream, flush=True)

    def clear(self) -> None:
        """Take the line away."""
        if self._terminal:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def line(self, now: float) -> str:
        """ "  42 %  1.2 GiB of 2.9 GiB  11.3 MiB/s  2m 30s left  model.safetensors"."""
        self._marks.append((now, self._came))
        while len(self._marks) > 2 and now - self._marks[0][0] > WINDOW_S:
            self._marks.popleft()
        (since, had), span = self._marks[0], now - self._marks[0][0]
        rate = (self._came - had) / span if now > since else 0.0
        percent = 100 * self._there // self._size if self._size else 100
        parts = [f"{percent:3} %", f"{bytes_text(self._there)} of {bytes_text(self._size)}"]
        parts.append(f"{bytes_text(rate)}/s")
        parts.append(f"{age((self._size - self._there) / rate)} left" if rate >= 1 else "stalled")
        return "  ".join([*parts, clean(self._path)])

    def _say(self, now: float) -> None:
        text = self.line(now)
        if self._terminal:
            text = text[: shutil.get_terminal_size().columns - 1]
            self._stream.write(f"\r{text}\x1b[K")
            self._stream.flush()
        else:
            print(text, file=self._stream, flush=True)
