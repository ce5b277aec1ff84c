"""Of what state of the shared keys er_api_keys.json is the copy: a small file beside it.

A set of shared keys has a history: the ids of its last changes. From two of them follows which came
out of the other, as a failover may take the shared state back behind what a host has already seen.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from er import durable, small_file
from er.keys import record as records
from er.keys.record import Record
from er.small_file import DAMAGED

FORM = 1
HISTORY = 64  # changes; more of them between two looks of a host are taken for news
MODE = 0o640


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """The state of the shared keys that the file was made of."""

    form: int = FORM
    set: str  # which keys of several hosts: made once, with the first of them
    version: int
    history: tuple[str, ...]  # ids of the last changes, the newest last
    sha256: str  # of the key file's bytes
    at: float  # Unix seconds, when they were taken

    @property
    def change(self) -> str:
        """The id of the last change."""
        return self.history[-1] if self.history else ""


def beside(path: Path) -> Path:
    """The file that belongs to the key file at `path`."""
    return path.with_name(path.stem + ".shared.json")


def read(path: Path) -> Origin | None:
    """Of what the key file at `path` is a copy; None: of nothing shared."""
    try:
        return msgspec.json.decode(small_file.read(beside(path)), type=Origin)
    except (OSError, *DAMAGED):
        return None


def write(path: Path, found: Origin) -> None:
    """Say it. Raises OSError."""
    durable.put(beside(path), msgspec.json.encode(found), MODE, durable.give_to_owner)


def forget(path: Path) -> None:
    """The key file at `path` is one of this host alone from now on."""
    with contextlib.suppress(OSError):
        beside(path).unlink(missing_ok=True)


def digest(path: Path) -> str:
    """SHA-256 of the key file's bytes; "" where it can't be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def united(there: Sequence[Record], here: Sequence[Record]) -> tuple[Record, ...]:
    """The keys `there`, and of those `here` what must not be lost.

    Keys are never taken out of a set, and a revoked one never comes back: so what `there` lacks was
    lost, and whichever side revoked is right. The same for a new secret whose rotation was lost.
    """
    known = {record.id: record for record in here}
    merged = []
    for record in there:
        mine = known.pop(record.id, record)
        if mine.revoked is not None and record.revoked is None:
            record = msgspec.structs.replace(record, revoked=mine.revoked, previous=None)
        elif record.revoked is None and _rotated(record, mine):
            record = msgspec.structs.replace(record, sha256=mine.sha256, previous=mine.previous)
        merged.append(record)
    names = {record.name for record in merged if record.revoked is None}
    for record in known.values():
        name = records.free_name(record.name, names) if record.revoked is None else record.name
        names.add(name)
        merged.append(msgspec.structs.replace(record, name=name))
    return tuple(merged)


def _rotated(old: Record, new: Record) -> bool:
    return new.previous is not None and new.previous.sha256 == old.sha256
