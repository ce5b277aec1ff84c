"""Who writes the hours that are over into the book: the admin process, twice a minute."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from er.journal import Seldom, log
from er.usage.book import Book
from er.usage.hours import Hours

EVERY_S = 30.0
FORGET_EVERY_S = 3600.0


class Scribe:
    """Not for several threads at once. Any number of processes may have one: one at a time writes.

    `teams` says each key's team, "" for none; keys that it lacks have none that is known.
    """

    def __init__(self, folder: Path, teams: Callable[[], Mapping[str, str]]) -> None:
        self._folder, self._teams = folder, teams
        self._hours: Hours | None = None
        self._book = Book(folder)
        self._settled_at = self._forgot_at = float("-inf")
        self._seldom = Seldom()

    def tick(self, steady: float, now: float) -> None:
        """Settle when that is due; `steady` is a clock that nobody sets, `now` Unix seconds."""
        if steady - self._settled_at >= EVERY_S:
            self._settled_at = steady
            self.settle(now)
            if steady - self._forgot_at >= FORGET_EVERY_S:
                self._forgot_at = steady
                self._try(lambda: self._book.forget(now))

    def settle(self, now: float) -> None:
        """Write down what is over; what the disk does not take stays in the table."""
        self._try(lambda: self._settle(now))

    def _settle(self, now: float) -> None:
        hours = self._hours = self._hours or Hours.open(self._folder)
        with hours.writer() as mine:
            if not mine:
                return
            rows = hours.due(now)
            if rows:
                self._book.write(rows, self._teams())
                hours.written(rows)
            hours.sync()

    def _try(self, work: Callable[[], None]) -> None:
        try:
            work()
        except OSError as error:
            if self._seldom.due("disk"):
                told = f"{self._folder} can't be written ({error.strerror})"
                log(
                    "warning", f"usage: {told}; nothing is lost while the gateway has room to count"
                )

    def close(self) -> None:
        """Let go of the table."""
        if self._hours is not None:
            self._hours.close()
            self._hours = None
