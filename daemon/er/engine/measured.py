"""What a replica's last good start took, kept over its launcher's end.

A launcher that starts can say when it is likely to be ready, and `er restart` for how long a model
is out that has no other replica.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from er.small_file import DAMAGED


class Measured(msgspec.Struct, frozen=True):
    """In seconds, None where no start was seen yet.

    `load_s` is the engine's, from nothing to the first right answer; `start_s` the launcher's, from
    its own first moment, without what it waited for (a card in use, a missing folder).
    """

    load_s: float | None = None
    start_s: float | None = None
    left: float | None = None  # Unix s, when it ended as it was asked to


def load(path: Path) -> Measured:
    """What was kept at `path`; nothing known where that is missing or damaged."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Measured)
    except (OSError, *DAMAGED):
        return Measured()


def store(path: Path, measured: Measured) -> None:
    """Keep it, whole. Raises OSError."""
    fresh = path.with_suffix(".new")
    fresh.write_bytes(msgspec.json.encode(measured))
    fresh.replace(path)
