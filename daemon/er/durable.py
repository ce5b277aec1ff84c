"""Puts bytes on the disk so that a crash leaves all of them or none, and gives files to user er."""

from __future__ import annotations

import contextlib
import os
import pwd
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

OWNER = "er"


def put(
    path: Path, data: bytes, mode: int, finish: Callable[[int], None] = lambda file: None
) -> None:
    """In place of what was there, whole or not at all. Raises OSError; then nothing has changed.

    `finish` gets the new file's descriptor before anything is written to it.
    """
    put_by(path, lambda out: out.write(data), mode, finish)


def put_by(
    path: Path,
    write: Callable[[BinaryIO], object],
    mode: int,
    finish: Callable[[int], None] = lambda file: None,
) -> None:
    """As `put`, of what `write` writes; whatever that raises, nothing has changed."""
    fresh = path.parent / f".{path.name}.{os.getpid()}"
    try:
        # Root writes in folders of user er too: not through a link, nor into a file of er's.
        fresh.unlink(missing_ok=True)
        file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(file, "wb") as out:
            finish(file)
            write(out)
            out.flush()
            os.fsync(file)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def append(path: Path, data: bytes, after_torn: bytes = b"") -> None:
    """At the file's end, all of it or nothing. Raises OSError; then nothing has changed.

    `after_torn` comes first where the file ends amid a line, as a kill may have left it.
    """
    fresh = not path.exists()
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        size = os.fstat(file).st_size
        if after_torn and size and os.pread(file, 1, size - 1) != b"\n":
            data = after_torn + data
        try:
            written = os.write(file, data)
            while written < len(data):
                written += os.write(file, data[written:])
            os.fsync(file)
        except OSError:
            os.ftruncate(file, size)
            raise
    finally:
        os.close(file)
    if fresh:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Have the folder's names on the disk. Raises OSError."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def give_to_owner(file: int) -> None:
    """Whoever made it: an open file or folder becomes user er's, where root made it."""
    if os.geteuid() == 0:
        with contextlib.suppress(KeyError):
            owner = pwd.getpwnam(OWNER)
            os.fchown(file, owner.pw_uid, owner.pw_gid)
