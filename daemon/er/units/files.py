"""Files that an apply writes: whole, on the disk, and through nobody's link."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from er import durable

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class UnitsError(Exception):
    """A change that is not ours to make or that can't be made; the text says what to do."""


def write(path: Path, text: str, mode: int, owner: tuple[int, int] | None) -> None:
    """Write `text` to `path`, whole or not at all, and on disk; `owner`: user and group.

    Raises UnitsError.
    """

    def owned(file: int) -> None:
        os.fchmod(file, mode)  # whatever the umask
        if owner is not None:
            os.fchown(file, *owner)

    try:
        durable.put(path, text.encode(), mode, owned)
    except OSError as error:
        cure = "make room there" if error.errno in NO_ROOM else "look at its folder"
        raise UnitsError(f"{path} can't be written: {error.strerror}; {cure}") from None
    durable.sync_folder(path.parent)
