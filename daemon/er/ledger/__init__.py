"""The shared table of one machine's gateway: what is in flight, and which replica is well.

One memory-mapped file in the runtime directory. A worker has a slot (process id and start time):
its requests, what waits in it, its counters, and its tokens in flight on each replica. A replica
has a row, found by name: the last verdict about it, and who has drained it. Everyone adds their
own and reads the sum. A dead worker's slot is zeroed by the parent (`reap`, `reap_dead`).

An old verdict counts as unknown, and an unknown replica is tried when no better one is there: a
prober that died must not take the replicas with it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from er.ledger.layout import (
    COUNTERS,
    LOCK_ADMISSION,
    REPLICAS,
    RETIRED,
    SLOTS,
    Table,
    open_table,
    start_time,
)

State = Literal["unknown", "starting", "up", "down"]
By = Literal["operator", "launcher", "host"]  # host: the one it is on is drained, or says so

VERDICT_AGE_S = 30.0  # several rounds of the prober
PACE_S = 0.005  # seconds a token, until a call was measured: a large batch on a slow CPU
PATIENCE = 4  # times the expected
STATES: tuple[State, ...] = ("unknown", "starting", "up", "down")
DRAINED: dict[By, int] = {"operator": 1, "launcher": 2, "host": 4}
UP, LAST_CHOICE, OUT = 2, 1, 0


class LedgerError(Exception):
    """A slot or a replica that is not there, or belongs to someone else."""


class Verdict(NamedTuple):
    """What is known of a replica. `since` and `checked` are Unix seconds; 0 means never."""

    state: Literal["unknown", "starting", "up", "down", "draining", "drained"]
    since: float
    reason: str
    checked: float
    answered: int  # monotonic ns of the last good answer to a worker
    health: State  # the state without regard to a drain
    drained_by: tuple[By, ...]
    wrong: int  # answers of a wrong size or with NaN since the replica's launcher last began


class Worker(NamedTuple):
    """One worker's slot."""

    slot: int
    pid: int
    requests: int  # being worked on
    queued: int  # sequences waiting


class Ledger:
    """A handle on the table; several processes, of root and of user er, hold one each."""

    def __init__(self, table: Table, replicas: Sequence[str]) -> None:
        self._table = table
        self.recreated = table.recreated  # why the old file was replaced; for one line in the log
        self._slot: int | None = None
        self._tokens = table.ints("tokens")
        self._in_flight = table.ints("in_flight")
        self._counters = table.ints("counters")
        with table.locked():
            self._rows = self._assign(replicas)

    @classmethod
    def open(cls, path: Path, replicas: Sequence[str], *, make: bool = True) -> Ledger:
        """Open or make the ledger at `path` with a row for each name in `replicas`.

        Who only looks says so (`make`): the file is not another's to replace while it is in use.
        Raises OSError when it can't be opened, LedgerError when more replicas are busy than rows.
        """
        table = open_table(path, make=make)
        try:
            return cls(table, replicas)
        except BaseException:
            table.close()
            raise

    def close(self) -> None:
        """Release this process's slot, if it has one, and unmap."""
        if self._slot is not None:
            self.release()
        del self._tokens, self._in_flight, self._counters
        self._table.close()

    def _assign(self, replicas: Sequence[str]) -> dict[str, int]:
        """Find or make rows. A row of no replica of ours is taken over once nothing is in it."""
        names = [self._table.name(row) for row in range(REPLICAS)]
        rows = {name: names.index(name) for name in replicas if name in names}
        spare = [r for r in range(REPLICAS) if not names[r]]
        spare += [r for r in range(REPLICAS) if names[r] and names[r] not in replicas]
        for name in replicas:
            if name in rows:
                continue
            row = next((r for r in spare if not self._sum(r)), None)
            if row is None:
                raise LedgerError(f"the ledger has no free row for replica {name}")
            spare.remove(row)
            for field in ("state", "answered", "wrong", "drained", "elsewhere"):
                self._table.ints(field)[row] = 0
            for field in ("since", "checked", "drained_since", "pace"):
                self._table.floats(field)[row] = 0.0
            self._table.set_reason(row, "")
            self._table.set_name(row, name)
            rows[name] = row
        return rows

    def _row(self, replica: str) -> int:
        try:
            return self._rows[replica]
        except KeyError:
            raise LedgerError(f"no replica {replica!r} in the ledger") from None

    def _mine(self) -> int:
        if self._slot is None:
            raise LedgerError("this process has claimed no slot of the ledger")
        return self._slot

    def _sum(self, row: int) -> int:
        return sum(self._tokens[row * SLOTS : (row + 1) * SLOTS])

    # -- a worker's own slot -----------------------------------------------------------------

    def claim(self, slot: int) -> None:
        """Take `slot` (0 to 71) for this process; what a dead one left in it is reaped.

        Raises LedgerError when a living process has it.
        """
        if not 0 <= slot < SLOTS:
            raise LedgerError(f"slot {slot}: there are {SLOTS}, from 0")
        pids, starts = self._table.ints("pid"), self._table.ints("start")
        with self._table.locked():
            pid, start = pids[slot], starts[slot]
            if pid not in (0, os.getpid()) and start_time(pid) == start:
                raise LedgerError(f"slot {slot} belongs to process {pid}")
            self._retire(slot)
            starts[slot] = start_time(os.getpid())
            pids[slot] = os.getpid()
        self._slot = slot

    def release(self) -> None:
        """Give the slot back; its counters stay in the totals."""
        slot = self._mine()
        with self._table.locked():
            self._retire(slot)
        self._slot = None

    def enter(self, limit: int) -> bool:
        """Count one more request being worked on, unless all workers have `limit` already."""
        slot, in_flight = self._slot, self._in_flight
        if slot is None:
            slot = self._mine()
        # Counted first and then looked: what others add at the same instant is one each at most, so
        # far from the limit no lock is needed.
        if limit > 2 * SLOTS:
            in_flight[slot] += 1
            if sum(in_flight) <= limit - SLOTS:
                return True
            in_flight[slot] -= 1
        self._table.lock(LOCK_ADMISSION)
        try:
            if sum(in_flight) >= limit:
                return False
            in_flight[slot] += 1
            return True
        finally:
            self._table.unlock(LOCK_ADMISSION)

    def leave(self) -> None:
        """Count one request less."""
        slot, in_flight = self._slot, self._in_flight
        if slot is None:
            slot = self._mine()
        if in_flight[slot]:
            in_flight[slot] -= 1

    def sent(self, replica: str, tokens: int) -> None:
        """Count a batch of `tokens` as on its way to `replica`."""
        self._tokens[self._row(replica) * SLOTS + self._mine()] += tokens

    def answered(self, replica: str, tokens: int, ok: bool, now: int) -> None:
        """Count that batch as back; `ok` with `now` (monotonic ns) proves the replica alive."""
        row = self._row(replica)
        at = row * SLOTS + self._mine()
        self._tokens[at] = max(0, self._tokens[at] - tokens)
        if ok:
            self._table.ints("answered")[row] = now

    def paced(self, replica: str, tokens: int, seconds: float) -> None:
        """Note that a call took `seconds` with `tokens` in flight when it was sent."""
        pace, row = self._table.floats("pace"), self._row(replica)
        new = seconds / max(1, tokens)
        pace[row] = 0.8 * pace[row] + 0.2 * new if pace[row] else new

    def patience_s(self, replica: str) -> float:
        """How long an answer may take with what is in flight on `replica` now, from its pace.

        No lower bound: the caller adds what it thinks decent. A probe waits behind real work too.
        """
        row = self._row(replica)
        pace = self._table.floats("pace")[row] or PACE_S
        return PATIENCE * pace * self._sum(row)

    def tokens_in_flight(self, replica: str) -> int:
        """Tokens on their way to `replica`, from all workers."""
        return self._sum(self._row(replica))

    def mine(self, replica: str) -> int:
        """Tokens on their way to `replica` from this worker."""
        return self._tokens[self._row(replica) * SLOTS + self._mine()]

    def elsewhere(self, replica: str) -> int:
        """Tokens of others in flight on a replica of another host, as `announced` last said."""
        return self._table.ints("elsewhere")[self._row(replica)]

    def announced(self, replica: str, tokens: int) -> None:
        """Note that its host says: so many `tokens` are in flight there, this host's among them."""
        row = self._row(replica)
        self._table.ints("elsewhere")[row] = max(0, tokens - self._sum(row))

    def count(self, name: str, n: int = 1) -> None:
        """Add `n` to this worker's counter of that name (COUNTERS)."""
        self._counters[self._mine() * len(COUNTERS) + COUNTERS.index(name)] += n

    def queued(self, n: int) -> None:
        """Say how many sequences wait in this worker."""
        self._table.ints("queued")[self._mine()] = n

    # -- the whole gateway -------------------------------------------------------------------

    def totals(self) -> dict[str, int]:
        """Each counter over all workers, those that are gone included."""
        width = len(COUNTERS)
        return {name: sum(self._counters[i::width]) for i, name in enumerate(COUNTERS)}

    def in_flight(self) -> int:
        """Requests being worked on, all workers together."""
        return sum(self._in_flight)

    def workers(self) -> list[Worker]:
        """The slots that are taken."""
        pids, queued = self._table.ints("pid"), self._table.ints("queued")
        return [
            Worker(slot, pids[slot], self._in_flight[slot], queued[slot])
            for slot in range(SLOTS)
            if pids[slot]
        ]

    def reap(self, slot: int) -> None:
        """Zero a dead worker's slot; its counters go on to count in the totals."""
        with self._table.locked():
            self._retire(slot)

    def reap_dead(self) -> list[int]:
        """Reap each slot whose process is gone, even if its id runs again. Returns the slots."""
        if not self._dead():  # asked twice a second: no lock for nothing
            return []
        with self._table.locked():
            dead = self._dead()
            for slot in dead:
                self._retire(slot)
        return dead

    def _dead(self) -> list[int]:
        pids, starts = self._table.ints("pid"), self._table.ints("start")
        return [s for s in range(SLOTS) if pids[s] and start_time(pids[s]) != starts[s]]

    def _retire(self, slot: int) -> None:
        self._table.ints("pid")[slot] = 0
        for field in ("start", "queued", "in_flight"):
            self._table.ints(field)[slot] = 0
        for row in range(REPLICAS):
            self._tokens[row * SLOTS + slot] = 0
        width = len(COUNTERS)
        for i in range(width):
            # Zeroed before it is added: who is killed in between loses a figure, counts none twice.
            value, self._counters[slot * width + i] = self._counters[slot * width + i], 0
            self._counters[RETIRED * width + i] += value

    # -- verdicts ----------------------------------------------------------------------------

    def verdict(self, replica: str) -> Verdict:
        """What is known of `replica`; see Verdict."""
        row, table = self._row(replica), self._table
        for _ in range(100):  # a writer needs microseconds; one killed while writing, for ever
            turn = table.ints("turn")[row]
            health = STATES[table.ints("state")[row] % len(STATES)]
            since, checked = table.floats("since")[row], table.floats("checked")[row]
            reason, bits = table.reason(row), table.ints("drained")[row]
            if turn % 2 == 0 and turn == table.ints("turn")[row]:
                break
        drained_by = tuple(by for by, bit in DRAINED.items() if bits & bit)
        state: Literal["draining", "drained"] | State = health
        if drained_by:
            state = "draining" if self._sum(row) else "drained"
            since = table.floats("drained_since")[row]
            reason = f"drained by the {' and the '.join(drained_by)}"
        answered, wrong = table.ints("answered")[row], table.ints("wrong")[row]
        return Verdict(state, since, reason, checked, answered, health, drained_by, wrong)

    def set_verdict(
        self, replica: str, state: State, reason: str, now: float, *, wrong: bool = False
    ) -> None:
        """Say that `replica` is `state` as seen at `now` (Unix s). `since` moves with the state.

        `wrong`: it gave a wrong answer, which only a restart cures; the launcher reads the count.
        """
        row, table = self._row(replica), self._table
        with table.locked():
            table.ints("turn")[row] |= 1  # odd: being written
            index = STATES.index(state)
            if table.ints("state")[row] != index or not table.floats("since")[row]:
                table.floats("since")[row] = now
            table.ints("state")[row] = index
            table.floats("checked")[row] = now
            table.set_reason(row, reason)
            table.ints("wrong")[row] += wrong
            table.ints("turn")[row] += 1

    def drain(self, replica: str, by: By, on: bool, now: float) -> None:
        """Give `replica` nothing new (`on`), or lift that. `now` in Unix s.

        The operator's drain stays until the operator lifts it; the launcher lifts its own when its
        engine is READY, with which the count of wrong answers starts anew.
        """
        row, table = self._row(replica), self._table
        with table.locked():
            bits = table.ints("drained")[row]
            if on and not bits:
                table.floats("drained_since")[row] = now
            table.ints("drained")[row] = bits | DRAINED[by] if on else bits & ~DRAINED[by]
            if by == "launcher" and not on:
                table.ints("wrong")[row] = 0

    def rank(self, replica: str, now: float, now_ns: int) -> int:
        """How good a choice `replica` is: UP, LAST_CHOICE (unknown or old verdict) or OUT.

        `now` in Unix s, `now_ns` monotonic: real answers keep an "up" fresh between probes.
        """
        row, table = self._row(replica), self._table
        if table.ints("drained")[row]:
            return OUT
        state = STATES[table.ints("state")[row] % len(STATES)]
        fresh = abs(now - table.floats("checked")[row]) <= VERDICT_AGE_S
        if state == "up":
            alive = now_ns - table.ints("answered")[row] <= VERDICT_AGE_S * 1e9
            return UP if fresh or alive else LAST_CHOICE
        return OUT if fresh and state in ("down", "starting") else LAST_CHOICE

    def usable(self, replica: str, now: float) -> bool:
        """Whether `replica` may be given work at all. `now` in Unix s."""
        return self.rank(replica, now, time.monotonic_ns()) != OUT

    def replicas(self) -> list[str]:
        """The names this handle has rows for."""
        return list(self._rows)
