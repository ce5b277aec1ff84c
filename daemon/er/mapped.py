"""A file in STATE that processes map: made with its whole size, set aside when it is another's."""

from __future__ import annotations

import contextlib
import fcntl
import os
from datetime import UTC, datetime
from pathlib import Path

from er.journal import log

HEAD_BYTES = 4096


def opened(path: Path, magic: bytes, size: int) -> tuple[int, bool]:
    """The file's descriptor, with zeros behind `magic` where it is new, and whether it is.

    Raises OSError, for example when the disk is full.
    """
    path.parent.mkdir(mode=0o750, exist_ok=True)
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.lockf(file, fcntl.LOCK_EX)
            if _moved(file, path):
                os.close(file)
                continue
            head = os.pread(file, len(magic), 0)
            if head == magic and os.fstat(file).st_size == size:
                fcntl.lockf(file, fcntl.LOCK_UN)
                return file, False
            if head.strip(b"\0"):
                set_aside(path, "it is not what ER writes there")
                os.close(file)
                continue
            # Taken now, so that a full disk says so here and not by a signal later.
            os.posix_fallocate(file, 0, size)
            os.ftruncate(file, size)
            os.pwrite(file, magic, 0)
            fcntl.lockf(file, fcntl.LOCK_UN)
        except BaseException:
            with contextlib.suppress(OSError):
                os.close(file)
            raise
        return file, True


def set_aside(path: Path, why: str) -> None:
    """Rename a damaged file, and say so."""
    aside = aside_of(path)
    path.replace(aside)
    log("warning", f"{path} is damaged ({why}); it is kept as {aside.name}, and a new one begun")


def aside_of(path: Path) -> Path:
    """Where a damaged file, or a copy of it, is kept."""
    return path.with_name(f"{path.name}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%S.%f}")


def _moved(file: int, path: Path) -> bool:
    """Whether somebody set the file aside before we had its lock."""
    try:
        return path.stat().st_ino != os.fstat(file).st_ino
    except FileNotFoundError:
        return True
