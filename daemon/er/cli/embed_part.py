"""The work file of `er embed`: the vectors so far, safe against a kill in the middle of a write.

Records follow each other: magic, length of the header, length of the data, CRC-32 of both; the
header, JSON; the data, float32. The first has no data and says what is embedded and how. A record
that is not whole, the last one when a run was killed, is cut off; nothing before it is touched.
"""

from __future__ import annotations

import fcntl
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from er.job import Vectors

MAGIC = b"ERE1"
FRAME = struct.Struct("<4sIQI")
HEADER_MAX = 1 << 20
NUMBER = np.dtype("<f4")


class PartError(Exception):
    """The work file can't be used; the text says why and what to do."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a work file belongs to. Two runs with the same plan make the same vectors."""

    digest: str  # of the input's bytes
    rows: int
    plain: bool
    field: str
    model: str
    kind: str | None  # document or query; None: as the service has it
    instruction: str | None
    dimensions: int | None
    overwrite: bool  # the output may be there already

    def differs(self, other: Plan) -> str:
        """What of `other` is not the same, in words; "" if all is."""
        names = {
            "digest": "input",
            "plain": "--plain",
            "kind": "--query or --document",
            **{name: f"--{name}" for name in ("field", "model", "instruction", "dimensions")},
        }
        return ", ".join(
            word for name, word in names.items() if getattr(self, name) != getattr(other, name)
        )


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """Rows that are done: `count` from `first` on, less those `missing` (their places within)."""

    first: int
    count: int
    missing: list[int]
    tokens: int
    cut: int
    dimensions: int  # 0 where no row has a vector
    model: str  # as the service calls it


class Part:
    """A work file, locked while it is open."""

    def __init__(self, path: Path, *, anew: bool) -> None:
        """Open or make it; `anew` empties it. Raises PartError, OSError."""
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            raise PartError(f"another er embed is writing {path}; wait for its end") from None
        self.plan: Plan | None = None
        self.written = False  # the output was written from it
        self.rows = self.tokens = self.cut = self.missing = self.dimensions = 0
        self.model = ""
        self._end = 0
        try:
            start = os.pread(self._file, len(MAGIC), 0)
            if start and not MAGIC.startswith(start):
                raise PartError(f"{self.path} is no work file of er embed; move it away")
            if anew:
                os.ftruncate(self._file, 0)
            self._read()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of it."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def remove(self) -> None:
        """Away with it: it has done its work, or nothing is in it."""
        self.path.unlink(missing_ok=True)
        self.close()

    # -- reading -----------------------------------------------------------------------------

    def _read(self) -> None:
        """Take in what is whole, and cut off what is not."""
        for header, _, end in self._records():
            self._take(header)
            self._end = end
        os.ftruncate(self._file, self._end)

    def _take(self, header: dict[str, Any]) -> None:
        if "digest" in header:
            self.plan = msgspec.convert(header, Plan)
        elif "written" in header:
            self.written = True
        else:
            self._count(msgspec.convert(header, Done))

    def _count(self, done: Done) -> None:
        self.rows += done.count
        self.tokens += done.tokens
        self.cut += done.cut
        self.missing += len(done.missing)
        self.dimensions = done.dimensions or self.dimensions
        self.model = done.model or self.model

    def _records(self) -> Iterator[tuple[dict[str, Any], bytes, int]]:
        """(header, data, end) of each whole record."""
        at, size = 0, os.fstat(self._file).st_size
        while at + FRAME.size <= size:
            magic, head, data, crc = FRAME.unpack(os.pread(self._file, FRAME.size, at))
            end = at + FRAME.size + head + data
            if magic != MAGIC or end > size or head > HEADER_MAX:
                return
            body = _pread(self._file, head + data, at + FRAME.size)
            if zlib.crc32(body) != crc:
                return
            yield msgspec.json.decode(body[:head]), body[head:], end
            at = end

    def results(self) -> Iterator[tuple[Done, Vectors]]:
        """Everything that was appended: the rows, and (those with a vector, dimensions) float32."""
        for header, data, _ in self._records():
            if "first" in header:
                done = msgspec.convert(header, Done)
                yield done, np.frombuffer(data, NUMBER).reshape(-1, max(1, done.dimensions))

    # -- writing -----------------------------------------------------------------------------

    def begin(self, plan: Plan) -> None:
        """Say what it is for. Raises OSError."""
        self._append(msgspec.json.encode(plan), b"")
        self.plan = plan

    def append(self, done: Done, vectors: Vectors) -> None:
        """Add the rows that follow those that are there. Raises OSError; then nothing is added."""
        assert done.first == self.rows
        data = np.ascontiguousarray(vectors, NUMBER).tobytes()
        self._append(msgspec.json.encode(done), data)
        self._count(done)

    def note_written(self) -> None:
        """The output is whole, and about to get its name."""
        self._append(b'{"written":true}', b"")
        self.written = True

    def _append(self, header: bytes, data: bytes) -> None:
        frame = FRAME.pack(MAGIC, len(header), len(data), zlib.crc32(data, zlib.crc32(header)))
        rest = memoryview(frame + header + data)
        at = self._end
        while rest:
            wrote = os.pwrite(self._file, rest, at)
            at, rest = at + wrote, rest[wrote:]
        self._end = at


def _pread(file: int, count: int, at: int) -> bytes:
    """All of `count` bytes: one call gives 2 GiB at most."""
    parts = []
    while count:
        part = os.pread(file, count, at)
        if not part:
            raise OSError("the work file became shorter while it was read")
        parts.append(part)
        at, count = at + len(part), count - len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
