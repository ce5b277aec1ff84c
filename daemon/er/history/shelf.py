"""The hours' files in STATE/hourly: one for each month, and the hour that is not over.

A row of an hour that is over is appended to the file of its month; the open hour is written anew
every ten seconds and with each event. Where an interruption leaves a row in both, its id counts
once. 400 days are kept, about 2 MB a month.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from er import durable
from er.history import Sample
from er.history.hourly import HOUR_S, Hour, Hourly, Seen, State
from er.history.keeper import steady
from er.journal import log
from er.small_file import DAMAGED

FOLDER = "hourly"
NOW = "now.json"
STORED_EVERY_S = 10.0  # so old may be what a report tells of a running gateway
KEPT_MONTHS = 14  # 400 days at the least
MONTH_MAX = 64 << 20  # bytes; a larger file is not ours
WAITING_MAX = 48  # hours that wait for a disk
FILE_MODE, FOLDER_MODE = 0o640, 0o750

_rows = msgspec.json.Decoder(Hour)
_state = msgspec.json.Decoder(State)


class Shelf:
    """Takes samples and stores them; for several threads."""

    def __init__(
        self,
        state: Path,
        *,
        now: Callable[[], float] = steady,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.folder = state / FOLDER
        self._now, self._wall = now, wall
        self._lock = threading.Lock()
        self._failed = False
        self._stored_at = now()
        self._hourly = Hourly(self._read())

    def add(self, sample: Sample, replicas: Mapping[str, Seen], gateway: float | None) -> None:
        """Note a sample; store when that is due."""
        with self._lock:
            self._hourly.add(self._now(), self._wall(), sample, replicas, gateway)
            news = self._hourly.over or self._hourly.news
            if news or self._now() - self._stored_at >= STORED_EVERY_S:
                self._store()

    def store(self) -> None:
        """Write what there is: the process ends."""
        with self._lock:
            self._store()

    def _read(self) -> State | None:
        path = self.folder / NOW
        try:
            return _state.decode(_bytes(path))
        except FileNotFoundError:
            return None
        except OSError as error:
            log("warning", f"{path} can't be read ({error.strerror}); this hour begins anew")
        except DAMAGED as error:
            log("warning", f"{path} is damaged ({error}); this hour begins anew")
        return None

    def _store(self) -> None:
        """Rows of hours that are over first: a crash between leaves one twice, never none."""
        self._stored_at = self._now()
        try:
            self.folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
            over = self._hourly.over
            while over:
                row = msgspec.json.encode(over[0]) + b"\n"
                # A line that was cut short must not take the next one with it.
                durable.append(self.folder / _month(over[0].hour), row, after_torn=b"\n")
                del over[0]
                self._forget()
            if (state := self._hourly.state()) is not None:
                durable.put(self.folder / NOW, msgspec.json.encode(state), FILE_MODE)
            self._hourly.news = False
        except OSError as error:
            del self._hourly.over[:-WAITING_MAX]
            if not self._failed:
                reason = f"{self.folder} can't be written ({error.strerror})"
                log("warning", f"{reason}; er report knows this time only from what comes later")
            self._failed = True
            return
        self._failed = False

    def _forget(self) -> None:
        for path in sorted(self.folder.glob("[0-9]*.jsonl"))[:-KEPT_MONTHS]:
            path.unlink()


def hours(state: Path, since: int, until: int) -> tuple[list[Hour], int]:
    """(the rows from hour `since` up to but not in `until`, oldest first; lines that are damaged).

    Hours are counted since 1970. Raises OSError.
    """
    folder = state / FOLDER
    found: dict[int, Hour] = {}
    damaged = 0
    try:
        names = sorted(path.name for path in folder.iterdir())
    except FileNotFoundError:
        return [], 0
    for name in names:
        if not name.endswith(".jsonl") or not _month(since) <= name <= _month(until):
            continue
        for line in _bytes(folder / name).splitlines():
            try:
                row = _rows.decode(line)
            except DAMAGED:
                damaged += bool(line.strip())
                continue
            found[row.id] = row
    try:
        row = _state.decode(_bytes(folder / NOW)).hour
        found.setdefault(row.id, row)
    except FileNotFoundError:
        pass
    except DAMAGED:
        damaged += 1
    rows = [row for row in found.values() if since <= row.hour < until]
    return sorted(rows, key=lambda row: row.hour), damaged


def _bytes(path: Path) -> bytes:
    """The file, which is followed by no link and waited for as no pipe. Raises OSError."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags), "rb") as file:
        data = file.read(MONTH_MAX + 1)
    if len(data) > MONTH_MAX:
        raise OSError(27, "it is too large", str(path))
    return data


def _month(hour: int) -> str:
    return f"{datetime.fromtimestamp(hour * HOUR_S, UTC):%Y-%m}.jsonl"


__all__ = ["FOLDER", "Shelf", "hours"]
