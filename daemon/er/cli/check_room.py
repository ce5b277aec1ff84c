"""er check's look at a folder that may fill up to a size: room for it, and the right to write."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from er.cli import as_user
from er.quantities import bytes_text


def findings(
    folder: Path, key: str, size: int, used: Callable[[], int], *, what: str, without: str
) -> Iterator[tuple[str, str]]:
    """(key, message) of each warning about a `size` in bytes, of which `used` are there already.

    `key` sets the size, `what` may take it; `without`: what comes of a folder that user er can't
    write. Raises PermissionError where this user may not look.
    """
    there = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    room = shutil.disk_usage(there).free + used()
    if room < size:
        yield (
            key,
            f"{what} may take {bytes_text(size)}, but {folder} has room for {bytes_text(room)}; "
            "ask for less, or make room",
        )
    if there == folder and not as_user.ask(lambda: os.access(folder, os.W_OK | os.X_OK)):
        yield "", f"user er can't write {folder}, so {without}; as root: chown er:er {folder}"
