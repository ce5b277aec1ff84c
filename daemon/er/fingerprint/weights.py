"""Which weights a model's folder holds, without reading them all."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

SUFFIXES = (".safetensors", ".bin")  # what an engine loads: the first kind that is there
NO_WEIGHTS = ("training_args.bin", "optimizer.bin", "scheduler.bin")
BLOCKS, BLOCK_BYTES = 256, 4096  # of each file, from its beginning to its end
WHOLE = 4 << 20  # bytes; a file of no more is read whole
HEADER_MOST = 16 << 20  # bytes of a safetensors' list of tensors
KEPT = 64  # files whose content is known
SETTLED_NS = 2_000_000_000

_known: dict[tuple[int, ...], bytes] = {}  # by device, inode, size and times


def of(folder: Path, layers: Sequence[str] = ()) -> str | None:
    """A word of 12 digits for the weights in `folder` and its `layers`, folders behind a pooling.

    Other weights give another, a copy elsewhere the same; None where there are none. Of each file
    count its name, its size, the list of its tensors and 256 blocks of 4 KiB spread evenly over it,
    all of it up to 4 MiB. So another training or format of a model is seen, and a file that was cut
    or exchanged; what lies between the blocks is not: single numbers that were changed, a tensor of
    under a 256th of its file, what a few bytes on a disk have become. Nor is it proof against
    somebody who makes files on purpose. What was read is known again by inode, size and times, in
    this process alone. Blocks as long as the disk takes. Raises OSError for what can't be read.
    """
    names = _files(folder, "")
    for layer in layers if names else ():
        names += _files(folder / layer, f"{layer}/")
    if not names:
        return None
    known = blake2b(digest_size=6)
    for name in names:
        known.update(f"{name}\n".encode() + _content(folder / name))
    return known.hexdigest()


def fingerprint(folder: Path) -> str:
    """A word for config.json and the weights: what a canary's reference is of.

    Where weights can't be read here (a replica elsewhere) config.json counts alone.
    """
    known = blake2b(digest_size=8)
    for part in (_config, of):
        try:
            known.update(f"{part(folder)}\n".encode())
        except OSError:
            continue
    return known.hexdigest()


def _config(folder: Path) -> str:
    return blake2b((folder / "config.json").read_bytes()).hexdigest()


def _files(folder: Path, before: str) -> list[str]:
    """The names of what an engine would load there, with `before` in front."""
    there = sorted(n for n in os.listdir(folder) if n not in NO_WEIGHTS)  # noqa: PTH208
    kinds = ([n for n in there if n.endswith(suffix)] for suffix in SUFFIXES)
    return [before + name for name in next(filter(None, kinds), [])]


def _content(path: Path) -> bytes:
    """A digest of what counts of a file's content."""
    with open(path, "rb", buffering=0) as file:
        state = os.fstat(file.fileno())
        size = state.st_size
        key = (state.st_dev, state.st_ino, size, state.st_mtime_ns, state.st_ctime_ns)
        if (found := _known.get(key)) is not None:
            return found
        digest = blake2b(f"{size}\n".encode(), digest_size=16)
        if size <= WHOLE:
            digest.update(file.readall() or b"")
        else:
            header = int.from_bytes(os.pread(file.fileno(), 8, 0), "little")
            digest.update(os.pread(file.fileno(), min(header, HEADER_MOST) + 8, 0))
            for block in range(BLOCKS):
                at = (size - BLOCK_BYTES) * block // (BLOCKS - 1)
                digest.update(os.pread(file.fileno(), BLOCK_BYTES, at))
    said = digest.digest()
    # One that is written just now may change again within a tick of its times.
    if time.time_ns() - max(state.st_mtime_ns, state.st_ctime_ns) > SETTLED_NS:
        if len(_known) >= KEPT:
            _known.clear()
        _known[key] = said
    return said
