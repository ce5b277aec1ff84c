"""generation.json in the runtime directory: which workers serve, or why new ones do not."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from er import journal


def write(
    runtime: Path,
    number: int,
    state: str,
    error: str | None,
    *,
    served: int,
    workers: int,
    listen: list[str],
) -> None:
    """Say that generation `number` is "starting", "ready" or "failed"; who asked for it waits.

    `served` is the newest that was ready: who looks late, amid the next reload, sees that one too.
    """
    said = {
        "generation": number,
        "state": state,
        "error": error,
        "served": served,
        "since": time.time(),
        "pid": os.getpid(),
        "workers": workers,
        "listen": listen,
    }
    path = runtime / "generation.json"
    temporary = path.with_name(".generation.json.tmp")
    try:
        temporary.write_text(json.dumps(said) + "\n", encoding="utf-8")
        temporary.rename(path)
    except OSError as failed:
        journal.log("warning", f"{path}: {failed.strerror}")
