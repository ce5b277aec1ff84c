"""All metrics as scrapers read them, in Prometheus' text format or in OpenMetrics.

What the workers count is in `er.metrics`' files. What the admin process sees (machine, units, GPUs,
keys) it tells anew every two seconds (`seen`), so that a series which is gone is gone.
"""

from __future__ import annotations

from prometheus_client.metrics_core import Metric

from er import metrics
from er.exposition.text import OPENMETRICS, PLAIN, wants_openmetrics, written
from er.exposition.told import read


def render(openmetrics: bool = False, whole: bool = True) -> bytes:
    """All metrics of all processes. About 10 ms.

    Not `whole`: for who is not the operator, so without other clients' keys and request ids.
    """
    told = read()
    families = [*metrics.families(), *told.families()]
    if not whole:
        return written((f for f in families if not _of_keys(f)), {}, openmetrics)
    exemplars = told.exemplars_of(metrics.seconds) if openmetrics else {}
    return written(families, exemplars, openmetrics)


def _of_keys(family: Metric) -> bool:
    return any("key" in sample.labels for sample in family.samples[:1])


def content_type(openmetrics: bool) -> str:
    """Of what `render` gives."""
    return OPENMETRICS if openmetrics else PLAIN


__all__ = ["content_type", "render", "wants_openmetrics"]
