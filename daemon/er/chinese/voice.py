"""A stream in front of a terminal's that says in Chinese what is written to it in English."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TextIO


class Voice:
    """As the stream it stands before, but for `write`: whole lines, or what is flushed, are heard.

    Bytes written to its `buffer` pass by, as do those of whoever writes to the descriptor.
    """

    def __init__(self, stream: TextIO, hear: Callable[[str], str]) -> None:
        self.stream = stream
        self._hear, self._held = hear, ""

    def write(self, text: str) -> int:
        """Take `text`; it goes out with the end of its line."""
        self._held += text
        if self._held.endswith("\n"):
            self._out()
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        self._out()
        self.stream.flush()

    def _out(self) -> None:
        held, self._held = self._held, ""
        if held:
            bare = held.rstrip("\n")
            self.stream.write(self._hear(bare) + held[len(bare) :])

    @property
    def buffer(self) -> Any:
        """Where bytes go; what was held back for its line's end goes before them."""
        self._out()
        return self.stream.buffer

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)
