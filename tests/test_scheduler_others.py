"""Replicas of other hosts: whom the scheduler asks, and that "busy" loses and doubles nothing."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable

import pytest

from er.scheduler import ATTEMPTS, CALLS, FREE_CALLS, HEDGE_CALLS, Scheduler
from er.scheduler.others import LOOK_NS, LOOKED_AT, TOKENS_S, Others, admits
from er.tickets import Batch, Item, Load, Ticket

FAR = 10**18
MS = 1_000_000
STEP = 100  # batch_tokens here: the budget is 200 tokens, a call 50
NEAR_S = 0.00001  # 2 tokens away
OWN = Load("own", 2, 0, 0)
AWAY = Load("away", 2, 0, 0, NEAR_S)


def ticket(*lengths: int) -> Ticket:
    return Ticket([[1] * n for n in lengths], deadline=FAR)


def scheduler(*lengths: int) -> Scheduler:
    made = Scheduler(STEP)
    if lengths:
        made.admit(ticket(*lengths), 0)
    return made


def chosen(*loads: Load, lengths: tuple[int, ...] = (10,)) -> str | None:
    batch = scheduler(*lengths).take(loads, 0)
    return batch and batch.replica


def test_own_first_until_a_whole_call_more_lies_there() -> None:
    assert chosen(AWAY, OWN) == "own"
    assert chosen(OWN._replace(tokens=52), AWAY) == "own"  # 50 and the way's 2
    assert chosen(OWN._replace(tokens=53), AWAY) == "away"
    assert chosen(OWN._replace(tokens=53), AWAY._replace(tokens=1)) == "own"
    assert chosen(OWN._replace(rank=0), AWAY) == "away"
    assert chosen(OWN._replace(rank=1), AWAY) == "away"
    assert chosen(OWN._replace(tokens=300), AWAY._replace(rank=1)) == "own"


def test_distance_counts_as_what_is_computed_meanwhile() -> None:
    full = OWN._replace(tokens=200, mine=9)
    near, far = AWAY, Load("far", 2, 0, 0, NEAR_S + 20 / TOKENS_S)
    assert chosen(full, far, near) == "away"
    assert chosen(full, far, near._replace(tokens=19)) == "away"
    assert chosen(full, far, near._replace(tokens=21)) == "far"


def test_who_has_an_own_replica_asks_others_only_where_a_whole_call_has_room() -> None:
    full = OWN._replace(tokens=200, mine=9)
    assert chosen(full, AWAY._replace(tokens=150)) == "away"
    assert chosen(full, AWAY._replace(tokens=151)) is None
    # Who has none has one call on its way to each, and leaves it to the owner.
    assert chosen(AWAY._replace(tokens=999)) == "away"
    assert chosen(OWN._replace(rank=0), AWAY._replace(tokens=999)) == "away"
    assert chosen(AWAY._replace(tokens=999, mine=1)) is None


def test_what_waits_for_company_does_not_go_away_instead() -> None:
    s = scheduler()
    for _ in range(FREE_CALLS):
        s.admit(ticket(1), 0)
        taken = s.take([OWN, AWAY], 0)
        assert taken is not None and taken.replica == "own"
    s.admit(ticket(1), 0)
    assert s.take([OWN._replace(tokens=2, mine=2), AWAY], 0) is None


def test_busy_is_no_failure_and_the_sequences_are_first_in_turn() -> None:
    s = scheduler(10, 20)
    full = OWN._replace(tokens=200, mine=9)
    batch = s.take([full, AWAY], 0)
    assert batch is not None and batch.replica == "away" and s.waiting == 0
    s.admit(ticket(5), 0)
    s.busy(batch)
    assert s.waiting == 3 and s.sent == 0 and not s.flying()
    assert s.take([full, AWAY], 0) is None  # not there again
    other = s.take([full, AWAY._replace(replica="other")], 0)
    assert other is not None and [item.tokens for item in other.items] == [10, 20, 5]
    assert all(item.attempts == 0 and not item.avoid for item in other.items)
    handed, finished = s.done(other, 1)
    assert len(handed) == 3 and len(finished) == 2


def test_one_may_be_busy_again_and_again() -> None:
    s = scheduler(10)
    for at in range(ATTEMPTS + 2):
        batch = s.take([AWAY._replace(replica=f"r{at}")], 0)
        assert batch is not None
        s.busy(batch)
    assert s.waiting == 1


def test_what_was_given_up_meanwhile_is_not_queued_by_busy() -> None:
    s = scheduler()
    gone, stays = ticket(10), ticket(20)
    s.admit(gone, 0)
    s.admit(stays, 0)
    batch = s.take([AWAY], 0)
    assert batch is not None
    s.cancel(gone)
    s.busy(batch)
    assert s.waiting == 1


def test_busy_where_a_twin_is_on_its_way_sends_nothing_a_third_time() -> None:
    s = scheduler(10)
    first = s.take([AWAY], 0)
    assert first is not None
    s._credit = HEDGE_CALLS
    s.stuck.append(first)
    twin = s.take([OWN, AWAY], 0)
    assert twin is not None and twin.twin is first and twin.replica == "own"
    s.busy(twin)
    assert s.waiting == 0 and s.flying() == [first]
    s._credit = HEDGE_CALLS
    s.stuck.append(first)
    again = s.take([OWN, AWAY], 0)
    assert again is not None and again.twin is first  # a busy one was none
    s.busy(first)
    assert s.waiting == 0
    assert len(s.done(again, 1)[1]) == 1 and not s.flying()


def test_a_call_stuck_elsewhere_comes_back_to_an_own_replica() -> None:
    """Another replica elsewhere may be the same host's, which is dead."""
    s = scheduler(10)
    full = OWN._replace(tokens=200, mine=9)
    stuck = s.take([full, AWAY], 0)
    assert stuck is not None
    s._credit = HEDGE_CALLS
    s.stuck.append(stuck)
    other = AWAY._replace(replica="other")
    assert s.take([full, other], 0) is None  # it waits for room there
    twin = s.take([OWN._replace(tokens=100, mine=9), other], 0)
    assert twin is not None and twin.twin is stuck and twin.replica == "own"
    s = scheduler(10)
    stuck = s.take([AWAY], 0)
    assert stuck is not None
    s._credit = HEDGE_CALLS
    s.stuck.append(stuck)
    twin = s.take([OWN._replace(rank=0), other], 0)  # who has none asks elsewhere
    assert twin is not None and twin.replica == "other"


def test_calls_elsewhere_have_one_pace() -> None:
    """A worker has few calls to each replica there, and none need be known of one that died."""
    s = scheduler()
    for at in range(16):
        s.admit(ticket(10), 0)
        batch = s.take([AWAY._replace(replica=f"r{at}")], 0)
        assert batch is not None
        s.done(batch, 20 * MS)
    s.admit(ticket(10), 0)
    dead = s.take([AWAY._replace(replica="dead")], 0)
    s.watch(59 * MS)
    assert not s.stuck
    s.watch(61 * MS)
    assert s.stuck == [dead]
    s.admit(ticket(10), 0)
    own = s.take([OWN], 0)
    s.watch(10_000 * MS)
    assert own is not None and s.stuck == [dead]  # of this one nothing is known


# -- who is looked at ---------------------------------------------------------------------------


class Looks:
    """The loads of all others, and how often they were told."""

    def __init__(self, *loads: Load) -> None:
        self.loads, self.times = loads, 0

    def __call__(self) -> Iterable[Load]:
        self.times += 1
        return self.loads


def test_two_of_those_with_room_are_looked_at() -> None:
    names = [f"r{i}" for i in range(9)]
    look = Looks(*(Load(x, 2, 0 if x in "r1r4r7" else 199, 0, NEAR_S) for x in names))
    others, seen = Others(2 * STEP, random.Random(1)), Counter[str]()
    for _ in range(300):
        some = others.some(0, look)
        assert len(some) == len(set(some)) == LOOKED_AT
        seen.update(some)
    assert set(seen) == {"r1", "r4", "r7"} and min(seen.values()) > 150
    assert look.times == 1


def test_all_are_looked_at_again_after_a_while() -> None:
    look = Looks(AWAY)
    others = Others(2 * STEP)
    assert others.some(5, look) == ["away"]
    look.loads = (AWAY._replace(rank=0),)
    assert others.some(5 + LOOK_NS - 1, look) == ["away"]
    assert others.some(5 + LOOK_NS, look) == []
    assert look.times == 2


def test_of_full_ones_some_are_named_all_the_same() -> None:
    """So that nobody is told there is no replica while all are merely full."""
    look = Looks(AWAY._replace(tokens=199), Load("down", 0, 0, 0, NEAR_S))
    assert Others(2 * STEP).some(0, look) == ["away"]


def test_who_was_busy_is_asked_again_when_all_were_looked_at_anew() -> None:
    look = Looks(AWAY)
    others = Others(2 * STEP)
    assert others.some(0, look) == ["away"]
    others.busy("away")
    assert others.some(1, look) == ["away"]  # there, but
    assert others.worth([AWAY]) == []
    assert others.some(LOOK_NS, look) == ["away"] and others.worth([AWAY]) == [AWAY]


@pytest.mark.parametrize(
    ("tokens", "others", "let_in"),
    [(0, 0, True), (150, 10, True), (151, 10, False), (999, 0, True), (190, 190, False)],
)
def test_an_owner_lets_in_what_has_room_and_one_call_in_any_case(
    tokens: int, others: int, let_in: bool
) -> None:
    assert admits(tokens, others, 50, 2 * STEP) is let_in


# -- amid everything ----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(60))
def test_whatever_happens_each_sequence_is_answered_once(seed: int) -> None:
    pick = random.Random(seed)
    s, answers, ends = scheduler(), Counter[tuple[Ticket, int]](), Counter[Ticket]()
    s.others = Others(s.budget, pick)
    tickets = list[Ticket]()
    flying = Counter[str]()
    places = {"own": 0.0, "near": NEAR_S, "far": 0.001, "new": 0.0002}

    def load(name: str) -> Load:
        tokens = flying[name] + (pick.randrange(200) if pick.random() < 0.3 else 0)
        rank = 2 if name != "own" or pick.random() < 0.8 else pick.randrange(2)
        return Load(name, rank, tokens, flying[name], places[name])

    def lost(items: list[Item]) -> None:
        ends.update(item.ticket for item in items)

    def lands(batch: Batch) -> None:
        flying[batch.replica] -= batch.tokens
        how = pick.random()
        if batch.replica != "own" and how < 0.4:
            s.busy(batch)
        elif how < 0.5:
            lost(s.failed(batch))
        else:
            handed, finished = s.done(batch, now)
            answers.update((item.ticket, item.index) for _, item in handed)
            ends.update(finished)
        for unwanted in s.unwanted():
            flying[unwanted.replica] -= unwanted.tokens
            s.dropped(unwanted)

    for now in range(0, 400 * MS, MS):
        if now < 300 * MS and pick.random() < 0.5:
            tickets.append(ticket(*(pick.randint(1, 60) for _ in range(pick.randint(1, 70)))))
            s.admit(tickets[-1], now)
        if pick.random() < 0.02 and s.tickets:
            ends.update([gone := pick.choice(list(s.tickets))])
            for unwanted in s.cancel(gone):
                flying[unwanted.replica] -= unwanted.tokens
                s.dropped(unwanted)
        names = ["own", *s.others.some(now, lambda: [load(x) for x in places if x != "own"])]
        while (batch := s.take([load(name) for name in names], now)) is not None:
            flying[batch.replica] += batch.tokens
            assert s.calls(batch.replica) <= CALLS
        while s.flying() and pick.random() < 0.7:
            lands(pick.choice(s.flying()))
        if pick.random() < 0.1 and s.flying():
            stuck = pick.choice(s.flying())
            if not stuck.hedged and stuck not in s.stuck and stuck.live():
                s.stuck.append(stuck)
                s._credit = HEDGE_CALLS
    now = FAR
    for _ in range(100_000):
        if not s.tickets:
            break
        for batch in s.flying():
            flying[batch.replica] -= batch.tokens
            handed, finished = s.done(batch, now)
            answers.update((item.ticket, item.index) for _, item in handed)
            ends.update(finished)
        while (batch := s.take([Load("own", 2, flying["own"], flying["own"])], now)) is not None:
            flying[batch.replica] += batch.tokens
    assert ends == Counter(tickets)  # each once
    assert all(times == 1 for times in answers.values())
    assert not s.waiting and not s.sent
    for one in tickets:
        if one.over == "done":
            assert all(answers[one, index] == 1 for index in range(len(one.sequences)))
