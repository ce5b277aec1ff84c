"""er check's look at the folder of batches: room for it, and the right to write."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from er.batches import Store
from er.cli import check_room
from er.config import Config


def findings(config: Config, folder: Path) -> Iterator[tuple[str, str]]:
    """(key of [batches], message) of each warning. `folder`: the state directory."""
    quota = config.batches.quota
    if not quota:
        return
    store = Store(folder / "batches", quota=quota, keep_s=config.batches.keep_s)
    # What is user er's own; asked with sudo it can be seen.
    with contextlib.suppress(PermissionError):
        yield from check_room.findings(
            folder,
            "quota",
            quota,
            store.used,
            what="files of batches",
            without="there are no batches",
        )
