"""What commands over a span of the past have in common: may it read, since when, of which keys."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path

from er import keys
from er.keys import KeysError
from er.moments import past
from er.usage.report import Key


def closed(command: str, paths: Iterable[Path]) -> str:
    """Why `er COMMAND` can't read these folders, with what to do; "" when it can."""
    for path in paths:
        if not os.access(path, os.R_OK | os.X_OK) and os.path.lexists(path):
            return f"this reads {path}, which needs root or group er: sudo er {command} …"
    return ""


def span(
    since: str | None, until: str | None, first: datetime, now: datetime
) -> tuple[datetime, datetime]:
    """--since (`first` where nothing is said) and --until (`now`). Raises ValueError."""
    moments = []
    for name, text, default in (("since", since, first), ("until", until, now)):
        try:
            moments.append(default if text is None else past(text, now))
        except ValueError as error:
            raise ValueError(f"--{name}: {error}") from None
    begin, end = moments
    if begin >= end:
        raise ValueError(
            f"--since {begin:%Y-%m-%d %H:%M} is not before --until {end:%Y-%m-%d %H:%M}"
        )
    return begin, end


def known(command: str) -> dict[str, Key]:
    """The key file's keys by id; without it, which is told, ids stand for themselves."""
    try:
        listed = keys.list_keys(keys.path())
    except (KeysError, OSError) as error:
        print(f"er {command}: names and teams of keys are not known: {error}", file=sys.stderr)
        return {}
    return {key["id"]: Key(key["name"], key.get("team") or "") for key in listed}


def ids(refs: Iterable[str], listed: Mapping[str, Key]) -> frozenset[str]:
    """The ids of what is an id, known or not (its key may be gone), or else a name."""
    found: set[str] = set()
    for ref in refs:
        named = [key_id for key_id, key in listed.items() if key.name == ref]
        found |= {ref} if ref in listed or not named else set(named)
    return frozenset(found)
