"""What is fuzzed: a function for each kind of input, which raises where something is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

import wire

from er import config, dialects
from er.config.render import render
from hostile import body_of
from test_fuzz import check_decoder

PATHS = sorted(dialects.POSTS)
FILE = Path("er.toml")
_connections: list[wire.Connections] = []


def http(data: bytes) -> None:
    """A connection's bytes: the first says its kind, the second how they come in pieces."""
    if len(data) < 3:
        return
    if not _connections:
        _connections.append(wire.Connections())
    kind, said = data[0] % 3, data[2:]
    whole, answered = _connections[0].answered(kind, [said])
    statuses = wire.answers(answered, whole.asked)
    assert len(statuses) <= len(whole.asked) + len(whole.refused)
    assert statuses[: len(whole.asked)] == [200] * min(len(whole.asked), len(statuses))
    # However they come, they ask the same.
    split, answered = _connections[0].answered(kind, wire.pieces(said, data[1]))
    wire.answers(answered, split.asked)
    assert split.asked == whole.asked, "pieces change what was asked"
    # Where another reader of HTTP finds requests at all, they are the same, to the last byte.
    if kind < 2:
        others, _ = wire.by_h11(said)
        ours = [(one.method, one.target, one.body) for one in whole.asked]
        both = min(len(others), len(ours))
        assert ours[:both] == others[:both], "read otherwise than by h11"


class Choices(Random):
    """Random's choices, each made by the next of some bytes; 0 where none is left."""

    def __init__(self, data: bytes) -> None:
        super().__init__(0)
        self._data, self._at = data, 0

    def getrandbits(self, bits: int) -> int:
        size = (bits + 7) // 8
        taken = self._data[self._at : self._at + size]
        self._at += size
        return int.from_bytes(taken, "little") & ((1 << bits) - 1)

    def random(self) -> float:
        return self.getrandbits(16) / 65536


def bodies(data: bytes) -> None:
    """A body. Below 128 the first byte says at which address, and the rest is the body; above, the
    rest are choices of what is wrong with a golden one: bytes alone are seldom JSON.
    """
    if not data:
        return
    if data[0] < 128:
        check_decoder(PATHS[data[0] % len(PATHS)], data[1:])
    else:
        check_decoder(*body_of(Choices(data[1:])))


def settings(data: bytes) -> None:
    """An er.toml: it is refused in words, or means the same when it is written anew."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return
    try:
        read = config.parse(text, FILE)
    except config.ConfigError as wrong:
        lines = max(len(text.splitlines()), 1)
        assert wrong.findings
        assert all(0 <= f.line <= lines and 0 < len(f.message) < 5000 for f in wrong.findings)
        return
    assert config.parse(render(read), FILE) == read


TARGETS: dict[str, Callable[[bytes], None]] = {"http": http, "bodies": bodies, "settings": settings}
