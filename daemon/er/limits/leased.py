"""The windows of a host that shares its limits with others: beside each its part, in RUNTIME.

What a request costs is what it costs without other hosts: its count in the window, under the same
lock, and three words more. Who asks the shared state is given (`asker`). While that does not
answer the host is *alone*: it lets through its share of each limit by its own windows, which have
counted all along what was taken here, and what it was granted before.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Self

import numpy as np

from er.limits import (
    ID_BYTES,
    IDS,
    LOCKS,
    ROWS,
    TABLE,
    Asker,
    Limits,
    Row,
    Taken,
    Unleased,
    leases,
    members,
    window,
)
from er.limits.leases import MS_NS, SECOND_NS, Ask, Grant
from er.limits.shared import Locked, made_of
from er.quantities import RATE_MAX, Rate

MAGIC = b"er leases 1\n"
HEAD_BYTES, HEAD_AT = 4096, 1024
ALONE, EPOCH, SEEN = range(3)  # words of the head: ns of the next try, or 0; the grantor's; hosts
SIZE = HEAD_BYTES + ROWS * leases.WORDS * 8
_HEAD, _KEEPER = 1, 2  # bytes to lock
AGAIN_NS = SECOND_NS  # after which a host that is alone asks again
DULL_S = 1.0  # for which a batch's line waits that is over its part of a limit
Reason = Literal["more", "report", "back"]


class Due(NamedTuple):
    """What has not been told for a while."""

    name: str
    rate: Rate
    reason: Reason


class Leased(Limits):
    """The windows of all keys of a host among others. One object a process."""

    asker: Asker

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the files; make them, or make them anew when they are of another boot or layout.

        Raises OSError.
        """
        made = super().open(path)
        try:
            made._begin_leases(path.parent)
        except BaseException:
            made.close()
            raise
        return made

    def _begin_leases(self, runtime: Path) -> None:
        self._runtime, self._counted = runtime, (1, 0)  # hosts, and until when that is believed
        self._places: dict[str, tuple[int, tuple[tuple[int, int], ...]]] = {}
        self._leases = made_of(runtime / "leases", MAGIC, SIZE, lambda file: file)
        self._leased = mmap.mmap(self._leases, SIZE)
        every = memoryview(self._leased).cast("q")
        self._head = every[HEAD_AT // 8 : HEAD_AT // 8 + 8]
        first, words = HEAD_BYTES // 8, leases.WORDS
        self._parts = [every[first + r * words : first + (r + 1) * words] for r in range(ROWS)]
        self._table = np.frombuffer(self._leased, "<i8", ROWS * words, HEAD_BYTES)
        self._table = self._table.reshape(ROWS, words)

    def close(self) -> None:
        """Let go of the files."""
        super().close()
        if hasattr(self, "_leased"):
            del self._table, self._parts, self._head
            os.close(self._leases)

    # -- a request ---------------------------------------------------------------------------

    def take(self, key_id: str, rate: Rate, now: int, n: int = 1) -> Taken:
        """Count at `now` (ns) what the key's rate lets pass. Raises LimitsFull, Unleased."""
        while True:
            row = self._rows.get(key_id) or self._row(key_id, now)
            fcntl.lockf(self._file, fcntl.LOCK_EX, 1, row.lock)
            try:
                if self._map[row.at : row.at + ID_BYTES] == row.name:
                    words = self._parts[row.lock - LOCKS]
                    taken = self._taken(row, words, key_id, rate, now, n)
                    break
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, row.lock)
            del self._rows[key_id]
        if taken is None:
            raise Unleased(self.asker, key_id, rate, n)
        if self._head[ALONE]:
            if now >= self._head[ALONE]:
                self.asker.want(key_id, rate)
        elif leases.low(words):
            self.asker.want(key_id, rate)
        return taken

    def _taken(
        self, row: Row, words: memoryview, key_id: str, rate: Rate, now: int, n: int
    ) -> Taken | None:
        """None: not known here."""
        more = leases.take(words, rate, now, n)
        if more is not None:
            counted = window.take(row.window, rate, now, n)
            if not counted.allowed:  # by its shared entries, which leave late
                counted = window.take(row.window, Rate(RATE_MAX, rate.period_s), now, n)
            period_s = float(rate.period_s)
            return Taken(True, rate.count, more, 0.0, period_s, counted.at, counted.until)
        if self._head[ALONE]:
            share = leases.share(rate, self.members(now))
            counted = window.take(row.window, share, now, n)
            if counted.allowed:
                leases.use(words, now, n)
                if not words[leases.COUNT]:  # for who tells it later
                    words[leases.COUNT], words[leases.PERIOD] = rate.count, rate.period_s
            return counted._replace(limit=rate.count)
        left = max(0, leases.left(words, rate))
        known = now - words[leases.ASKED] < SECOND_NS
        if rate.count < words[leases.COUNT] and left < n and known:
            return Taken(False, rate.count, left, DULL_S, float(rate.period_s), 0, 0)
        if not leases.refused(words, rate, now, n):
            return None
        wait_s = self._until(key_id, words, rate, now, n - left - 1)
        reset_s = max(0, words[leases.RESET_AT] - now) / SECOND_NS
        return Taken(False, rate.count, left, wait_s, max(wait_s, reset_s), 0, 0)

    def owe(self, key_id: str, rate: Rate, now: int) -> Taken:
        """Count one that is over and has to be counted, whether or not it was granted."""
        row = self._rows.get(key_id) or self._row(key_id, now)
        with Locked(self._file, row.lock):
            leases.use(self._parts[row.lock - LOCKS], now, 1)
            return window.take(row.window, Rate(RATE_MAX, rate.period_s), now)

    def wait_s(self, key_id: str, rate: Rate, before: int, now: int) -> float:
        """Seconds until one more passes after `before` others, as far as is known here."""
        row = self._rows.get(key_id)
        if row is None:
            return 0.0
        with Locked(self._file, row.lock):
            if self._map[row.at : row.at + ID_BYTES] != row.name:
                return 0.0
            words = self._parts[row.lock - LOCKS]
            if self._head[ALONE]:
                return window.wait_s(row.window, leases.share(rate, self.members(now)), before, now)
            if leases.left(words, rate) > before or now >= words[leases.RETRY_AT]:
                return 0.0
            return self._until(key_id, words, rate, now, before)

    def _until(self, key_id: str, words: memoryview, rate: Rate, now: int, before: int) -> float:
        """Seconds until one passes that has `before` others before it, where none passes now."""
        first = max(MS_NS, words[leases.RETRY_AT] - now)
        told_at, told = self._places.get(key_id, (0, ()))
        places = [(told_at + ms * MS_NS - now, n) for ms, n in told]
        places = [(left, n) for left, n in places if left > 0]
        if not before or not places or told_at + rate.period_s * SECOND_NS < now:
            return (first + before * rate.period_s * SECOND_NS // rate.count) / SECOND_NS
        out = rate.count - sum(n for _, n in places)  # what is out leaves later than all of these
        if out > 0:
            places.append((rate.period_s * SECOND_NS, out))
        return max(first / SECOND_NS, window.turn_s(places, rate, before))

    def give_back(self, key_id: str, taken: Taken, now: int, n: int = 1) -> None:
        """Uncount at `now` (ns) a request, or tokens, allowed but not served."""
        super().give_back(key_id, taken, now, n)
        row = self._rows.get(key_id)
        if row is not None and now < taken.until:
            with Locked(self._file, row.lock):
                if self._map[row.at : row.at + ID_BYTES] == row.name:
                    leases.give_back(self._parts[row.lock - LOCKS], n)

    def _begin(self, row: Row) -> None:
        super()._begin(row)
        leases.clear(self._parts[row.lock - LOCKS])

    # -- between it and the shared state -----------------------------------------------------

    def ask(
        self, key_id: str, rate: Rate, waiting: Sequence[int], now: int, reason: Reason
    ) -> Ask | None:
        """What to ask at `now` (ns); None where another worker's answer was enough.

        Raises LimitsFull. Whoever gets an Ask calls `answered` or `unasked`.
        """
        row = self._rows.get(key_id) or self._row(key_id, now)
        with Locked(self._file, row.lock):
            if self._map[row.at : row.at + ID_BYTES] != row.name:
                del self._rows[key_id]
                return None
            words = self._parts[row.lock - LOCKS]
            fresh = now < words[leases.EXPIRES] and words[leases.EPOCH] == self._head[EPOCH]
            enough = fresh and words[leases.BALANCE] >= sum(waiting) and not leases.low(words)
            if enough and reason == "more" and not self._head[ALONE]:
                return None
            back = reason == "back" and not waiting
            return leases.ask(words, row.window, rate, self._head[EPOCH], now, waiting, back=back)

    def answered(
        self, key_id: str, asked: Ask, grant: Grant, sent: int, now: int, *, final: bool
    ) -> None:
        """Take up an answer; `final`: what was refused is refused."""
        row = self._rows.get(key_id)
        if row is None:
            return  # given away meanwhile: the grant runs out there
        if grant.places:
            self._places[key_id] = (now, grant.places)
        with Locked(self._file, row.lock):
            words = self._parts[row.lock - LOCKS]
            leases.answered(words, asked, grant, self._head[EPOCH], now, final=final, sent=sent)

    def unasked(self, key_id: str, asked: Ask) -> None:
        """Nobody answered."""
        row = self._rows.get(key_id)
        if row is not None:
            with Locked(self._file, row.lock):
                leases.unasked(self._parts[row.lock - LOCKS], asked)

    def due(self, now: int) -> list[Due]:
        """What was used or lies here and has not been told for REPORT_S; idle ones give back.

        To a grantor that knows nothing of this host all that was used within a period is told.
        """
        if self._head[ALONE]:
            return []
        table, report = self._table, int(leases.REPORT_S * SECOND_NS)
        some = (table[:, leases.BALANCE] != 0) | (table[:, leases.USED] != 0)
        some &= table[:, leases.ASKED] < now - report
        unknown = table[:, leases.EPOCH] != self._head[EPOCH]
        some |= unknown & (table[:, leases.NEWEST] > now - table[:, leases.PERIOD] * SECOND_NS)
        found: list[Due] = []
        for row in np.flatnonzero(some).tolist():
            at = IDS + row * ID_BYTES
            name = self._map[at : at + ID_BYTES].rstrip(b"\0").decode("ascii", "replace")
            words = table[row]
            if name and words[leases.COUNT]:
                rate = Rate(int(words[leases.COUNT]), int(words[leases.PERIOD]))
                idle = words[leases.NEWEST] < now - report // 2
                found.append(Due(name, rate, "back" if idle else "report"))
        return found

    def rate_of(self, key_id: str) -> Rate | None:
        """The rate that the key's limit was last asked with; None: never."""
        with Locked(self._file, TABLE):
            row = self._find(key_id.encode().ljust(ID_BYTES, b"\0"))
        if row is None:
            return None
        words = self._parts[row]
        count, period_s = words[leases.COUNT], words[leases.PERIOD]
        return Rate(count, period_s) if count else None

    @property
    def epoch(self) -> int:
        """Which grantor answered last; another one knows nothing of this host."""
        return self._head[EPOCH]

    def heard(self, epoch: int, hosts: int) -> bool:
        """The grantor answered: which, and how many hosts it knows. Whether this one was alone."""
        with Locked(self._leases, _HEAD):
            was, self._head[ALONE] = self._head[ALONE], 0
            self._head[EPOCH], self._head[SEEN] = epoch, hosts
        return bool(was)

    def unheard(self, now: int) -> bool:
        """It did not answer: this host is alone for a while. Whether that is new."""
        with Locked(self._leases, _HEAD):
            was, self._head[ALONE] = self._head[ALONE], now + AGAIN_NS
        return not was

    @property
    def alone(self) -> int:
        """When to ask again, ns; 0: the host is not alone."""
        return self._head[ALONE]

    def members(self, now: int) -> int:
        """How many hosts share the limits, as far as is known at `now` (ns)."""
        if now >= self._counted[1]:
            count = members.told(self._runtime) or max(1, self._head[SEEN])
            self._counted = (count, now + AGAIN_NS)
        return self._counted[0]

    def keeper(self) -> bool:
        """Whether this process is the one of its host that gives back; once it is, it stays so."""
        try:
            fcntl.lockf(self._leases, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _KEEPER)
        except OSError:
            return False
        return True
