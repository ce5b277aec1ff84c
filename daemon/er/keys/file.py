"""Changes to er_api_keys.json: under a lock, atomic, on the disk before anyone is told.

Where hosts share the keys, the same changes go to the shared state first (`shared`), and this file
is its last known copy. A copy of the last good file lies beside it (er_api_keys.last-good.json),
written with each change, so that a file that is damaged or lost later locks nobody out (see
`reader`).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar, Unpack

import msgspec
from msgspec import UNSET, UnsetType

from er import durable
from er.keys import bounds, origin, replaced, used
from er.keys import record as records
from er.keys.bounds import Fields
from er.keys.record import KeysError, Previous, Record

MODE = 0o640
T = TypeVar("T")
# All records -> all of them changed (None: nothing is to be written), and what to answer. It may be
# asked again with others, and touches nothing but what it returns.
Apply = Callable[[Sequence[Record]], tuple[Sequence[Record] | None, T]]


class Elsewhere(Protocol):
    """Keys of several hosts, of which the file at `path` is the last known copy."""

    path: Path
    note: str  # why the last change holds on this host alone, "" where it does not

    def changed(self, apply: Apply[T]) -> T:
        """Make a change for all hosts. Raises KeysError."""

    def first(self, record: Record) -> bool:
        """Make the first key of all hosts; False where there are some. Raises KeysError."""

    def freshened(self) -> str:
        """Bring the file up to date if that can be; what to say of it, "" where all is well."""


Where = Path | Elsewhere  # the file alone; or what hosts share


class Created(NamedTuple):
    """A new key, or one with a new secret: the only time that the secret is seen."""

    record: Record
    secret: str

    def shown(self) -> dict[str, Any]:
        """What `er keys create --json` prints."""
        tree = records.shown(self.record)
        del tree["revoked"], tree["previous_valid_until"], tree["imported"]
        key_id, name = tree.pop("id"), tree.pop("name")
        return {"id": key_id, "name": name, "secret": self.secret, **tree}


def good_copy(path: Path) -> Path:
    """Where the last good state of the key file at `path` lies."""
    return path.with_name(path.stem + ".last-good.json")


def for_older(path: Path) -> Path:
    """Where the keys lie that an ER knows which reads version 1 alone, while the file is newer."""
    return path.with_name(path.stem + ".version-1.json")


def path_of(where: Where) -> Path:
    """The file that workers read."""
    return where if isinstance(where, Path) else where.path


def changed(where: Where, apply: Apply[T]) -> T:
    """Make a change where the keys are kept; what it answers. Raises KeysError."""
    if not isinstance(where, Path):
        return where.changed(apply)
    with locked(where):
        new, answer = apply(read(where))
        if new is not None:
            write(where, new)
            origin.forget(where)  # the file is no copy of what hosts share any more
    return answer


def create(
    where: Where,
    *,
    name: str,
    now: datetime,
    expires: datetime | None = None,
    **fields: Unpack[Fields],
) -> Created:
    """Make a key. Raises KeysError."""

    def apply(known: Sequence[Record]) -> tuple[Sequence[Record], Created]:
        record, secret = _new(known, name, now, expires, dict(fields))
        return [*known, record], Created(record, secret)

    return changed(where, apply)


def rotate(where: Where, ref: str, *, grace_s: float, now: datetime) -> Created:
    """Give a key a new secret; the old one stays good for `grace_s` seconds. Raises KeysError."""
    secret = ""

    def change(record: Record) -> Record:
        nonlocal secret
        if not record.valid(now):
            raise KeysError("invalid", f"key {record.id} is {_end(record)}; create a new one")
        secret = records.new_secret(record.id)
        until = records.whole_seconds(now) + timedelta(seconds=grace_s)
        return msgspec.structs.replace(
            record,
            sha256=records.digest(secret),
            previous=Previous(record.sha256, until) if grace_s > 0 else None,
        )

    return Created(_change(where, ref, change), secret)


def revoke(where: Where, ref: str, *, now: datetime) -> Record:
    """End a key at once, its previous secret too. Raises KeysError."""

    def change(record: Record) -> Record:
        if record.revoked is not None:
            raise KeysError("invalid", f"key {record.id} is already {_end(record)}")
        return msgspec.structs.replace(record, revoked=records.whole_seconds(now), previous=None)

    return _change(where, ref, change)


def change(
    where: Where,
    ref: str,
    *,
    now: datetime,
    name: str | UnsetType = UNSET,
    expires: datetime | UnsetType | None = UNSET,
    **fields: Unpack[Fields],
) -> Record:
    """Change what is given; UNSET, and what is not given, stays as it is. Raises KeysError."""
    given = bounds.kept(dict(fields))
    if name is not UNSET:
        given["name"] = name
    if expires is not UNSET:
        records.check_expiry(expires, now)
        given["expires"] = None if expires is None else records.whole_seconds(expires)

    def apply(record: Record) -> Record:
        if record.revoked is not None:
            raise KeysError("invalid", f"key {record.id} is {_end(record)}; create a new one")
        return msgspec.structs.replace(record, **given)

    return _change(where, ref, apply)


def find(where: Where, ref: str) -> Record:
    """The key of that id or unique name. Raises KeysError."""
    return records.find(read(path_of(where)), ref)


def list_keys(where: Where) -> list[dict[str, Any]]:
    """All keys as `er keys list --json` shows them, the revoked ones too. Raises KeysError."""
    path = path_of(where)
    last = used.latest(path)
    still = replaced.read(replaced.beside(path))
    return [
        {
            **records.shown(record),
            "last_used": last.get(record.id),
            "previous_used_by": _previous_used_by(record, still),
        }
        for record in (read(path) if path.exists() or good_copy(path).exists() else ())
    ]


def _previous_used_by(
    record: Record, still: dict[tuple[str, bytes], list[replaced.User]] | None
) -> list[dict[str, str]] | None:
    """Who used the secret before the last rotation since then; None: nobody knows, or none is."""
    if record.previous is None or still is None:
        return None
    users = still.get((record.id, replaced.mark(record.previous.sha256)), [])
    return [user.shown() for user in users]


def ensure_first(where: Where, *, now: datetime) -> Created | None:
    """Make the first key where there is no key file and never was one; else None.

    Of several hosts one makes it. Raises KeysError when it can't be written.
    """
    path = path_of(where)

    def there() -> bool:
        return path.exists() or good_copy(path).exists()

    if there():  # then nothing needs to be written, or writable
        return None
    record, secret = _new((), "first", now, None, {})
    if not isinstance(where, Path):
        return Created(record, secret) if where.first(record) else None
    with locked(path):
        if there():
            return None
        write(path, [record])
    return Created(record, secret)


def keep_good_copy(path: Path) -> None:
    """Take the key file as it is now for the last good one, if it is good. Raises KeysError."""
    with contextlib.suppress(FileNotFoundError):
        if good_copy(path).read_bytes() == path.read_bytes():
            return
    with locked(path):
        data = path.read_bytes()
        records.decode(data)
        replace({good_copy(path): data})


def _new(
    known: Sequence[Record],
    name: str,
    now: datetime,
    expires: datetime | None,
    fields: dict[str, Any],
) -> tuple[Record, str]:
    key_id = records.new_id([r.id for r in known])
    secret = records.new_secret(key_id)
    record = Record(
        id=key_id,
        name=name,
        sha256=records.digest(secret),
        created=records.whole_seconds(now),
        expires=None if expires is None else records.whole_seconds(expires),
        **bounds.kept(fields),
    )
    records.check(record, known)
    records.check_expiry(expires, now)
    return record, secret


def _change(where: Where, ref: str, change: Callable[[Record], Record]) -> Record:
    def apply(known: Sequence[Record]) -> tuple[Sequence[Record] | None, Record]:
        old = records.find(known, ref)
        new = change(old)
        if new == old:
            return None, new
        records.check(new, known)
        return [new if r.id == old.id else r for r in known], new

    return changed(where, apply)


def _end(record: Record) -> str:
    if record.revoked is not None:
        return f"revoked since {record.revoked:%Y-%m-%d %H:%M} UTC"
    return f"expired since {record.expires:%Y-%m-%d %H:%M} UTC"


def read(path: Path) -> tuple[Record, ...]:
    """All keys, the revoked ones too; none where there never was a file. Raises KeysError."""
    copy = good_copy(path)
    back = f"put the last good one back with: cp -p {copy} {path}"
    try:
        return records.decode(path.read_bytes())
    except FileNotFoundError:
        if copy.exists():
            raise KeysError("damaged", f"{path} is gone; {back}") from None
        return ()
    except ValueError as error:
        raise KeysError("damaged", f"{path} is {error}; correct it, or {back}") from None
    except OSError as error:
        raise KeysError("disk", f"{path}: {error.strerror}; are you root or user er?") from None


def write(path: Path, keys: Sequence[Record]) -> None:
    """Write them all, and beside them what an older ER can be given (`for_older`)."""
    data = records.encode(keys)
    files = {good_copy(path): data, path: data}
    older = records.encode_plain(keys)
    if older != data:
        files = {for_older(path): older, **files}
    replace(files)
    if older == data:  # the file itself is of version 1
        for_older(path).unlink(missing_ok=True)


def replace(files: dict[Path, bytes]) -> None:
    """Write all or none: nothing is renamed before all is on the disk."""
    written: list[tuple[Path, Path]] = []
    try:
        for path, data in files.items():
            temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
            written.append((temporary, path))
            _put(temporary, data)
        for temporary, path in written:
            temporary.rename(path)
        directory = os.open(written[0][1].parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        for temporary, _ in written:
            temporary.unlink(missing_ok=True)
        raise _failed(written[-1][1], error) from None


def _put(path: Path, data: bytes) -> None:
    path.unlink(missing_ok=True)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        rest = data
        while rest:
            rest = rest[os.write(file, rest) :]
        os.fchmod(file, MODE)
        durable.give_to_owner(file)
        os.fsync(file)
    finally:
        os.close(file)


def _failed(path: Path, error: OSError) -> KeysError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        cure = f"make room in {path.parent} and try again"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        cure = "try again as root (sudo)"
    else:
        cure = f"look at {path.parent}"
    return KeysError("disk", f"{path} can't be written: {error.strerror}; no key changed; {cure}")


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    lock = path.with_suffix(".lock")
    try:
        # Root opens a file in a folder of user er here, and gives it away: not through a link.
        file = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, MODE)
    except OSError as error:
        raise _failed(lock, error) from None
    try:
        if os.fstat(file).st_nlink == 1:  # not another name of a file of root's
            durable.give_to_owner(file)
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)
