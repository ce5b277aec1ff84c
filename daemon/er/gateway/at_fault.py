"""What the gateway says when it is itself that fails a request: it must end, or has a mistake."""

from __future__ import annotations

from er.job import Refusal

CUT = Refusal(
    503,
    "overloaded",
    "the gateway is stopping and could not finish this request in time; send it again",
    retry_after_s=5,
    headers={"connection": "close"},
)


def mishap(request_id: str) -> Refusal:
    """500, for a mistake whose trace is in the log."""
    return Refusal(
        500,
        "internal_error",
        f"something went wrong inside the gateway; the operator finds it in the log under "
        f"{request_id}",
    )
