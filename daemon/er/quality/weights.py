"""Which weights a model's folder holds, without reading them all: a reference is of these."""

from __future__ import annotations

import os
from hashlib import blake2b
from pathlib import Path

SUFFIXES = (".safetensors", ".bin")
BLOCKS, BLOCK_BYTES = 16, 4096  # of each file, from its beginning to its end


def fingerprint(folder: Path) -> str:
    """A word for config.json and the weights: other ones give another, a copy elsewhere the same.

    Of a file of weights its size and 16 blocks count, so what a few bytes on a disk have become is
    still seen, as drift. Where weights can't be read here (a replica elsewhere) config.json counts
    alone. Blocks as long as the disk takes.
    """
    known = blake2b(digest_size=8)
    names = ["config.json"]
    try:
        names += sorted(n for n in os.listdir(folder) if n.endswith(SUFFIXES))  # noqa: PTH208
    except OSError:
        names = []
    for name in names:
        try:
            with open(folder / name, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                known.update(f"{name} {size}\n".encode())
                for block in range(BLOCKS):
                    file.seek(max(0, size - BLOCK_BYTES) * block // (BLOCKS - 1))
                    known.update(file.read(BLOCK_BYTES))
        except OSError:
            continue
    return known.hexdigest()
