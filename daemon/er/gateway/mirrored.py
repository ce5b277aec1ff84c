"""Batches in the shared state: all that another host needs to go on with one.

Its record, its input file and what stands in its results so far, under the name of the host that
has it; `mirror.lua` says how it lies. Whoever changes something there is that host: a host that was
silent, and whose batch another has claimed, is told so. Blocks; raises Away.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from er import shared_state
from er.config.structs import State

PIECE_BYTES = 1 << 20
What = Literal["input", "output", "errors"]
WHATS: tuple[What, ...] = ("input", "output", "errors")


class Claimed(Exception):  # noqa: N818 - what it is
    """Another host has the batch."""


class NoRoom(Exception):  # noqa: N818 - what it is
    """All batches together may take no more there."""


class Mirrored(NamedTuple):
    """A batch as it stands there. `record` and `file` are JSON, `file` that of the input."""

    owner: str
    host: str
    before: tuple[str, ...]  # hosts that had it, and lost it to others
    record: bytes
    file: bytes
    sizes: dict[What, int]


class Batches:
    """One host's view of them."""

    def __init__(self, state: State, host: str, most: int) -> None:
        """`most`: bytes that all batches of all hosts may take there."""
        self._state, self._host, self._most = state, host, most
        self._script = shared_state.Script("er.gateway", "mirror.lua")
        self._client: Any = None

    def _key(self, *parts: str) -> str:
        return shared_state.key(self._state.name, *parts)

    def hosts(self) -> dict[str, str]:
        """The host that has each batch that is there."""
        with shared_state.asked(self._state):
            found = self._now().hgetall(self._key("batches"))
        return {name.decode(): host.decode("utf-8", "replace") for name, host in found.items()}

    def read(self, batch: str) -> Mirrored | None:
        """A batch; None where there is none of that id."""
        with shared_state.asked(self._state):
            found = self._now().hgetall(self._key("batch", batch))
        fields = {name.decode("ascii", "replace"): value for name, value in found.items()}
        before = fields.get("before", b"").decode("ascii", "replace")
        try:
            return Mirrored(
                owner=fields["owner"].decode("ascii"),
                host=fields["host"].decode("ascii"),
                before=tuple(before.split(",")) if before else (),
                record=fields["record"],
                file=fields["file"],
                sizes={what: int(fields.get(what, 0)) for what in WHATS},
            )
        except (KeyError, ValueError):
            return None

    def save(self, batch: str, **fields: str | bytes) -> None:
        """Make or change its fields: owner, record, file. Raises Claimed."""
        words = [part for pair in fields.items() for part in pair]
        if not self._ask("save", batch, *words):
            raise Claimed(batch)

    def grow(self, batch: str, what: What, at: int, data: bytes) -> int:
        """Add `data` behind the first `at` bytes; how many are there then.

        Where others are there it adds nothing. Raises Claimed, NoRoom.
        """
        size = int(self._ask("grow", batch, what, at, data, PIECE_BYTES, self._most))
        if size == -1:
            raise Claimed(batch)
        if size == -2:
            raise NoRoom(batch)
        return size

    def piece(self, batch: str, what: What, number: int) -> bytes:
        """A piece of its bytes; b"" where there is none."""
        with shared_state.asked(self._state):
            found: bytes | None = self._now().get(self._key("batch", batch, what, str(number)))
        return found or b""

    def claim(self, batch: str, host: str) -> bool:
        """Have it from now on, if `host` has it still."""
        return bool(self._ask("claim", batch, host))

    def drop(self, batch: str) -> None:
        """Forget it there. Raises Claimed."""
        if not self._ask("drop", batch, PIECE_BYTES):
            raise Claimed(batch)

    def close(self) -> None:
        """Let go of the connection."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _now(self) -> Any:
        if self._client is None:
            self._client = shared_state.connect_now(self._state)
        return self._client

    def _ask(self, act: str, batch: str, *more: str | bytes | int) -> Any:
        keys = (self._key("batch", batch), self._key("batches"), self._key("batches", "bytes"))
        with shared_state.asked(self._state):
            return self._script.now(self._now(), keys, (act, batch, self._host, *more))
