"""What the crowd's engines answer: a function of the token ids alone, so one can tell whose it is.

A vector is put together from four of 4,096 pieces each, which 48 bits of a hash of the ids choose.
Nothing is computed, so engine and client have the same bits, and a vector cut to its first quarter
still belongs to another text with a chance of one in 4,096.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

DIM, PIECES, ROWS = 64, 4, 4096
POISONED, NOT_A_NUMBER = 7, 6  # a sequence with that id is refused with 400; its vector is NaN
_SHIFTS = np.arange(PIECES, dtype=np.uint64) * np.uint64(12)
_PIECE = np.arange(PIECES)[None]


def _table() -> NDArray[np.float32]:
    made = np.random.default_rng(5).standard_normal((PIECES, ROWS, DIM // PIECES))
    made /= np.linalg.norm(made, axis=2, keepdims=True) * PIECES**0.5
    return made.astype(np.float32)


_TABLE = _table()


def digest(ids: bytes) -> int:
    """The hash of a sequence, given as little-endian uint32."""
    return int.from_bytes(blake2b(ids, digest_size=8).digest(), "little")


def digest_of(ids: Sequence[int]) -> int:
    """The hash of a sequence."""
    return digest(np.array(ids, "<u4").tobytes())


def vectors(digests: Sequence[int]) -> NDArray[np.float32]:
    """(n, DIM), each of length 1."""
    hashes = np.array(digests, np.uint64)[:, None]
    rows = ((hashes >> _SHIFTS) & np.uint64(ROWS - 1)).astype(np.intp)
    return np.ascontiguousarray(_TABLE[_PIECE, rows].reshape(len(digests), DIM))


def scores(digests: Sequence[int]) -> NDArray[np.float32]:
    """(n,) within 0 to 1; there are 16 million different ones."""
    hashes = np.array(digests, np.uint64)
    return ((hashes >> np.uint64(40)).astype(np.float64) / 2**24).astype(np.float32)
