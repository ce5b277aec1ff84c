"""Whether the shared state answers, as the admin process found: a small file for all who say it.

Imports no client: workers and commands read it without one.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import msgspec

from er import small_file
from er.small_file import DAMAGED

FORM = 1
NAME = "state.json"
OLD_S = 10.0  # it is written anew each second; an older one is nobody's


class Keys(msgspec.Struct, kw_only=True):
    """How this host's keys stand to the shared ones: see `keys.shared.News`."""

    state: str = "unknown"  # ok, unmoved, own, damaged
    reason: str = ""
    version: int = 0


class Verdict(msgspec.Struct, kw_only=True):
    """What was found last. All times in Unix seconds."""

    form: int = FORM
    at: float = 0.0  # when somebody looked
    state: Literal["ok", "away"] = "ok"
    since: float = 0.0
    cause: str = ""  # away.Cause
    reason: str = ""
    answered: float = 0.0  # 0: never
    keys: Keys = msgspec.field(default_factory=Keys)


def write(runtime: Path, found: Verdict) -> None:
    """Say it. Raises OSError. It lies in memory, so nothing is forced to a disk."""
    fresh = runtime / f".{NAME}.{os.getpid()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(fresh, flags, 0o640), "wb") as file:
        file.write(msgspec.json.encode(found))
    fresh.replace(runtime / NAME)


def read(runtime: Path) -> Verdict | None:
    """What was said last, however long ago; None: nothing that can be read."""
    try:
        return msgspec.json.decode(small_file.read(runtime / NAME), type=Verdict)
    except (OSError, *DAMAGED):
        return None


def shown(runtime: Path, now: float) -> dict[str, Any]:
    """For GET /status: the same, or "unknown" where nobody has looked lately."""
    found = read(runtime)
    if found is None or abs(now - found.at) > OLD_S:
        since = found.at if found else None
        told = "nobody looks at the shared state; the gateway's admin process does"
        keys = msgspec.to_builtins(Keys())
        answered = (found.answered or None) if found else None
        unknown = {"state": "unknown", "since": since, "cause": "", "reason": told}
        return {**unknown, "answered": answered, "keys": keys}
    tree: dict[str, Any] = msgspec.to_builtins(found)
    del tree["form"], tree["at"]
    return {**tree, "answered": found.answered or None}


def trouble(state: dict[str, Any] | None) -> str:
    """Why the gateway is degraded by what `shown` says; "" where it is not."""
    if state is None or state["state"] == "unknown":
        return ""
    if state["state"] == "away":
        return str(state["reason"])
    keys = state["keys"]
    return str(keys["reason"]) if keys["state"] in ("own", "damaged") else ""


def public(runtime: Path, now: float) -> dict[str, Any]:
    """For /health, which anybody may read: no address, and no more than a cause."""
    found = shown(runtime, now)
    row: dict[str, Any] = {"state": found["state"]}
    if found["state"] == "away":
        row["reason"] = f"not usable ({found['cause']}): the last known keys and limits count"
    elif trouble(found):
        row["state"], row["reason"] = "away", "its keys are not used: the last known ones count"
    if found["since"]:
        row["since"] = round(found["since"], 3)
    return row
