"""`er restore FILE`: what `er backup` wrote, in place of what is here, which is kept beside.

All is read and checked before anything is written. Files of the state are written by user er, so
that root follows nobody's link in a folder of er's.
"""

from __future__ import annotations

import os
import signal
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from er import __version__
from er.backup import BackupError, Manifest, Place, swapped
from er.backup.archive import Reader
from er.backup.parts import PARTS, TLS, part_of, scope
from er.backup.swapped import Scope
from er.cli import as_user, consent
from er.cli.audit import note
from er.cli.backup import failed, summary
from er.cli.restore_alone import alone
from er.cli.screen import clean
from er.config import ConfigError, directory, edited_path, parse
from er.keys import KeysError
from er.keys.record import decode

TIME = "%Y%m%dT%H%M%SZ"
PLACES: tuple[Place, ...] = ("configuration", "state")
PATIENT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Wish(msgspec.Struct, kw_only=True):
    """What the command line asked for."""

    file: Path | None = None
    undo: bool = False
    dry_run: bool = False
    yes: bool = False


def run(wish: Wish) -> int:
    """Do it. Returns 0 when it is done, 1 when nothing has changed, 64 for wrong use."""
    if (wish.file is None) != wish.undo:
        return _fail("name the backup: er restore FILE; or --undo, without one", 64)
    try:
        _may_write()
        if swapped.unfinished(directory("configuration")) and not wish.dry_run:
            _take_back_killed()
            if wish.undo:
                return 0
        if wish.file is None:
            return _undo(wish)
        with _opened(wish.file) as file:
            return _restore(wish, wish.file, file)
    except (BackupError, KeysError) as error:
        return _fail(f"{error}", 1)
    except OSError as error:
        return _fail(failed("restore", wish.file or Path("--undo"), error), 1)


def _fail(text: str, code: int) -> int:
    print(f"er restore: {clean(text)}", file=sys.stderr)
    return code


def _may_write() -> None:
    """Raises BackupError."""
    for place in PLACES:
        root = directory(place)
        if not os.path.isdir(root):  # noqa: PTH112 - Path.is_dir raises where a parent is closed
            cure = "install ER first (./install.sh), or use sudo"
            raise BackupError(f"there is no folder {root}, or it is closed to you; {cure}")
        if os.statvfs(root).f_flag & os.ST_RDONLY:
            cure = "nothing has changed, remount it (findmnt)"
            raise BackupError(f"{root} lies on a read-only file system; {cure}")
        if not os.access(root, os.R_OK | os.W_OK | os.X_OK):
            raise BackupError(f"this writes in {root}, which needs root: sudo er restore …")


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Raises OSError, BackupError with the file's name."""
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise BackupError(f"{path} is no plain file; name one that er backup wrote")
    with open(number, "rb") as file:
        yield file


def _reader(path: Path, file: BinaryIO) -> Reader:
    """From its beginning, also in a child, which shares the file's place with its parent."""
    os.lseek(file.fileno(), 0, os.SEEK_SET)
    again = open(os.dup(file.fileno()), "rb")  # noqa: SIM115 - goes with the reader
    try:
        return Reader(again, __version__)
    except BackupError as error:
        raise BackupError(f"{path} {error}") from None


def _restore(wish: Wish, path: Path, file: BinaryIO) -> int:
    manifest = _checked(path, file)
    named = [m.inside for m in manifest.members if _is_tls(m.name, manifest)]
    what = Scope(parts=manifest.parts, named=tuple(named))
    time = _time()
    print(f"{clean(path)}: a backup of {clean(manifest.host)} of {clean(manifest.at)},")
    print(f"by ER {clean(manifest.er)}: {summary(manifest)}.")
    _tell_what_is_there(what, time)
    _demand_room(manifest)
    if wish.dry_run:
        print("Nothing has changed (--dry-run).")
        return 0
    with alone(), _staging():
        if not _may(wish):
            return 1
        config, state = (directory(place) for place in PLACES)
        names = {
            "configuration": swapped.stage("configuration", config, _reader(path, file)),
            "state": _as_er(lambda: swapped.stage("state", state, _reader(path, file))),
        }
        _in_both(lambda place, root: swapped.put(place, root, what, names[place], time))
    note("restore", str(path))
    print("Restored. What was there before comes back with: sudo er restore --undo")
    _tell_next()
    return 0


def _checked(path: Path, file: BinaryIO) -> Manifest:
    """All of it read, and what is in it understood. Raises BackupError."""
    reader = _reader(path, file)
    try:
        for member, pieces in reader.members():
            if member.name == "state/er_api_keys.json":
                _understood(member.name, b"".join(pieces))
            else:
                for _ in pieces:
                    pass
    except BackupError as error:
        raise BackupError(f"{path} {error}; nothing has changed") from None
    return reader.manifest


def _understood(name: str, data: bytes) -> None:
    try:
        decode(data)
    except ValueError as error:
        raise BackupError(f"has keys that this ER can't read ({name} is {error})") from None


def _is_tls(name: str, manifest: Manifest) -> bool:
    part = part_of(name, manifest.parts)
    return part is not None and part.name == TLS


def _time() -> str:
    """Of what is kept: now, but no moment that was used."""
    now = datetime.now(UTC)
    while any((directory(p) / f"{swapped.KEPT}{now:{TIME}}").exists() for p in PLACES):
        now += timedelta(seconds=1)
    return f"{now:{TIME}}"


def _tell_what_is_there(what: Scope, time: str) -> None:
    for place in PLACES:
        root = directory(place)
        there = scope(place, root, what.parts, what.named)
        if not there:
            print(f"Nothing of that is in {root} now.")
            continue
        parts = [p for p in what.parts if PARTS[p].place == place and any(PARTS[p].there(root))]
        if any(PARTS[TLS].pattern.fullmatch(name) for name in what.named if name in there):
            parts.append(TLS)
        files = f"{len(there)} {'file' if len(there) == 1 else 'files'}"
        told = ", ".join(dict.fromkeys(parts))
        print(f"It takes the place of {files} in {root} ({told}),")
        print(f"which are kept in {root / f'{swapped.KEPT}{time}'}.")


def _demand_room(manifest: Manifest) -> None:
    """Before anything is written. Raises BackupError, OSError."""
    for place in PLACES:
        root = directory(place)
        needed = sum(m.size + 4096 for m in manifest.members if m.place == place)
        disk = os.statvfs(root)
        free = disk.f_bavail * disk.f_frsize
        if free < needed:
            told = f"{needed >> 20} MiB are needed in {root}, and {free >> 20} MiB are free"
            raise BackupError(f"{told}; nothing has changed, make room there and try again")


def _may(wish: Wish) -> bool:
    """Consent: --yes, or a yes from whoever sits there."""
    if wish.yes:
        return True
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        _fail("nothing has changed. To agree: --yes", 1)
        return False
    if consent.given("Go on?", sys.stderr):
        return True
    print("Nothing has changed.")
    return False


def _undo(wish: Wish) -> int:
    """Bring back what the last restore (or undo) has put aside."""
    config, state = (directory(place) for place in PLACES)
    both = sorted(set(swapped.times(config)) & set(_as_er(lambda: swapped.times(state))))
    if not both:
        raise BackupError(
            f"there is no {swapped.KEPT}TIME in {config} and {state}: nothing to undo"
        )
    old, new = both[-1], _time()
    kept = {
        "configuration": swapped.kept_of("configuration", config, old),
        "state": _state_kept(state, old),
    }
    for place in PLACES:
        folder = directory(place) / f"{swapped.KEPT}{old}"
        print(f"{len(kept[place][1])} files come back from {folder};")
        print(f"what is there now is kept in {directory(place) / f'{swapped.KEPT}{new}'}.")
    if wish.dry_run:
        print("Nothing has changed (--dry-run).")
        return 0
    with alone(), _staging():
        if not _may(wish):
            return 1
        _in_both(
            lambda place, root: swapped.put(
                place, root, *kept[place], new, incoming=f"{swapped.KEPT}{old}"
            )
        )
    swapped.discard(config / f"{swapped.KEPT}{old}")
    _as_er(lambda: swapped.discard(state / f"{swapped.KEPT}{old}"))
    note("restore.undo", old)
    print("It is as before. What was there comes back with: sudo er restore --undo")
    _tell_next()
    return 0


def _state_kept(state: Path, time: str) -> tuple[Scope, list[str]]:
    """As swapped.kept_of has it, found by user er."""
    what, comes = _as_er(lambda: msgspec.to_builtins(list(swapped.kept_of("state", state, time))))
    return msgspec.convert(what, Scope), comes


def _in_both(put: Callable[[Place, Path], None]) -> None:
    """In both places or in none. Raises OSError, BackupError.

    It takes milliseconds, which Ctrl-C and a lost terminal wait for.
    """
    config, state = (directory(place) for place in PLACES)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in PATIENT}
    try:
        try:
            put("configuration", config)
            _as_er(lambda: put("state", state))
        except BaseException:
            _as_er(lambda: swapped.take_back(state))
            swapped.take_back(config)
            raise
        swapped.settle(config)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _take_back_killed() -> None:
    """A restore that was killed amid its renames is over when the configuration's plan is gone."""
    config, state = (directory(place) for place in PLACES)
    with alone():
        _as_er(lambda: swapped.take_back(state))
        swapped.take_back(config)
    print("An earlier er restore was killed amid its work: what it had changed is as before it.")


@contextmanager
def _staging() -> Iterator[None]:
    """Nothing of it is left, but what a killed one can be taken back by."""
    config, state = (directory(place) for place in PLACES)
    swapped.settle(config)
    _as_er(lambda: swapped.settle(state))
    try:
        yield
    finally:
        swapped.settle(config)
        _as_er(lambda: swapped.settle(state))


def _as_er(question: Callable[[], Any]) -> Any:
    """Its answer, found as user er where this is root. Raises OSError, BackupError."""

    def told() -> dict[str, Any]:
        try:
            return {"answer": question()}
        except OSError as error:
            return {"os": [error.errno or 0, error.strerror or str(error), str(error.filename)]}
        except BackupError as error:
            return {"said": str(error)}

    try:
        found = as_user.ask(told)
    except RuntimeError as error:
        raise BackupError(f"user er could not do it: {error}; nothing has changed") from None
    if "os" in found:
        raise OSError(*found["os"])
    if "said" in found:
        raise BackupError(found["said"])
    return found["answer"]


def _tell_next() -> None:
    path = edited_path()
    try:
        parse(path.read_text(encoding="utf-8"), path)
    except FileNotFoundError:
        print(f"There is no {path} in it: write one (er help configuration).")
    except (ConfigError, UnicodeDecodeError, OSError):
        print(f"{path} does not fit this ER as it is: er check says where.")
    print("Next: er check, sudo er apply, sudo systemctl start er.target")
