"""The verdict in one word and its worst cause, of replicas, gateway and what hosts share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from er.config import Config


def verdict(
    models: list[dict[str, Any]], gateway: dict[str, Any], state: dict[str, Any] | None = None
) -> tuple[str, str]:
    """("ok" | "degraded" | "down" | "unknown", the worst cause by name).

    ok: every replica answers, and the shared state where there is one. degraded: some model
    answers. down: none does, or no gateway.
    """
    if gateway["state"] != "up":
        if gateway["state"] == "unknown":
            return "unknown", gateway["reason"]
        return "down", f"the gateway is {gateway['state']}: {gateway['reason']}"
    rows = {r["name"]: r for m in models for r in m["replicas"]}
    up = [name for name, r in rows.items() if r["state"] == "up"]
    answering = [m for m in models if any(r["name"] in up for r in m["replicas"])]
    # One of another host that is out is that host's business, unless nobody else is there.
    far = {r["name"] for m in answering for r in m["replicas"] if "@" in r["name"]}
    out = [r for r in rows.values() if r["name"] not in up and r["name"] not in far]
    empty = [m["name"] for m in models if not m["replicas"]]
    apart = _apart(state)
    if not out and not empty:
        if apart:
            return "degraded", apart
        return "ok", f"{len(up)} of {len(rows)} replicas answer"
    causes = [
        f"replica {r['name']} is {r['state']}: {r['reason'] or 'no reason known'}" for r in out
    ]
    causes += [f"model {name} has no replica" for name in empty]
    causes += [apart] if apart else []
    reason = causes[0] + (f" (and {len(causes) - 1} more)" if len(causes) > 1 else "")
    if rows and all(r["state"] == "unknown" for r in rows.values()):
        return "unknown", reason
    return ("degraded" if answering else "down"), reason


def _apart(state: dict[str, Any] | None) -> str:
    """Why this host is cut off from what hosts share; "" where it is not."""
    if state is None:
        return ""
    from er.shared_state import verdict as verdicts  # with [state] alone, as it brings a client

    return verdicts.trouble(state)


def shared_state(runtime: Path, config: Config, now: float) -> dict[str, Any] | None:
    """What the admin process found last of the shared state; None without [state]."""
    if config.state is None:
        return None
    from er.shared_state import verdict as verdicts

    return verdicts.shown(runtime, now)
