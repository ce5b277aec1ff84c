"""The input file of a batch, read in groups of lines: never all of it, and no endless line."""

from __future__ import annotations

from collections.abc import Callable

READ_BYTES, READ_LINES = 1 << 20, 256  # at once
AROUND = 64 << 10  # bytes of a line beside its body


class Source:
    """The lines of an input file, in groups."""

    def __init__(self, readline: Callable[[int], bytes], body_max: int) -> None:
        """A line longer than `body_max` and what stands around a body is None."""
        self._readline, self._longest = readline, body_max + AROUND
        self._number = 0
        self.over = False

    def group(self) -> list[tuple[int, bytes | None]]:
        """The next lines with their numbers, from 1."""
        found: list[tuple[int, bytes | None]] = []
        size = 0
        while size < READ_BYTES and len(found) < READ_LINES:
            raw = self._readline(self._longest)
            if not raw:
                self.over = True
                break
            self._number += 1
            size += len(raw)
            whole = raw.endswith(b"\n") or len(raw) < self._longest
            found.append((self._number, raw if whole else None))
            while not whole:
                raw = self._readline(self._longest)
                whole = raw.endswith(b"\n") or len(raw) < self._longest
        return found
