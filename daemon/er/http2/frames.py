"""Where the frames of a client begin and end, and those on streams that are over.

libnghttp2 throws such frames away; RFC 9113 (5.1) wants the connection ended. Nor does it tell
whether what has come so far ends within a frame: who stops there must not be waited for.
"""

from __future__ import annotations

import struct
from collections import deque

from ngh2 import ErrorCode

PREFACE = 24  # bytes
DATA, HEADERS, PRIORITY, RST_STREAM, CONTINUATION = 0, 1, 2, 3, 9
END_HEADERS = 4
CUT_KEPT = 1000  # streams that we ended, whose client may not know it yet
_HEAD = struct.Struct(">HBBBI")


class Frames:
    """What one client has sent, by the heads of its frames."""

    __slots__ = ("_cut", "_in_head", "_latest", "_open", "_rest", "_skip")

    def __init__(self) -> None:
        self._skip = PREFACE  # bytes to come that are no frame's head
        self._rest = b""  # of a frame's head
        self._in_head = False  # CONTINUATION is to come
        self._latest = 0
        self._open: set[int] = set()
        self._cut: deque[int] = deque(maxlen=CUT_KEPT)

    @property
    def partial(self) -> bool:
        """A frame, or a head of several, is not whole yet."""
        return bool(self._skip or self._rest or self._in_head)

    def see(self, data: bytes) -> ErrorCode | None:
        """Look at what has come; the error of the connection that is in it, if there is one."""
        if self._rest:
            data = self._rest + data
        at, end = self._skip, len(data)
        wrong = None
        while at + 9 <= end:
            upper, lower, kind, flags, stream = _HEAD.unpack_from(data, at)
            at += 9 + (upper << 8 | lower)
            if kind > PRIORITY and kind != RST_STREAM and kind != CONTINUATION:
                continue
            stream &= 0x7FFFFFFF
            if kind == RST_STREAM:
                self._open.discard(stream)
            elif kind == CONTINUATION:
                self._in_head = not flags & END_HEADERS
            elif kind == PRIORITY:
                wrong = wrong or (None if stream else ErrorCode.PROTOCOL_ERROR)
            else:
                if kind == HEADERS:
                    self._in_head = not flags & END_HEADERS
                    if stream > self._latest:
                        self._latest = stream
                        self._open.add(stream)
                if stream <= self._latest and stream not in self._open and stream not in self._cut:
                    wrong = wrong or (ErrorCode.STREAM_CLOSED if stream else None)
        self._skip = max(0, at - end)
        self._rest = data[at:] if at < end else b""
        return wrong

    def closed(self, stream: int, code: int) -> None:
        """That stream is over; with a `code`, its client may still be sending."""
        if code and stream in self._open:
            self._cut.append(stream)
        self._open.discard(stream)
