"""What batches take of a replica: the rule by example, and beside clients in virtual time."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator
from itertools import count

import pytest

from er.replicas.spare import SpareScheduler
from er.scheduler import Scheduler
from er.spare import LATELY_NS, REST, REST_MAX_NS, Spare
from er.tickets import Batch, Load, Ticket

STEP = 8192
MS = 1_000_000
FAR = 10**18


def room(load: Load) -> int:
    return 2 * STEP - load.tokens


def test_beside_clients_one_call_of_a_quarter_step_alone_two_of_half_a_step() -> None:
    """All that is in flight counts; who asked ten seconds ago counts no more."""
    rule = Spare(STEP)

    def offered(tokens: int, now: int, *, calls: int = 1, waits: bool = False) -> tuple[int, bool]:
        load = rule.offer(Load("a", 2, tokens, tokens), waits=waits, calls=calls, now=now)
        assert load.rank == 2
        return room(load), load.mine == 0

    assert offered(0, 5) == (STEP, True) and rule.call_tokens(5) == STEP // 2
    assert offered(1000, 5) == (STEP - 1000, False)
    assert offered(STEP // 4, 5, calls=2) == (0, False)
    rule.answered("a", MS, 5)  # so that it is not sent as the one call that may always go
    rule.asked(10)
    assert offered(0, 11, calls=0) == (STEP // 4, True) and rule.call_tokens(11) == STEP // 4
    assert offered(STEP // 8, 11, calls=0) == (STEP // 8, False)
    assert offered(STEP // 8 + 1, 11, calls=0) == (0, False)  # too small a call
    assert offered(STEP // 8, 11) == (0, False)
    assert offered(0, 11, calls=0, waits=True) == (0, False)
    assert offered(0, 10 + LATELY_NS) == (STEP, True)


def test_a_replica_that_is_never_free_gets_one_call_and_a_rest() -> None:
    """19 times as long as the call took, a minute at most; each replica has its own."""
    rule = Spare(STEP)

    def goes(now: int, name: str = "a", calls: int = 0) -> bool:
        rule.asked(now)
        load = rule.offer(Load(name, 2, 9 * STEP, 99), waits=True, calls=calls, now=now)
        return room(load) > 0 or load.mine == 0

    assert goes(0) and not goes(0, calls=1)
    rule.answered("a", 10 * MS, 100 * MS)
    assert not goes(100 * MS + REST * 10 * MS - 1) and goes(100 * MS + REST * 10 * MS)
    assert goes(101 * MS, "b")
    rule.answered("a", 10 * REST_MAX_NS, 0)
    assert not goes(REST_MAX_NS - 1) and goes(REST_MAX_NS)


def test_a_replica_that_is_out_stays_out() -> None:
    load = Spare(STEP).offer(Load("a", 0, 0, 0), waits=False, calls=0, now=0)
    assert load.rank == 0


class Machine:
    """One replica that computes call after call, two queues before it, and a clock of its own."""

    def __init__(self, *, fixed_ns: int, token_ns: int) -> None:
        self.fixed_ns, self.token_ns = fixed_ns, token_ns
        self.main, self.spare = Scheduler(STEP), SpareScheduler(STEP)
        self.now = self.free_at = 0
        self.flying = {"main": 0, "spare": 0}  # tokens
        self.most_spare = 0
        self.computed = {"main": 0, "spare": 0}
        self.waits: list[int] = []  # ns from a client's request to its answer
        self._events: list[tuple[int, int, str, object]] = []
        self._order = count()

    def at(self, when: int, kind: str, what: object) -> None:
        heapq.heappush(self._events, (when, next(self._order), kind, what))

    def _send(self, kind: str, batch: Batch) -> None:
        cost = self.fixed_ns + self.token_ns * batch.tokens
        self.free_at = max(self.now, self.free_at) + cost
        self.flying[kind] += batch.tokens
        self.at(self.free_at, kind, batch)
        if kind == "spare" and len(batch.items) > 1:
            self.most_spare = max(self.most_spare, self.flying["spare"])

    def pump(self) -> None:
        while True:
            tokens = sum(self.flying.values())
            batch = self.main.take([Load("a", 2, tokens, self.flying["main"])], self.now)
            if batch is None:
                break
            self._send("main", batch)
        while self.spare.waiting:
            tokens = sum(self.flying.values())
            self.spare.waits = self.main.waiting > 0
            batch = self.spare.take([Load("a", 2, tokens, tokens)], self.now)
            if batch is None:
                break
            self._send("spare", batch)

    def run(self, until: int) -> None:
        while self._events and self._events[0][0] <= until:
            self.now, _, kind, what = heapq.heappop(self._events)
            if kind == "ask":
                assert isinstance(what, Ticket)
                self.spare.rule.asked(self.now)
                self.main.admit(what, self.now)
            else:
                assert isinstance(what, Batch)
                queue = self.main if kind == "main" else self.spare
                self.flying[kind] -= what.tokens
                self.computed[kind] += what.tokens
                _, finished = queue.done(what, self.now)
                if kind == "spare":
                    self.spare.landed(what, self.now)
                else:
                    self.waits += [self.now - ticket.admitted for ticket in finished]
            self.pump()


def asks(machine: Machine, every_ns: int, tokens: int, until: int, seed: int) -> None:
    """Clients' requests of one text each, at random moments."""
    chance = random.Random(seed)
    when = 0.0
    while when < until:
        machine.at(int(when), "ask", Ticket([[1] * tokens], deadline=FAR))
        when += chance.expovariate(1 / every_ns)


def lines(machine: Machine, tokens: int, number: int) -> None:
    """Lines of a batch, which all wait."""
    for _ in range(number):
        machine.spare.admit(Ticket([[1] * tokens], deadline=FAR), 0)


def both(every_ns: int, tokens: int, seconds: float) -> Iterator[Machine]:
    """The same clients without a batch beside them, then with one that never ends."""
    until = int(seconds * 1000 * MS)
    for batch in (False, True):
        # An H200's engine, about: 3 ms and 2.5 µs a token.
        machine = Machine(fixed_ns=3 * MS, token_ns=2500)
        asks(machine, every_ns, tokens, until, seed=7)
        machine.run(0)  # the first of them
        if batch:
            lines(machine, 100, 12_000)
        machine.run(until)
        yield machine


@pytest.mark.parametrize(("every_ms", "load"), [(200, 0.02), (20, 0.16), (8, 0.4)])
def test_clients_wait_for_a_quarter_step_at_most_and_the_rest_of_the_time_is_used(
    every_ms: float, load: float
) -> None:
    """Small requests beside a batch: one call of it before them at most, and it fills the rest."""
    alone, beside = both(int(every_ms * MS), 64, 5)
    assert len(beside.waits) >= len(alone.waits) - 5
    call = 3 * MS + 2500 * STEP // 4
    assert beside.most_spare <= STEP // 4
    mean = [sum(m.waits) / len(m.waits) for m in (alone, beside)]
    assert mean[1] - mean[0] <= 1.1 * call
    assert sorted(beside.waits)[len(beside.waits) // 2] <= sorted(alone.waits)[-1] + 1.1 * call
    spare_ns = beside.computed["spare"] * (2500 + 3 * MS / (STEP // 4))
    assert spare_ns > 0.55 * (1 - load) * 5_000 * MS


def test_an_idle_machine_is_used_and_the_first_who_comes_waits_for_a_step() -> None:
    """Two calls of half a step: nearly all that the engine can do."""
    machine = Machine(fixed_ns=3 * MS, token_ns=2500)
    lines(machine, 100, 12_000)
    machine.at(2_000 * MS, "ask", Ticket([[1] * 64], deadline=FAR))
    machine.pump()
    machine.run(3_000 * MS)
    step = 2 * (3 * MS + 2500 * STEP // 2)
    assert machine.waits[0] <= step + 3 * MS + 64 * 2500
    whole = 2_000 * MS // (step // 2) * (STEP // 2)
    assert machine.computed["spare"] > 0.95 * whole


def test_behind_a_full_machine_it_gets_on_by_a_twentieth() -> None:
    """More is asked than can be done: a batch is not starved, and costs clients a twentieth."""
    alone, beside = both(150_000, 64, 2)
    assert beside.main.waiting > 100
    assert beside.computed["spare"] > 0
    assert beside.computed["main"] >= 0.94 * alone.computed["main"]


def test_what_waits_there_is_nothing_to_clients() -> None:
    """Neither their place in the queue nor what is believed to be ahead of them changes."""
    machine = Machine(fixed_ns=3 * MS, token_ns=2500)
    lines(machine, 100, 10_000)
    machine.pump()
    assert machine.main.waiting == 0 and machine.main.ahead(1) == 1
    machine.main.admit(one := Ticket([[1] * 10], deadline=FAR), 0)
    batch = machine.main.take([Load("a", 2, machine.flying["spare"], 0)], 0)
    assert batch is not None and batch.items[0].ticket is one


def test_a_text_longer_than_any_room_goes_when_the_replica_is_free() -> None:
    machine = Machine(fixed_ns=3 * MS, token_ns=2500)
    lines(machine, STEP, 3)
    machine.pump()
    assert machine.flying["spare"] == STEP
    machine.run(10**12)
    assert machine.computed["spare"] == 3 * STEP
