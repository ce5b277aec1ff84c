"""What a worker counts requests by: this host's windows alone, or shared with other hosts."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path

from er.config import Config
from er.config.state import host_name
from er.limits import Limits

Beside = Callable[[], Coroutine[None, None, None]]  # what runs as long as the worker serves


def opened(settings: Config, runtime: Path) -> tuple[Limits, tuple[Beside, ...]]:
    """The limits, and what has to run beside the traffic. Raises OSError."""
    if settings.state is None:
        return Limits.open(runtime / "limits"), ()
    from er.gateway.leasing import Leasing  # brings the client, which only this needs
    from er.limits.leased import Leased

    limits = Leased.open(runtime / "limits")
    return limits, (Leasing(limits, settings.state, host_name(settings.host)).run,)
