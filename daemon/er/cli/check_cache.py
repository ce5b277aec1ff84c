"""er check's look at the cache of vectors: room for it, the right to write, engines vouched for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from er.cli import check_room
from er.cli.disk_places import taken
from er.config import Config


def findings(config: Config, folder: Path, said: bool) -> Iterator[tuple[str, str]]:
    """(key of [cache], message) of each warning. `folder`: the cache directory.

    `said`: the file has a [cache] of its own.
    """
    size = config.cache.size
    if not size or not config.replicas:
        return
    yield from check_room.findings(
        folder,
        "size",
        size,
        lambda: taken(folder / "vectors") or 0,
        what="the cache of vectors",
        without="no vectors are cached",
    )
    foreign = sorted({r.model for r in config.replicas if r.url is not None})
    if foreign and said:
        yield (
            "",
            f"nothing of {', '.join(foreign)} is cached, whatever [cache] says: behind a url "
            "nobody tells ER when the engine or its weights change; what ER starts itself (gpu and "
            "port in place of url) is cached",
        )
