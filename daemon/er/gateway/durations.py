"""Durations as OpenAI's clients read them in headers: as Go writes them."""

from __future__ import annotations

import math
from functools import lru_cache


@lru_cache(64)  # an allowed request's is the whole period
def go_duration(seconds: float) -> bytes:
    """Seconds as Go writes them: 120ms, 1s, 6m0s, 1h2m3.5s; to the millisecond, rounded up."""
    ms = max(0, math.ceil(seconds * 1000 - 1e-6))
    if ms < 1000:
        return b"%dms" % ms if ms else b"0s"
    minutes, rest = divmod(ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{rest / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    if hours:
        text = f"{hours}h{minutes}m{text}"
    elif minutes:
        text = f"{minutes}m{text}"
    return text.encode()
