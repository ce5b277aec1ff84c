"""How one number array lies in LMDB, and whether a whole generation can be trusted.

An entry's key is the digest of what was asked, a checksum, and the tail of the numbers; its value
is the rest of them. LMDB gives what is larger than half a page whole pages of its own, with a head
of 16 bytes: a vector of 1024 numbers would take two pages for 4096 bytes, and without its last 16
bytes it takes one.

Run as a program on a generation's folder this looks at every entry's place and size, and tries a
write. LMDB trusts its file: a damaged one may end the process that follows its pages, so a process
of its own goes first. It therefore imports nothing of ER. Exit code 0: it can be trusted.
"""

from __future__ import annotations

import mmap
import sys
import zlib

import lmdb

DIGEST, CHECKSUM, PAGE_HEAD = 16, 4, 16  # bytes
HEAD = DIGEST + CHECKSUM
TAIL_MAX = 400  # LMDB's keys have at most 511 bytes
MAP_BYTES = 1 << 40  # of address space; the file is as large as what is in it
READERS = 512
PAGE = mmap.PAGESIZE


class CorruptError(Exception):
    """A generation that holds what nobody wrote."""


def open_environment(folder: str) -> lmdb.Environment:
    """The LMDB environment in `folder`, made when it is missing. Raises lmdb.Error, OSError.

    Nothing waits for the disk: after a power cut the file may be damaged, which is found out.
    """
    return lmdb.open(
        folder,
        map_size=MAP_BYTES,
        max_readers=READERS,
        mode=0o600,
        sync=False,
        metasync=False,
        readahead=False,
        meminit=False,
    )


def pack(digest: bytes, numbers: memoryview) -> tuple[bytes, memoryview]:
    """(key, value) of an entry; `numbers` as bytes."""
    size = len(numbers)
    cut = size - tail_bytes(size)
    checksum = zlib.crc32(numbers, zlib.crc32(digest)).to_bytes(CHECKSUM, "little")
    return b"".join((digest, checksum, numbers[cut:])), numbers[:cut]


def unpack(key: memoryview, value: memoryview) -> bytes:
    """The numbers of an entry as bytes. Raises CorruptError."""
    numbers = b"".join((value, key[HEAD:]))
    checksum = zlib.crc32(numbers, zlib.crc32(key[:DIGEST])).to_bytes(CHECKSUM, "little")
    if key[DIGEST:HEAD] != checksum:
        raise CorruptError("an entry's checksum is wrong")
    return numbers


def tail_bytes(size: int) -> int:
    """How much of `size` bytes goes into the key: what would begin another page, if little."""
    over = (size + PAGE_HEAD) % PAGE
    return over if size >= PAGE and over <= TAIL_MAX else 0


def examine(folder: str) -> int:
    """Look at every entry; the number of them. Raises CorruptError and lmdb.Error, or dies."""
    environment = open_environment(folder)
    last, count = b"", 0
    with environment.begin(buffers=True) as reading, reading.cursor() as cursor:
        for found, value in cursor:
            key, size = bytes(found), len(value)
            if not last < key or len(key) < HEAD or size % 4 + len(key) % 4 or not size:
                raise CorruptError(f"entry {count} is not one")
            if len(key) - HEAD != tail_bytes(size + len(key) - HEAD):
                raise CorruptError(f"entry {count} has a wrong size")
            if size and not count % 64:
                unpack(found, value)
            last, count = key, count + 1
        if count != reading.stat()["entries"]:
            raise CorruptError(f"{count} entries, not {reading.stat()['entries']}")
    with environment.begin(write=True) as trial:
        for number in range(64):
            trial.put(*pack(number.to_bytes(DIGEST, "big"), memoryview(bytes(PAGE))))
        trial.abort()
    environment.close()
    return count


if __name__ == "__main__":
    examine(sys.argv[1])
