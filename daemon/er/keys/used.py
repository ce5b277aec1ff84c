"""When each key was last used: a small memory-mapped file beside the key file.

A table of 32 bytes a key: id, and the time in Unix seconds. A request writes 8 bytes into memory;
the kernel brings them to the disk. Losing it costs nothing but the column `last_used`.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import struct
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from er import small_file

ROWS = 4096
ROW_BYTES = 32
ID_BYTES = 16
SIZE = ROWS * ROW_BYTES
LAST = 1 << 37  # Unix seconds; a later one can't be meant


def beside(path: Path) -> Path:
    """The file of last uses that belongs to the key file at `path`."""
    return path.with_name("keys_used")


def read(path: Path) -> dict[str, str]:
    """Key id -> time of its last use, as 2026-11-23T16:00:00Z; empty when there is no file."""
    return {key_id: _said(when) for key_id, when in _times(path).items()}


def _said(when: int) -> str:
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _times(path: Path) -> dict[str, int]:
    try:
        data = path.read_bytes()
    except OSError:
        return {}
    found: dict[str, int] = {}
    for at in range(0, len(data) - ROW_BYTES + 1, ROW_BYTES):
        name = data[at : at + ID_BYTES].rstrip(b"\0").decode("ascii", "replace")
        (when,) = struct.unpack_from("<q", data, at + ID_BYTES)
        if name and 0 < when < LAST:
            found[name] = when
    return found


def others(path: Path) -> Path:
    """The file with what other hosts told of the keys in `path`: id -> Unix seconds, as JSON."""
    return path.with_name("keys_used.shared.json")


def times(path: Path) -> dict[str, int]:
    """Key id -> Unix seconds of its last use here; empty when there is no file."""
    return _times(beside(path))


def latest(path: Path) -> dict[str, str]:
    """As `read`, for the key file at `path`: the newest of what this host and others know."""
    found = times(path)
    try:
        told = msgspec.json.decode(small_file.read(others(path)), type=dict[str, int])
    except (OSError, *small_file.DAMAGED):
        told = {}
    for key_id, when in told.items():
        if found.get(key_id, 0) < when < LAST:
            found[key_id] = when
    return {key_id: _said(when) for key_id, when in found.items()}


def put_others(path: Path, told: dict[str, int]) -> None:
    """Keep what other hosts told. Raises OSError. Not forced to the disk: it is told again."""
    data, there = msgspec.json.encode(told), others(path)
    with contextlib.suppress(OSError):
        if there.read_bytes() == data:
            return
    fresh = there.with_name(f".{there.name}.{os.getpid()}.tmp")
    file = os.open(
        fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640
    )
    with open(file, "wb") as out:
        out.write(data)
    fresh.replace(there)


def mapped(path: Path, size: int) -> tuple[int, mmap.mmap]:
    """The file, made if there is none, and `size` bytes of it as memory. Raises OSError."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        if os.fstat(file).st_size < size:
            # Taken now, so that a full disk says so here and not by a signal later.
            os.posix_fallocate(file, 0, size)
        return file, mmap.mmap(file, size)
    except BaseException:
        os.close(file)
        raise


class Used:
    """Notes uses. One object a process."""

    def __init__(self, path: Path) -> None:
        """Open or make the file. Raises OSError."""
        self._file, self._map = mapped(path, SIZE)
        self._rows: dict[str, int] = {}
        self._noted: dict[str, int] = {}

    def note(self, key_id: str, now_s: int) -> None:
        """The key was used at `now_s`."""
        if self._noted.get(key_id) == now_s:
            return
        self._noted[key_id] = now_s
        at = self._rows.get(key_id)
        if at is None:
            at = self._rows[key_id] = self._row(key_id.encode().ljust(ID_BYTES, b"\0"))
        if at >= 0:
            struct.pack_into("<q", self._map, at + ID_BYTES, now_s)

    def _row(self, name: bytes) -> int:
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            for wanted in (name, bytes(ID_BYTES)):
                for at in range(0, SIZE, ROW_BYTES):
                    if self._map[at : at + ID_BYTES] == wanted:
                        self._map[at : at + ID_BYTES] = name
                        return at
            return -1  # more keys than rows: their last use is not known
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)
