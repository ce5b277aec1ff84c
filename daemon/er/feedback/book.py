"""The feedback that was answered 2xx: a file for each month of requests, a line for each feedback.

Any process may append, one at a time (`lock`); a line is on the disk before its client hears of it.
A line that can't be read is passed over. The last one of a request counts.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from er import durable
from er.feedback import Given
from er.journal import log
from er.small_file import DAMAGED

BYTES_MAX = 256 << 20  # of all months
FILE = re.compile(r"(\d{4})-(0[1-9]|1[0-2])\.jsonl\Z")
_decoded = msgspec.json.Decoder(Given).decode
_encoded = msgspec.json.Encoder().encode


class Full(Exception):  # noqa: N818 - the operator's bound, not an accident
    """The files have as many bytes as they may."""


class Read(NamedTuple):
    """What files hold."""

    given: list[Given]  # the last of each request, oldest first
    damaged: list[str]  # "path: lines", of lines that can't be read


class Book:
    """The files in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else appends meanwhile. Blocks. Raises OSError."""
        self._folder.mkdir(mode=0o750, exist_ok=True)
        file = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
        finally:
            os.close(file)

    def append(self, given: Sequence[Given]) -> None:
        """Add these, for who has it `locked`; on the disk when it returns.

        Raises Full, and OSError: then nothing more is in the file of a month than before.
        """
        lines: dict[str, list[bytes]] = {}
        for one in given:
            lines.setdefault(_file_of(one.asked), []).append(_encoded(one) + b"\n")
        more = sum(len(line) for of_month in lines.values() for line in of_month)
        if sum((self._folder / name).stat().st_size for name in self.months()) + more > BYTES_MAX:
            raise Full
        for name, of_month in lines.items():
            # Nobody was told of a line that a kill broke off.
            durable.append(self._folder / name, b"".join(of_month), after_torn=b"\n")

    def months(self) -> list[str]:
        """The names of the files, oldest first. Raises OSError."""
        try:
            return sorted(path.name for path in self._folder.iterdir() if FILE.match(path.name))
        except FileNotFoundError:
            return []

    def state(self) -> list[tuple[str, int]]:
        """What changes with each feedback. Raises OSError."""
        return [(name, (self._folder / name).stat().st_size) for name in self.months()]

    def read(self, since: float, others: Sequence[bytes] = ()) -> Read:
        """The feedback to requests answered since then (Unix seconds), with the lines that other
        hosts told. Raises OSError.
        """
        found: dict[tuple[str, str, int], Given] = {}
        for told in map(decoded, others):
            if told is not None and told.asked >= since:
                found[told.key, told.id, told.asked] = told
        damaged = []
        for name in self.months():
            if name < _file_of(since):
                continue
            wrong = 0
            for one in _given(self._folder / name):
                if one is None:
                    wrong += 1
                elif one.asked >= since:
                    found[one.key, one.id, one.asked] = one
            if wrong:
                damaged.append(f"{self._folder / name}: {wrong}")
        return Read(sorted(found.values(), key=lambda one: one.at), damaged)

    def forget(self, now: float, keep_s: float) -> None:
        """Remove months that are over for `keep_s`, and the oldest of more than BYTES_MAX.

        Raises OSError.
        """
        with self.locked():
            months = self.months()
            for name in [name for name in months if _ends(name) <= now - keep_s]:
                (self._folder / name).unlink()
                months.remove(name)
            sizes = {name: (self._folder / name).stat().st_size for name in months}
            # A tenth is left, so that new feedback finds room.
            while len(months) > 1 and sum(map(sizes.__getitem__, months)) > BYTES_MAX * 9 // 10:
                gone = months.pop(0)
                (self._folder / gone).unlink()
                told = f"{self._folder} had nearly {BYTES_MAX >> 20} MiB; {gone} was removed"
                log("warning", f"feedback: {told}")


def _file_of(asked: float) -> str:
    return f"{datetime.fromtimestamp(asked, UTC):%Y-%m}.jsonl"


def _ends(name: str) -> float:
    year, month = int(name[:4]), int(name[5:7])
    return datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC).timestamp()


def _given(path: Path) -> Iterator[Given | None]:
    """Each line's feedback; None for one that can't be read."""
    try:
        file = path.open("rb")
    except FileNotFoundError:  # forgotten meanwhile
        return
    with file:
        yield from map(decoded, file)


def decoded(line: bytes) -> Given | None:
    """The feedback of a line; None for one that can't be read."""
    try:
        return _decoded(line)
    except DAMAGED:
        return None
