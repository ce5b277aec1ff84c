"""The folder that a pull makes: TARGET.part beside it until all is right, then renamed.

All is done by descriptors and never through a link: root may pull into a folder whose parent is
somebody else's. One pull at a time has the folder, by a lock that goes with its process.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import msgspec

from er import __version__, durable, small_file
from er.pull import Listing, PullError, Remote
from er.pull.manifest import FORMAT, NAME, Manifest, Sums, sums
from er.pull.plan import OURS, unsafe

STATE = OURS[1]
PART = ".part"
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
PLAIN = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
MARGIN = 1 << 30  # bytes that stay free on the disk


class _File(msgspec.Struct):
    """What was known of one: the hub's sums, and the tag under which its bytes came."""

    path: str
    size: int = 0
    sha256: str = ""
    git: str = ""
    tag: str = ""

    def right(self, file: Remote) -> bool:
        """Whether what came under these sums is what a hub lists."""
        mine, wanted = (self.sha256, file.sha256) if file.sha256 else (self.git, file.git)
        return self.size == file.size and mine == wanted


class _State(msgspec.Struct):
    files: list[_File]
    home: str = ""  # the hub's address, which the tags are of


class Place:
    """One model's folder while it is pulled. All methods raise OSError."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.parent / f"{target.name}{PART}"
        self._root = -1
        self._home = ""
        self._files: dict[str, _File] = {}
        self._sums: dict[str, Sums] = {}

    # -- open and close --------------------------------------------------------------------------

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Have TARGET.part, made if need be. Raises PullError where another has it."""
        if self.target.is_mount():
            raise PullError(
                f"{self.target} is where a disk is mounted, so no folder can be renamed to it: "
                f"take one in it, as --to {self.target / 'model'}"
            )
        _make_parents(self.target.parent)
        try:
            self._root = self._opened()
            self._own()
            try:
                yield
            finally:
                self._leave()
        finally:
            if self._root >= 0:
                os.close(self._root)
                self._root = -1

    def _opened(self) -> int:
        with contextlib.suppress(FileExistsError):
            self.path.mkdir(mode=0o755)
        try:
            root = os.open(self.path, FOLDER)
        except (NotADirectoryError, OSError) as error:
            if isinstance(error, NotADirectoryError) or error.errno == errno.ELOOP:
                raise PullError(f"{self.path} is there and is no folder; move it away") from None
            raise
        try:
            fcntl.flock(root, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(root)
            raise PullError(f"another er models pull is at work in {self.path}") from None
        return root

    def _own(self) -> None:
        """Raises PullError for a folder that is not one of a pull."""
        known = os.fstat(self._root)
        if not self._is_still(known):
            raise PullError(f"another er models pull has just made {self.target}; see there")
        if known.st_uid != os.geteuid():
            raise PullError(
                f"{self.path} belongs to another user (uid {known.st_uid}): go on as that one, "
                f"or remove it"
            )
        os.fchmod(self._root, 0o755)
        there = self._names()
        if there and not there & {STATE, NAME, f".{STATE}"}:
            raise PullError(
                f"{self.path} is there and is not of er models pull; move it away, or take another "
                "folder: --to DIR"
            )

    def _leave(self) -> None:
        """Nothing stays behind where nothing came."""
        with contextlib.suppress(OSError):
            if self._is_still(os.fstat(self._root)) and not self._names() - {STATE}:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(STATE, dir_fd=self._root)
                self.path.rmdir()

    def _names(self) -> set[str]:
        with os.scandir(self._root) as entries:
            return {entry.name for entry in entries}

    def _is_still(self, known: os.stat_result) -> bool:
        try:
            now = self.path.lstat()
        except FileNotFoundError:
            return False
        return (now.st_dev, now.st_ino) == (known.st_dev, known.st_ino)

    # -- what is there ---------------------------------------------------------------------------

    def plan(self, files: Sequence[Remote], home: str) -> None:
        """Keep what is of use for these files of a hub, remove the rest."""
        state, kept = self._former(), set[str]()
        former = {one.path: one for one in state.files if not unsafe(one.path)}
        self._files, self._home = {}, home
        for file in files:
            was = former.get(file.path)
            same = was is not None and was.right(file)
            # Another hub has other names for the same bytes; the sum tells in the end.
            tag = was.tag if was is not None and same and state.home == home else ""
            self._files[file.path] = _File(file.path, file.size, file.sha256, file.git, tag)
            if same:
                kept.add(file.path)
        self._tidy(kept)
        self._write_state()

    def _former(self) -> _State:
        for name in (STATE, NAME):
            damaged = contextlib.suppress(FileNotFoundError, *small_file.DAMAGED)
            with damaged, self._open(name, os.O_RDONLY) as file:
                return msgspec.json.decode(file.read(small_file.MOST), type=_State)
        return _State([])

    def _tidy(self, kept: set[str]) -> None:
        walk = os.fwalk(".", topdown=False, dir_fd=self._root, follow_symlinks=False)
        for top, folders, names, fd in walk:
            prefix = "" if top == "." else f"{top.removeprefix('./')}/"
            for name in names:
                path = f"{prefix}{name}"
                if path == STATE or (path != NAME and path.removesuffix(PART) in kept):
                    continue
                os.unlink(name, dir_fd=fd)
            for name in folders:
                if stat.S_ISLNK(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
                    os.unlink(name, dir_fd=fd)
                    continue
                with contextlib.suppress(OSError):  # not empty: something in it is kept
                    os.rmdir(name, dir_fd=fd)

    def there(self, file: Remote) -> int:
        """Bytes of it that need not come any more."""
        return file.size if self.done(file) else min(self.have(file), file.size)

    def done(self, file: Remote) -> bool:
        """Whether it is whole and was checked."""
        return self._size(file.path) == file.size

    def have(self, file: Remote) -> int:
        """Bytes of it that came so far."""
        return max(0, self._size(file.path + PART))

    def tag(self, file: Remote) -> str:
        """The other side's name for the version that these bytes are of; "" = not known."""
        return self._files[file.path].tag

    def free(self) -> int:
        """Bytes that the disk has left."""
        found = os.fstatvfs(self._root)
        return found.f_bavail * found.f_frsize

    # -- one file --------------------------------------------------------------------------------

    def begin(self, file: Remote, start: int, tag: str) -> BinaryIO:
        """Its part file, open behind byte `start`; what was behind that is cut off."""
        if self._files[file.path].tag != tag:
            self._files[file.path].tag = tag
            self._write_state()
        self._make_folder(file.path)
        out = self._open(file.path + PART, os.O_WRONLY | os.O_CREAT)
        out.truncate(start)
        out.seek(start)
        return out

    def drop(self, file: Remote) -> None:
        """Forget what came of it."""
        with contextlib.suppress(FileNotFoundError), self._within(file.path) as (folder, name):
            os.unlink(name + PART, dir_fd=folder)

    def check(self, file: Remote) -> str:
        """Keep it where its sum is right. Returns "", or the sum that it has."""
        with self._open(file.path + PART, os.O_RDONLY) as part:
            found = msgspec.structs.replace(sums(file.path, part), path=file.path)
            if not found.right(file):
                return found.sha256 if file.sha256 else found.git
            os.fchmod(part.fileno(), 0o644)
            os.fsync(part.fileno())
        with self._within(file.path) as (folder, name):
            os.rename(name + PART, name, src_dir_fd=folder, dst_dir_fd=folder)
            os.fsync(folder)
        self._sums[file.path] = found
        return ""

    # -- the end ---------------------------------------------------------------------------------

    def publish(self, listing: Listing, now: datetime) -> Manifest:
        """Make it the target.

        Raises PullError where something else came there meanwhile, and where a file that an
        earlier try has checked is not that any more.
        """
        listed = {file.path: file for file in listing.files}
        for path in self._files:
            if path not in self._sums:
                with self._open(path, os.O_RDONLY) as file:
                    found = sums(path, file)
                if not found.right(listed[path]):
                    with self._within(path) as (folder, name):
                        os.unlink(name, dir_fd=folder)
                    raise PullError(
                        f"{self.path / path} is not what came: somebody changed it, or the disk "
                        "errs. It is removed; the same command fetches it anew"
                    )
                self._sums[path] = found
        manifest = Manifest(
            format=FORMAT,
            er=__version__,
            repo=listing.repo,
            revision=listing.revision,
            hub=listing.hub,
            home=listing.home,
            at=now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            files=tuple(sorted(self._sums.values(), key=lambda one: one.path)),
        )
        self._put(NAME, msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
        os.unlink(STATE, dir_fd=self._root)
        os.fsync(self._root)
        if not self._is_still(os.fstat(self._root)):
            raise PullError(f"{self.path} was moved away meanwhile; nothing is at {self.target}")
        try:
            self.path.rename(self.target)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                told = (
                    f"{self.target} came there meanwhile; what was pulled is whole in {self.path}"
                )
                raise PullError(told) from None
            raise
        durable.sync_folder(self.target.parent)
        return manifest

    # -- by descriptors --------------------------------------------------------------------------

    @contextlib.contextmanager
    def _within(self, path: str) -> Iterator[tuple[int, str]]:
        """(its folder, open; its name there)."""
        *folders, name = path.split("/")
        opened = [self._root]
        try:
            for folder in folders:
                opened.append(os.open(folder, FOLDER, dir_fd=opened[-1]))
            yield opened[-1], name
        finally:
            for one in opened[1:]:
                os.close(one)

    def _open(self, path: str, flags: int) -> BinaryIO:
        with self._within(path) as (folder, name):
            file = os.open(name, flags | PLAIN, 0o644, dir_fd=folder)
        known = os.fstat(file)
        if not stat.S_ISREG(known.st_mode) or known.st_nlink != 1:
            os.close(file)
            raise PullError(f"{self.path / path} is no file of a pull; remove {self.path}")
        return open(file, "wb" if flags & os.O_WRONLY else "rb")

    def _size(self, path: str) -> int:
        """-1 where there is none."""
        try:
            with self._within(path) as (folder, name):
                known = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return -1
        return known.st_size if stat.S_ISREG(known.st_mode) else -1

    def _make_folder(self, path: str) -> None:
        folder = path.rpartition("/")[0]
        if folder:  # one level: plan takes no deeper ones
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder, 0o755, dir_fd=self._root)
            with self._within(path) as (fd, _):
                os.fchmod(fd, 0o755)

    def _write_state(self) -> None:
        # Not synced: where a power cut takes it, files are fetched again, no more.
        data = msgspec.json.encode(_State([*self._files.values()], self._home))
        self._put(STATE, data, sync=False)

    def _put(self, name: str, data: bytes, *, sync: bool = True) -> None:
        fresh = f".{name}"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh, dir_fd=self._root)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | PLAIN
        with open(os.open(fresh, flags, 0o644, dir_fd=self._root), "wb") as out:
            os.fchmod(out.fileno(), 0o644)
            out.write(data)
            out.flush()
            if sync:
                os.fsync(out.fileno())
        os.replace(fresh, name, src_dir_fd=self._root, dst_dir_fd=self._root)


def _make_parents(folder: Path) -> None:
    """With modes by which user er gets through, whatever the umask. Raises OSError."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    for one in reversed(missing):
        one.mkdir()
        one.chmod(0o755)
