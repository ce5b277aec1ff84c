"""The past that the play shows: a day with its tides, an outage in it, and minutes nobody saw."""

from __future__ import annotations

import math
from collections.abc import Callable

from er_console.state import Past

STEPS = {300: 2.0, 3600: 15.0, 86400: 120.0}
DAY_S = 86400.0
# Seconds of the (UTC) day: both embedding replicas out of memory, then the machine was restarted.
OUTAGE = (9600.0, 11100.0)
UNSEEN = (11100.0, 11460.0)
# Seconds of each quarter of a day in which one replica was away.
DIP = (12600.0, 12780.0)


class RecordedDay:
    """The history of the play, a pure function of its clock."""

    _wall: Callable[[], float]

    async def history(self, seconds: int) -> Past:
        """Figures that go with those of the play's status."""
        step = STEPS[seconds]
        start = (math.floor(self._wall() / step) - round(seconds / step) + 1) * step
        rows = [_figures(start + i * step) for i in range(round(seconds / step))]
        series = {name: tuple(row.get(name) for row in rows) for name in _figures(OUTAGE[0])}
        return Past(seconds, step, start, series)


def _figures(at: float) -> dict[str, float | None]:
    """All figures of one moment; none where nobody looked."""
    day = at % DAY_S
    if UNSEEN[0] <= day < UNSEEN[1]:
        return {}
    tide = 0.55 - 0.4 * math.cos(2 * math.pi * (day - 10800) / DAY_S)
    ripple = 0.06 * math.sin(at / 47) + 0.05 * math.sin(at / 13.7) + 0.04 * math.sin(at / 311)
    asked = 260 * max(0.05, tide + ripple)
    up, slower, refused = 3.0, 1.0, 0.004 * asked
    if OUTAGE[0] <= day < OUTAGE[1]:
        up, slower, refused = 1.0, 3.4, 0.8 * asked
    elif DIP[0] <= at % 21600.0 < DIP[1]:
        up, slower = 2.0, 1.7
    served = asked - refused if up == 1.0 else asked
    return {
        "requests_per_s": round(asked, 1),
        "sequences_per_s": round(6.5 * served, 1),
        "p95_ms": round((31 + 60 * (tide * tide) + 40 * ripple) * slower, 1),
        "in_flight": round(9 + 20 * tide * slower),
        "queued": round(4 * tide * (12 if up == 1.0 else slower)),
        "refused_per_s": round(refused, 2),
        "replicas_up": up,
    }
