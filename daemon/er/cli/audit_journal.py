"""The files of the audit's own journal: whether they can be read, and how many days fit into it.

The numbers come from the heads of the files, whose form systemd promises not to change.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from er.config import Audit
from er.quantities import bytes_text, written_size, written_time

ROOTS = (Path("/var/log/journal"), Path("/run/log/journal"))
FOLDERS = "*.er-audit"
RIGHT = "sudo, or membership in group systemd-journal: sudo adduser NAME systemd-journal"
DAY_S = 86400.0
SIGNATURE = b"LPKSHHRH"
HEAD = struct.Struct("<8s128xQ8xQ24xQQ")  # where its last object begins; entries; first and last


class Piece(NamedTuple):
    """One file of the journal."""

    used: int  # bytes
    entries: int
    first: float  # Unix seconds
    last: float


def why_nothing(roots: Sequence[Path] | None = None) -> str:
    """Why no record can be read here, with what to do; "" when they can be."""
    folders = [f for root in roots or ROOTS for f in _listed(root, FOLDERS)]
    if not folders:
        return (
            "there is no journal of the audit here (namespace er-audit): nothing was recorded yet, "
            "or er-gateway does not run under systemd; then its records are the lines that begin "
            "with { on its standard output"
        )
    if not any(os.access(file, os.R_OK) for f in folders for file in _listed(f, "*.journal*")):
        return f"the audit's journal can't be read by you; this takes {RIGHT}"
    return ""


def pieces(roots: Sequence[Path] | None = None) -> list[Piece]:
    """All files that can be read, newest first."""
    found = []
    for root in roots or ROOTS:
        for folder in _listed(root, FOLDERS):
            for path in _listed(folder, "*.journal*"):
                try:
                    with path.open("rb") as file:
                        head = file.read(HEAD.size)
                except OSError:
                    continue
                if len(head) == HEAD.size:
                    signature, used, entries, first, last = HEAD.unpack(head)
                    if signature == SIGNATURE and entries and first <= last:
                        found.append(Piece(used, entries, first / 1e6, last / 1e6))
    return sorted(found, key=lambda piece: -piece.last)


def fits(found: Sequence[Piece], audit: Audit, now: float) -> tuple[bool, str]:
    """Whether `keep` days fit into `size` at the rate of the last day or more, and that in words.

    `found` has at least one, newest first; `now` in Unix seconds.
    """
    used = entries = 0
    first = now
    for piece in found:
        if now - first >= DAY_S:
            break
        used, entries, first = used + piece.used, entries + piece.entries, min(first, piece.first)
    span_s = max(now - first, 1.0)
    a_day = used * DAY_S / span_s
    days = audit.size / a_day
    keep = written_time(audit.keep_s)
    rate = f"{entries * DAY_S / span_s:,.0f} records a day take {bytes_text(a_day)}"
    good = days * DAY_S >= audit.keep_s
    shown = f"{days:,.0f}" if days >= 9.95 else f"{days:.1f}"  # never "10.0"
    what = f'{rate}; size = "{written_size(audit.size)}" keeps {shown} days of that'
    return good, f'{what}, {"enough" if good else "too little"} for keep = "{keep}"'


def _listed(folder: Path, pattern: str) -> list[Path]:
    try:
        return sorted(folder.glob(pattern))
    except OSError:
        return []
