"""Reads a small file that somebody else may have put there: never waits, never follows a link."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import msgspec

# What msgspec raises for a file that is not as it was written: bytes that are no text are no error
# of its own, nor are thousands of brackets.
DAMAGED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
MOST = 4 << 20  # bytes


def read(path: Path) -> bytes:
    """The whole file. Raises OSError, also where it is no plain file or has over 4 MiB.

    Who may write its folder could have put a pipe there, which a reader waits for without end, or
    a link to what only the reader may see.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with open(os.open(path, flags), "rb") as file:
        known = os.fstat(file.fileno())
        if not stat.S_ISREG(known.st_mode):
            raise OSError(f"{path} is no plain file")
        data = file.read(MOST + 1)
    if len(data) > MOST:
        raise OSError(f"{path} is larger than {MOST >> 20} MiB")
    return data
