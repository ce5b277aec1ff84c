"""One short text to ids in the fewest calls, for the requests that are nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

Encode = Callable[[str], list[int]]


class Quick(NamedTuple):
    """How one short text becomes a sequence: its ids, and behind them `after`."""

    encode: Encode  # a list of its own each time; more than `room` ids are too many
    after: list[int]
    room: int


def is_query(text: str) -> bool:
    """Some clients put the whole prompt in themselves; twice would give another vector."""
    return text.startswith("Instruct: ") and "\nQuery:" in text


def behind(start: list[int], ids: Encode) -> Encode:
    """The ids of a query behind those of its instruction, `start`; none of an empty text."""

    def encode(text: str) -> list[int]:
        return ids(text) if is_query(text) or not text else start + ids(":" + text)

    return encode
