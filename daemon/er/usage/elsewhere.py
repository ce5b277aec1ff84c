"""What other hosts have used of each key's month, for quotas that hold on all of them together.

The admin process hears it about once a second and writes RUNTIME/elsewhere.json; each worker adds
it to its own host's. So a quota is overrun at most by what the hosts take within the same second or
two, and while nothing is heard by what the others take meanwhile: then the last known counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from er import small_file
from er.durable import put
from er.usage.monthly import Monthly, Spent

FORM = 1
LOOK_NS = 250_000_000  # between two looks at the file
FILE = "elsewhere.json"


class Told(msgspec.Struct, frozen=True):
    """The file: of a calendar month (its first moment, Unix seconds), requests and tokens a key."""

    form: int
    begins: int
    keys: dict[str, tuple[int, int]]


_decoded = msgspec.json.Decoder(Told).decode


def write(runtime: Path, begins: int, keys: Mapping[str, Spent]) -> None:
    """For the workers. Raises OSError."""
    told = Told(FORM, begins, {key: (spent.requests, spent.tokens) for key, spent in keys.items()})
    put(runtime / FILE, msgspec.json.encode(told), 0o640)


class Together:
    """A worker's view of each key's month on all hosts: its host's table, and what others told."""

    def __init__(
        self, own: Monthly, runtime: Path, clock: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._own, self._path, self._clock = own, runtime / FILE, clock
        self._told = Told(FORM, 0, {})
        self._seen: tuple[int, int] | None = None
        self._looked = -LOOK_NS

    def take(
        self, key_id: str, tokens: int, now: float, requests_max: int, tokens_max: int
    ) -> bool:
        """As Monthly's, less what other hosts have used."""
        requests, spent = self._elsewhere(key_id, now)
        return self._own.take(key_id, tokens, now, requests_max - requests, tokens_max - spent)

    def give_back(self, key_id: str, tokens: int, now: float) -> None:
        """As Monthly's: what was taken was taken here."""
        self._own.give_back(key_id, tokens, now)

    def keep(self, key_id: str, tokens: int) -> None:
        """As Monthly's."""
        self._own.keep(key_id, tokens)

    def used(self, key_id: str, now: float) -> Spent:
        """What the key used on all hosts in the month of `now` (Unix seconds)."""
        requests, tokens = self._elsewhere(key_id, now)
        own = self._own.used(key_id, now)
        return Spent(own.requests + requests, own.tokens + tokens)

    def _elsewhere(self, key_id: str, now: float) -> tuple[int, int]:
        moment = self._clock()
        if moment - self._looked >= LOOK_NS:
            self._looked = moment
            self._look()
        if self._told.begins != self._own.begins(now):
            return 0, 0  # of another month
        return self._told.keys.get(key_id, (0, 0))

    def _look(self) -> None:
        try:
            known = self._path.stat()
            seen = known.st_mtime_ns, known.st_ino
            if seen != self._seen:
                told = _decoded(small_file.read(self._path))
                self._seen = seen
                self._told = told if told.form == FORM else self._told
        except (OSError, *small_file.DAMAGED):
            return  # the last known goes on to count
