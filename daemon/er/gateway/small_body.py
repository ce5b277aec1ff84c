"""The body of a request that has only a little to say."""

from __future__ import annotations

from er.gateway.exchange import Request
from er.job import Refusal

BODY_MAX = 64 << 10  # bytes
BODY_S = 30.0


async def small_body(request: Request, told: str) -> bytes:
    """At most BODY_MAX bytes; `told` says it to whom sends more. Raises Refusal, Gone."""
    try:
        return await request.body(BODY_MAX, BODY_S)
    except Refusal as refusal:
        if refusal.status == 413:
            refusal.message = told
        raise
