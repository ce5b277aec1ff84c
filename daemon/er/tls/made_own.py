"""Makes a host's own certificate when one is due; with `cryptography`, so not in workers."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

from er import journal
from er.tls import facts, made, own


def care(state: Path, host: str, now: float | None = None) -> None:
    """Have what is due made, announced or put in force. Raises OSError and TlsError."""
    make = partial(made.self_signed, [host], own.DAYS)
    if said := own.care(state, time.time() if now is None else now, make, _span):
        journal.log("notice", f"host {host} {said}")


def _span(pem: bytes) -> own.Span:
    found = facts.read(pem)
    return own.Span(found.not_before, found.not_after)
