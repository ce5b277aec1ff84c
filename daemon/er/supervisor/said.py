"""generation.json in the runtime directory: which workers serve, or why new ones do not."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from er import journal


def write(
    runtime: Path, number: int, state: str, error: str | None, *, workers: int, listen: list[str]
) -> None:
    """Say that generation `number` is "starting", "ready" or "failed"; who asked for it waits."""
    said = {
        "generation": number,
        "state": state,
        "error": error,
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
