"""The scheduler: single decisions by example, then random events that must keep its promises."""

from __future__ import annotations

import random
from collections import Counter
from unittest import mock

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from er import scheduler
from er.pace import KEPT_NS, Pace, Rate
from er.replicas.handed import runs
from er.scheduler import (
    ATTEMPTS,
    CALLS,
    FREE_CALLS,
    FULL_SEQUENCES,
    HEDGE_CALLS,
    HEDGES_SAVED,
    LATELY_NS,
    Scheduler,
)
from er.tickets import BULK_SEQUENCES, CALL_SEQUENCES, Batch, Item, Load, Ticket

FAR = 10**18
STEP = 100  # batch_tokens here: the budget is 200 tokens, a call 50


def ticket(*lengths: int, deadline: int = FAR, key: str = "") -> Ticket:
    made = Ticket([[1] * n for n in lengths], deadline=deadline)
    made.key = key
    return made


def idle(*names: str) -> list[Load]:
    return [Load(name, 2, 0, 0) for name in names or ("a",)]


def lengths(batch: Batch | None) -> list[int]:
    return [] if batch is None else [item.tokens for item in batch.items]


def test_a_lone_sequence_goes_at_once_and_comes_back() -> None:
    s = Scheduler(STEP)
    one = ticket(7)
    s.admit(one, now=5)
    batch = s.take(idle(), now=9)
    assert batch is not None and (batch.replica, batch.tokens) == ("a", 7)
    assert s.take(idle(), now=9) is None
    handed, finished = s.done(batch, 9)
    assert [(at, item.index) for at, item in handed] == [(0, 0)]
    assert finished == [one] and one.over == "done" and one.waited_ns == 4
    assert s.waiting == 0 and not s.tickets and not s.flying()


def test_what_waits_is_merged_and_a_large_request_is_split() -> None:
    s = Scheduler(STEP)
    for length in (10, 20, 15, 30, 5):
        s.admit(ticket(length), 0)
    assert lengths(s.take(idle(), 0)) == [10, 20, 15]  # 30 more would pass 50
    assert lengths(s.take([Load("a", 2, 45, 45)], 0)) == [30, 5]
    large = ticket(*[1] * 300)
    s.admit(large, 0)
    taken = [s.take(idle(name), 0) for name in "bcdefg"]
    assert [len(lengths(b)) for b in taken] == [50] * 6
    s = Scheduler(8192)
    s.admit(large := ticket(*[1] * 300), 0)
    assert len(lengths(s.take(idle(), 0))) == CALL_SEQUENCES
    assert large.waiting == 300 - CALL_SEQUENCES


def test_the_budget_holds_but_one_batch_may_always_go() -> None:
    s = Scheduler(STEP)
    s.admit(ticket(40), 0)
    assert s.take([Load("a", 2, 180, 30)], 0) is None
    assert s.hungry([Load("a", 2, 180, 30)])
    assert lengths(s.take([Load("a", 2, 500, 0)], 0)) == [40]  # nothing of ours is there


def test_a_sequence_larger_than_a_call_goes_by_itself() -> None:
    s = Scheduler(STEP)
    s.admit(ticket(90), 0)
    s.admit(ticket(5), 0)
    assert s.take([Load("a", 2, 120, 1)], 0) is None  # nobody passes it
    assert lengths(s.take([Load("a", 2, 110, 1)], 0)) == [90]
    assert lengths(s.take([Load("a", 2, 110, 1)], 0)) == [5]


def test_four_calls_at_once() -> None:
    s = Scheduler(8192)
    for _ in range(CALLS):
        s.admit(ticket(*[1] * CALL_SEQUENCES), 0)
        assert s.take(idle(), 0) is not None
    s.admit(ticket(*[1] * CALL_SEQUENCES), 0)
    assert s.take(idle(), 0) is None and s.full("a") and not s.full("ab")
    assert not s.hungry(idle())  # our own answers will call again; no need to look
    assert s.take(idle("a", "b"), 0) is not None


def test_the_third_call_waits_for_company_while_two_small_ones_are_on_their_way() -> None:
    def with_two() -> Scheduler:
        s = Scheduler(STEP)
        for _ in range(FREE_CALLS):
            s.admit(ticket(1), 0)
            assert s.take(idle(), 0) is not None
        s.admit(ticket(1), 0)
        return s

    s = with_two()
    assert s.take(idle(), 0) is None and not s.hungry(idle())
    assert lengths(s.take(idle("a", "b"), 0)) == [1]  # another replica is free
    s = with_two()
    s.done(s.flying()[0], 0)
    assert lengths(s.take(idle(), 0)) == [1]
    s = with_two()
    s.admit(ticket(*[1] * (FULL_SEQUENCES - 1)), 0)
    assert len(lengths(s.take(idle(), 0))) == FULL_SEQUENCES
    s = with_two()
    assert s.take([Load("a", 2, 99, 2)], 0) is None
    assert lengths(s.take([Load("a", 2, 100, 2)], 0)) == [1]  # a step's worth: it would be long


def test_the_replica_with_least_in_flight_and_the_better_one() -> None:
    s = Scheduler(STEP)

    def chosen(*loads: Load) -> str | None:
        s.admit(ticket(1), 0)
        batch = s.take(list(loads), 0)
        return None if batch is None else batch.replica

    assert chosen(Load("a", 2, 90, 0), Load("b", 2, 10, 0)) == "b"
    assert chosen(Load("a", 1, 0, 0), Load("b", 2, 100, 0)) == "b"
    assert chosen(Load("a", 0, 0, 0), Load("b", 1, 100, 0)) == "b"
    assert chosen(Load("a", 1, 0, 0), Load("b", 2, 300, 9)) is None  # b is better, merely busy
    assert chosen(Load("a", 0, 0, 0)) is None
    s = Scheduler(STEP)
    assert {chosen(*idle("a", "b", "c")) for _ in range(3)} == {"a", "b", "c"}  # among equals


def test_interactive_goes_first_and_bulk_is_not_starved() -> None:
    s = Scheduler(STEP)
    s.admit(ticket(*[50] * BULK_SEQUENCES), 0)
    order = []
    for _ in range(12):
        s.admit(ticket(50), 0)
        batch = s.take(idle(), 0)
        assert batch is not None
        order.append(batch.items[0].ticket.lane)
        s.done(batch, 9)
    assert order == (["interactive"] * 3 + ["bulk"]) * 3


def test_beside_interactive_requests_bulk_keeps_two_calls_to_itself() -> None:
    """A small request then waits behind two of them at most; a second without one lifts it."""
    s = Scheduler(8192)
    s.admit(ticket(3), 0)
    small = s.take(idle(), 0)
    assert small is not None
    s.done(small, 1)
    s.admit(ticket(*[1] * 1000), 1)
    assert [len(lengths(s.take(idle(), 1))) for _ in range(3)] == [CALL_SEQUENCES] * 2 + [0]
    s.admit(ticket(3), 2)
    assert lengths(s.take(idle(), 2)) == [3]
    assert len(lengths(s.take(idle(), 2 + LATELY_NS))) == CALL_SEQUENCES


def test_a_failed_batch_goes_elsewhere_first_in_turn() -> None:
    s = Scheduler(STEP)
    one = ticket(10)
    s.admit(one, 0)
    first = s.take(idle("a"), 0)
    assert first is not None
    s.admit(ticket(20), 0)
    assert s.failed(first) == []
    loads = [Load("a", 2, 0, 0), Load("b", 2, 5, 5)]  # a would be the choice
    assert lengths(s.take(loads, 0)) == [20]  # but not for the one that failed there
    batch = s.take(loads, 0)
    assert batch is not None and batch.replica == "b" and batch.items[0].ticket is one


def test_it_goes_back_to_where_it_failed_when_nothing_as_good_is_left() -> None:
    s = Scheduler(STEP)
    s.admit(ticket(10), 0)
    first = s.take(idle("a"), 0)
    assert first is not None
    s.failed(first)
    batch = s.take([Load("a", 2, 0, 0), Load("b", 1, 0, 0)], 0)
    assert batch is not None and batch.replica == "a"


def test_with_one_replica_left_it_is_tried_there_again_then_given_up() -> None:
    s = Scheduler(STEP)
    one = ticket(10, 10)
    s.admit(one, 0)
    for attempt in range(ATTEMPTS):
        batch = s.take(idle("a"), 0)
        assert batch is not None and len(batch.items) == 2
        lost = s.failed(batch)
        assert bool(lost) == (attempt == ATTEMPTS - 1)
    assert one.over == "failed" and s.waiting == 0


def test_a_refused_batch_is_halved_until_the_bad_one_is_alone() -> None:
    s = Scheduler(8192)
    tickets = [ticket(n) for n in range(1, 12)]
    for t in tickets:
        s.admit(t, 0)
    calls = 0
    while (batch := s.take(idle(), 0)) is not None:
        calls += 1
        if 7 in lengths(batch):
            bad = s.refused(batch)
            assert (bad is not None) == (lengths(batch) == [7])
        else:
            s.done(batch, 9)
    assert [t.over for t in tickets] == ["done"] * 6 + ["failed"] + ["done"] * 4
    assert calls <= 9


def test_neighbours_that_left_do_not_make_one_guilty() -> None:
    s = Scheduler(STEP)
    bad, good = ticket(5), ticket(6)
    s.admit(bad, 0)
    s.admit(good, 0)
    batch = s.take(idle(), 0)
    assert batch is not None
    assert s.cancel(bad) == []  # good still wants it
    assert s.refused(batch) is None
    again = s.take(idle(), 0)
    assert again is not None and lengths(again) == [6]
    s.done(again, 9)
    assert good.over == "done"


def test_leaving_and_lateness_drop_what_waits_and_what_flies() -> None:
    s = Scheduler(STEP)
    left, late, stays = ticket(50), ticket(50, 50, deadline=100), ticket(50)
    for t in (left, late, stays):
        s.admit(t, 0)
    first, second = s.take(idle(), 0), s.take(idle(), 0)
    assert first is not None and second is not None
    assert s.cancel(left) == [first]
    s.dropped(first)
    assert s.next_deadline() == 100
    assert s.expire(99) == ([], [])
    assert s.expire(100) == ([late], [second])
    s.dropped(second)
    assert s.waiting == 1
    batch = s.take(idle(), 0)
    assert batch is not None and batch.items[0].ticket is stays
    assert s.cancel(left) == []  # a second time: nothing


def test_without_a_replica_all_that_waits_is_abandoned() -> None:
    s = Scheduler(STEP)
    flies, waits = ticket(50), ticket(50)
    s.admit(flies, 0)
    batch = s.take(idle(), 0)
    s.admit(waits, 0)
    assert s.abandon() == [waits]
    assert batch is not None and s.done(batch, 9)[1] == [flies]


# -- stuck calls -----------------------------------------------------------------------------

MS = 1_000_000


def paced(s: Scheduler, calls: int, *, ms: int, names: tuple[str, ...] = ("a", "b")) -> int:
    """So many calls to each, one after the other, of 50 tokens and `ms`; the time after."""
    now = 0
    for _ in range(calls):
        for name in names:
            s.admit(ticket(50), now)
            batch = s.take(idle(name), now)
            assert batch is not None
            now += ms * MS
            s.done(batch, now)
    return now


def stuck(s: Scheduler, now: int, *lengths: int, deadline: int = FAR) -> tuple[Ticket, Batch]:
    one = ticket(*lengths, deadline=deadline)
    s.admit(one, now)
    batch = s.take(idle("a"), now)
    assert batch is not None
    return one, batch


def two(mine: int = 10) -> list[Load]:
    return [Load("a", 2, mine, mine), Load("b", 2, 0, 0)]


def test_a_stuck_call_is_sent_once_more_elsewhere_and_the_first_answer_counts() -> None:
    s = Scheduler(STEP)
    now = paced(s, 40, ms=40)
    one, slow = stuck(s, now, 10, 10)
    s.watch(now + 119 * MS)
    assert s.take(two(), now + 119 * MS) is None
    now += 121 * MS  # three times 40
    s.watch(now)
    twin = s.take(two(), now)
    assert twin is not None and (twin.replica, twin.twin) == ("b", slow)
    assert twin.items == slow.items and s.calls("a") == s.calls("b") == 1
    s.watch(now + 9000 * MS)
    assert s.take([*two(), Load("c", 2, 0, 0)], now + 9000 * MS) is None  # once
    handed, finished = s.done(twin, now + 10 * MS)
    assert len(handed) == 2 and finished == [one]
    assert s.unwanted() == [slow]
    assert s.done(slow, now + 20 * MS) == ([], [])  # if it came all the same
    assert not s.flying() and one.over == "done"


def test_the_stuck_one_may_still_win() -> None:
    s = Scheduler(STEP)
    now = paced(s, 40, ms=40)
    one, slow = stuck(s, now, 10)
    other = ticket(5)
    now += 121 * MS
    s.watch(now)
    twin = s.take(two(), now)
    assert twin is not None
    s.admit(other, now)
    assert s.done(slow, now)[1] == [one]
    assert s.unwanted() == [twin]
    s.dropped(twin)
    assert lengths(s.take(idle("b"), now)) == [5]


def test_only_what_is_wanted_is_sent_again() -> None:
    s = Scheduler(STEP)
    now = paced(s, 40, ms=40)
    left, stays = ticket(10), ticket(11)
    s.admit(left, now)
    s.admit(stays, now)
    slow = s.take(idle("a"), now)
    assert lengths(slow) == [10, 11]
    s.cancel(left)
    s.watch(now + 200 * MS)
    twin = s.take(two(21), now + 200 * MS)
    assert lengths(twin) == [11]
    s = Scheduler(STEP)
    now = paced(s, 40, ms=40)
    one, slow = stuck(s, now, 10)
    s.watch(now + 200 * MS)
    assert s.cancel(one) == [slow]
    assert s.take(two(), now + 200 * MS) is None


def test_where_a_twin_may_go() -> None:
    def goes(*loads: Load) -> str | None:
        s = Scheduler(STEP)
        now = paced(s, 40, ms=40)
        stuck(s, now, 20)
        s.watch(now + 200 * MS)
        twin = s.take(loads, now + 200 * MS)
        return None if twin is None else twin.replica

    a = Load("a", 2, 20, 20)
    assert goes(a) is None  # alone
    assert goes(a, Load("b", 1, 0, 0)) is None  # not as good
    assert goes(a, Load("b", 2, 190, 50)) is None  # no room
    assert goes(a, Load("b", 2, 150, 50), Load("c", 2, 120, 30)) == "c"
    assert goes(a._replace(rank=1), Load("b", 2, 0, 0)) == "b"
    assert goes(a._replace(rank=0), Load("b", 1, 0, 0)) == "b"
    # not where calls are stuck too, nor where these sequences failed
    s = Scheduler(STEP)
    now = paced(s, 40, ms=40)
    stuck(s, now, 20)
    s.admit(ticket(10), now)
    assert s.take(idle("b"), now) is not None
    s.watch(now + 200 * MS)
    assert s.take([a, Load("b", 2, 10, 10)], now + 200 * MS) is None
    s = Scheduler(STEP)
    now = paced(s, 40, ms=40)
    s.admit(ticket(20), now)
    first = s.take(idle("b"), now)
    assert first is not None
    s.failed(first)
    assert s.take([a._replace(mine=0, tokens=0)], now) is not None
    s.watch(now + 200 * MS)
    assert s.take([a, Load("b", 2, 0, 0)], now + 200 * MS) is None


def test_a_twin_that_fails_leaves_the_other_and_both_that_fail_are_one_more_try() -> None:
    s = Scheduler(STEP)
    now = paced(s, 40, ms=40)
    one, slow = stuck(s, now, 10)
    s.watch(now + 200 * MS)
    twin = s.take(two(), now + 200 * MS)
    assert twin is not None
    assert s.failed(twin) == [] and s.waiting == 0  # slow is on its way still
    assert s.failed(slow) == [] and s.waiting == 1
    last = s.take([*two(0), Load("c", 2, 150, 150)], now)
    assert last is not None and last.replica == "c"
    assert [item.ticket for item in s.failed(last)] == [one]
    assert one.over == "failed"


def test_a_refused_twin_is_not_halved_twice() -> None:
    s = Scheduler(STEP)
    now = paced(s, 40, ms=40)
    _, slow = stuck(s, now, 10, 11)
    s.watch(now + 200 * MS)
    twin = s.take(two(), now + 200 * MS)
    assert twin is not None
    assert s.refused(slow) is None and s.waiting == 0
    assert s.refused(twin) is None and s.waiting == 2
    assert [lengths(s.take(idle(), now)) for _ in range(2)] == [[10], [11]]


def test_nothing_is_stuck_before_the_pace_is_known_nor_within_a_few_ms() -> None:
    s = Scheduler(STEP)
    now = paced(s, 7, ms=40)  # 14 calls: each replica's own count
    stuck(s, now, 10)
    s.watch(now + 10**12)
    assert not s.stuck
    s = Scheduler(STEP)
    now = paced(s, 40, ms=1)
    stuck(s, now, 10)
    s.watch(now + 49 * MS)
    assert not s.stuck
    s.watch(now + 51 * MS)
    assert len(s.stuck) == 1


def test_a_larger_call_gets_longer() -> None:
    pace = Pace()
    for _ in range(20):
        pace.add(40 * MS, 100)
    assert pace.stuck_ns(50) == pace.stuck_ns(100) == 120 * MS
    assert pace.stuck_ns(1000) == 1200 * MS
    for _ in range(3):
        pace.add(900 * MS, 100)  # more than a twentieth: they are the pace
    assert pace.stuck_ns(100) == 2700 * MS


def test_one_call_in_fifty_is_sent_twice_and_few_are_saved_up() -> None:
    s = Scheduler(STEP)
    now = paced(s, HEDGE_CALLS * 100, ms=1)
    hedges = 0
    for calls in range(1, HEDGE_CALLS * 3 + 1):
        stuck(s, now, 10)
        now += 100 * MS
        s.watch(now)
        twin = s.take(two(), now)
        hedges += twin is not None
        # what was saved, and what the calls from then on earned
        assert hedges == min(calls, HEDGES_SAVED + (calls - 1) // HEDGE_CALLS)
        for one in list(s.tickets):
            for batch in s.cancel(one):
                s.dropped(batch)


def full(rate: Rate, per_s: int, since: int) -> int:
    """A second of full work at that rate; the time after it."""
    rate.full(since)
    for ms in range(250, 1001, 250):
        rate.done(per_s // 4, 1, since + ms * MS)
    return since + 1000 * MS


def test_the_rate_is_taken_under_full_work_only() -> None:
    rate = Rate()
    rate.done(1000, 1, 10**9)
    assert rate.per_s == 0
    rate.full(0)
    for ms in (250, 500, 750):  # the first calls of a rush are small
        rate.done(1, 1, ms * MS)
        assert rate.per_s == 0
    rate.done(2500, 1, 1000 * MS)
    assert rate.per_s == 10_000
    rate.idle()
    rate.done(1000, 1, 10**10)
    assert rate.per_s == 10_000
    now = 10**11
    rate.full(now)
    rate.done(500, 1, now + 250 * MS)
    assert rate.per_s == 9_000  # down slowly
    rate.done(5_000, 1, now + 500 * MS)
    assert rate.per_s == 20_000  # up at once


def test_a_rate_is_forgotten_some_time_after_full_work() -> None:
    rate = Rate()
    now = full(rate, 1000, 0)
    assert rate.fresh(now + KEPT_NS + 1)  # it still is full: calls may take long
    rate.idle()
    assert rate.fresh(KEPT_NS) and rate.per_s == 1000
    assert not rate.fresh(KEPT_NS + 1) and rate.per_s == 0
    full(rate, 100, 10**11)
    assert rate.per_s == 100


def test_those_who_are_told_to_come_back_come_no_faster_than_they_are_served() -> None:
    rate = Rate()
    assert rate.promise(1, 0.0, 0) == 1  # nothing known
    rate = Rate()
    full(rate, 1000, 0)
    come: Counter[int] = Counter()
    for n in range(3000):  # refused within a second and a half
        now = n * MS // 2
        seconds = rate.promise(1, 0.4, now)
        come[(now + seconds * 10**9) // (250 * MS)] += 1
    assert max(come.values()) == 200  # of 250 that can be done
    assert min(come) == 4 and all(come[slot] == 200 for slot in range(4, 14))
    assert rate.promise(1, 7.3, 1600 * MS) == 8
    assert rate.promise(1, 99.0, 1600 * MS) == 30
    assert rate.promise(1, 0.0, 60 * 10**9) == 1  # they have been


def test_a_key_that_is_refused_all_the_time_takes_nobodys_promise() -> None:
    rate = Rate()
    now = full(rate, 1000, 0)
    for _ in range(10_000):
        last = rate.promise(1, 0.4, now, "abusive", 0.5)
    assert last == 30
    told = Counter(rate.promise(1, 0.4, now, "other", 0.5) for _ in range(300))
    assert told == {1: 100, 2: 100, 3: 100}  # its half of 200 in a quarter of a second


def test_what_is_ahead_of_a_request() -> None:
    s = Scheduler(STEP)
    assert s.ahead(3) == 3
    s.admit(ticket(*[1] * BULK_SEQUENCES), 0)
    batch = s.take(idle(), 0)
    s.admit(ticket(1, 1), 0)
    assert batch is not None and len(batch.items) == 50
    assert s.ahead(1) == 50 + 2 + 1  # not the rest of the bulk
    assert s.ahead(BULK_SEQUENCES) == 50 + (BULK_SEQUENCES - 50) + 2 + BULK_SEQUENCES
    s.done(batch, 0)
    assert s.ahead(1) == 3


def test_anothers_backlog_is_not_ahead_of_a_request_of_a_key_of_its_own() -> None:
    s = Scheduler(STEP)
    for _ in range(500):
        s.admit(ticket(1, key="many"), 0)
    assert s.ahead(1, "many") == 501
    assert s.ahead(1, "few") == 2  # one of each in turn
    assert s.ahead(3, "few") == 6
    assert s.ahead(3, "few", weight=3) == 4
    s.admit(ticket(*[1] * BULK_SEQUENCES, key="bulk"), 0)
    assert s.ahead(1, "few") == 2  # bulk comes later
    assert s.ahead(100, "few") == 500 + 100 + BULK_SEQUENCES


# -- any order of events ---------------------------------------------------------------------

REPLICAS = ("a", "b", "c")


class Events(RuleBasedStateMachine):
    """Any order of arrivals, answers, failures, refusals, deaths, departures and lateness."""

    @initialize()
    def begin(self) -> None:
        self.s = Scheduler(STEP)
        self.now = 0
        self.tickets: list[Ticket] = []
        self.bad: set[int] = set()  # ids of items the engine refuses: (ticket, index)
        self.answers: Counter[tuple[Ticket, int]] = Counter()
        self.ends: Counter[Ticket] = Counter()
        self.ranks = dict.fromkeys(REPLICAS, 2)
        self.others = dict.fromkeys(REPLICAS, 0)  # tokens of other workers
        self.again: set[Item] = set()  # sent before
        self.taken: dict[tuple[str, str], int] = {}  # lane, key: the order of its last item
        self.calls, self.hedges = 9, 0
        self.s._credit = 9
        self.hedge_calls = mock.patch.object(scheduler, "HEDGE_CALLS", 3)
        self.hedge_calls.start()

    def loads(self) -> list[Load]:
        mine = dict.fromkeys(REPLICAS, 0)
        for batch in self.s.flying():
            mine[batch.replica] += batch.tokens
        return [Load(r, self.ranks[r], mine[r] + self.others[r], mine[r]) for r in REPLICAS]

    @rule(
        sizes=st.lists(st.integers(1, 60), min_size=1, max_size=90),
        bad=st.integers(0, 400),
        patience=st.integers(1, 40),
        key=st.sampled_from("ABCD"),
        weight=st.integers(1, 3),
    )
    def arrives(self, sizes: list[int], bad: int, patience: int, key: str, weight: int) -> None:
        sequences = [[2] * n for n in sizes]
        if bad < len(sequences):
            sequences[bad][0] = 666
        one = Ticket(sequences, deadline=self.now + patience)
        one.key, one.weight = key, weight
        self.tickets.append(one)
        self.s.admit(one, self.now)

    @rule()
    def pumps(self) -> None:
        while True:
            loads = self.loads()
            waited = self.s.waiting
            batch = self.s.take(loads, self.now)
            if batch is None:
                break
            load = next(load for load in loads if load.replica == batch.replica)
            assert load.rank == max(load.rank for load in loads) > 0
            if batch.twin is None:
                self.calls += 1
                assert self.s.waiting == waited - len(batch.items)
                self.in_order(batch)
            else:
                self.hedges += 1
                assert self.hedges * 3 <= self.calls
                assert self.s.waiting == waited
                assert batch.items == batch.twin.live() and batch.replica != batch.twin.replica
            assert 1 <= len(batch.items) <= CALL_SEQUENCES
            assert len(batch.live()) == len(batch.items)
            assert self.s.calls(batch.replica) <= CALLS
            assert load.mine == 0 or load.tokens + batch.tokens <= self.s.budget
        if self.s.waiting and any(self.ranks.values()):
            best = max(self.ranks.values())
            mine = {load.replica: load.mine for load in self.loads()}
            flows = [f.items for lane in self.s.lanes.values() for f in lane.flows.values()]
            queues = (self.s._again, *flows)
            waits = [i for queue in queues for i in queue if i.ticket.over is None]
            large = max((item.tokens for item in waits), default=0) > self.s.call_tokens
            for name in REPLICAS:  # never idle with work, but for what failed there
                if large and self.others[name] > self.s.budget // 4:
                    continue  # it waits for the other workers' calls
                if self.ranks[name] == best and not mine[name]:
                    assert all(name in item.avoid for item in waits)

    def in_order(self, batch: Batch) -> None:
        """What is sent for the first time comes in its key's order."""
        for item in batch.items:
            at = item.ticket.lane, item.ticket.key
            if item.attempts == 0 and item not in self.again:
                assert self.taken.get(at, -1) < item.order
                self.taken[at] = item.order
                self.again.add(item)

    def batch(self, pick: int) -> Batch | None:
        flying = sorted(self.s.flying(), key=lambda b: b.items[0].order)
        return flying[pick % len(flying)] if flying else None

    @rule(pick=st.integers(0, 99), stuck=st.integers(0, 3))
    def answers_come(self, pick: int, stuck: int) -> None:
        for _ in range(stuck):
            self.a_call_is_stuck(pick + 1)
        batch = self.batch(pick)
        if batch is not None:
            self.answer_comes(batch)

    def answer_comes(self, batch: Batch) -> None:
        if any(666 in item.ids for item in batch.items):
            bad = self.s.refused(batch)
            if bad is not None:
                assert 666 in bad.ids
                self.ends[bad.ticket] += 1
            return
        twin = batch.twin
        handed, finished = self.s.done(batch, self.now)
        assert twin is None or (twin.live() == [] and twin in self.s.unwanted())
        for position, item in handed:
            assert batch.items[position] is item
            self.answers[item.ticket, item.index] += 1
        for one in finished:
            self.ends[one] += 1

    def a_call_is_stuck(self, pick: int) -> None:
        batch = self.batch(pick)
        if batch is None or not batch.live() or batch.hedged or batch in self.s.stuck:
            return
        self.s.stuck.append(batch)
        # Elsewhere an answer makes room for its twin.
        for other in [b for b in self.s.flying() if b.replica != batch.replica][:1]:
            self.answer_comes(other)
        self.pumps()

    @rule()
    def the_unwanted_are_dropped(self) -> None:
        self.drop(self.s.unwanted())

    @rule(pick=st.integers(0, 99), stuck=st.booleans())
    def a_call_fails(self, pick: int, stuck: bool) -> None:
        if stuck:
            self.a_call_is_stuck(pick)
        batch = self.batch(pick)
        if batch is not None:
            for item in self.s.failed(batch):
                self.ends[item.ticket] += 1

    @rule(name=st.sampled_from(REPLICAS), rank=st.integers(0, 2))
    def a_verdict_changes(self, name: str, rank: int) -> None:
        self.ranks[name] = rank

    @rule(name=st.sampled_from(REPLICAS))
    def a_replica_dies(self, name: str) -> None:
        self.ranks[name] = 0
        for batch in [b for b in self.s.flying() if b.replica == name]:
            for item in self.s.failed(batch):
                self.ends[item.ticket] += 1
        if not any(self.ranks.values()):
            for one in self.s.abandon():
                self.ends[one] += 1

    @rule(name=st.sampled_from(REPLICAS), tokens=st.integers(0, 300))
    def other_workers_send(self, name: str, tokens: int) -> None:
        self.others[name] = tokens

    def drop(self, batches: list[Batch]) -> None:
        for batch in batches:
            assert not batch.live()
            self.s.dropped(batch)

    @rule(pick=st.integers(0, 99))
    def a_client_leaves(self, pick: int) -> None:
        if self.tickets:
            one = self.tickets[pick % len(self.tickets)]
            was = one.over
            self.drop(self.s.cancel(one))
            if was is None:
                self.ends[one] += 1

    @rule(steps=st.integers(1, 20))
    def time_passes(self, steps: int) -> None:
        self.now += steps
        late, unwanted = self.s.expire(self.now)
        self.drop(unwanted)
        for one in late:
            self.ends[one] += 1

    @invariant()
    def promises(self) -> None:
        assert self.s.sent == sum(len(b.items) for b in self.s.flying())
        assert self.s.waiting == sum(one.waiting for one in self.s.tickets) >= 0
        for name, lane in self.s.lanes.items():
            mine = [one for one in self.s.tickets if one.lane == name]
            assert lane.waiting == sum(one.waiting for one in mine)
            assert lane._weights == sum(flow.weight for flow in lane.flows.values())
            assert {turn[2].key for turn in lane._turns} == set(lane.flows)
            assert len(lane._turns) == len(lane.flows)
            for flow in lane.flows.values():
                assert flow.waiting == sum(one.waiting for one in mine if one.flow is flow)
        for one in self.tickets:
            assert self.ends[one] == (0 if one.over is None else 1)
            if one.over is None:
                flying = {i.index for b in self.s.flying() for i in b.live() if i.ticket is one}
                assert one.left == one.waiting + len(flying)
                assert one.deadline > self.now
        assert all(count == 1 for count in self.answers.values())
        for batch in self.s.flying():
            if batch.twin is not None:
                assert batch.twin.twin is batch and not batch.moot
                assert batch.live() == batch.twin.live()

    def teardown(self) -> None:
        """Let every replica live and answer: then all that is left must come to its end."""
        if not hasattr(self, "s"):
            return
        self.hedge_calls.stop()
        self.ranks = dict.fromkeys(REPLICAS, 2)
        self.others = dict.fromkeys(REPLICAS, 0)
        for _ in range(100_000):
            self.pumps()
            if not self.s.flying():
                break
            self.answers_come(0, 0)
        assert not self.s.tickets and not self.s.waiting
        for one in self.tickets:
            assert self.ends[one] == 1
            if one.over == "done":
                assert all(self.answers[one, i] == 1 for i in range(len(one.sequences)))


TestEvents = Events.TestCase
TestEvents.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_long_days() -> None:
    """The same with many more events than the search above takes, so that twins are common."""
    twins = 0
    for seed in range(120):
        pick, day = random.Random(seed), Events()
        day.begin()
        for _ in range(120):
            what = pick.choices(range(7), (4, 3, 4, 1, 1, 1, 1))[0]
            if what == 0:
                sizes = [pick.randint(1, 60) for _ in range(pick.choice((1, 1, 2, 5, 20)))]
                who = pick.choice("ABCD"), pick.randint(1, 3)
                day.arrives(sizes, pick.randint(0, 100), pick.randint(1, 400), *who)
            elif what == 1:
                day.pumps()
            elif what == 2:
                day.answers_come(pick.randint(0, 99), pick.randint(0, 3))
            elif what == 3:
                day.a_call_fails(pick.randint(0, 99), pick.random() < 0.5)
            elif what == 4:
                day.a_client_leaves(pick.randint(0, 99))
            elif what == 5:
                day.time_passes(pick.randint(1, 20))
            else:
                day.the_unwanted_are_dropped()
            day.promises()
        day.teardown()
        twins += day.hedges
    assert twins > 500


def test_rows_that_lie_side_by_side_are_handed_out_together() -> None:
    one, other = ticket(*[1] * 5), ticket(*[1] * 2)
    a, b = ([Item(t, i, 0) for i in range(n)] for t, n in ((one, 5), (other, 2)))
    handed = [(0, a[0]), (1, a[1]), (2, b[0]), (3, b[1]), (5, a[2]), (6, a[4]), (7, a[3])]
    assert list(runs(handed)) == [
        (0, 2, a[0]),
        (2, 2, b[0]),
        (5, 1, a[2]),
        (6, 1, a[4]),
        (7, 1, a[3]),
    ]
    assert list(runs([])) == []
