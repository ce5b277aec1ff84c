"""A large answer goes out piece by piece, as its client reads it.

What the kernel does not take at once the transport copies. Of a whole answer of 40 MB that takes
tens of milliseconds, in which every other client waits, and as much memory again, for a client that
may never read it.
"""

from __future__ import annotations

from collections.abc import Sequence

PIECE = 256 << 10  # bytes


def pieces(body: bytes) -> Sequence[bytes | memoryview]:
    """`body` in one piece or more, in their order."""
    if len(body) <= PIECE:
        return (body,)
    view = memoryview(body)
    return [view[at : at + PIECE] for at in range(0, len(body), PIECE)]
