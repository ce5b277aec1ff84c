"""What each name gave vectors of when `er apply` was run last: what stored vectors are of. Pure.

Root keeps it beside er.toml, in a folder that root alone writes. A name that is gone stays in it:
vectors may still be stored under it.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from pathlib import Path

import msgspec

from er import small_file
from er.fingerprint import UNKNOWN, Fingerprint
from er.job import Task
from er.small_file import DAMAGED

FILE = "fingerprints.json"
FORM = 1  # of the words; those of another form are as good as unknown


class Given(msgspec.Struct, frozen=True):
    """What one name gave. `path` is the model's folder, `model` the configured name."""

    task: Task
    weights: str
    recipe: str
    path: str
    model: str

    def __str__(self) -> str:
        return f"{self.weights}-{self.recipe}"


class Applied(msgspec.Struct, frozen=True):
    """All names, aliases too."""

    form: int = FORM
    names: dict[str, Given] = {}


def read(path: Path) -> Applied:
    """The record at `path`; an empty one where there is none, or none that can be read."""
    found = _read(path)
    return found if isinstance(found, Applied) else Applied()


def wrong(path: Path) -> str:
    """Why what stands at `path` tells nothing; "" where it does, and where nothing is."""
    found = _read(path)
    return found if isinstance(found, str) else ""


def _read(path: Path) -> Applied | str:
    try:
        found = msgspec.json.decode(small_file.read(path), type=Applied)
    except (FileNotFoundError, PermissionError):  # none, or none that this user may see
        return ""
    except OSError as error:
        return "it is a link" if error.errno == errno.ELOOP else f"{error.strerror or error}"
    except DAMAGED:
        return "it is damaged"
    return found if found.form == FORM else "it is of another ER"


def written(applied: Applied) -> str:
    """The file's text."""
    return msgspec.json.format(msgspec.json.encode(applied), indent=1).decode() + "\n"


def differs(before: Given | None, now: Fingerprint | Given) -> str:
    """What of two is not the same, in words: "weights", "recipe", both or "".

    What is not known of either is the same as anything.
    """
    if before is None:
        return ""
    fields = [
        field
        for field in ("weights", "recipe")
        if UNKNOWN not in (was := getattr(before, field), is_ := getattr(now, field)) and was != is_
    ]
    return " and ".join(fields)


def after(applied: Applied, now: Mapping[str, Given]) -> Applied:
    """The record with what the names in `now` give; what is not known now is as it was."""
    names = dict(applied.names)
    for name, given in now.items():
        before = names.get(name)
        for field in ("weights", "recipe"):
            if before is not None and getattr(given, field) == UNKNOWN:
                given = msgspec.structs.replace(given, **{field: getattr(before, field)})
        names[name] = given
    return Applied(names=dict(sorted(names.items())))
