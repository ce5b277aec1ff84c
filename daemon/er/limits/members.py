"""How many hosts share the limits, as last told: RUNTIME/members, for when they can't be asked."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from er import small_file

FILE = "members"
MOST = 10_000


def tell(runtime: Path, count: int) -> None:
    """Say that `count` hosts are announced at present, this one among them. Raises OSError."""
    path = runtime / FILE
    new = path.with_name(f"{FILE}.{os.getpid()}")
    new.write_text(f"{count}\n")
    new.replace(path)


def told(runtime: Path) -> int | None:
    """What was told last; None where nobody did, or what stands there is no such number."""
    with contextlib.suppress(OSError, ValueError):
        count = int(small_file.read(runtime / FILE))
        return count if 1 <= count <= MOST else None
    return None
