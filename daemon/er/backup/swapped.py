"""Puts restored files in place of what is there, all or none, and keeps that for the way back.

For one folder (`root`) at a time, the configuration's or the state's. What comes is written into
STAGING in it first, then all is renamed; `before-restore-TIME` in it has what was there, and says
what makes way when that is brought back. The plan of all renames lies in STAGING before the first
of them, so that a killed restore can be taken back too; it is over when that folder is gone.
"""

from __future__ import annotations

import contextlib
import grp
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec

from er import durable, small_file
from er.backup import BackupError, Place
from er.backup.archive import Reader
from er.backup.parts import TLS, part_of, scope
from er.small_file import DAMAGED

STAGING = ".restoring"
KEPT = "before-restore-"
TIME = re.compile(r"\d{8}T\d{6}Z")
SCOPE, PLAN = ".scope.json", ".plan.json"  # no file of a backup has such a name
# What others may at the most, and folders.
_MODES: dict[Place, tuple[int, int]] = {
    "configuration": (0o644, 0o755),
    "state": (0o640, 0o750),
}


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """What a restore touches: these parts whole, and of the configuration's folder these files."""

    parts: tuple[str, ...]
    named: tuple[str, ...] = ()


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """All that `goes` moves from root to `kept` first, then what `comes` from `incoming`."""

    kept: str  # folders in root
    incoming: str
    goes: tuple[str, ...]  # files' names in those
    comes: tuple[str, ...]


def stage(place: Place, root: Path, reader: Reader) -> list[str]:
    """Write a backup's files of `place` into STAGING in `root`; their names.

    Raises OSError, BackupError; then nothing is left.
    """
    folder = root / STAGING
    shutil.rmtree(folder, ignore_errors=True)  # a killed one's
    names = []
    try:
        folder.mkdir(mode=0o700)
        for member, pieces in reader.members():
            if member.place != place:
                for _ in pieces:
                    pass
                continue
            path = folder / member.inside
            _make_parents(path, folder, place)
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(file, "wb") as out:
                for piece in pieces:
                    out.write(piece)
                os.fchmod(file, member.mode & _MODES[place][0] | 0o600)
                known = part_of(member.name, reader.manifest.parts)
                if place == "configuration" and known is not None and known.name != TLS:
                    _readable(file)
                out.flush()
                os.fsync(file)
            names.append(member.inside)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return names


def _readable(file: int) -> None:
    """The configuration stays root's, and group er may read it."""
    if os.geteuid() == 0:
        with contextlib.suppress(KeyError):
            os.fchown(file, 0, grp.getgrnam(durable.OWNER).gr_gid)


def put(
    place: Place, root: Path, what: Scope, comes: Sequence[str], time: str, incoming: str = STAGING
) -> None:
    """Put in place what `comes` from `incoming`, and keep what was there as of `time`.

    All or nothing; `settle` follows, or `take_back`. Raises OSError.
    """
    goes = scope(place, root, what.parts, what.named)
    plan = Plan(kept=f"{KEPT}{time}", incoming=incoming, goes=tuple(goes), comes=tuple(comes))
    (root / STAGING).mkdir(mode=0o700, exist_ok=True)
    (root / plan.kept).mkdir(mode=0o700)
    try:
        durable.put(root / plan.kept / SCOPE, msgspec.json.encode(what), 0o600)
        durable.put(root / STAGING / PLAN, msgspec.json.encode(plan), 0o600)
        durable.sync_folder(root)
        wanted = [(root, root / plan.kept, name) for name in plan.goes]
        wanted += [(root / incoming, root, name) for name in plan.comes]
        for from_, to, name in wanted:
            _make_parents(to / name, to, place)
            (from_ / name).rename(to / name)
        for folder in {(side / name).parent for *sides, name in wanted for side in sides}:
            durable.sync_folder(folder)
    except BaseException:
        take_back(root)
        discard(root / plan.kept)
        raise


def unfinished(root: Path) -> bool:
    """Whether a restore was killed before it was settled."""
    return (root / STAGING / PLAN).exists()


def take_back(root: Path) -> None:
    """Undo a `put` that is not settled, or that was killed, as far as it came. Raises OSError."""
    try:
        plan = msgspec.json.decode(small_file.read(root / STAGING / PLAN), type=Plan)
    except FileNotFoundError:
        return
    kept, incoming = root / plan.kept, root / plan.incoming
    for name in plan.comes:
        if not os.path.lexists(incoming / name):
            (root / name).rename(incoming / name)
    for name in plan.goes:
        if os.path.lexists(kept / name):
            (kept / name).rename(root / name)
    (root / STAGING / PLAN).unlink()
    discard(kept)


def settle(root: Path) -> None:
    """It is done, or given up: remove what was staged, its plan first. Raises OSError."""
    (root / STAGING / PLAN).unlink(missing_ok=True)
    shutil.rmtree(root / STAGING, ignore_errors=True)


def discard(kept: Path) -> None:
    """Remove what is left of such a folder when its files are elsewhere; never a file of these."""
    (kept / SCOPE).unlink(missing_ok=True)
    for folder, _, _ in sorted(os.walk(kept), reverse=True):
        with contextlib.suppress(OSError):
            Path(folder).rmdir()


def times(root: Path) -> list[str]:
    """Of what is kept in `root`, oldest first. Raises OSError."""
    names = [path.name.removeprefix(KEPT) for path in root.glob(f"{KEPT}*")]
    return sorted(name for name in names if TIME.fullmatch(name))


def kept_of(place: Place, root: Path, time: str) -> tuple[Scope, list[str]]:
    """What was kept then: what it is of, and its files. Raises BackupError, OSError."""
    kept = root / f"{KEPT}{time}"
    try:
        what = msgspec.json.decode(small_file.read(kept / SCOPE), type=Scope)
    except FileNotFoundError:
        raise BackupError(f"{kept} has no {SCOPE}, so a restore did not end there") from None
    except DAMAGED as error:
        raise BackupError(f"{kept / SCOPE} is damaged ({error})") from None
    found = []
    for folder, folders, files in os.walk(kept):
        for name in (*files, *(f for f in folders if (Path(folder) / f).is_symlink())):
            inside = (Path(folder) / name).relative_to(kept).as_posix()
            if inside != SCOPE and part_of(f"{place}/{inside}", what.parts) is not None:
                found.append(inside)
    return what, sorted(found)


def _make_parents(path: Path, top: Path, place: Place) -> None:
    """The folders between `top` and the file."""
    inside = path.relative_to(top).parent
    for folder in (*reversed(inside.parents), inside):
        with contextlib.suppress(FileExistsError):
            (top / folder).mkdir(mode=_MODES[place][1])
