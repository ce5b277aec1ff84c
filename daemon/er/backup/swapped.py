"""Puts restored files in place of what is there, all or none, and keeps that for the way back.

For one folder (`root`) at a time, the configuration's or the state's. What comes is written into a
folder in it first, then all is renamed; `before-restore-TIME` in it has what was there, and
`scope.json`, which says what makes way when it is brought back.
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

STAGING = ".restoring"
KEPT = "before-restore-"
TIME = re.compile(r"\d{8}T\d{6}Z")
SCOPE = "scope.json"
# What others may at the most, and folders.
_MODES: dict[Place, tuple[int, int]] = {
    "configuration": (0o644, 0o755),
    "state": (0o640, 0o750),
}


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """What a restore touches: these parts whole, and of the configuration's folder these files."""

    parts: tuple[str, ...]
    named: tuple[str, ...] = ()


class Moves(msgspec.Struct, frozen=True, kw_only=True):
    """What goes from one folder into another: names of files in it."""

    goes: tuple[str, ...]
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


def put(place: Place, root: Path, time: str, what: Scope, comes: Sequence[str]) -> Moves:
    """Put what is staged in place, and keep what was there as of `time`. All or nothing.

    Raises OSError.
    """
    goes = scope(place, root, what.parts, what.named)
    moves = Moves(goes=tuple(goes), comes=tuple(comes))
    keep(root / f"{KEPT}{time}", what)
    try:
        swap(place, root, root / STAGING, root / f"{KEPT}{time}", moves)
    except BaseException:
        discard(root / f"{KEPT}{time}")
        raise
    return moves


def keep(kept: Path, what: Scope) -> None:
    """Make the folder for what makes way. Raises OSError."""
    kept.mkdir(mode=0o700)
    durable.put(kept / SCOPE, msgspec.json.encode(what), 0o600)


def swap(place: Place, root: Path, incoming: Path, kept: Path, moves: Moves) -> None:
    """Move what goes from `root` to `kept`, then what comes from `incoming`: all or nothing.

    Raises OSError.
    """
    wanted = [(root, kept, name) for name in moves.goes]
    wanted += [(incoming, root, name) for name in moves.comes]
    done: list[tuple[Path, Path]] = []
    try:
        for from_, to, name in wanted:
            _make_parents(to / name, to, place)
            (from_ / name).rename(to / name)
            done.append((from_ / name, to / name))
        for folder in {path.parent for pair in done for path in pair}:
            durable.sync_folder(folder)
    except BaseException:
        for before, after in reversed(done):
            after.rename(before)
        raise


def back(place: Place, root: Path, time: str, moves: Moves) -> None:
    """Undo a `put` that succeeded. Raises OSError."""
    kept = root / f"{KEPT}{time}"
    inverse = Moves(goes=moves.comes, comes=moves.goes)
    (root / STAGING).mkdir(mode=0o700, exist_ok=True)
    swap(place, root, kept, root / STAGING, inverse)
    discard(kept)


def discard(kept: Path) -> None:
    """Remove what is left of such a folder when its files are elsewhere; never a file of these."""
    (kept / SCOPE).unlink(missing_ok=True)
    for folder, _, _ in sorted(os.walk(kept), reverse=True):
        with contextlib.suppress(OSError):
            Path(folder).rmdir()


def clear(root: Path) -> None:
    """Remove what was staged."""
    shutil.rmtree(root / STAGING, ignore_errors=True)


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
    except msgspec.MsgspecError as error:
        raise BackupError(f"{kept / SCOPE} is damaged ({error})") from None
    found = []
    for folder, folders, files in os.walk(kept):
        for name in (*files, *(f for f in folders if (Path(folder) / f).is_symlink())):
            inside = (Path(folder) / name).relative_to(kept).as_posix()
            if inside != SCOPE and part_of(f"{place}/{inside}", what.parts) is not None:
                found.append(inside)
    return what, sorted(found)


def put_kept(place: Place, root: Path, old: str, new: str) -> Moves:
    """Bring back what was kept as of `old`; what is there now is kept as of `new`.

    All or nothing. Raises BackupError, OSError.
    """
    what, comes = kept_of(place, root, old)
    goes = scope(place, root, what.parts, what.named)
    moves = Moves(goes=tuple(goes), comes=tuple(comes))
    kept = root / f"{KEPT}{new}"
    keep(kept, what)
    try:
        swap(place, root, root / f"{KEPT}{old}", kept, moves)
    except BaseException:
        discard(kept)
        raise
    return moves


def back_kept(place: Place, root: Path, old: str, new: str, moves: Moves) -> None:
    """Undo a `put_kept` that succeeded. Raises OSError."""
    inverse = Moves(goes=moves.comes, comes=moves.goes)
    swap(place, root, root / f"{KEPT}{new}", root / f"{KEPT}{old}", inverse)
    discard(root / f"{KEPT}{new}")


def _make_parents(path: Path, top: Path, place: Place) -> None:
    """The folders between `top` and the file."""
    inside = path.relative_to(top).parent
    for folder in (*reversed(inside.parents), inside):
        with contextlib.suppress(FileExistsError):
            (top / folder).mkdir(mode=_MODES[place][1])
