"""How many hosts share the limits, as last told: RUNTIME/members, for when they can't be asked."""

from __future__ import annotations

import contextlib
from pathlib import Path

from er import small_file

FILE = "members"
MOST = 10_000


def written(count: int) -> bytes:
    """The file's text for so many hosts, this one among them."""
    return f"{count}\n".encode()


def told(runtime: Path) -> int | None:
    """What was told last; None where nobody did, or what stands there is no such number."""
    with contextlib.suppress(OSError, ValueError):
        count = int(small_file.read(runtime / FILE))
        return count if 1 <= count <= MOST else None
    return None
