"""API keys: where they are kept, changes to them, and who a request's secret stands for."""

from __future__ import annotations

from pathlib import Path

from msgspec import UNSET

from er import config
from er.keys.file import (
    Created,
    Where,
    change,
    create,
    ensure_first,
    find,
    for_older,
    list_keys,
    read,
    revoke,
    rotate,
)
from er.keys.importing import Imported, import_keys
from er.keys.reader import Identity, Keys, local
from er.keys.record import KeysError, Record, shown

__all__ = [
    "UNSET",
    "Created",
    "Identity",
    "Imported",
    "Keys",
    "KeysError",
    "Record",
    "Where",
    "change",
    "create",
    "ensure_first",
    "find",
    "for_older",
    "import_keys",
    "list_keys",
    "local",
    "path",
    "read",
    "revoke",
    "rotate",
    "shown",
    "where",
]


def path() -> Path:
    """Where the key file lies."""
    return config.directory("state") / "er_api_keys.json"


def where(settings: config.Config) -> Where:
    """Where keys are changed: in that file, or in what hosts share, of which it is a copy."""
    if settings.state is None:
        return path()
    from er.keys.shared import Shared  # with [state] alone

    return Shared(settings, path())
