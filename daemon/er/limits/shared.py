"""A file in RUNTIME that all workers map: of this boot and of one layout, else made anew."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Made = TypeVar("Made")


def opened(path: Path, magic: bytes, size: int) -> int:
    """The file's descriptor; zeros behind a header of `magic` and the boot where it is new.

    Raises OSError, for example when the disk is full.
    """
    header = magic + Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.lockf(file, fcntl.LOCK_EX, 1)
        if os.pread(file, len(header), 0) != header or os.fstat(file).st_size != size:
            os.ftruncate(file, 0)
            # Taken now, so that a full disk says so here and not by a signal later.
            os.posix_fallocate(file, 0, size)
            os.pwrite(file, header, 0)
        fcntl.lockf(file, fcntl.LOCK_UN, 1)
    except BaseException:
        os.close(file)
        raise
    return file


def made_of(path: Path, magic: bytes, size: int, make: Callable[[int], Made]) -> Made:
    """What `make` makes of the file, see `opened`; it owns the descriptor. Raises OSError."""
    file = opened(path, magic, size)
    try:
        return make(file)
    except BaseException:
        os.close(file)
        raise


class Locked:
    """Holds the lock on one byte of a file."""

    def __init__(self, file: int, at: int) -> None:
        self._file, self._at = file, at

    def __enter__(self) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_EX, 1, self._at)

    def __exit__(self, *_: object) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, self._at)
