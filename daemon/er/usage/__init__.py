"""Usage: requests, texts and tokens by hour (UTC), key and model, for 400 days, in STATE/usage.

Workers add to one memory-mapped table twice a second (`hours`): what is counted there outlives
every process. Once an hour is over, the admin process writes its rows down in the file of their
month (`book`) and clears them. Each row has a random id; where an interruption leaves it in both
places, or twice in the book, the larger figures of an id count, once. `monthly` has each key's
sums of the calendar month, for quotas; `meter` is a worker's end of it all; `report` sums it up.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

HOUR_S = 3600
OTHERS = "others"  # the key of what found no row of its own; no key has such an id
NOBODY = "-"  # the model of requests that named none, as those for the list of models


class Sums(NamedTuple):
    """What requests came to."""

    requests: int = 0  # answered as asked
    refused: int = 0  # all others, whoever is to blame
    texts: int = 0  # of those answered
    tokens: int = 0

    def plus(self, other: Sums) -> Sums:
        """Both together."""
        return Sums(*(a + b for a, b in zip(self, other, strict=True)))

    def larger(self, other: Sums) -> Sums:
        """The larger of each figure."""
        return Sums(*map(max, self, other))


class Row(NamedTuple):
    """One key's use of one model in one hour, or a part of that."""

    id: int
    hour: int  # hours since 1970
    key: str
    model: str
    sums: Sums
    team: str | None = None  # the key's, when the row was written down


def folder(state: Path) -> Path:
    """Where the files lie."""
    return state / "usage"


__all__ = ["HOUR_S", "NOBODY", "OTHERS", "Row", "Sums", "folder"]
