"""What root has applied, in a folder that root alone writes: all that root's commands believe.

Units run from the copy in the state directory, which is user er's, as `er reload` writes it too.
Whoever breaks into a process of ER may change that one, and gains nothing by it: no drop-in is
ever made of it.
"""

from __future__ import annotations

import contextlib
import grp
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from er import small_file
from er.config import directory, edited_path
from er.fingerprint.applied import FILE
from er.small_file import DAMAGED
from er.units.change import Change
from er.units.files import UnitsError, write

FOLDER = "var/lib/er-applied"
MODE = 0o640  # group er reads: its members may look at a plan


def applied(root: Path) -> Path:
    """The configuration that `er apply` stored last."""
    return root / FOLDER / "applied.toml"


def previous(root: Path) -> Path:
    """The one before it."""
    return root / FOLDER / "previous.toml"


def fingerprints() -> Path:
    """What each name gave vectors of at the last apply (fingerprint/applied).

    Beside er.toml, whose names it is about: a backup takes both, and removing ER leaves both.
    """
    return directory("configuration") / FILE


def remember(text: str) -> None:
    """Make `text` the record of that, which `er check` reads whoever asks. Raises UnitsError."""
    write(fingerprints(), text, 0o644, _owner())


def source(root: Path) -> Path:
    """What root goes by: what it applied, else er.toml, which is root's too."""
    there = os.path.exists(applied(root))  # noqa: PTH110 - Path.exists raises in a closed folder
    return applied(root) if there else edited_path()


def text_of(path: Path) -> str | None:
    """What stands in one of these files, None where there is none and where it is damaged."""
    try:
        return small_file.read(path).decode("utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def before(root: Path, running: str | None) -> Path:
    """What `er apply --previous` goes back to; `running` is the text of what units run from.

    Where a reload has changed that since the last apply it is what was applied then.
    """
    mine = text_of(applied(root))
    reloaded = None not in (mine, running) and mine != running
    return applied(root) if reloaded else previous(root)


def store(root: Path, text: str) -> None:
    """Make `text` what root has applied. Raises UnitsError."""
    now = text_of(applied(root))
    if now == text:
        return
    if now is not None:
        _put(previous(root), now)
    _put(applied(root), text)


def unfinished(root: Path) -> list[Change]:
    """The commands that an earlier apply did not come to, [] when it came to its end."""
    try:
        return msgspec.json.decode(small_file.read(_unfinished(root)), type=list[Change])
    except (OSError, *DAMAGED):
        return []


def keep_unfinished(root: Path, left: Sequence[Change]) -> None:
    """Note what is still to be done, or that nothing is. Raises UnitsError."""
    if left:
        _put(_unfinished(root), msgspec.json.encode(left).decode())
    else:
        _unfinished(root).unlink(missing_ok=True)


def _unfinished(root: Path) -> Path:
    return root / FOLDER / "unfinished.json"


def _put(path: Path, text: str) -> None:
    owner = _owner()
    try:
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True)
            path.parent.chmod(0o750)
            if owner is not None:
                os.chown(path.parent, *owner)
    except OSError as error:
        raise UnitsError(f"{path.parent} can't be made: {error.strerror}") from None
    write(path, text, MODE, owner)


def _owner() -> tuple[int, int] | None:
    """Root, and group er if there is one."""
    with contextlib.suppress(KeyError):
        return 0, grp.getgrnam("er").gr_gid
    return None
