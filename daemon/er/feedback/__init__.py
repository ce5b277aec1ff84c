"""What clients say of their answers, joined to the requests these were given to.

Each worker remembers its newest answered requests in rings in STATE/feedback/known (`ring`,
`memory`): to which key and model, and the order of what was ranked; no text. Feedback that names
one of them goes into the file of the month in which that request was answered (`book`), a line
each, the last line of a request counting. `report` sums them up.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt


class Answered(NamedTuple):
    """Answered requests by column: their ids, and which of the keys and models each has."""

    ids: Sequence[str]
    keys: Sequence[str]
    key_of: npt.NDArray[np.intp]
    models: Sequence[str]
    model_of: npt.NDArray[np.intp]

    @classmethod
    def one(cls, key: str, model: str, request_id: str) -> Answered:
        """A single one."""
        first = np.zeros(1, np.intp)
        return cls([request_id], [key], first, [model], first)


class Given(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One feedback, a line of the book. A later one to the same request replaces it whole."""

    id: str  # the request's
    at: float  # Unix seconds, when it came
    asked: int  # Unix seconds, when its request was answered
    key: str
    model: str
    documents: int = 0  # ranked; 0: none were
    document: int | None = None  # the clicked one, as the client numbered it
    rank: int | None = None  # of it in the answer, from 1; None also where it is past DEPTH
    rating: float | None = None  # 0 to 1
    comment: str = ""


def folder(state: Path) -> Path:
    """Where the files lie."""
    return state / "feedback"


__all__ = ["Answered", "Given", "folder"]
