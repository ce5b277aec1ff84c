"""er check's look at the cache of vectors: room for it, the right to write, engines vouched for."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from er.cli import as_user
from er.config import Config
from er.quantities import bytes_text


def findings(config: Config, folder: Path, said: bool) -> Iterator[tuple[str, str]]:
    """(key of [cache], message) of each warning. `folder`: the cache directory.

    `said`: the file has a [cache] of its own.
    """
    size = config.cache.size
    if not size or not config.replicas:
        return
    there = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    room = shutil.disk_usage(there).free + _used(folder / "vectors")
    if room < size:
        yield (
            "size",
            f"the cache of vectors may take {bytes_text(size)}, but {folder} has room for "
            f"{bytes_text(room)}; ask for less, or make room",
        )
    if there == folder and not as_user.ask(lambda: os.access(folder, os.W_OK | os.X_OK)):
        cure = f"chown er:er {folder}"
        yield "", f"user er can't write {folder}, so no vectors are cached; as root: {cure}"
    foreign = sorted({r.model for r in config.replicas if r.url is not None})
    if foreign and said:
        yield (
            "",
            f"nothing of {', '.join(foreign)} is cached, whatever [cache] says: behind a url "
            "nobody tells ER when the engine or its weights change; what ER starts itself (gpu and "
            "port in place of url) is cached",
        )


def _used(folder: Path) -> int:
    """Bytes that the files in `folder` take."""
    size = 0
    for file in folder.rglob("*"):
        with contextlib.suppress(OSError):
            size += file.stat().st_blocks * 512
    return size
