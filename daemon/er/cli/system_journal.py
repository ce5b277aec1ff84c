"""The machine's own journal, where the gateway's and replicas' log lies among all others'."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import msgspec

from er.small_file import DAMAGED

MACHINE_ID = re.compile(r"[0-9a-f]{32}")
SIZES = "ec387f577b844b8fa948f33cad9a75e6"  # of the message in which journald tells its sizes
TIMEOUT_S = 10.0


class _Told(msgspec.Struct):
    MAX_USE: str


def folder(roots: Sequence[Path]) -> Path | None:
    """Where it lies; None where there is none."""
    for root in roots:
        try:
            named = sorted(one for one in root.iterdir() if MACHINE_ID.fullmatch(one.name))
        except OSError:
            continue
        if named:
            return named[0]
    return None


def cap(place: Path) -> int | None:
    """Bytes that journald never exceeds in `place`, by its own word of when it was started.

    None where it told none, or this user may not read it.
    """
    command = ["journalctl", "-q", "--no-pager", "-o", "json", "-n", "1"]
    command += [f"MESSAGE_ID={SIZES}", f"JOURNAL_PATH={place}"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S)
        return int(msgspec.json.decode(done.stdout, type=_Told).MAX_USE)
    except (OSError, subprocess.TimeoutExpired, ValueError, *DAMAGED):
        return None
