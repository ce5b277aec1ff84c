"""All metrics as scrapers read them, in Prometheus' text format or in OpenMetrics.

What the workers count is in `er.metrics`' files. What the admin process sees (machine, units, GPUs,
keys) it tells anew every two seconds (`seen`), so that a series which is gone is gone.
"""

from __future__ import annotations

from er import metrics
from er.exposition.text import OPENMETRICS, PLAIN, wants_openmetrics, written
from er.exposition.told import read


def render(openmetrics: bool = False) -> bytes:
    """All metrics of all processes. About 10 ms."""
    told = read()
    exemplars = told.exemplars_of(metrics.seconds) if openmetrics else {}
    return written([*metrics.families(), *told.families()], exemplars, openmetrics)


def content_type(openmetrics: bool) -> str:
    """Of what `render` gives."""
    return OPENMETRICS if openmetrics else PLAIN


__all__ = ["content_type", "render", "wants_openmetrics"]
