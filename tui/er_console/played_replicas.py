"""What the play tells of each replica beside its state: rates, latency, its last load."""

from __future__ import annotations

from collections.abc import Mapping

SHARES = {"embedding-0": 1.0, "embedding-1": 0.92, "reranker": 0.6}
LOADS_S: Mapping[str, float] = {"embedding-0": 38.4, "embedding-1": 41.0, "reranker": 29.7}


def rates(name: str, wave: float, *, up: bool) -> dict[str, float | None]:
    """What the gateway gave it in the last minute, and how long its engine took."""
    names = ("tokens_per_s", "sequences_per_s", "calls_per_s", "p50_ms", "p95_ms")
    if not up:
        return dict.fromkeys(names)
    share = SHARES[name]
    sequences = round(share * (310 + 190 * wave), 1)
    spent = (6.0 + 5.0 * wave) / share
    figures = (round(128 * sequences), sequences, round(sequences / 14, 1), spent, 2.6 * spent)
    return {key: round(value, 1) for key, value in zip(names, figures, strict=True)}
