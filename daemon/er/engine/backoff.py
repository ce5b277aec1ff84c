"""How long to wait before the next attempt: 1, 2, 4 … 60 s, forgotten after ten good minutes.

Pure, but for a small file that lets the count outlive the launcher: systemd starts a new one after
a crash, and its own restart delay neither grows nor forgets.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec

from er.small_file import DAMAGED

WAIT_MAX_S = 60.0
FORGIVEN_AFTER_S = 600.0


class Backoff(msgspec.Struct, frozen=True):
    """Failures in a row, when the last one was (monotonic s since boot), and its cause."""

    failures: int = 0
    last: float = 0.0
    cause: str = ""

    def failed(self, now: float, cause: str) -> Backoff:
        """One more failure at `now`."""
        return Backoff(self.failures + 1, now, cause)

    def wait_s(self, now: float) -> float:
        """Seconds from `now` until the next attempt may begin; 0 when it may at once."""
        if not self.failures:
            return 0.0
        whole = min(WAIT_MAX_S, 2.0 ** min(self.failures - 1, 10))
        # A clock that seems to have gone back means another boot: then the whole wait.
        passed = max(0.0, now - self.last)
        return max(0.0, whole - passed)

    @property
    def attempt(self) -> int:
        """The number of the attempt that comes next, counted from 1."""
        return self.failures + 1


def load(path: Path) -> Backoff:
    """The count kept at `path`; a fresh one when there is none or it can't be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Backoff)
    except (OSError, *DAMAGED):
        return Backoff()


def store(path: Path, backoff: Backoff) -> None:
    """Keep the count at `path`; one without failures is removed.

    On a full disk the count is lost with its launcher, which is no reason to end the launcher.
    """
    with contextlib.suppress(OSError):
        if not backoff.failures:
            path.unlink(missing_ok=True)
            return
        fresh = path.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(backoff))
        fresh.replace(path)
