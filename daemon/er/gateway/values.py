"""How many values a JSON body holds, found before any of them is made. Pure.

Three bytes of JSON, `[],`, become eighty of Python. So a large body is measured first, at the speed
of memory, and read only where its commas and brackets may all stand inside its texts.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

AT_ONCE = 1 << 18  # bytes that are measured together: they stay in the processor's cache
STEP = 4096  # of what `_read` counts

# A text, or what stands outside of texts and is counted; so many of them.
_TEXT = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_THINGS = re.compile(rb'(?:[^"\[{]*+(?:%b|[\[{])){%d}' % (_TEXT, STEP), re.S)
_COMMAS = re.compile(rb'(?:[^",]*+(?:%b[^",]*+)*+,){%d}' % (_TEXT, STEP), re.S)


class Most(NamedTuple):
    """What a body may hold."""

    things: int  # texts (names of fields too), lists and objects
    values: int  # these and numbers


def over(body: bytes, most: Most) -> bool:
    """Whether JSON in `body` holds more than `most`, by up to STEP."""
    if len(body) <= 2 * most.things:
        return False  # `[]`
    things, commas = _at_most(body)
    return (things > most.things and _read(_THINGS, body, most.things)) or (
        commas > most.values and _read(_COMMAS, body, most.values)
    )


def _at_most(body: bytes) -> tuple[int, int]:
    """No fewer things, and no fewer commas, than there are, since some stand inside texts."""
    things = commas = 0
    escaped = False  # the piece before ends with a backslash
    for at in range(0, len(body), AT_ONCE):
        piece = np.frombuffer(body, np.uint8, min(AT_ONCE, len(body) - at), at)
        quotes = piece == ord('"')
        # A quote behind a backslash begins no text.
        hidden = np.count_nonzero(quotes[1:] & (piece[:-1] == ord("\\"))) + (escaped and quotes[0])
        things += int(np.count_nonzero(quotes) - hidden)
        things += int(np.count_nonzero((piece == ord("[")) | (piece == ord("{"))))
        commas += int(np.count_nonzero(piece == ord(",")))
        escaped = bool(piece[-1] == ord("\\"))
    return things, commas


def _read(what: re.Pattern[bytes], body: bytes, most: int) -> bool:
    """Whether `body` has more than `most` of what is counted, by up to STEP."""
    found = at = 0
    while (step := what.match(body, at)) is not None:
        found, at = found + STEP, step.end()
        if found > most:
            return True
    return False
