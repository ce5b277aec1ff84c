"""The folder of batches: what each key has there, how much it takes, what is old.

All of it blocks, so it is called in threads. Whatever the disk refuses is raised as OSError.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import time
from pathlib import Path
from typing import BinaryIO, TypeVar

import msgspec

from er.batches.disk import MODE, entries, private, replace, sync_folder
from er.batches.records import Batch, File, new_id

FOLDER_MODE = 0o750
BLOCK = 4096  # what the smallest file takes
AGAIN = 16 << 20  # bytes of an upload after which the room is looked at once more
PART_S = 7200  # an upload is over sooner than that, or was given up
ID = re.compile(r"(?:file-|batch_)[0-9a-f]{24}\Z")
OWNER = re.compile(r"[a-z0-9]{1,32}\Z")
OPEN, LOCK = "open", "lock"
T = TypeVar("T", File, Batch)


class NotThere(Exception):  # noqa: N818 - an answer
    """This owner has nothing of that id."""


class Full(OSError):  # noqa: N818 - what the disk says, too
    """The quota is used up, or an owner's share of it."""

    def __init__(self, used: int, quota: int, own: int) -> None:
        """Bytes: what all of it takes, what it may take, and the owner's part of the first."""
        super().__init__(errno.EDQUOT, os.strerror(errno.EDQUOT))
        self.used, self.quota, self.own = used, quota, own

    @property
    def share(self) -> int:
        """Bytes that this owner may have."""
        return share(self.quota, self.used - self.own)


def share(quota: int, others: int) -> int:
    """Bytes that one owner may have, where those of others take `others`.

    Three quarters of what they leave. So none has all, and however many fill theirs, some is left
    for one more.
    """
    return max(0, quota - others) * 3 // 4


class Upload:
    """A file that comes in pieces. Nobody sees it before `keep`."""

    def __init__(self, store: Store, owner: str) -> None:
        self.id, self.size = new_id("file-"), 0
        self._store, self._owner = store, owner
        self._part = store.folder(owner, make=True) / f"{self.id}.part"
        self._file: BinaryIO = open(private(self._part), "wb", buffering=0)  # noqa: SIM115
        self._looked = 0

    def write(self, data: bytes) -> None:
        """Add `data`. Raises OSError, and Full for the quota."""
        if self.size + len(data) >= self._looked + AGAIN:
            self._store.demand_room(self._owner, len(data))
            self._looked = self.size
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]
        self.size += len(data)

    def keep(self, filename: str) -> File:
        """It is whole: on the disk, and its owner's from now on. Raises OSError."""
        os.fsync(self._file.fileno())
        self._file.close()
        try:
            return self._store.add_file(self._owner, self.id, self._part, filename, "batch")
        except OSError:
            (self._store.folder(self._owner) / self.id).unlink(missing_ok=True)
            raise

    def drop(self) -> None:
        """Forget what came of it."""
        self._file.close()
        self._part.unlink(missing_ok=True)


class Store:
    """The folder. One object a process."""

    def __init__(self, root: Path, *, quota: int, keep_s: float) -> None:
        """`quota`: bytes that all of it may take; `keep_s`: for how long what is over stays."""
        self.root, self.quota, self.keep_s = root, quota, int(keep_s)

    def folder(self, owner: str, *, make: bool = False) -> Path:
        """Where an owner's things lie."""
        if not OWNER.match(owner):
            raise ValueError("no key's id")
        path = self.root / owner
        if make and not path.is_dir():
            path.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
            for above in (self.root, self.root.parent):
                sync_folder(above)  # or a lost power takes it, with all that is told to be in it
        return path

    # -- room --------------------------------------------------------------------------------

    def taken(self) -> dict[str, int]:
        """Bytes that each owner's things take; what belongs to none has its folder's name."""
        return {
            folder.name: sum(map(_on_disk, entries(Path(folder.path))))
            for folder in entries(self.root)
            if folder.is_dir(follow_symlinks=False)
        }

    def used(self) -> int:
        """Bytes that all of it takes."""
        return sum(self.taken().values())

    def demand_room(self, owner: str, size: int) -> None:
        """Raise Full if `size` more bytes are more than the quota allows that owner."""
        taken = self.taken()
        used, own = sum(taken.values()), taken.get(owner, 0)
        if own + size > share(self.quota, used - own):
            raise Full(used, self.quota, own)

    # -- files -------------------------------------------------------------------------------

    def upload(self, owner: str, size: int) -> Upload:
        """Begin a file of about `size` bytes. Raises OSError, and Full for the quota."""
        self.demand_room(owner, size)
        return Upload(self, owner)

    def add_file(self, owner: str, file_id: str, path: Path, filename: str, purpose: str) -> File:
        """Make the file at `path` one of the owner's; once more does no harm. Raises OSError."""
        folder = self.folder(owner)
        final = folder / file_id
        if path.exists():
            path.rename(final)
        size, now = final.stat().st_size, int(time.time())
        file = msgspec.convert(
            {
                "id": file_id,
                "bytes": size,
                "created_at": now,
                "expires_at": now + self.keep_s,
                "filename": filename,
                "purpose": purpose,
            },
            File,
        )
        replace(folder / f"{file_id}.json", msgspec.json.encode(file))
        return file

    def files(self, owner: str) -> list[File]:
        """All of an owner's files, the newest first."""
        return [
            file
            for name in self._names(owner, "file-")
            if (file := self._read(owner, name, File)) is not None
        ]

    def file(self, owner: str, file_id: str) -> File:
        """What is known of a file. Raises NotThere."""
        return self._demand(owner, file_id, "file-", File)

    def open_file(self, owner: str, file_id: str) -> BinaryIO:
        """Its bytes. Raises NotThere, OSError."""
        self.file(owner, file_id)
        try:
            return (self.folder(owner) / file_id).open("rb")
        except FileNotFoundError:
            raise NotThere(file_id) from None

    def delete_file(self, owner: str, file_id: str) -> None:
        """Remove a file. Raises NotThere, OSError."""
        self.file(owner, file_id)
        folder = self.folder(owner)
        (folder / f"{file_id}.json").unlink(missing_ok=True)
        (folder / file_id).unlink(missing_ok=True)

    def user_of(self, owner: str, file_id: str) -> str | None:
        """The batch of the owner's that is not over and reads that file."""
        for name in self._open_of(owner):
            batch = self._read(owner, name, Batch)
            if batch is not None and not batch.over and batch.input_file_id == file_id:
                return batch.id
        return None

    # -- batches -----------------------------------------------------------------------------

    def add_batch(self, owner: str, batch: Batch) -> None:
        """Keep a new batch, and have it run. Raises OSError, and Full for the quota."""
        self.demand_room(owner, 2 * BLOCK)
        marks = self.root / OPEN
        marks.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
        mark = marks / f"{owner}.{batch.id}"
        try:
            with open(private(mark), "wb") as file:
                os.fsync(file.fileno())
            sync_folder(marks)
            self.save(owner, batch)
        except OSError:
            mark.unlink(missing_ok=True)
            raise

    def save(self, owner: str, batch: Batch) -> None:
        """Replace what is known of a batch. Raises OSError."""
        replace(self.folder(owner, make=True) / f"{batch.id}.json", msgspec.json.encode(batch))

    def batches(self, owner: str) -> list[Batch]:
        """All of an owner's batches, the newest first."""
        found = (self._read(owner, name, Batch) for name in self._names(owner, "batch_"))
        return [self._as_wanted(owner, batch) for batch in found if batch is not None]

    def batch(self, owner: str, batch_id: str) -> Batch:
        """What is known of a batch. Raises NotThere."""
        return self._as_wanted(owner, self._demand(owner, batch_id, "batch_", Batch))

    def begun(self, owner: str, batch_id: str) -> Batch:
        """The batch as far as its runner has come, whatever its owner wishes. Raises NotThere."""
        return self._demand(owner, batch_id, "batch_", Batch)

    def _as_wanted(self, owner: str, batch: Batch) -> Batch:
        """The batch with its owner's wish to cancel it, which its runner may not know of yet."""
        if batch.over or batch.status == "finalizing":
            return batch
        at = self.cancelled_at(owner, batch.id)
        if at is None:
            return batch
        return msgspec.structs.replace(batch, status="cancelling", cancelling_at=at)

    def cancel(self, owner: str, batch_id: str) -> None:
        """Wish that a batch be cancelled; its runner sees to it. Raises OSError."""
        with open(private(self.folder(owner) / f"{batch_id}.cancel"), "ab") as mark:
            os.fsync(mark.fileno())
        sync_folder(self.folder(owner))

    def cancelled_at(self, owner: str, batch_id: str) -> int | None:
        """When its owner wished to have it cancelled."""
        try:
            return int((self.folder(owner) / f"{batch_id}.cancel").stat().st_mtime)
        except OSError:
            return None

    # -- for who runs them -------------------------------------------------------------------

    def lock(self) -> int | None:
        """The lock on running batches, held until it is closed; None: another has it.

        Raises OSError.
        """
        self.root.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
        file = os.open(self.root / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, MODE)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return None
        except OSError:
            os.close(file)
            raise
        return file

    def holds(self, lock: int) -> bool:
        """Whether that is the lock still: who removes the folder removes it too. Raises OSError."""
        try:
            return os.path.samestat((self.root / LOCK).stat(), os.fstat(lock))
        except FileNotFoundError:
            return False

    def open_batches(self) -> list[tuple[str, str]]:
        """(owner, id) of each batch that is not over, the oldest first."""
        found = [entry.name.partition(".") for entry in entries(self.root / OPEN)]
        pairs = [(owner, name) for owner, _, name in found if OWNER.match(owner) and ID.match(name)]
        return sorted(pairs, key=lambda pair: pair[1])

    def _open_of(self, owner: str) -> list[str]:
        return [name for whose, name in self.open_batches() if whose == owner]

    def results(self, owner: str, batch_id: str) -> tuple[Path, Path]:
        """Where its results stand while it runs: those answered well, and the others."""
        folder = self.folder(owner)
        return folder / f"{batch_id}.output", folder / f"{batch_id}.errors"

    def hand_over(self, owner: str, batch: Batch) -> None:
        """Make its results files of the owner, by the ids in `batch`. Raises OSError."""
        names = (batch.output_file_id, batch.error_file_id)
        for kind, path, name in zip(
            ("output", "errors"), self.results(owner, batch.id), names, strict=True
        ):
            if name is None:
                path.unlink(missing_ok=True)
            elif path.exists() or self._half_given(owner, name):
                self.add_file(owner, name, path, f"{batch.id}_{kind}.jsonl", "batch_output")

    def _half_given(self, owner: str, name: str) -> bool:
        """Whether a file lacks its record; where both are gone its owner has removed it since."""
        path = self.folder(owner) / name
        return path.exists() and not path.with_suffix(".json").exists()

    def close(self, owner: str, batch_id: str) -> None:
        """It is over: it runs no more. Raises OSError."""
        (self.root / OPEN / f"{owner}.{batch_id}").unlink(missing_ok=True)
        (self.folder(owner) / f"{batch_id}.cancel").unlink(missing_ok=True)

    def sweep(self, now: float) -> int:
        """Remove what was kept long enough at `now` (Unix s); how many things.

        Raises OSError for the first that can't be, when all others are done.
        """
        removed, first = 0, None
        runs = set(self.open_batches())
        for folder in entries(self.root):
            if folder.name == OPEN or not OWNER.match(folder.name) or not folder.is_dir():
                continue
            try:
                removed += self._sweep_owner(folder.name, runs, now)
            except OSError as error:
                first = first or error
        if first is not None:
            raise first
        for owner, name in runs:
            if self._read(owner, name, Batch) is None:
                self._remove_old(self.root / OPEN / f"{owner}.{name}", now)
        return removed

    def _sweep_owner(self, owner: str, runs: set[tuple[str, str]], now: float) -> int:
        removed, folder = 0, self.folder(owner)
        own = {name for whose, name in runs if whose == owner}
        old = [file for file in self.files(owner) if file.expires_at <= now]
        read = {b.input_file_id for n in own if old and (b := self._read(owner, n, Batch))}
        for file in old:
            if file.id not in read:
                with contextlib.suppress(NotThere):  # its owner was faster
                    self.delete_file(owner, file.id)
                    removed += 1
        for batch in self.batches(owner):
            if batch.id not in own and batch.ended_at() + self.keep_s <= now:
                (folder / f"{batch.id}.json").unlink(missing_ok=True)
                removed += 1
        for entry in entries(folder):
            # What a process that was killed has left of an upload, a change, a deletion.
            path = folder / entry.name
            lost = not own and ID.match(entry.name) and not path.with_suffix(".json").exists()
            late = path.suffix in (".cancel", ".output", ".errors") and path.stem not in own
            if lost or late or path.suffix in (".part", ".new"):
                removed += self._remove_old(path, now)
        return removed

    @staticmethod
    def _remove_old(path: Path, now: float) -> bool:
        with contextlib.suppress(OSError):
            if path.stat().st_mtime + PART_S <= now:
                path.unlink()
                return True
        return False

    # -- records -----------------------------------------------------------------------------

    def _names(self, owner: str, kind: str) -> list[str]:
        names = [e.name.removesuffix(".json") for e in entries(self.folder(owner))]
        return sorted({n for n in names if n.startswith(kind) and ID.match(n)}, reverse=True)

    def _read(self, owner: str, name: str, kind: type[T]) -> T | None:
        try:
            data = (self.folder(owner) / f"{name}.json").read_bytes()
            return msgspec.json.decode(data, type=kind)
        except (FileNotFoundError, msgspec.DecodeError):
            return None  # gone meanwhile, or a file that is not whole yet

    def _demand(self, owner: str, name: str, prefix: str, kind: type[T]) -> T:
        known = name.startswith(prefix) and ID.match(name)
        found = self._read(owner, name, kind) if known else None
        if found is None:
            raise NotThere(name)
        return found


def _on_disk(entry: os.DirEntry[str]) -> int:
    """Bytes that a file takes; none where it is gone by now."""
    try:
        blocks = -(-entry.stat(follow_symlinks=False).st_size // BLOCK)
    except OSError:
        return 0
    return max(1, blocks) * BLOCK
