"""Read the launchers' samples, RUNTIME_DIRECTORY/replicas/NAME/sample.json: phase, error, GPU."""

from __future__ import annotations

import json
from pathlib import Path

from er_console.language import say
from er_console.reading import read_sample
from er_console.state import Missing, Sample

SAMPLE_BYTES_MAX = 1 << 20


def read_samples(folder: Path) -> tuple[Sample, ...]:
    """All readable samples by name. Raises Missing when the folder can't be read."""
    try:
        files = sorted(folder.glob("*/sample.json"))
        if not files and not folder.is_dir():
            raise FileNotFoundError(folder)
    except PermissionError:
        reason = say(
            "no right to read {folder}: it is for root and members of group er", folder=folder
        )
        raise Missing("rights", reason, "sudo er-console") from None
    except OSError:
        reason = say("there is no {folder}: no launcher ran yet", folder=folder)
        raise Missing("absent", reason) from None
    found = []
    for file in files:
        try:
            # a pipe that a broken replica laid there would be waited for without end
            if not file.is_file() or file.stat().st_size > SAMPLE_BYTES_MAX:
                continue
            data = json.loads(file.read_bytes())
        except (OSError, ValueError, RecursionError):
            continue  # being replaced, or somebody else's file
        if isinstance(data, dict):
            sample = read_sample(data)
            if sample.name:
                found.append(sample)
    return tuple(found)
