"""A worker's end of usage: takes what the tally counted, also while the disk takes nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from er.journal import Seldom, log
from er.usage import OTHERS, Sums
from er.usage.elsewhere import Together
from er.usage.hours import Hours, Name
from er.usage.monthly import Monthly, by_key

PATIENCE = 20  # times in a row that another process may have the table before it is waited for
WAITING_MAX = 8192  # names that wait for a disk; what comes to more is counted as OTHERS


class Meter:
    """Opens the tables when it can. One object a process."""

    def __init__(self, folder: Path, shared: Path | None = None) -> None:
        """`shared`: the runtime directory, where quotas count what other hosts used too."""
        self._folder, self._shared = folder, shared
        self._hours: Hours | None = None
        self.monthly: Monthly | None = None  # None while the disk takes no table
        self._waiting: dict[Name, Sums] = {}
        self._seldom = Seldom()
        self._busy = 0  # times in a row that the table was another's
        self._open()

    def count(self, counted: Mapping[Name, Sums]) -> None:
        """Count these, or keep them until the disk takes them and no other process is at it."""
        if not counted and not self._waiting:
            return
        if not (self._hours and self.monthly):
            self._open()
        hours, monthly = self._hours, self.monthly
        if hours is None or monthly is None:
            self._keep(counted)
            return
        if self._waiting:
            self._keep(counted)
            counted, self._waiting = self._waiting, {}
        now, patient = time.time(), self._busy < PATIENCE
        try:
            # A process that has the lock may wait for a core, and every client of this worker
            # with it.
            astray = hours.add(counted, now, wait=not patient)
        except BlockingIOError:
            self._busy += 1
            self._keep(counted)
            return
        self._busy = 0
        if astray and self._seldom.due("full"):
            told = f"{astray} requests were counted as of key {OTHERS}"
            log("warning", f"usage: more keys and models than there are rows; {told}")
        monthly.settle(by_key(counted), now)

    def months(self) -> Monthly | Together:
        """Each key's month, for quotas. Raises OSError while the disk takes no table."""
        if self.monthly is None:
            self.monthly = Monthly.open(self._folder, time.time())
        return self.monthly if self._shared is None else Together(self.monthly, self._shared)

    def _keep(self, counted: Mapping[Name, Sums]) -> None:
        for name, sums in counted.items():
            mine = name
            if name not in self._waiting and len(self._waiting) >= WAITING_MAX:
                mine = (OTHERS, name[1])
            self._waiting[mine] = self._waiting.get(mine, Sums()).plus(sums)

    def _open(self) -> None:
        try:
            self._hours = self._hours or Hours.open(self._folder)
            self.monthly = self.monthly or Monthly.open(self._folder, time.time())
        except OSError as error:
            if self._seldom.due("open"):
                told = f"{self._folder} can't be written ({error.strerror})"
                log("warning", f"usage: {told}; what is used is counted in memory meanwhile")

    def close(self) -> None:
        """Count what waits, and let go of the files."""
        self._busy = PATIENCE
        self.count({})
        if self._waiting:
            lost = sum(one.requests + one.refused for one in self._waiting.values())
            log("err", f"usage: {lost} requests could not be counted before the end")
        for table in (self._hours, self.monthly):
            if table is not None:
                table.close()
        self._hours = self.monthly = None
