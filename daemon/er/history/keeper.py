"""The history and its file: read when the process begins, written now and then and at its end."""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from er import durable
from er.history import Damaged, History, Sample
from er.journal import log

STORED_EVERY_S = 45.0  # with the time between two samples, what a kill -9 can cost
FILE_MODE = 0o640
BYTES_MAX = 16 << 20  # unpacked; a file of more is not ours


def steady() -> float:
    """Seconds of the clock that nobody sets and that goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Keeper:
    """Takes samples, answers, stores; for several threads. The file is made anew when it is bad."""

    def __init__(
        self,
        path: Path,
        *,
        now: Callable[[], float] = steady,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.path = path
        self._now, self._wall = now, wall
        self._lock = threading.Lock()
        self._stored_at = now()
        self._failed = False
        self._history = self._read()

    def add(self, sample: Sample) -> None:
        """Note a sample; store all of it when that is due."""
        with self._lock:
            self._history.add(self._now(), sample)
            if self._now() - self._stored_at >= STORED_EVERY_S:
                self._store()

    def answer(self, seconds: int) -> dict[str, Any]:
        """See History.answer."""
        with self._lock:
            return self._history.answer(self._now(), self._wall(), seconds)

    def store(self) -> None:
        """Write the file now: the process ends."""
        with self._lock:
            self._store()

    def _read(self) -> History:
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return History()
        except OSError as error:
            log("warning", f"{self.path} can't be read ({error.strerror}); the history begins anew")
            return History()
        try:
            return History.unpacked(_inflated(data), self._now(), self._wall())
        except (Damaged, zlib.error) as error:
            log("warning", f"{self.path} is damaged ({error}); the history begins anew")
            return History()

    def _store(self) -> None:
        """In place of the old file, whole or not at all. A full disk is said once."""
        self._stored_at = self._now()
        data = zlib.compress(self._history.packed(self._now(), self._wall()), 1)
        try:
            durable.put(self.path, data, FILE_MODE)
        except OSError as error:
            if not self._failed:
                reason = f"{self.path} can't be written ({error.strerror})"
                log("warning", f"{reason}; a restart would lose the traffic's past")
            self._failed = True
            return
        self._failed = False


def _inflated(data: bytes) -> bytes:
    """The bytes that were packed. Raises zlib.error or Damaged; never takes more than BYTES_MAX."""
    packer = zlib.decompressobj()
    found = packer.decompress(data, BYTES_MAX)
    if not packer.eof:
        raise Damaged("it is cut short or too long")
    return found
