"""What was told, kept in STATE/alerts.json: a restart neither loses nor repeats a message."""

from __future__ import annotations

from pathlib import Path

import msgspec

from er import durable, small_file
from er.alert.due import Memory
from er.small_file import DAMAGED

NAME, LOCK = "alerts.json", "alerts.lock"
MODE = 0o640
STEP_S = 10.0  # a trouble's time is written so often


class _File(msgspec.Struct, kw_only=True):
    version: int = 1
    alerts: dict[str, Memory] = {}


class MemoryFileError(Exception):
    """The file is there and can't be used."""


def read(folder: Path) -> dict[str, Memory]:
    """By the alert's name; {} where nothing was kept. Raises MemoryFileError."""
    path = folder / NAME
    try:
        return msgspec.json.decode(small_file.read(path), type=_File).alerts
    except FileNotFoundError:
        return {}
    except (OSError, *DAMAGED) as error:
        raise MemoryFileError(f"{path}: {error}") from None


def write(folder: Path, memories: dict[str, Memory]) -> None:
    """Keep them. Raises OSError; then the former ones stay."""
    data = msgspec.json.encode(_File(alerts=memories))
    durable.put(folder / NAME, data, MODE, durable.give_to_owner)


def essence(memories: dict[str, Memory]) -> object:
    """Differs once they are worth writing."""
    return {
        name: (
            one.told,
            one.told_at,
            one.since,
            one.bad_s // STEP_S,
            tuple(one.changes),
            tuple((mark, told.stage, told.at) for mark, told in one.endings.items()),
        )
        for name, one in memories.items()
    }
