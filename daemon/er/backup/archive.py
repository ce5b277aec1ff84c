"""The file of a backup: written in one go, and read without believing any of it.

The reader knows one kind of tar, the one written here: the manifest, then the members that it
names, in its order and with its sizes, all of them plain. The names that the tar itself gives are
for other programs. So no link, no device and no path comes out of a file, however it was made.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import msgspec

from er.backup import FORMAT, MEMBER_MAX, TOTAL_MAX, BackupError, Manifest, Member
from er.backup.parts import PARTS, part_of
from er.backup.taken import APPENDED, CHUNK, WHOLE_MAX, Source
from er.small_file import DAMAGED

NAME = "manifest.json"
MANIFEST_MAX = 16 << 20  # bytes
BLOCK = tarfile.BLOCKSIZE
TAIL_MAX = 1 << 20  # zeros behind the last member
NO_BACKUP = "is no backup of ER; name a file that er backup wrote"
UNPACKED = (gzip.BadGzipFile, zlib.error)  # what unpacking of other bytes raises
CUT = "is damaged: it ends too early; take another backup, or copy it here anew"


class _Head(msgspec.Struct):
    """What every format's manifest begins with."""

    format: int
    er: str


def write(out: BinaryIO, manifest: Manifest, sources: Sequence[Source]) -> None:
    """Write the whole. Raises OSError; BackupError where a file was changed meanwhile."""
    with gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=out, mtime=0) as packed:
        data = msgspec.json.encode(manifest)
        packed.write(_header(NAME, len(data), 0))
        packed.write(data + _padding(len(data)))
        for number, source in enumerate(sources):
            member, digest = source.member, hashlib.sha256()
            packed.write(_header(member.name, member.size, number))
            for piece in source.chunks():
                digest.update(piece)
                packed.write(piece)
            if digest.hexdigest() != member.sha256:
                raise BackupError(f"{member.name} was changed while it was read; try again")
            packed.write(_padding(member.size))
        packed.write(bytes(2 * BLOCK))


def _header(name: str, size: int, number: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o600
    try:
        return info.tobuf(tarfile.USTAR_FORMAT)
    except ValueError:  # too long for this kind of tar; the manifest has it
        info.name = f"long/{number}"
        return info.tobuf(tarfile.USTAR_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % BLOCK)


class Reader:
    """A backup, from its beginning; `members` once. All raise BackupError and OSError."""

    def __init__(self, file: BinaryIO, version: str) -> None:
        """`version`: this ER's. One of a newer ER is refused."""
        file.seek(0)
        self._file = gzip.GzipFile(fileobj=file, mode="rb")
        try:
            info = self._info()
            if info.name != NAME or not 0 < info.size <= MANIFEST_MAX:
                raise BackupError(NO_BACKUP)
            data = self._bytes(info.size)
            self._bytes(-info.size % BLOCK)
        except (*UNPACKED, tarfile.HeaderError):
            raise BackupError(NO_BACKUP) from None
        self.manifest = _manifest(data, version)

    def members(self) -> Iterator[tuple[Member, Iterator[bytes]]]:
        """Each with its bytes, which are to be read to their end before the next."""
        try:
            for member in self.manifest.members:
                info = self._info()
                if info.type != tarfile.REGTYPE or info.size != member.size:
                    raise BackupError(f"is damaged, or made by others: {member.name} is not plain")
                yield member, self._pieces(member)
                self._bytes(-member.size % BLOCK)
            tail = self._file.read(TAIL_MAX + 1)
            if len(tail) > TAIL_MAX or tail.strip(b"\0"):
                raise BackupError("is damaged: something stands behind its end")
        except EOFError:
            raise BackupError(CUT) from None
        except (*UNPACKED, tarfile.HeaderError) as error:
            raise _damaged(error) from None

    def check(self) -> None:
        """Read all of it."""
        for _, pieces in self.members():
            for _ in pieces:
                pass

    def _pieces(self, member: Member) -> Iterator[bytes]:
        digest, left = hashlib.sha256(), member.size
        while left:
            try:  # who takes the pieces is not within `members`
                piece = self._bytes(min(left, CHUNK))
            except UNPACKED as error:
                raise _damaged(error) from None
            left -= len(piece)
            digest.update(piece)
            yield piece
        if digest.hexdigest() != member.sha256:
            raise BackupError(f"is damaged: {member.name} is not what was written")

    def _info(self) -> tarfile.TarInfo:
        return tarfile.TarInfo.frombuf(self._bytes(BLOCK), "utf-8", "surrogateescape")

    def _bytes(self, size: int) -> bytes:
        try:
            data = self._file.read(size)
        except EOFError:
            raise BackupError(CUT) from None
        if len(data) < size:
            raise BackupError(CUT)
        return data


def is_backup(file: BinaryIO) -> bool:
    """Whether a file begins as one, of whatever version. Raises OSError."""
    try:
        packed = gzip.GzipFile(fileobj=file, mode="rb")
        info = tarfile.TarInfo.frombuf(packed.read(BLOCK), "utf-8", "surrogateescape")
        data = packed.read(max(0, min(info.size, MANIFEST_MAX))) if info.name == NAME else b""
        return bool(msgspec.json.decode(data, type=_Head).format)
    except (EOFError, *UNPACKED, tarfile.HeaderError, *DAMAGED):
        return False


def _damaged(error: Exception) -> BackupError:
    return BackupError(f"is damaged ({error}); take another backup")


def _manifest(data: bytes, version: str) -> Manifest:
    try:
        head = msgspec.json.decode(data, type=_Head)
    except DAMAGED:
        raise BackupError(NO_BACKUP) from None
    if head.format > FORMAT or _numbers(head.er) > _numbers(version):
        raise BackupError(
            f"was made by ER {head.er[:40]!r}, which is newer than this one ({version}) and may "
            f"keep what this one can't read; upgrade ER here first (install.sh of that version), "
            f"then restore it"
        )
    try:
        found = msgspec.json.decode(data, type=Manifest)
    except DAMAGED as error:
        raise BackupError(f"is damaged: its manifest is not one ({error})") from None
    wrong = _wrong(found)
    if wrong:
        raise BackupError(f"is damaged, or made by others: {wrong}")
    return found


def _wrong(found: Manifest) -> str:
    """What is wrong with a manifest; "": nothing."""
    if unknown := set(found.parts) - set(PARTS):
        return f"it has a part {sorted(unknown)[0]!r}, which no ER has"
    for member in found.members:
        if part_of(member.name, found.parts) is None:
            return f"it has a file {member.name[:200]!r}, which no backup has"
        most = MEMBER_MAX if APPENDED.fullmatch(member.inside) else WHOLE_MAX
        if not 0 <= member.size <= most or not 0 <= member.mode <= 0o777:
            return f"the size or mode of {member.name!r} can't be"
        if not re.fullmatch(r"[0-9a-f]{64}", member.sha256):
            return f"the checksum of {member.name!r} is none"
    if len({member.name for member in found.members}) < len(found.members):
        return "it has a file twice"
    if found.size > TOTAL_MAX:
        return f"it would take {found.size >> 30} GiB"
    return ""


def _numbers(version: str) -> tuple[int, ...]:
    """A version's numbers, to be compared; what can't be read is newer than anything."""
    found = re.match(r"\d{1,9}(?:\.\d{1,9}){0,5}", version)
    return tuple(map(int, found[0].split("."))) if found else (1 << 60,)
