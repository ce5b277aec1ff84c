"""One generation of the cache: an LMDB file and a filter, shared by the worker processes.

The filter is a field of bits in a file that everyone maps: a bit is set for each digest kept. So
what was never asked before, the usual case, costs a look at one byte and none at LMDB. Two that set
bits of one byte at once may lose one of them, which makes a known vector unknown and does no harm.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from er.cache import layout
from er.cache.plan import Numbers

FILTER_BYTES = 1 << 20  # 8 million bits: one in 32 set when there are 1 GiB of 1024-number vectors
AT_ONCE = 64  # entries written in one go
WIRE = np.dtype("<f4")


def place(digest: bytes) -> tuple[int, int]:
    """(byte, bit in it) of a digest in a filter: unset, the digest is not in that generation."""
    at = int.from_bytes(digest[:3], "little")
    return at >> 3 & (FILTER_BYTES - 1), 1 << (at & 7)


class Generation:
    """A handle; one for each process. `number` counts generations up."""

    def __init__(self, folder: Path) -> None:
        """Open or make the one in `folder`. Raises OSError, lmdb.Error."""
        self.number, self.folder = int(folder.name), folder
        folder.mkdir(mode=0o700, exist_ok=True)
        self.bits = _mapped(folder / "filter")
        self._environment = layout.open_environment(str(folder))

    def read_one(self, digest: bytes, size: int) -> bytes | None:
        """What is here of `digest`, `size` bytes. Raises CorruptError, lmdb.Error."""
        with self._environment.begin(buffers=True) as reading, reading.cursor() as cursor:
            if cursor.set_range(digest):
                key = cursor.key()
                if key[: layout.DIGEST] == digest:
                    numbers = layout.unpack(key, cursor.value())
                    return numbers if len(numbers) == size else None
        return None

    def read(self, digests: Sequence[tuple[int, bytes]], size: int) -> dict[int, bytes]:
        """What is here of `digests`, `size` bytes each. Raises CorruptError, lmdb.Error."""
        found = {}
        with self._environment.begin(buffers=True) as reading, reading.cursor() as cursor:
            for position, digest in digests:
                if cursor.set_range(digest):
                    key = cursor.key()
                    if key[: layout.DIGEST] == digest:
                        numbers = layout.unpack(key, cursor.value())
                        if len(numbers) == size:
                            found[position] = numbers
        return found

    def write(self, entries: Sequence[tuple[bytes, Numbers]]) -> None:
        """Keep these numbers under their digests. Raises lmdb.Error."""
        # In the order of keys: neighbours then share the pages that a commit writes anew.
        packed = [
            layout.pack(digest, np.ascontiguousarray(row, WIRE).reshape(-1).data.cast("B"))
            for digest, row in sorted(entries, key=lambda entry: entry[0])
        ]
        for begin in range(0, len(packed), AT_ONCE):
            with self._environment.begin(write=True) as writing, writing.cursor() as cursor:
                cursor.putmulti(packed[begin : begin + AT_ONCE])
        for digest, _ in entries:
            byte, bit = place(digest)
            self.bits[byte] |= bit

    def used(self) -> int:
        """Bytes of the file."""
        return int((self._environment.info()["last_pgno"] + 1) * layout.PAGE)

    def forget_dead_readers(self) -> None:
        """Give back what processes held that were killed while they read."""
        self._environment.reader_check()

    def close(self) -> None:
        """Nobody may be reading; who looks at the filter may."""
        self._environment.close()


def _mapped(path: Path) -> mmap.mmap:
    """The filter's file, mapped. It is written out, so that a full disk shows here."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(fd).st_size
        if size > FILTER_BYTES:
            raise OSError(f"{path} has {size} bytes in place of {FILTER_BYTES}")
        with contextlib.closing(open(fd, "r+b", closefd=False)) as file:
            file.seek(size)
            file.write(bytes(FILTER_BYTES - size))
        return mmap.mmap(fd, FILTER_BYTES)
    finally:
        os.close(fd)
