"""Whether a measurement does clients harm: what they got before it, and what they get now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

SLOWER, SLOWER_MS = 2.0, 50.0  # of their p99: both must be passed
ALONE_MS = 1000.0  # where nobody asked before, who comes now may wait so long
SPEAKS = 20  # requests of a key in the minute: fewer have no p99 to speak of
FAILED = 3  # of a minute, more than before
OWN = "local"  # the key of gateway.sock, which the measurement uses itself


class Clients(NamedTuple):
    """The last minute of those who ask with keys."""

    requests: int
    failed: int
    p99_ms: float | None  # of the key that waits longest


def clients(rows: Iterable[Mapping[str, Any]]) -> Clients:
    """From `keys` of GET /traffic."""
    mine = [row for row in rows if row.get("id") not in ("", OWN)]
    slowest = [
        float(row["p99_ms"])
        for row in mine
        if row["requests"] >= SPEAKS and row["p99_ms"] is not None
    ]
    return Clients(
        sum(int(row["requests"]) for row in mine),
        sum(int(row["failed"]) for row in mine),
        max(slowest, default=None),
    )


def harm(before: Clients, now: Clients) -> str:
    """Why to stop; "" for none."""
    if now.failed >= before.failed + FAILED:
        return f"clients got {now.failed} failures in the last minute, {before.failed} before"
    if now.p99_ms is None:
        return ""
    if before.p99_ms is None:
        bound, told = ALONE_MS, "nobody asked before"
    else:
        bound = max(SLOWER * before.p99_ms, before.p99_ms + SLOWER_MS)
        told = f"{before.p99_ms:,.0f} ms before"
    return f"clients' p99 is {now.p99_ms:,.0f} ms, {told}" if now.p99_ms > bound else ""
