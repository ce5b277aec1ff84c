"""Files that an apply writes: whole, on the disk, and through nobody's link."""

from __future__ import annotations

import errno
import os
from pathlib import Path

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class UnitsError(Exception):
    """A change that is not ours to make or that can't be made; the text says what to do."""


def write(path: Path, text: str, mode: int, owner: tuple[int, int] | None) -> None:
    """Write `text` to `path`, whole or not at all, and on disk; `owner`: user and group.

    Raises UnitsError.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        # Root writes in folders of user er here: not through a link, nor into a file of er's.
        fresh.unlink(missing_ok=True)
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(fd, "w", encoding="utf-8") as out:
            os.fchmod(fd, mode)  # whatever the umask
            if owner is not None:
                os.fchown(fd, *owner)
            out.write(text)
            out.flush()
            os.fsync(fd)
        fresh.replace(path)
    except OSError as error:
        cure = "make room there" if error.errno in NO_ROOM else "look at its folder"
        raise UnitsError(f"{path} can't be written: {error.strerror}; {cure}") from None
    finally:
        fresh.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
