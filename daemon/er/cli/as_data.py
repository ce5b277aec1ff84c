"""What `er check` finds and what `er apply` would do as one JSON object, for programs. Pure.

The shapes are a contract (`er help configuration`): fields may be added; where one goes or changes
its meaning, SCHEMA counts up.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from er.cli.check import Found
from er.config import Config, applied_path
from er.units import Change

SCHEMA = 1
RUN_VERBS = ("restart", "stop", "start", "daemon-reload")
FILE_VERBS = {
    "write": "write",
    "remove": "remove",
    "link": "enable",
    "store": "store",
    "remember": "remember",
}


def findings(found: Sequence[Found]) -> list[dict[str, Any]]:
    """Each finding; `line` counts from 1, 0 is the file as a whole; `blocks`: apply refuses."""
    return [
        {
            "file": item.finding.file,
            "line": item.finding.line,
            "level": item.finding.level,
            "message": item.finding.message,
            "blocks": item.blocks,
        }
        for item in found
    ]


def checked(
    path: Path, config: Config | None, found: Sequence[Found], recipes: Sequence[str]
) -> dict[str, Any]:
    """All of `er check`. `models` and `replicas` are null for a file that can't be read."""
    errors = sum(item.finding.level == "error" for item in found)
    return {
        "schema": SCHEMA,
        "file": str(path),
        "findings": findings(found),
        "recipes": list(recipes),
        "summary": {
            "errors": errors,
            "warnings": len(found) - errors,
            "models": None if config is None else len(config.models),
            "replicas": None if config is None else len(config.replicas),
        },
    }


def planned(
    path: Path | None,
    found: Sequence[Found],
    changes: Sequence[Change],
    notes: Sequence[str],
    error: str = "",
) -> dict[str, Any]:
    """All of `er apply --dry-run`; `error` is why there is no plan, null when there is one."""
    return {
        "schema": SCHEMA,
        "file": None if path is None else str(path),
        "findings": findings(found),
        "steps": [step(change) for change in changes],
        "notes": list(notes),
        "error": error or None,
    }


def step(change: Change) -> dict[str, Any]:
    """One step: `verb`, what it is about (`units`, `path`), why, and `text`, which says it all.

    `interrupts`: something that runs is stopped, for a moment or for good; `rolls`: a replica, that
    is waited for before the next of its model. "reload" gives the gateway new workers while the old
    ones finish.
    """
    verb = FILE_VERBS.get(change.kind) or next((w for w in RUN_VERBS if w in change.argv), "reload")
    units = [word for word in change.argv if word.startswith("er-")]
    if change.kind == "link":
        units = [change.path.rsplit("/", 1)[-1]]
    path = f"/{change.path}" if change.path else ""
    return {
        "verb": verb,
        "units": units,
        "path": str(applied_path()) if verb == "store" else path or None,
        "reason": change.says.partition(": ")[2],
        "interrupts": verb in ("restart", "stop"),
        "rolls": change.rolls,
        "text": change.says,
    }
