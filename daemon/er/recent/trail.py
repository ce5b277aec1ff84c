"""The files in which workers tell: each appends to its own, the admin process reads what is new.

A file belongs to a worker's slot and is appended to by whoever has that slot next, so that a new
generation of workers, or a new admin process, loses nothing of the last minutes. It is set aside
when it is full, and the one set aside before it goes: two files a slot, whoever reads them or not.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from er.journal import Seldom, log
from er.recent.record import BUCKETS, Told
from er.small_file import DAMAGED

FILE_MAX = 256 << 10  # bytes; a busy worker's record has 3 KB
HEAD = 4  # bytes of a record's length before it
ASIDE = ".old"

_encoded = msgspec.msgpack.Encoder().encode
_decoded = msgspec.msgpack.Decoder(Told).decode


def folder(runtime: Path) -> Path:
    """Where the files lie."""
    return runtime / "recent"


class Trail:
    """A worker's file."""

    def __init__(self, runtime: Path, slot: int, file_max: int = FILE_MAX) -> None:
        self._path = folder(runtime) / str(slot)
        self._max = file_max
        self._seldom = Seldom()

    def tell(self, told: Told) -> None:
        """Append it. What can't be written is lost, and said once a minute."""
        data = _encoded(told)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        try:
            self._path.parent.mkdir(mode=0o750, exist_ok=True)
            with contextlib.closing(_Raw(os.open(self._path, flags, 0o640))) as file:
                if os.fstat(file.fd).st_size + len(data) > self._max:
                    self._path.replace(self._path.with_name(self._path.name + ASIDE))
                    file.become(os.open(self._path, flags, 0o640))
                size = os.fstat(file.fd).st_size
                whole = len(data).to_bytes(HEAD, "little") + data
                if os.write(file.fd, whole) != len(whole):
                    os.ftruncate(file.fd, size)  # a part of a record would hide all after it
        except OSError as error:
            if self._seldom.due("recent"):
                said = f"{self._path} can't be written ({error.strerror})"
                log("warning", f"{said}; the console lacks the slowest requests meanwhile")


class _Raw:
    """An open file that may become another."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def become(self, fd: int) -> None:
        os.close(self.fd)
        self.fd = fd

    def close(self) -> None:
        os.close(self.fd)


class Trails:
    """All workers' files, read on from where they were read to."""

    def __init__(self, runtime: Path, file_max: int = FILE_MAX) -> None:
        self._folder = folder(runtime)
        self._max = file_max
        self._read: dict[tuple[int, int], int] = {}  # (device, inode): bytes
        self._seldom = Seldom()

    def read(self, take: Callable[[Told], None]) -> None:
        """Give `take` each record that is new. Files that can't be read are passed over."""
        met: dict[tuple[int, int], int] = {}
        # Those set aside first: they are older.
        for path in sorted(self._paths(), key=lambda path: not path.name.endswith(ASIDE)):
            try:
                with path.open("rb") as file:
                    about = os.fstat(file.fileno())
                    name = (about.st_dev, about.st_ino)
                    begin = self._read.get(name, 0)
                    if begin > about.st_size:  # another file under an old number
                        begin = 0
                    file.seek(begin)
                    data = file.read(2 * self._max)
            except OSError:
                continue
            met[name] = begin + self._take(path, data, take)
        self._read = met

    def _paths(self) -> list[Path]:
        try:
            return list(self._folder.iterdir())
        except OSError:
            return []

    def _take(self, path: Path, data: bytes, take: Callable[[Told], None]) -> int:
        """How many bytes were read to an end."""
        at = 0
        while at + HEAD <= len(data):
            end = at + HEAD + int.from_bytes(data[at : at + HEAD], "little")
            if end > len(data) and end - at <= self._max:
                break  # it is being written
            try:
                told = _decoded(data[at + HEAD : end])
                if any(len(group.sums.times) not in (0, BUCKETS) for group in told.groups):
                    raise msgspec.ValidationError("times")
            except DAMAGED:
                # Nothing after it can be found: the worker's next file is read again.
                if self._seldom.due(path.name):
                    log("warning", f"{path} is damaged; what it had is left out")
                return len(data)
            take(told)
            at = end
        return at


__all__ = ["Trail", "Trails", "folder"]
