"""Every metric that ER declares, as scrapers see it, for the tests of pages and rules."""

from __future__ import annotations

from collections.abc import Iterator

from er import metrics
from er.exposition.seen import SEEN

ENDS = {"counter": "_total", "info": "_info"}


def every_metric() -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Name (of a histogram without _bucket, _sum, _count), kind, labels."""
    made = {getattr(value, "_name", ""): value for value in vars(metrics).values()}
    for name, known in metrics.DECLARED.items():
        yield name + ENDS.get(known.kind, ""), known.kind, made[name]._labelnames
    for family in SEEN.values():
        yield family.name + ENDS.get(family.kind, ""), family.kind, family.labels
