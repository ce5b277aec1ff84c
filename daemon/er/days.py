"""What hosts write down day by day (usage, feedback), in the shared state, to be read on any host.

An entry is one host's day (UTC): lines, compressed. A host puts a day's lines anew when there are
more; nobody changes another's. So each entry has one writer, and what is read is merged by what the
lines themselves say (usage: a row's id; feedback: a request's).
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from er import feedback, shared_state, usage
from er.config import State
from er.feedback.book import Book
from er.shared_state import Away
from er.usage import others

Kind = Literal["usage", "feedback"]
DAY_S = 86400
KEPT_S = 400 * DAY_S
HEAD = b"er days 1\n"
AT_ONCE = 100  # entries in one question
LINES_MAX = 256 << 20  # bytes of one entry's lines: a damaged one must not fill the memory


def packed(lines: Sequence[bytes]) -> bytes:
    """An entry of these lines, which have no breaks in them."""
    return HEAD + zlib.compress(b"\n".join(lines))


def unpacked(entry: bytes) -> list[bytes]:
    """An entry's lines. Raises ValueError: it is none, or of a newer form."""
    if not entry.startswith(HEAD):
        raise ValueError("an entry of another form")
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(entry[len(HEAD) :], LINES_MAX)
    except zlib.error as error:
        raise ValueError(f"a damaged entry: {error}") from None
    if unpacker.unconsumed_tail or not unpacker.eof:
        raise ValueError("an entry that is cut off, or too large")
    return data.split(b"\n") if data else []


async def put(
    client: shared_state.Later, state: State, host: str, kind: Kind, day: int, entry: bytes
) -> None:
    """Keep `entry` as that host's of `day` (since 1970). Raises Away."""
    with shared_state.asked(state):
        await client.sadd(shared_state.key(state.name, "days", "hosts"), host)
        await client.set(_name(state, kind, day, host), entry, ex=KEPT_S)


def told(
    state: State | None, kind: Kind, since: float, until: float
) -> tuple[list[bytes], list[str]]:
    """All hosts' lines of the days between two moments (Unix seconds), none without [state]; and
    in words what of them is missing. Blocks.
    """
    if state is None:
        return [], []
    try:
        lines, wrong = read(state, kind, int(since // DAY_S), int(until // DAY_S))
    except Away as error:
        return [], [f"only this host's is shown: {error}"]
    return lines, [f"an entry that can't be read is left out: {name}" for name in wrong]


def read(state: State, kind: Kind, first: int, last: int) -> tuple[list[bytes], list[str]]:
    """All hosts' lines of the days `first` to `last` (since 1970, both included), and the names of
    entries that can't be read. Blocks. Raises Away.
    """
    lines: list[bytes] = []
    wrong: list[str] = []
    with shared_state.once(state) as client:
        hosts = client.smembers(shared_state.key(state.name, "days", "hosts"))
        names = [
            _name(state, kind, day, host.decode(errors="replace"))
            for day in range(first, last + 1)
            for host in sorted(hosts)
        ]
        for begin in range(0, len(names), AT_ONCE):
            some = names[begin : begin + AT_ONCE]
            for name, entry in zip(some, client.mget(some), strict=True):
                try:
                    lines += unpacked(entry) if entry is not None else []
                except ValueError:
                    wrong.append(name)
    return lines, wrong


def _name(state: State, kind: Kind, day: int, host: str) -> str:
    return shared_state.key(state.name, "days", kind, str(day), host)


def lines_of(state: Path, first: int, last: int) -> dict[tuple[Kind, int], list[bytes]]:
    """This host's lines of the days `first` to `last` (since 1970), by kind and day. Raises
    OSError.
    """
    found: dict[tuple[Kind, int], list[bytes]] = defaultdict(list)
    for day, lines in others.by_day(usage.folder(state), first, last).items():
        found["usage", day] = lines
    for one in Book(feedback.folder(state)).read(first * DAY_S).given:
        if (day := one.asked // DAY_S) <= last:
            found["feedback", day].append(msgspec.json.encode(one))
    return found
