"""The results of a batch while it runs: two files that only grow, each line's result once.

What stands in them is the truth about what is done. A process that is killed leaves at most half a
line at the end of each; it is cut off when the batch goes on, and that line is computed again.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from er.batches import lines

MODE = 0o640


class Result(NamedTuple):
    """One line's: its number, whether it was answered well, and the line of output."""

    number: int
    good: bool
    text: bytes


class Results:
    """What is done of one batch."""

    def __init__(self, output: Path, errors: Path) -> None:
        """Take up what stands in the two files, which are made where they are missing.

        Raises OSError.
        """
        self.completed = self.failed = 0
        self._done: set[int] = set()  # numbers of lines
        self._files: list[int] = []
        try:
            for good, path in ((True, output), (False, errors)):
                self._files.append(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, MODE))
                self._take_up(path, good)
        except BaseException:
            self.close()
            raise

    def is_done(self, number: int) -> bool:
        """Whether the result of that line stands in one of the files."""
        return number in self._done

    def _take_up(self, path: Path, good: bool) -> None:
        """Read what is there, up to the first line that is not whole; cut off the rest."""
        whole = 0
        with path.open("rb", buffering=1 << 20) as file:
            for raw in file:
                number = lines.number_of(raw)
                if number is None or number in self._done:
                    break
                self._mark(number, good)
                whole += len(raw)
        if whole != os.fstat(self._files[-1]).st_size:
            os.ftruncate(self._files[-1], whole)
        os.lseek(self._files[-1], 0, os.SEEK_END)

    def _mark(self, number: int, good: bool) -> None:
        self._done.add(number)
        self.completed += good
        self.failed += not good

    def write(self, group: Sequence[Result]) -> None:
        """Append all of them, or none. Raises OSError, after which nothing of them stands there."""
        sizes = [os.fstat(file).st_size for file in self._files]
        try:
            for file, good in zip(self._files, (True, False), strict=True):
                _append(file, b"".join([r.text for r in group if r.good is good]))
        except OSError:
            for file, size in zip(self._files, sizes, strict=True):
                os.ftruncate(file, size)
                os.lseek(file, 0, os.SEEK_END)
            raise
        for result in group:
            self._mark(result.number, result.good)

    def sync(self) -> None:
        """Return once all is on the disk. Raises OSError."""
        for file in self._files:
            os.fdatasync(file)

    def close(self) -> None:
        for file in self._files:
            with contextlib.suppress(OSError):
                os.close(file)
        self._files = []


def _append(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
