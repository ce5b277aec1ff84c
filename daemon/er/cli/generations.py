"""The gateway's generations of workers, and the wait for the next one."""

from __future__ import annotations

import time

import orjson

from er.config import directory

RELOAD_S = 120.0


def current() -> int:
    """The number of the newest, 0 where none is known."""
    return _said()[0]


def failure(before: int) -> str:
    """Wait for one after `before`: "" once its workers answer, else why they don't."""
    until = time.monotonic() + RELOAD_S
    while time.monotonic() < until:
        number, served, state, error = _said()
        if served > before:  # another reload may have begun since
            return ""
        if number > before and state in ("ready", "failed"):
            return "" if state == "ready" else f"the new workers did not come up: {error}"
        time.sleep(0.2)
    return f"no new workers after {RELOAD_S:.0f} s; journalctl -u er-gateway"


def _said() -> tuple[int, int, str, str]:
    try:
        value = orjson.loads((directory("runtime") / "generation.json").read_bytes())
        served = int(value.get("served", 0))
        return int(value["generation"]), served, str(value["state"]), str(value.get("error"))
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return 0, 0, "", ""
