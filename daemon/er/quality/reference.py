"""The scores that a model gave, or should give, over a set: its file, read and written."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import msgspec

from er import durable
from er.quality.sets import CanarySet
from er.small_file import DAMAGED
from er.small_file import read as read_small

MODE = 0o640
Kind = Literal["recorded", "transformers"]


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """Scores of a model: for each query of the set one for each of its documents."""

    version: Literal[1] = 1
    kind: Kind
    model: str
    at: float  # Unix seconds
    set: str  # sha256 of the set
    made_with: dict[str, str]  # "torch": "2.9.0", "dtype": "float32", ...
    scores: tuple[tuple[float, ...], ...]
    noise: float = 0.0  # mean drift between two runs of what made it; 0: none, or not known

    def fits(self, canary: CanarySet) -> bool:
        """Whether it is of this set."""
        shape = [len(query.documents) for query in canary.queries]
        return self.set == canary.sha256 and [len(row) for row in self.scores] == shape


class ReferenceFileError(Exception):
    """A reference that can't be read or written; says which file, why, and what to do."""


def path(state: Path, model: str, kind: Kind) -> Path:
    """Where it lies in STATE."""
    return state / "quality" / "reference" / f"{quote(model, safe='')}.{kind}.json"


def read(file: Path) -> Reference | None:
    """What is in the file; None without one. Raises ReferenceFileError for a damaged one."""
    try:
        return msgspec.json.decode(read_small(file), type=Reference)
    except FileNotFoundError:
        return None
    except (*DAMAGED, ValueError) as error:
        raise ReferenceFileError(
            f"{file} is damaged ({error}); remove it, and make it anew"
        ) from None
    except OSError as error:
        raise ReferenceFileError(f"{file} can't be read: {error.strerror or error}") from None


def write(file: Path, reference: Reference) -> None:
    """Put it there, whole or not at all; root gives it to user er. Raises ReferenceFileError."""
    data = msgspec.json.encode(reference)
    try:
        for folder in (file.parent.parent, file.parent):
            _make(folder)
        durable.put(file, data, MODE, _shared)
    except OSError as error:
        cure = "as root (sudo), or as user er" if isinstance(error, PermissionError) else "again"
        raise ReferenceFileError(f"{file} can't be written: {error.strerror}; try {cure}") from None


def flat(scores: Sequence[Sequence[float]]) -> list[float]:
    """All scores in a row, as drift() takes them."""
    return [score for row in scores for score in row]


def _make(folder: Path) -> None:
    """A folder of user er's in STATE, where it is not there. Raises OSError."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o750)
    # Not through a link that somebody put there: root gives it away.
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        durable.give_to_owner(file)
    finally:
        os.close(file)


def _shared(file: int) -> None:
    os.fchmod(file, MODE)  # whatever the umask
    durable.give_to_owner(file)
