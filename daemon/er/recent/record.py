"""What a worker tells twice a second of the requests that ended since: sums, slowest, failed."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from er.metrics import SECONDS

BUCKETS = len(SECONDS) + 1  # of a whole request's time, bounds as in the metrics; the last has none
Kind = str  # "models" | "dialects" | "keys"
KINDS: tuple[Kind, ...] = ("models", "dialects", "keys")
SLOWEST = 10  # of those told together
EACH_CODE = 5  # the newest failed ones of a code, of those told together
GROUPS_MAX = 64  # of a kind, the busiest; the others are told as one


class Seen(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """One request that is over. Neither its text nor a secret is in it.

    `ended` is in seconds of the steady clock (CLOCK_BOOTTIME), the parts are in nanoseconds.
    """

    ended: float
    id: str
    key: str  # its key's id, "" where none was found
    key_name: str
    model: str  # as configured; of a failed one, where no such is known, as asked for
    dialect: str
    replica: str
    status: int
    code: str  # "" for a good answer
    path: str  # of failed ones
    client: str  # of failed ones
    items: int
    tokens: int
    queue_ns: int
    tokenise_ns: int
    engine_ns: int
    encode_ns: int
    total_ns: int


class Sums(msgspec.Struct, kw_only=True, array_like=True):
    """What requests came to, all together."""

    requests: int = 0
    ok: int = 0
    refused: int = 0
    failed: int = 0
    sequences: int = 0
    tokens: int = 0
    times: list[int] = []  # BUCKETS counts, of what was computed; empty: none was

    def add(self, other: Sums) -> None:
        """Add the other's."""
        self.requests += other.requests
        self.ok += other.ok
        self.refused += other.refused
        self.failed += other.failed
        self.sequences += other.sequences
        self.tokens += other.tokens
        if other.times:
            mine = self.times or [0] * BUCKETS
            self.times = [a + b for a, b in zip(mine, other.times, strict=True)]


class Group(msgspec.Struct, frozen=True, array_like=True):
    """The sums of one model, dialect or key; `name` None: of all that are not told alone."""

    kind: Kind
    name: str | None
    title: str  # a key's name
    sums: Sums


class Told(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """All of it, at `at` (seconds of the steady clock)."""

    at: float
    groups: Sequence[Group]
    slowest: Sequence[Seen]
    failed: Sequence[Seen]  # oldest first
