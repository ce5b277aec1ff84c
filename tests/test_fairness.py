"""Keys share what there is by their weights: in the scheduler's lanes and in the waiting room."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import expected
from er.config import Config, Gateway, Model, Replica
from er.gateway.places import Places
from er.job import Lane, Refusal
from er.keys import Identity
from er.ledger import Ledger
from er.replicas import Replicas
from er.scheduler import DEAD_MAX, Scheduler
from er.scheduler.shares import LARGE_NS
from er.tickets import BULK_SEQUENCES, CALL_SEQUENCES, Batch, Load, Ticket
from fakes import EngineProcess

FAR, STEP = 10**18, 8192
SECOND = 10**9


def ask(s: Scheduler, key: str, *lengths: int, weight: int = 1, now: int = 0) -> Ticket:
    one = Ticket([[1] * n for n in lengths], deadline=FAR)
    one.key, one.weight = key, weight
    s.admit(one, now)
    return one


def take(s: Scheduler, load: Load | None = None, now: int = 0) -> Batch:
    batch = s.take([load or Load("a", 2, 0, 0)], now)
    assert batch is not None
    return batch


def calls(s: Scheduler, count: int, more: Callable[[Batch], None]) -> Iterator[Batch]:
    """So many calls, one after the other; `more` comes before each is answered."""
    for _ in range(count):
        batch = take(s)
        more(batch)
        s.done(batch, 0)
        yield batch


def tokens(batches: Iterator[Batch]) -> Counter[str]:
    found: Counter[str] = Counter()
    for batch in batches:
        for item in batch.items:
            found[item.ticket.key] += item.tokens
    return found


# -- shares ----------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(
    weights=st.lists(st.integers(1, 10), min_size=2, max_size=8),
    bulk=st.booleans(),
    seed=st.integers(0, 1 << 20),
)
def test_backlogged_keys_get_tokens_by_their_weights(
    weights: list[int], bulk: bool, seed: int
) -> None:
    """However long their texts are, in both lanes; long runs come within 5 %."""
    pick = random.Random(seed)
    s = Scheduler(STEP)
    keys = {str(i): (weight, pick.choice((4, 16, 60, 300))) for i, weight in enumerate(weights)}
    each = BULK_SEQUENCES if bulk else 1

    def refill(_: object) -> None:
        for key, (weight, size) in keys.items():
            while waiting(s, key, "bulk" if bulk else "interactive") < 2 * CALL_SEQUENCES:
                ask(s, key, *[pick.randint(1, 2 * size) for _ in range(each)], weight=weight)

    refill(None)
    rounds = 30 * len(weights)
    got = tokens(calls(s, rounds, refill))
    whole, due = sum(got.values()), sum(weights)
    for key, (weight, size) in keys.items():
        fair = whole * weight / due  # but for one text, which may be begun or not
        assert abs(got[key] - fair) <= 0.05 * fair + 2 * size


def test_a_key_with_one_large_text_at_a_time_gets_no_more_than_its_share() -> None:
    """Its next one comes once the last was sent: it is never two deep in the queue."""
    s = Scheduler(STEP)

    def refill(_: object) -> None:
        while s.lanes["interactive"].waiting < 300:
            ask(s, "small", 16)
        if not waiting(s, "large"):
            ask(s, "large", 3500)

    refill(None)
    got = tokens(calls(s, 400, refill))
    assert got["large"] / got["small"] == pytest.approx(1, rel=0.05)


def waiting(s: Scheduler, key: str, lane: Lane = "interactive") -> int:
    flow = s.lanes[lane].flows.get(key)
    return 0 if flow is None else flow.waiting


def test_who_stays_away_saves_up_nothing() -> None:
    s = Scheduler(STEP)

    def refill(_: object) -> None:
        while s.lanes["interactive"].waiting < 600:
            ask(s, "always", 16)

    refill(None)
    assert tokens(calls(s, 50, refill))["always"] == 50 * CALL_SEQUENCES * 16
    for _ in range(1000):
        ask(s, "late", 16)
    got = tokens(calls(s, 10, refill))
    assert abs(got["late"] - got["always"]) <= 2 * 16


@settings(max_examples=20, deadline=None)
@given(
    others=st.lists(st.integers(1, 400), min_size=1, max_size=8),
    size=st.integers(1, 400),
    before=st.integers(0, 10),
)
def test_a_newcomer_waits_for_one_text_of_each_at_most(
    others: list[int], size: int, before: int
) -> None:
    """So nobody starves: whatever the others have waiting, and however long they have been."""
    s = Scheduler(STEP)
    for count in (200, *[CALL_SEQUENCES] * before):
        for i, length in enumerate(others):
            while waiting(s, str(i)) < count:
                ask(s, str(i), length)
        s.done(take(s), 0)
    mine = ask(s, "new", size)
    served: Counter[str] = Counter()
    while mine.waiting:
        batch = take(s)
        for item in batch.items:
            if item.ticket is mine:
                break
            served[item.ticket.key] += 1
        s.done(batch, 0)
    assert all(count <= 1 for count in served.values())


def test_a_lighter_key_is_next_and_its_own_order_is_kept() -> None:
    s = Scheduler(STEP)
    for _ in range(1000):
        ask(s, "many", 16)
    mine = [ask(s, "few", 16 + i) for i in range(5)]
    first = [item.ticket for item in take(s).items if item.ticket.key == "few"]
    assert first == mine


def test_a_weight_may_change_while_texts_wait() -> None:
    s = Scheduler(STEP)

    def refill(_: object) -> None:
        for key, weight in (("a", 3), ("b", 1)):
            while waiting(s, key) < 300:
                ask(s, key, 16, weight=weight)

    ask(s, "a", 16, weight=1)
    refill(None)
    got = tokens(calls(s, 100, refill))
    assert got["a"] / got["b"] == pytest.approx(3, rel=0.02)


# -- what one key may not do to others -------------------------------------------------------


def test_beside_a_small_client_a_key_with_much_waiting_keeps_to_two_calls() -> None:
    """As bulk does; what the small one asks then has two calls before it, not four."""
    s = Scheduler(STEP)
    for _ in range(1000):
        ask(s, "many", 1)
    assert [len(take(s).items) for _ in range(2)] == [CALL_SEQUENCES] * 2
    ask(s, "few", 1, now=5)
    third = take(s, now=5)
    assert [item.ticket.key for item in third.items] == ["few"]
    assert s.take([Load("a", 2, 0, 0)], 5 + SECOND - 1) is None
    for _ in range(CALL_SEQUENCES):
        ask(s, "many", 1, now=5 + SECOND)
    assert len(take(s, now=5 + SECOND).items) == CALL_SEQUENCES


def test_bulk_has_its_turn_however_many_small_ones_come() -> None:
    """They fill every call there is; each fourth begins with bulk all the same."""
    s = Scheduler(STEP)
    ask(s, "bulk", *[16] * 2000)
    lanes: Counter[str] = Counter()
    flying: list[Batch] = []
    for now in range(200):
        while s.lanes["interactive"].waiting < 1000:
            ask(s, "small", 16, now=now)
        while (batch := s.take([Load("a", 2, 1, 1)], now)) is not None:
            flying.append(batch)
        lanes.update(item.ticket.lane for item in flying[0].items)
        s.done(flying.pop(0), now)
    assert lanes["bulk"] == 2000 or lanes["bulk"] / sum(lanes.values()) > 0.2


def test_beside_many_a_key_has_its_share_in_flight_and_they_have_theirs() -> None:
    """Whoever has more waiting: the engine's queue is shared as ours is. By weight."""
    s, most = Scheduler(STEP), 4 * CALL_SEQUENCES
    for key, weight in (("a", 1), ("b", 2), ("c", 1), ("flood", 4)):
        for _ in range(2000 if key == "flood" else 200):
            ask(s, key, 1, weight=weight)
    sent: Counter[str] = Counter()
    while (batch := s.take([Load("x", 2, 0, 0)], 0)) is not None:
        sent.update(item.ticket.key for item in batch.items)
    assert sum(sent.values()) == pytest.approx(most, abs=8)
    for key, share in (("a", 1), ("b", 2), ("c", 1), ("flood", 4)):
        assert sent[key] == pytest.approx(most * share / 8, abs=4)


def test_alone_a_key_has_all_four_calls() -> None:
    s = Scheduler(STEP)
    for _ in range(1000):
        ask(s, "many", 1)
    assert [len(take(s).items) for _ in range(4)] == [CALL_SEQUENCES] * 4


def test_flows_and_the_texts_of_those_who_left_are_let_go() -> None:
    s = Scheduler(STEP)
    stays = [ask(s, f"k{i}", 8000, 8000) for i in range(3)]
    for i in range(2000):
        for batch in s.cancel(ask(s, f"left{i % 50}", *[1] * 20)):
            s.dropped(batch)
    lane = s.lanes["interactive"]
    assert sum(len(flow.items) for flow in lane.flows.values()) <= DEAD_MAX + 40
    assert len(lane.flows) <= 53
    for one in stays:
        s.cancel(one)
    assert not lane.flows and not lane._turns and s.waiting == 0


# -- the places of max_concurrency -----------------------------------------------------------


def who(name: str, weight: int = 1) -> Identity:
    return Identity(id=name, name=name, rate_limit=None, weight=weight)


@pytest.fixture
def ledgers(tmp_path: Path) -> Iterator[list[Ledger]]:
    made = []
    for slot in range(2):
        made.append(Ledger.open(tmp_path / "ledger", []))
        # A slot each, as workers have: this process stands for both.
        made[-1].claim(slot)
    yield made
    for ledger in made:
        ledger.close()


def fill(places: Places, one: Identity, most: int = 10_000) -> int:
    """How many places it gets."""
    for count in range(most):
        if not places.enter(one):
            return count
    return most


def test_one_key_alone_leaves_a_twentieth_for_others(ledgers: list[Ledger]) -> None:
    places = Places(ledgers[0], 500)
    assert fill(places, who("abusive")) == 475
    assert not places.held(who("abusive")).full and places.held(who("abusive")).mine == 475
    assert fill(places, who("other")) == 25
    assert places.held(who("third")) == (0, 500, True)
    for _ in range(200):
        places.leave(who("abusive"))
        assert places.enter(who("other"))  # below its half, the other is not
        assert not places.enter(who("abusive"))


def test_a_key_in_one_worker_is_not_refused_beside_a_flood(ledgers: list[Ledger]) -> None:
    """Its connections lie unevenly, so it seems to have more than its share."""
    here, there = (Places(ledger, 400) for ledger in ledgers)
    for places, most in ((here, 18), (there, 2)):
        for number in range(10):
            for _ in range(most if number == 0 else 4):
                assert places.enter(who(f"k{number}"))
    for _ in range(400):
        here.enter(who("flood"))
        there.enter(who("flood"))
    assert 300 <= ledgers[0].in_flight() < 390 and not here.enter(who("flood"))
    assert 20 * 18 > 19 * 400 / 2 / 11  # its share, were its connections spread
    for _ in range(8):
        assert here.enter(who("k0"))


def test_two_keys_come_to_their_shares_by_weight(ledgers: list[Ledger]) -> None:
    places, pick = Places(ledgers[0], 400), random.Random(5)
    keys = [who("a", 3), who("b", 1)]
    held: Counter[str] = Counter()
    for _ in range(20_000):
        one = pick.choice(keys)
        if places.enter(one):
            held[one.id] += 1
        if sum(held.values()) > 390 or pick.random() < 0.4:
            (left,) = pick.choices(keys, [held["a"], held["b"]])
            places.leave(left)
            held[left.id] -= 1
    assert held["a"] / held["b"] == pytest.approx(3, rel=0.15)


def test_few_places_are_all_one_keys_and_nothing_is_left_behind(ledgers: list[Ledger]) -> None:
    for limit in (1, 2, 3, 19):
        places = Places(ledgers[0], limit)
        assert fill(places, who("a")) == limit
        assert not places.enter(who("b"))
        for _ in range(limit):
            places.leave(who("a"))
        assert not places._held and places._weights == places._here == 0
        assert ledgers[0].in_flight() == 0


def test_over_two_workers_the_number_is_exact_and_a_newcomer_gets_in(
    ledgers: list[Ledger],
) -> None:
    first, second = (Places(ledger, 500) for ledger in ledgers)
    while first.enter(who("abusive")) or second.enter(who("abusive")):
        pass
    before = ledgers[0].in_flight()
    assert 465 <= before <= 485
    assert fill(first, who("other")) > 0 and fill(second, who("third")) == 0
    assert ledgers[0].in_flight() == 500


# -- all of it at once -----------------------------------------------------------------------


async def test_many_keys_and_replicas_that_die_none_lost_none_wrong(tmp_path: Path) -> None:
    """Random weights and sizes, both lanes, clients that leave: right, or honestly refused."""
    pick, dim = random.Random(7), 16
    with EngineProcess(dim=dim) as first, EngineProcess(dim=dim) as second:
        engines = [first, second]
        model = Model(name="m", task="embed", path=Path("/none"), batch_tokens=512)
        replicas = tuple(
            Replica(name=f"r{i}", model="m", url=one.address) for i, one in enumerate(engines)
        )
        told = Config(gateway=Gateway(), models=(model,), replicas=replicas, source=Path("er.toml"))
        ledger = Ledger.open(tmp_path / "ledger", ["r0", "r1"])
        ledger.claim(0)
        made = Replicas(told, {"m": dim}, ledger)
        for name in ("r0", "r1"):
            ledger.set_verdict(name, "up", "", time.time())
        said: Counter[str] = Counter()

        async def client(key: str, weight: int) -> None:
            for _ in range(6):
                texts = [
                    [pick.randrange(1000, 90_000) for _ in range(pick.randint(1, 60))]
                    for _ in range(pick.choice((1, 1, 1, 3, 90)))
                ]
                asked = asyncio.create_task(
                    made.run(
                        "m",
                        "embed",
                        texts,
                        deadline=time.monotonic_ns() + 20 * SECOND,
                        request_id=key,
                        key=key,
                        weight=weight,
                    )
                )
                if pick.random() < 0.1:
                    await asyncio.sleep(pick.random() / 50)
                    asked.cancel()
                try:
                    result = await asked
                except asyncio.CancelledError:
                    said["left"] += 1
                except Refusal as refusal:
                    assert refusal.status == 503 and refusal.retry_after_s, refusal.message
                    said["refused"] += 1
                    await asyncio.sleep(0.05)
                else:
                    wanted = [expected(ids, dim) for ids in texts]
                    assert np.array_equal(result.values, wanted)
                    said["right"] += 1

        async def kills() -> None:
            for turn in range(4):
                await asyncio.sleep(0.4)
                one, name = engines[turn % 2], f"r{turn % 2}"
                await asyncio.to_thread(one.kill)
                await asyncio.sleep(0.2)
                await asyncio.to_thread(one.start)
                ledger.set_verdict(name, "up", "", time.time())

        clients = [client(f"k{i % 15}", pick.randint(1, 9)) for i in range(60)]
        await asyncio.gather(kills(), *clients)
        assert sum(said.values()) == 60 * 6 and said["right"] > 240
        lanes = made.movers["m"].scheduler.lanes.values()
        assert not any(lane.flows or lane.waiting for lane in lanes)
        assert ledger.tokens_in_flight("r0") == ledger.tokens_in_flight("r1") == 0
        await made.close()
        ledger.close()


def test_a_large_text_waits_for_others_calls_in_other_workers() -> None:
    """Not of each worker one at once; but not for ever, and not where nobody else asks."""
    far = 10 * SECOND

    def worker() -> Scheduler:
        s = Scheduler(STEP)
        ask(s, "short", 4, now=far)
        s.done(take(s, now=far), far)
        ask(s, "long", STEP, now=far)
        return s

    busy, freer = Load("a", 2, STEP, 0), Load("a", 2, STEP // 2, 0)
    alone = Scheduler(STEP)
    ask(alone, "long", STEP, now=far)
    assert alone.take([busy], far) is not None
    assert worker().take([busy], far) is None
    assert worker().take([freer], far) is not None
    assert worker().take([busy], far + LARGE_NS) is not None
