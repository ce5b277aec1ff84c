"""A host as GET /status, GET /hosts and `er hosts --json` show it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from er.members.announced import Announced


def row(
    one: Announced,
    *,
    state: str,
    drained: bool,
    silent_s: float,
    own: bool,
    used: Collection[str],
    distance_ms: float | None,
    odd: Sequence[str],
) -> dict[str, Any]:
    """`state`: up, drained, silent, or unknown; `used`: names of its replicas that serve here.

    How its replicas were when it fell silent says nothing any more.

    Times in Unix seconds by the shared state's clock; None means "not known".
    """
    return {
        "name": one.host,
        "own": own,
        "state": state,
        "drained": drained,
        "address": one.address,
        "version": one.version,
        "protocol": one.protocol,
        "since": one.started / 1000,
        "heard": one.at / 1000 if one.at else None,
        "silent_s": round(silent_s, 1),
        "clock_s": one.clock_s,
        "distance_ms": None if distance_ms is None else round(distance_ms, 2),
        "requests": one.requests,
        "knows_drain": one.drained,
        "replicas": [
            {
                "name": r.name,
                "model": r.model,
                "task": r.task,
                "fingerprint": r.fingerprint,
                "engine": r.engine,
                "state": r.state if state in ("up", "drained") else "unknown",
                "reason": r.reason,
                "in_flight_tokens": r.in_flight,
                "budget_tokens": r.budget,
                "used": r.name in used,
            }
            for r in one.replicas
        ],
        "odd": list(odd),
    }
