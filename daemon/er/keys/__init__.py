"""API keys: the file they lie in, changes to it, and who a request's secret stands for."""

from __future__ import annotations

from pathlib import Path

from msgspec import UNSET

from er import config
from er.keys.file import (
    Created,
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
]


def path() -> Path:
    """Where the key file lies."""
    return config.directory("state") / "er_api_keys.json"
