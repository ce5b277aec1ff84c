"""What the admin process tells every two seconds, in one file beside the workers': told whole.

A row that is not told again is gone from the metrics; nothing at all is shown of an admin process
that has told nothing for a while, since an old figure must not look like a measured one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from prometheus_client import Histogram
from prometheus_client.metrics_core import Metric

from er.exposition.seen import SEEN, Row
from er.exposition.text import Exemplar, number
from er.metrics import DIRECTORY_VARIABLE
from er.small_file import DAMAGED

NAME = "told"
FRESH_S = 30.0  # many rounds of the admin process; the oldest that is shown
REQUEST_ID_MAX = 118  # with "request_id", 128 characters: as much as OpenMetrics lets an exemplar


class Noted(msgspec.Struct, frozen=True, array_like=True):
    """A request in a bucket of the histogram of times."""

    model: str
    part: str
    bucket: int  # which bound, the last being +Inf
    request_id: str
    seconds: float
    at: float  # Unix seconds


class Told(msgspec.Struct, frozen=True, array_like=True):
    """All of it, at `at` (seconds of the steady clock)."""

    at: float
    rows: Sequence[Row] = ()
    noted: Sequence[Noted] = ()

    def families(self) -> Iterator[Metric]:
        """Those that this version knows."""
        found: dict[str, Metric] = {}
        for name, labels, value in self.rows:
            family = SEEN.get(name)
            if family is None or len(labels) != len(family.labels):
                continue
            if name not in found:
                found[name] = Metric(name, family.text, family.kind)
            end = {"counter": "_total", "info": "_info"}.get(family.kind, "")
            named = dict(zip(family.labels, labels, strict=True))
            found[name].add_sample(name + end, named, value)
        yield from found.values()

    def exemplars_of(
        self, histogram: Histogram
    ) -> dict[tuple[str, frozenset[tuple[str, str]]], Exemplar]:
        """By the bucket's name and labels."""
        bounds = [number(bound) for bound in histogram._upper_bounds]
        return {
            (
                f"{histogram._name}_bucket",
                frozenset({"model": one.model, "part": one.part, "le": bounds[one.bucket]}.items()),
            ): Exemplar(one.request_id, one.seconds, one.at)
            for one in self.noted
            if one.bucket < len(bounds) and len(one.request_id) <= REQUEST_ID_MAX
        }


_encoded = msgspec.msgpack.Encoder().encode
_decoded = msgspec.msgpack.Decoder(Told).decode
_kept = b""  # where there is no folder: this process's own


def steady() -> float:
    """The clock of `Told.at`."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def tell(rows: Sequence[Row], noted: Sequence[Noted] = ()) -> None:
    """Replace what was told before. Raises OSError."""
    global _kept
    data = _encoded(Told(steady(), rows, noted))
    folder = os.environ.get(DIRECTORY_VARIABLE)
    if folder is None:
        _kept = data
        return
    fresh = Path(folder) / f"{NAME}.{os.getpid()}"  # at a reload there are two for a moment
    fresh.write_bytes(data)
    fresh.replace(fresh.with_name(NAME))


def read() -> Told:
    """What was told last; nothing where that is old, or not to be read."""
    folder = os.environ.get(DIRECTORY_VARIABLE)
    now = steady()
    try:
        told = _decoded((Path(folder) / NAME).read_bytes() if folder is not None else _kept)
    except (OSError, *DAMAGED):
        return Told(now)
    return told if 0 <= now - told.at < FRESH_S else Told(now)
