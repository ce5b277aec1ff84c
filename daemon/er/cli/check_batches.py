"""er check's look at the folder of batches: room for it, and the right to write."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from er.batches import Store
from er.cli import as_user
from er.config import Config
from er.quantities import bytes_text


def findings(config: Config, folder: Path) -> Iterator[tuple[str, str]]:
    """(key of [batches], message) of each warning. `folder`: the state directory."""
    quota = config.batches.quota
    if not quota:
        return
    there = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    store = Store(folder / "batches", quota=quota, keep_s=config.batches.keep_s)
    try:
        room = shutil.disk_usage(there).free + store.used()
    except PermissionError:
        return  # user er's own; asked with sudo it can be seen
    if room < quota:
        yield (
            "quota",
            f"files of batches may take {bytes_text(quota)}, but {folder} has room for "
            f"{bytes_text(room)}; ask for less, or make room",
        )
    if there == folder and not as_user.ask(lambda: os.access(folder, os.W_OK | os.X_OK)):
        cure = f"chown er:er {folder}"
        yield "", f"user er can't write {folder}, so there are no batches; as root: {cure}"
