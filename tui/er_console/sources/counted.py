"""Counts that are read out of GET /metrics, where no other answer has them."""

from __future__ import annotations

import re

from er_console.reading import text

WRONG_CALL = re.compile(r"^er_upstream_errors_total\{([^}]*)\} (\S+)$", re.M)
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def wrong_calls(metrics: str) -> dict[str, float]:
    """Calls whose answer was wrong, by replica, out of the text of GET /metrics."""
    found: dict[str, float] = {}
    for labels, value in WRONG_CALL.findall(metrics):
        known = dict(LABEL.findall(labels))
        try:
            count = float(value)
        except ValueError:
            continue
        if known.get("kind") == "wrong":
            replica = text(known.get("replica"))
            found[replica] = found.get(replica, 0.0) + count
    return found
