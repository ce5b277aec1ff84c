"""`er backup FILE`: what ER can't make again, in one file, taken while the gateway runs."""

from __future__ import annotations

import errno
import os
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from er import __version__, durable, keys, small_file
from er.backup import FORMAT, BackupError, Manifest, archive
from er.backup.parts import PARTS, part_of
from er.backup.taken import Taken
from er.cli.audit import note
from er.cli.screen import clean
from er.config import ConfigError, applied_path, directory, edited_path, load
from er.keys import KeysError
from er.quantities import bytes_text

MODE = 0o600
MOMENT = "%Y-%m-%dT%H:%M:%SZ"


class Wish(msgspec.Struct, kw_only=True):
    """What the command line asked for."""

    file: Path
    with_tls: bool = False


def run(wish: Wish) -> int:
    """Write it. Returns 0 when it is there, 1 when nothing has changed."""
    taken = Taken(directory("configuration"), directory("state"))
    try:
        _may_write(wish.file)
        _keys_are_good()
        taken.collect(_tls() if wish.with_tls else None)
        manifest = _manifest(taken)
        durable.put_by(
            wish.file,
            lambda out: archive.write(out, manifest, taken.sources),
            MODE,
            lambda file: os.fchmod(file, MODE),
        )
        durable.sync_folder(wish.file.parent)
    except BackupError as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(failed("backup", wish.file, error))
    finally:
        taken.close()
    note("backup", str(wish.file))
    _tell(wish, taken, manifest)
    return 0


def failed(command: str, file: Path, error: OSError) -> str:
    """A refusal of the system, with what to do."""
    where = error.filename or file
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"{where}: {error.strerror}; nothing has changed, make room there and try again"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{where}: {error.strerror}; nothing has changed, try sudo er {command} {file}"
    if error.errno == errno.EROFS:
        return f"{where} lies on a read-only file system; nothing has changed, take another place"
    return f"{where}: {error.strerror or error}; nothing has changed"


def summary(manifest: Manifest) -> str:
    """How many files of how many bytes, and of what."""
    there = [part_of(member.name, manifest.parts) for member in manifest.members]
    named = [name for name in manifest.parts if any(p and p.name == name for p in there)]
    count = len(manifest.members)
    files = f"{count} {'file' if count == 1 else 'files'}"
    return f"{files}, {bytes_text(manifest.size)}: {', '.join(named)}"


def _fail(text: str) -> int:
    print(f"er backup: {clean(text)}", file=sys.stderr)
    return 1


def _may_write(file: Path) -> None:
    """Whether the place is one for it. Raises BackupError, OSError."""
    if file.is_dir():
        raise BackupError(f"{file} is a folder; name a file in it, as {file / 'er.backup'}")
    if not file.parent.is_dir():
        raise BackupError(f"there is no folder {file.parent}; make it, or name another")
    if not os.path.lexists(file):
        return
    # A backup may be written over, by cron every night; nothing else is lost by a slip.
    with open(os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as there:
        if not file.is_file() or not archive.is_backup(there):
            raise BackupError(f"{file} is there already, and no backup of ER; name another file")


def _keys_are_good() -> None:
    """Raises BackupError: nobody should find out on the day that they need it."""
    try:
        keys.read(keys.path())
    except KeysError as error:
        if error.code == "disk":
            cure = "this needs root or group er: sudo er backup FILE"
            raise BackupError(f"{keys.path()} can't be read; {cure}") from None
        raise BackupError(f"{error}. Then make the backup") from None


def _tls() -> list[str]:
    """Names of the files of [gateway.tls] in the configuration's folder. Raises BackupError."""
    path, root = edited_path(), directory("configuration")
    try:
        tls = load(path).gateway.tls
    except ConfigError as error:
        raise BackupError(f"--with-tls: {path} can't be used ({error}); er check") from None
    if tls is None:
        raise BackupError(f"--with-tls: {path} has no [gateway.tls]; leave it out")
    found = []
    for file in (tls.certificate, tls.key, tls.client_ca):
        if not file:
            continue
        place = Path(file)
        inside = os.path.relpath(os.path.realpath(place), os.path.realpath(root))
        name = os.path.relpath(place, root)
        if inside != name or not PARTS["tls"].pattern.fullmatch(name):
            raise BackupError(
                f"--with-tls: {file} does not lie in {root}, where a restore could put it back; "
                f"back it up with what makes it, and leave --with-tls out"
            )
        if not place.is_file():
            raise BackupError(f"--with-tls: there is no {file}; er tls show")
        found.append(name)
    return found


def _manifest(taken: Taken) -> Manifest:
    if not taken.sources:
        places = f"{directory('configuration')} and {directory('state')}"
        raise BackupError(f"there is nothing to back up in {places}; is ER installed here?")
    return Manifest(
        format=FORMAT,
        er=__version__,
        host=socket.gethostname(),
        at=datetime.now(UTC).strftime(MOMENT),
        parts=tuple(taken.parts),
        members=tuple(source.member for source in taken.sources),
    )


def _tell(wish: Wish, taken: Taken, manifest: Manifest) -> None:
    size = bytes_text(wish.file.stat().st_size)
    print(f"{clean(wish.file)}, {size}: a backup of {summary(manifest)}.")
    what = "the private key of HTTPS, " if wish.with_tls else ""
    print(f"It holds {what}hashes of the keys, and all that er.toml, feedback and batches say:")
    print("its owner alone can read it (0600). Keep it so, and on another machine too.")
    for sentence in taken.left_out:
        print(f"er backup: {sentence}", file=sys.stderr)
    try:
        edited, applied = edited_path().read_bytes(), small_file.read(applied_path())
    except OSError:
        return
    if edited != applied:
        told = f"{edited_path()} differs from what is applied, and was taken as it is"
        print(f"er backup: note: {told}", file=sys.stderr)
