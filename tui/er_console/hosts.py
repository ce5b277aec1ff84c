"""The machines that serve together and what they share, as the gateway knows them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Host:
    """One machine; None where nobody knows. `odd` is what the gateway says of it besides."""

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


@dataclass(frozen=True, slots=True)
class Shared:
    """What this host and others share, as it sees it: ok, away or unknown, and since when."""

    state: str
    since: float | None = None
    reason: str = ""
    keys_reason: str = ""  # why its keys are not those of all hosts
