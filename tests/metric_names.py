"""Every metric that ER declares, as scrapers see it, for the tests of pages and rules."""

from __future__ import annotations

from collections.abc import Iterator

from er import metrics
from er.exposition.seen import SEEN

ENDS = {"counter": "_total", "info": "_info"}


def every_metric() -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Name (of a histogram without _bucket, _sum, _count), kind, labels."""
    for metric in metrics._own.collect():
        labels = tuple(sorted(metrics.LABELS[metric.name]))
        yield metric.name + ENDS.get(metric.type, ""), metric.type, labels
    for family in SEEN.values():
        yield family.name + ENDS.get(family.kind, ""), family.kind, family.labels
