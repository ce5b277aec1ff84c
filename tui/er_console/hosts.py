"""One of the machines that serve together, as the gateway knows it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Host:
    """None where nobody knows; `odd` is what the gateway says of it besides."""

    name: str
    state: str  # up, drained, silent
    own: bool = False  # this machine
    silent_s: float | None = None  # since it was heard
    distance_ms: float | None = None
    requests: float | None = None
    tokens: float = 0.0  # in flight on its replicas
    up: int = 0
    replicas: int = 0
    odd: tuple[str, ...] = ()
