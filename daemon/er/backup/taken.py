"""Collects what goes into a backup while the gateway runs and writes.

Most files are replaced whole, so each is as it was at one moment. Files that are appended to are
taken up to their last whole line, and after those from which rows go into them: a row that stands
in both has an id that counts once. Of the tables that processes map usage's is read under its lock;
figures of the others are 8 bytes each, which nobody sees half written.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from er import usage
from er.backup import MEMBER_MAX, BackupError, Member, Place
from er.backup.parts import BATCHES, PARTS, TLS
from er.usage import hours

WHOLE_MAX = 64 << 20  # bytes of a file that is held in memory
BATCHES_MAX = 64 << 20  # bytes of all batches; with more they are left out
CHUNK = 1 << 20
TURNS = (0, 1, 2)
APPENDED = re.compile(r"(usage|feedback|hourly)/[^/]+\.jsonl")


class Source(NamedTuple):
    """A member and where its bytes come from: memory, or the first `size` ones of an open file."""

    member: Member
    data: bytes | BinaryIO

    def chunks(self) -> Iterator[bytes]:
        """All of it, in pieces. Raises OSError."""
        if isinstance(self.data, bytes):
            yield self.data
            return
        self.data.seek(0)
        left = self.member.size
        while left and (piece := self.data.read(min(left, CHUNK))):
            left -= len(piece)
            yield piece


class Taken:
    """All that is taken; its files are open until `close`."""

    def __init__(self, configuration: Path, state: Path) -> None:
        self._roots: dict[Place, Path] = {"configuration": configuration, "state": state}
        self.sources: list[Source] = []
        self.parts: list[str] = []
        self.left_out: list[str] = []  # sentences

    def close(self) -> None:
        """Let go of the files."""
        for source in self.sources:
            if not isinstance(source.data, bytes):
                source.data.close()

    def collect(self, tls: Sequence[str] | None) -> None:
        """Take all parts; `tls`: names of files in the configuration's folder, None: none of it.

        Raises OSError, BackupError.
        """
        for part in PARTS.values():
            root = self._roots[part.place]
            if part.name == TLS and tls is None:
                continue
            if part.name == BATCHES and not self._small(root, list(part.there(root))):
                continue
            self.parts.append(part.name)
            for turn in TURNS:
                # Looked for anew: rows may have gone into a file that was not there before.
                names = (tls or ()) if part.name == TLS else part.there(root)
                for name in sorted(name for name in names if _turn(name) == turn):
                    self._take(part.place, name)

    def _small(self, root: Path, names: Sequence[str]) -> bool:
        size = 0
        for name in names:
            try:
                size += (root / name).lstat().st_size
            except FileNotFoundError:
                continue
        if size > BATCHES_MAX:
            told = f"batches have {size >> 20} MiB, over {BATCHES_MAX >> 20}, and are left out"
            self.left_out.append(f"{told}: copy {root / BATCHES} with the gateway stopped")
        return size <= BATCHES_MAX

    def _take(self, place: Place, name: str) -> None:
        """Take one; what is gone by now was removed by who made it."""
        path = self._roots[place] / name
        # The operator's may be links, to a folder under version control; nothing of user er's is.
        link = 0 if place == "configuration" else os.O_NOFOLLOW
        try:
            file = open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | link), "rb")  # noqa: SIM115
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise BackupError(f"{path} is a link, which ER never makes; look at it") from None
            raise
        keep = False
        try:
            known = os.fstat(file.fileno())
            if not stat.S_ISREG(known.st_mode):
                raise BackupError(f"{path} is no plain file; look at it")
            mode = stat.S_IMODE(known.st_mode) & 0o777
            if keep := place == "state" and APPENDED.fullmatch(name) is not None:
                size = _whole(file, min(known.st_size, MEMBER_MAX))
                source = _source(place, name, mode, file, size)
            else:
                source = _source(place, name, mode, self._data(place, name, file), None)
            self.sources.append(source)
        finally:
            if not keep:
                file.close()

    def _data(self, place: Place, name: str, file: BinaryIO) -> bytes:
        path = self._roots[place] / name
        if (place, name) == ("state", "usage/hours"):
            return hours.snapshot(usage.folder(self._roots["state"]))
        data = file.read(WHOLE_MAX + 1)
        if len(data) > WHOLE_MAX:
            raise BackupError(f"{path} is larger than {WHOLE_MAX >> 20} MiB; is it ER's?")
        return data


def _turn(name: str) -> int:
    """What rows go out of comes before what they go into; a batch's mark before the batch."""
    if name.startswith("batches/"):
        first = name.startswith("batches/open/")
        return 0 if first else 1 if name.endswith(".json") else 2
    return 1 if APPENDED.fullmatch(name) else 0


def _whole(file: BinaryIO, size: int) -> int:
    """How many of the first `size` bytes are whole lines. Raises OSError."""
    while size:
        at = max(0, size - CHUNK)
        file.seek(at)
        end = file.read(size - at).rfind(b"\n")
        if end >= 0:
            return at + end + 1
        size = at
    return 0


def _source(place: Place, name: str, mode: int, data: bytes | BinaryIO, size: int | None) -> Source:
    length = len(data) if isinstance(data, bytes) else size or 0
    draft = Member(name=f"{place}/{name}", size=length, sha256="", mode=mode)
    digest = hashlib.sha256()
    for piece in Source(draft, data).chunks():
        digest.update(piece)
    member = Member(name=draft.name, size=length, sha256=digest.hexdigest(), mode=mode)
    return Source(member, data)
