"""What a pulled folder says of itself, er-model.json: where from, which revision, each file's sums.

By it a second pull sees that nothing is to be done, or that other weights would take these' place,
and anybody can see years later whether the files are still what came.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec

from er import small_file
from er.pull import PullError, Remote
from er.pull.plan import OURS, WEIGHTS, unsafe

NAME = OURS[0]
FORMAT = 1
CHUNK = 1 << 20
GIT_MOST = 64 << 20  # bytes: hubs name larger files by SHA-256 alone


class Sums(msgspec.Struct, frozen=True):
    """One file's size and sums; `git` is "" for large ones."""

    path: str
    size: int
    sha256: str
    git: str = ""

    def right(self, file: Remote) -> bool:
        """Whether this is what a hub lists."""
        if self.size != file.size:
            return False
        return self.sha256 == file.sha256 if file.sha256 else self.git == file.git


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The whole of er-model.json."""

    format: int
    er: str  # the version that pulled it
    repo: str
    revision: str
    hub: str
    home: str
    at: str  # when, UTC
    files: tuple[Sums, ...]


class Finding(msgspec.Struct, frozen=True):
    """One file that is not as it was pulled."""

    path: str
    what: str
    bad: bool = True


def sums(path: str, file: BinaryIO) -> Sums:
    """Of an open file, from its beginning. Raises OSError."""
    size = os.fstat(file.fileno()).st_size
    plain = hashlib.sha256()
    git = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False) if size <= GIT_MOST else None
    while piece := file.read(CHUNK):
        plain.update(piece)
        if git is not None:
            git.update(piece)
    return Sums(path, size, plain.hexdigest(), git.hexdigest() if git else "")


def standing(target: Path) -> Manifest | None:
    """What is in a folder that a pull is to make; None where there is nothing.

    Raises PullError where something else is, OSError.
    """
    try:
        if next(target.iterdir(), None) is None:
            return None
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        raise PullError(f"{target} is there and is no folder; another place: --to DIR") from None
    found = read(target)
    if found is None:
        raise PullError(
            f"{target} is there already and er models pull has not made it: nothing is written "
            "over it. If it is good leave it so; else move it away, or take another: --to DIR"
        )
    return found


def read(folder: Path) -> Manifest | None:
    """er-model.json of a folder; None without one. Raises PullError for a damaged one, OSError."""
    try:
        data = small_file.read(folder / NAME)
    except FileNotFoundError:
        return None
    cure = "move the folder away and pull the model again"
    try:
        found = msgspec.json.decode(data, type=Manifest)
    except small_file.DAMAGED:
        raise PullError(f"{folder / NAME} is damaged; {cure}") from None
    if found.format != FORMAT:
        raise PullError(f"{folder / NAME} is of another ER (format {found.format}); {cure}")
    if any(unsafe(file.path) for file in found.files):
        raise PullError(f"{folder / NAME} names files outside of the folder; {cure}")
    return found


def differing(manifest: Manifest, files: Sequence[Remote]) -> list[str]:
    """Paths whose content is another there than in a list, or that only one of both has."""
    there = {one.path: one for one in manifest.files}
    listed = {file.path: file for file in files}
    wrong = [p for p, f in listed.items() if p not in there or not there[p].right(f)]
    return wrong + [p for p in there if p not in listed and p.endswith(WEIGHTS)]


def verify(folder: Path, manifest: Manifest, *, whole: bool) -> Iterator[Finding]:
    """What is not as it was pulled; by sizes alone, or `whole` by sums. Raises OSError."""
    for one in manifest.files:
        if what := _wrong(folder / one.path, one, whole):
            yield Finding(one.path, what)
    names = {one.path for one in manifest.files} | {NAME}
    for top, _, found in os.walk(folder):
        for name in sorted(found):
            path = os.path.relpath(os.path.join(top, name), folder)  # noqa: PTH118
            if path not in names:
                # vLLM loads whatever safetensors it finds
                yield Finding(path, "was not pulled", bad=path.endswith(WEIGHTS))


def _wrong(path: Path, one: Sums, whole: bool) -> str:
    """What is the matter with a file; "" nothing."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return "is missing"
    with open(handle, "rb") as file:
        known = os.fstat(handle)
        if not stat.S_ISREG(known.st_mode):
            return "is no file"
        if known.st_size != one.size:
            return f"has {known.st_size} bytes, not {one.size}"
        if whole and sums(one.path, file).sha256 != one.sha256:
            return "has another checksum: it was changed, or the disk errs"
    return ""
