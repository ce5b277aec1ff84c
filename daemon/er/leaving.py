"""Whether this host asks balancers for no more requests, by two files in the runtime directory.

`draining` stands there from `er drain HOST` until it is taken back, also over restarts; `leaving`
from a gateway's being told to stop until `leave_time` is over. While either does, /readyz answers
503 and everything else is served as ever: a balancer looks away before anything is refused.
"""

from __future__ import annotations

from pathlib import Path

DRAINING, LEAVING = "draining", "leaving"
REASON_MOST = 200  # characters of it that a page shows
DRAINED = "this host is drained"
STOPS = "this gateway stops"


def reason(runtime: Path) -> str:
    """Why this host wants no more requests; "" while it wants them.

    The first line of the file, where whoever made it wrote one. A file that can't be read counts:
    it is there.
    """
    for name, told in ((DRAINING, DRAINED), (LEAVING, STOPS)):
        try:
            lines = (runtime / name).read_text(encoding="utf-8", errors="replace").split("\n", 1)
        except FileNotFoundError:
            continue
        except OSError:
            return told
        return lines[0].strip()[:REASON_MOST] or told
    return ""


def drained_s(runtime: Path, now: float) -> float:
    """For how long it is drained, at `now` in Unix seconds; 0 where it is not."""
    try:
        return max(0.0, now - (runtime / DRAINING).stat().st_mtime)
    except OSError:
        return 0.0


def leave(runtime: Path) -> None:
    """Say that this gateway stops. Raises OSError."""
    (runtime / LEAVING).touch(mode=0o640)


def stay(runtime: Path) -> None:
    """What `leave` said is over, or was left by a gateway that was killed. Raises OSError."""
    (runtime / LEAVING).unlink(missing_ok=True)
