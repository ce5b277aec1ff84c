"""What the canary remembers of each replica, in STATE/quality: its last run, and if it is out."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from er import durable, small_file
from er.small_file import DAMAGED

HISTORY_MOST = 200
MODE = 0o640

Kept = Literal["good", "drifted", "wrong", "never"]


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Means over queries, 0 to 1, 1 the best."""

    ndcg10: float
    mrr: float
    recall3: float


class Drifted(msgspec.Struct, frozen=True, kw_only=True):
    """How far scores are from a reference's; the mean is what `tolerance` is for."""

    mean: float
    largest: float
    tolerance: float


class Against(msgspec.Struct, frozen=True, kw_only=True):
    """The reference that counted."""

    kind: Literal["recorded", "transformers"]
    at: float  # Unix s


class Last(msgspec.Struct, frozen=True, kw_only=True):
    """The last whole run."""

    at: float  # Unix s, its end
    seconds: float
    ndcg10: float
    mrr: float
    recall3: float
    by_language: dict[str, Figures]
    own: dict[str, Figures] = {}  # of operators' sets, by file
    drift: Drifted | None = None
    reference: Against | None = None


class Row(msgspec.Struct, kw_only=True):
    """One replica. Times in Unix s."""

    version: Literal[1] = 1
    state: Kept = "never"
    since: float = 0.0
    reason: str = ""
    out: bool = False  # taken out, until a later run is good
    mark: str = ""  # the engine, prompt and set of the last run
    tried: float = 0.0  # the last run that began
    last: Last | None = None
    history: list[tuple[float, float, float | None]] = []  # when, nDCG@10, mean drift


def path(state: Path, replica: str) -> Path:
    """Where a replica's row lies in STATE."""
    return state / "quality" / f"{replica}.json"


def read(file: Path) -> Row:
    """The row in the file; a new one where there is none. Raises OSError, ValueError (damaged)."""
    try:
        return msgspec.json.decode(small_file.read(file), type=Row)
    except FileNotFoundError:
        return Row()
    except DAMAGED as error:
        raise ValueError(f"{file} is damaged ({error}); it is made anew") from None


def write(file: Path, row: Row) -> None:
    """Put the row there, whole or not at all. Raises OSError."""
    row.history = row.history[-HISTORY_MOST:]
    file.parent.mkdir(mode=0o750, exist_ok=True)
    durable.put(file, msgspec.json.encode(row), MODE)
