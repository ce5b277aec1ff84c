"""How the store's files are made, replaced and listed. All of it blocks."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

MODE = 0o640


def private(path: Path) -> int:
    """A file that others may not read, opened to be written; made where it is missing.

    Raises OSError.
    """
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, MODE)


def replace(path: Path, data: bytes) -> None:
    """Put `data` at `path`, whole and on the disk, or leave what was there. Raises OSError."""
    new = path.with_suffix(".new")
    try:
        with open(
            os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, MODE), "wb"
        ) as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        new.rename(path)
    except OSError:
        with contextlib.suppress(OSError):
            new.unlink()
        raise
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Return once the names in a folder are on the disk. Raises OSError."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """What lies in a folder; nothing where it is missing. Raises OSError."""
    try:
        with os.scandir(folder) as found:
            yield from list(found)
    except FileNotFoundError:
        return
