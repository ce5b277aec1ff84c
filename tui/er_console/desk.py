"""What all screens share: the newest readings, the past, what is being done, who may do what."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from er_console.judgement import Change, changes
from er_console.language import say
from er_console.looks import Looks
from er_console.panels import History
from er_console.parts import Pending
from er_console.sources import Sources
from er_console.state import Missing, Reading, Snapshot, Status

CHANGES_MAX = 200


def _by_option() -> Missing:
    return Missing("rights", say("opened with --readonly"), say("open it again without --readonly"))


@dataclass(slots=True)
class Desk:
    """Kept by the app, read by the screens. `wall` is the clock (unix seconds), given for tests."""

    sources: Sources
    looks: Looks
    readonly: bool = False
    closed: Missing = field(default_factory=_by_option)  # why nothing can be done when readonly
    wall: Callable[[], float] = time.time
    snapshot: Snapshot = field(default_factory=Snapshot)
    history: History = field(default_factory=History)
    changes: deque[Change] = field(default_factory=lambda: deque(maxlen=CHANGES_MAX))
    pending: dict[str, Pending] = field(default_factory=dict)
    _judged_at: float = 0.0

    def take(self, name: str, reading: Reading[Any], interval_s: float) -> None:
        """A source's newest reading; `interval_s` is how often it is asked now."""
        before, now = self.snapshot, self.wall()
        self.snapshot = replace(before, interval_s=interval_s, **{name: reading})
        if name == "status":
            fresh = reading.value if reading.missing is None else None
            self.history.add(fresh.traffic if isinstance(fresh, Status) else None)
        if name in ("status", "units"):
            if before.status.at is not None:
                self.changes.extend(changes(before, self.snapshot, now, self._judged_at))
            self._judged_at = now

    def reading(self, name: str) -> Reading[Any]:
        """A source's reading by name."""
        found: Reading[Any] = getattr(self.snapshot, name)
        return found

    def why_not(self, what: str) -> Missing | None:
        """Why an action on "units" or through the "admin" API can't be done now; None if it can."""
        if self.readonly:
            return self.closed
        if what == "units":
            return self.sources.why_not_units()
        return self.snapshot.status.missing

    def why_readonly(self) -> Missing | None:
        """Why nothing can be changed here, when that is so for lack of rights."""
        units = self.why_not("units")
        admin = self.why_not("admin")
        for missing in (admin, units):
            if missing is not None and missing.kind == "rights":
                return missing
        return units if units is not None and units.kind == "off" and admin is not None else None
