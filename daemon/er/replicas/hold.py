"""Whether a request may wait for a replica that is not there yet, and when one is to be expected.

Its launcher's sample (RUNTIME/replicas/NAME/sample.json) says that it loads, and when it will be
done if it takes as long as last time. One that ended as it was asked to takes its sample with it
and leaves the moment (start.json beside it): for a while it may have been ended to be started
again. Looked at only while no replica is there.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec

from er import small_file
from er.config import Config, Hold, Model, directory
from er.job import Lane
from er.ledger import Ledger
from er.tickets import BULK_SEQUENCES

LOOK_S = 0.2  # between two looks at the samples
GAP_S = 10.0  # from one launcher's last sample to the next one's first, on a busy machine
LANES: dict[Hold, tuple[Lane, ...]] = {
    "off": (),
    "bulk": ("bulk",),
    "all": ("bulk", "interactive"),
}


class _Sample(msgspec.Struct):
    time: float = 0.0
    coming: bool = False
    due: float | None = None


class _Left(msgspec.Struct):
    left: float = 0.0
    start_s: float | None = None


class Waiting:
    """One model's. Times in Unix seconds."""

    def __init__(self, config: Config, model: Model, ledger: Ledger, hold: Hold) -> None:
        """`hold` says who may wait."""
        self._lanes, self._ledger = LANES[hold], ledger
        self._places = config.gateway.max_concurrency
        folder = directory("runtime") / "replicas"
        self._here = [folder / r.name for r in config.replicas_of(model.name) if r.url is None]
        self._known: list[_Sample] = []
        self._looked = 0.0

    def lanes(self, now: float) -> tuple[Lane, ...]:
        """The lanes whose requests may wait now: none while no replica is coming."""
        return self._lanes if self._lanes and self._coming(now) else ()

    def may(self, sequences: int, left_s: float, now: float) -> bool:
        """Whether a request of so many that has so long may wait: none that would be too late.

        Half of all places (max_concurrency) stay free for models that can be served.
        """
        lane: Lane = "bulk" if sequences >= BULK_SEQUENCES else "interactive"
        if not sequences or lane not in self.lanes(now):
            return False
        if 2 * self._ledger.in_flight() > self._places:
            return False
        due = self.due(now)
        return due is None or due - now < left_s

    def due(self, now: float) -> float | None:
        """When the first of those that are coming will be there, None where nobody knows."""
        return min((s.due for s in self._coming(now) if s.due is not None), default=None)

    def _coming(self, now: float) -> list[_Sample]:
        if abs(now - self._looked) >= LOOK_S:
            self._looked = now
            self._known = [found for folder in self._here if (found := _said(folder))]
        return [s for s in self._known if s.coming and abs(now - s.time) <= GAP_S]


def _said(folder: Path) -> _Sample | None:
    """The launcher's sample, or as much of one as its last words make."""
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        return msgspec.json.decode(small_file.read(folder / "sample.json"), type=_Sample)
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        ended = msgspec.json.decode(small_file.read(folder / "start.json"), type=_Left)
        due = None if ended.start_s is None else ended.left + ended.start_s
        return _Sample(time=ended.left, coming=True, due=due)
    return None
