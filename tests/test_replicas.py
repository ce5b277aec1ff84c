"""The mover against engine processes that die, lie, hang, refuse: nothing lost or swapped."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from engine import expected, expected_score
from er import metrics
from er.config import Config, Gateway, Model, Replica
from er.job import Refusal
from er.ledger import Ledger
from er.replicas import Replicas, mover
from er.replicas.pools import Left, Request, Result, headers_of
from er.scheduler import FREE_CALLS
from er.tickets import Item
from fakes import EngineProcess, until

DIM = 16
SECOND_NS = 10**9


@pytest.fixture(scope="module")
def processes() -> Iterator[list[EngineProcess]]:
    with ExitStack() as stack:
        yield [stack.enter_context(EngineProcess(dim=DIM)) for _ in range(2)]


@pytest.fixture
def engines(processes: list[EngineProcess]) -> list[EngineProcess]:
    """Two engines for the embed model, as new; r0 and r1 in the ledger."""
    return [engine.fresh() for engine in processes]


def config_of(addresses: list[str], *, batch_tokens: int = 512, task: str = "embed") -> Config:
    model = Model(name="m", task=task, path=Path("/none"), batch_tokens=batch_tokens)  # type: ignore[arg-type]
    replicas = tuple(Replica(name=f"r{i}", model="m", url=a) for i, a in enumerate(addresses))
    return Config(gateway=Gateway(), models=(model,), replicas=replicas, source=Path("er.toml"))


class Worker:
    """A ledger and the Replicas on it."""

    def __init__(self, path: Path, addresses: list[str], **options: object) -> None:
        self.config = config_of(addresses, **options)  # type: ignore[arg-type]
        self.ledger = Ledger.open(path, [r.name for r in self.config.replicas])
        self.ledger.claim(0)
        for replica in self.config.replicas:
            self.ledger.set_verdict(replica.name, "up", "", time.time())
        self.replicas = Replicas(self.config, {"m": DIM}, self.ledger)

    async def run(self, sequences: list[list[int]], timeout_s: float = 20.0) -> Result:
        deadline = time.monotonic_ns() + int(timeout_s * SECOND_NS)
        return await self.replicas.run(
            "m", self.config.models[0].task, sequences, deadline=deadline, request_id="r"
        )

    async def right(self, sequences: list[list[int]]) -> Result:
        """Run, and compare every vector with the expected one."""
        result = await self.run(sequences)
        assert result.values.shape == (len(sequences), DIM)
        for row, ids in zip(result.values, sequences, strict=True):
            assert np.array_equal(row, expected(ids, DIM))
        return result

    async def refused(self, sequences: list[list[int]], timeout_s: float = 20.0) -> Refusal:
        with pytest.raises(Refusal) as caught:
            await self.run(sequences, timeout_s)
        return caught.value

    def idle(self) -> bool:
        names = [r.name for r in self.config.replicas]
        return not any(map(self.ledger.tokens_in_flight, names)) and not self.replicas.queued()


@pytest.fixture
async def worker(tmp_path: Path, engines: list[EngineProcess]) -> AsyncIterator[Worker]:
    worker = Worker(tmp_path / "ledger", [engine.address for engine in engines])
    yield worker
    assert worker.idle()
    await worker.replicas.close()
    worker.ledger.close()


@pytest.fixture
async def single(tmp_path: Path, engines: list[EngineProcess]) -> AsyncIterator[Worker]:
    """Only the first engine serves."""
    worker = Worker(tmp_path / "ledger", [engines[0].address])
    yield worker
    assert worker.idle()
    await worker.replicas.close()
    worker.ledger.close()


def texts(count: int, seed: int = 0, longest: int = 40) -> list[list[int]]:
    pick = random.Random(seed)
    return [
        [pick.randrange(1000, 100_000) for _ in range(pick.randint(1, longest))]
        for _ in range(count)
    ]


# -- all is well -----------------------------------------------------------------------------


async def test_a_lone_request_goes_at_once(worker: Worker) -> None:
    result = await worker.right([[1, 2, 3]])
    assert result.queue_ns < 50_000_000
    assert result.engine_ns > 0
    assert result.replicas in (("r0",), ("r1",))


async def test_many_at_once_are_merged_and_balanced(
    worker: Worker, engines: list[EngineProcess]
) -> None:
    await asyncio.gather(*(worker.right(texts(1, seed)) for seed in range(300)))
    seen = [engine.seen() for engine in engines]
    assert sum(s["items"] for s in seen) == 300
    assert all(
        s["calls"] < 60 and s["items"] > 30 for s in seen
    )  # one may be slower than the other
    assert all(s["in_flight_max"] <= 4 and s["tokens_in_flight_max"] <= 1024 for s in seen)


async def test_a_large_request_is_split_over_replicas(worker: Worker) -> None:
    result = await worker.right(texts(500))
    assert set(result.replicas) == {"r0", "r1"}


async def test_scores_are_in_the_order_of_the_request(tmp_path: Path) -> None:
    with EngineProcess(task="classify") as engine:
        worker = Worker(tmp_path / "ledger", [engine.address], task="score")
        documents = texts(100)
        values = (await worker.run(documents)).values
        assert values.tolist() == [expected_score(ids) for ids in documents]
        await worker.replicas.close()
        worker.ledger.close()


async def test_bulk_does_not_starve_and_interactive_goes_first(single: Worker) -> None:
    bulk = asyncio.create_task(single.right(texts(2000)))
    await asyncio.sleep(0)
    small = [asyncio.create_task(single.right(texts(1, seed))) for seed in range(20)]
    await asyncio.gather(*small)
    assert not bulk.done()
    await bulk


def test_the_call_of_several_requests_has_the_first_one_s_id_and_the_first_trace() -> None:
    """A request id never makes a header of its own."""

    def request(name: str, trace: bytes = b"") -> Request:
        found = Request([[1], [2]], 0, None, lambda *_: None, lambda *_: None)
        found.request_id, found.trace = name, trace
        return found

    one, other = request("a\r\nx-evil: 1\nb ü"), request("b", b"\r\ntraceparent: t")
    items = [Item(ticket, 0, 0) for ticket in (one, other, request("c", b"\r\nno"))]
    assert headers_of(items) == b"\r\nx-request-id: ax-evil:1b\r\ntraceparent: t"
    assert headers_of(items[:1]) == b"\r\nx-request-id: ax-evil:1b"


# -- without a coroutine ---------------------------------------------------------------------


class Told:
    """What a request's `done` was called with."""

    def __init__(self, worker: Worker, *, also: Callable[[], object] = lambda: None) -> None:
        self.calls: list[tuple[Result | None, BaseException | None]] = []
        self._worker, self._also = worker, also

    def __call__(self, result: Result | None, error: BaseException | None) -> None:
        self.calls.append((result, error))
        self._also()

    def start(self, sequences: list[list[int]], timeout_s: float = 20.0) -> Request:
        deadline = time.monotonic_ns() + int(timeout_s * SECOND_NS)
        request = self._worker.replicas.start(
            "m", "embed", sequences, deadline=deadline, request_id="r", done=self
        )
        assert not self.calls  # never from inside
        return request


async def test_who_starts_is_told_once(worker: Worker, engines: list[EngineProcess]) -> None:
    asked = [texts(1 + seed % 4, seed) for seed in range(50)]
    told = [Told(worker) for _ in asked]
    for one, sequences in zip(told, asked, strict=True):
        one.start(sequences)
    await until(lambda: all(one.calls for one in told))
    for one, sequences in zip(told, asked, strict=True):
        ((result, error),) = one.calls
        assert error is None and result is not None
        for row, ids in zip(result.values, sequences, strict=True):
            assert np.array_equal(row, expected(ids, DIM))
    for engine in engines:
        engine.fault("400_if_id", id=7)
    bad, late = Told(worker), Told(worker)
    bad.start([[5], [7]])
    await until(lambda: bool(bad.calls))
    ((result, error),) = bad.calls
    assert result is None and isinstance(error, Refusal) and error.status == 400
    for engine in engines:
        engine.fault("hang", 1)
    late.start([[1]], timeout_s=0.1)
    await until(lambda: bool(late.calls))
    ((result, error),) = late.calls
    assert result is None and isinstance(error, Refusal) and error.status == 504


async def test_who_cancels_is_told_nothing(single: Worker, engines: list[EngineProcess]) -> None:
    engines[0].fault("hang", 1)
    told, stays = Told(single), Told(single)
    request = told.start([[1, 2]])
    await until(lambda: engines[0].seen()["in_flight"] == 1)
    stays.start([[3]])
    request.cancel()
    request.cancel()
    await until(lambda: engines[0].seen()["in_flight"] == 0 and bool(stays.calls))
    over = Told(single)
    over.start([[4]])
    await until(lambda: bool(over.calls))
    assert told.calls == [] and len(stays.calls) == len(over.calls) == 1


async def test_what_a_callback_does_is_its_own_affair(single: Worker) -> None:
    """It may ask again, cancel a neighbour of the same call, or break: all others are told once."""
    more, victim = Told(single), Told(single)

    def meddle() -> None:
        more.start([[9]])
        request.cancel()
        raise RuntimeError("a mistake elsewhere")

    first, last = Told(single, also=meddle), Told(single)
    first.start([[1]])
    request = victim.start([[2]])
    last.start([[3]])
    await until(lambda: bool(last.calls and more.calls))
    assert [len(t.calls) for t in (first, victim, last, more)] == [1, 0, 1, 1]
    result = last.calls[0][0]
    assert result is not None and np.array_equal(result.values[0], expected([3], DIM))


# -- replicas that fail ----------------------------------------------------------------------


async def under_load(worker: Worker, requests: int, during: object = None) -> None:
    """`requests` of mixed sizes from 24 clients, each answer compared; `during` is called once."""
    left = iter(range(requests))

    async def client() -> None:
        for seed in left:
            if seed == requests // 3 and callable(during):
                during()
            await worker.right(texts(1 + seed % 7 * (seed % 3), seed))

    await asyncio.gather(*(client() for _ in range(24)))


async def test_one_is_killed_under_load(worker: Worker, engines: list[EngineProcess]) -> None:
    await under_load(worker, 600, engines[1].kill)
    verdict = worker.ledger.verdict("r1")
    assert verdict.state == "down" and "onnection" in verdict.reason
    engines[1].start()
    calls = engines[1].seen()["calls"]
    await under_load(worker, 50)
    assert engines[1].seen()["calls"] == calls  # only a true inference brings it back
    worker.ledger.set_verdict("r1", "up", "probed", time.time())
    await under_load(worker, 100)
    assert engines[1].seen()["calls"] > calls


@pytest.mark.parametrize("fault", ["exit", "reset", "cut", "500", "503"])
async def test_failures_under_load_are_invisible(
    worker: Worker, engines: list[EngineProcess], fault: str
) -> None:
    await under_load(worker, 300, lambda: engines[0].fault(fault, 3))
    assert worker.ledger.verdict("r1").state == "up"


@pytest.mark.parametrize("fault", ["nan", "short", "long", "wrong_type"])
async def test_lies_never_reach_a_client(
    worker: Worker, engines: list[EngineProcess], fault: str
) -> None:
    engines[0].fault(fault)
    await under_load(worker, 200)
    verdict = worker.ledger.verdict("r0")
    assert verdict.state == "down" and verdict.wrong >= 1
    assert verdict.reason.startswith(("it answered", "it gave"))
    calls = engines[0].seen()["calls"]
    assert calls <= 4  # those on their way when the first lie was seen
    await under_load(worker, 20)
    assert engines[0].seen()["calls"] == calls


async def test_a_connection_that_breaks_once_is_nothing(
    single: Worker, engines: list[EngineProcess]
) -> None:
    for fault in ("reset", "cut", "500"):
        engines[0].fault(fault, 1)
        await single.right(texts(3))
        assert single.ledger.verdict("r0").state == "up"


async def test_no_replica_left_is_503_at_once(single: Worker, engines: list[EngineProcess]) -> None:
    engines[0].fault("hang")
    flying = asyncio.create_task(single.refused(texts(300)))
    await until(lambda: engines[0].seen()["in_flight"] == 4)
    engines[0].kill()
    refusal = await asyncio.wait_for(flying, 5)
    assert (refusal.status, refusal.code) == (503, "no_healthy_replica")
    assert "r0 is down" in refusal.message
    began = time.monotonic()
    refusal = await single.refused([[1]])
    assert time.monotonic() - began < 0.1
    assert refusal.retry_after_s is not None and 50 <= refusal.retry_after_s <= 60


async def test_a_replica_nobody_knows_is_tried(
    single: Worker, engines: list[EngineProcess]
) -> None:
    single.ledger.set_verdict("r0", "unknown", "", time.time())
    await single.right(texts(3))
    single.ledger.set_verdict("r0", "starting", "loading weights", time.time())
    refusal = await single.refused([[1]])
    assert "r0 is starting (loading weights)" in refusal.message
    single.ledger.set_verdict("r0", "down", "", time.time() - 60)  # the prober died
    await single.right(texts(3))


async def test_an_engine_that_is_always_full(single: Worker, engines: list[EngineProcess]) -> None:
    engines[0].fault("503")
    refusal = await single.refused([[1]])
    assert (refusal.status, refusal.code, refusal.retry_after_s) == (503, "overloaded", 1)
    assert single.ledger.verdict("r0").state == "up"


async def test_what_breaks_every_replica_is_given_up_in_three_calls(
    worker: Worker, engines: list[EngineProcess]
) -> None:
    for engine in engines:
        engine.fault("500", 2)
    refusal = await worker.refused([[1]])
    assert refusal.status in (500, 503)
    assert sum(engine.seen()["calls"] for engine in engines) <= 3


# -- texts without numbers ----------------------------------------------------------------------


async def test_a_text_that_has_no_numbers_takes_one_replica_out_and_not_all(
    worker: Worker, engines: list[EngineProcess], capfd: pytest.CaptureFixture[str]
) -> None:
    """Its neighbours are answered, it fails by itself, and again at once when it comes again."""
    for engine in engines:
        engine.fault("nan_if_id", id=7)
        engine.fault("slow", 8, ms=50)  # so that the rest is merged
    good = [asyncio.create_task(worker.right(texts(1 + seed % 3, seed))) for seed in range(60)]
    bad = asyncio.create_task(worker.refused([[5], [6, 7], [8]]))
    refusal = await bad
    await asyncio.gather(*good)
    assert (refusal.status, refusal.code) == (500, "internal_error")
    assert "Item 1 gets no right numbers" in refusal.message and "gave NaN" in refusal.message
    assert refusal.spent is not None and refusal.spent.engine_ns > 0
    verdicts = [worker.ledger.verdict(name) for name in ("r0", "r1")]
    assert sorted(verdict.state for verdict in verdicts) == ["down", "up"]
    assert sum(verdict.wrong for verdict in verdicts) == 1
    out = worker.ledger
    for name in ("r0", "r1"):  # the other one was started anew
        out.set_verdict(name, "up", "", time.time())
    for _ in range(5):
        assert (await worker.refused([[6, 7]])).status == 500
        await worker.right(texts(20))
    assert [out.verdict(name).state for name in ("r0", "r1")] == ["up", "up"]
    said = [line for line in capfd.readouterr().out.splitlines() if "no right numbers" in line]
    assert len(said) == 6 and "item 1 of request r gets no right numbers anywhere" in said[0]


async def test_a_lone_replica_is_proven_before_a_text_is_blamed(
    single: Worker, engines: list[EngineProcess]
) -> None:
    engines[0].fault("nan_if_id", id=7)
    refusal = await single.refused([[7]])
    assert (refusal.status, refusal.code) == (503, "no_healthy_replica")
    assert "r0 is down (it gave NaN)" in refusal.message
    assert (await single.refused([[1]])).code == "no_healthy_replica"
    assert engines[0].seen()["calls"] == 1
    single.ledger.set_verdict("r0", "up", "", time.time())
    assert (await single.refused([[7]])).status == 500
    await single.right([[1]])
    assert single.ledger.verdict("r0").state == "up"
    engines[0].fault("none")
    await single.right([[7]])  # right now: what was held against it is forgotten
    engines[0].fault("nan", 1)
    assert (await single.refused([[7]])).code == "no_healthy_replica"


async def test_a_lying_replica_is_not_a_texts_fault(
    worker: Worker, engines: list[EngineProcess]
) -> None:
    """The same text in call after call to it, all of them on their way when it is found out."""
    engines[0].fault("nan")
    engines[0].fault("slow", 4, ms=100)
    await asyncio.gather(*(worker.right([[7], *texts(3, seed)]) for seed in range(30)))
    assert [worker.ledger.verdict(name).state for name in ("r0", "r1")] == ["down", "up"]


@pytest.mark.parametrize("fault", ["zero", "long_vector"])
async def test_vectors_of_another_length_are_asked_for_again(
    worker: Worker, engines: list[EngineProcess], fault: str
) -> None:
    engines[0].fault(fault)
    await under_load(worker, 100)
    verdict = worker.ledger.verdict("r0")
    assert verdict.state == "down" and "it gave a vector of length" in verdict.reason


async def test_scores_beyond_1_are_asked_for_again(tmp_path: Path) -> None:
    with EngineProcess(task="classify") as liar, EngineProcess(task="classify") as engine:
        liar.fault("long_vector")
        worker = Worker(tmp_path / "ledger", [liar.address, engine.address], task="score")
        for seed in range(20):
            documents = texts(10, seed)
            values = (await worker.run(documents)).values
            assert values.tolist() == [expected_score(ids) for ids in documents]
        assert "not within 0 to 1" in worker.ledger.verdict("r0").reason
        await worker.replicas.close()
        worker.ledger.close()


# -- bad sequences ---------------------------------------------------------------------------


async def test_a_bad_sequence_does_not_harm_its_neighbours(
    worker: Worker, engines: list[EngineProcess]
) -> None:
    for engine in engines:
        engine.fault("400_if_id", id=7)
        engine.fault("slow", 8, ms=50)  # so that the rest is merged
    good = [asyncio.create_task(worker.right(texts(1 + seed % 3, seed))) for seed in range(60)]
    bad = asyncio.create_task(worker.refused([[5], [6, 7], [8]]))
    more = [asyncio.create_task(worker.right(texts(1, seed))) for seed in range(60, 120)]
    refusal = await bad
    assert (refusal.status, refusal.code) == (400, "invalid_request")
    assert refusal.spent is not None and refusal.spent.engine_ns > 0
    assert refusal.spent.replicas
    assert "item 1" in refusal.message and "out of vocabulary" in refusal.message
    await asyncio.gather(*good, *more)
    assert all(worker.ledger.verdict(name).state == "up" for name in ("r0", "r1"))


async def test_a_mistake_of_ours_is_500_and_not_a_hang(worker: Worker) -> None:
    refusal = await worker.refused([[2**70]])
    assert (refusal.status, refusal.code) == (500, "internal_error")
    assert worker.ledger.verdict("r0").state == "up"


# -- time ------------------------------------------------------------------------------------


async def test_the_deadline_is_504_and_frees_the_engine(
    single: Worker, engines: list[EngineProcess]
) -> None:
    engines[0].fault("hang")
    waiting = asyncio.create_task(single.refused(texts(200), timeout_s=0.3))
    refusal = await single.refused([[1]], timeout_s=0.2)
    assert (refusal.status, refusal.code) == (504, "timeout")
    waited = await waiting
    assert waited.status == 504
    assert refusal.spent is not None and waited.spent is not None
    assert refusal.spent.replicas == waited.spent.replicas == ("r0",)
    assert refusal.spent.engine_ns > 0
    assert min(waited.spent[:2]) > 0  # some of its 200 were on their way, the others waited
    assert 0.25 * SECOND_NS < sum(waited.spent[:2]) < SECOND_NS
    assert single.replicas.queued() == 0
    await until(lambda: engines[0].seen()["in_flight"] == 0)
    engines[0].fault("none")
    await single.right(texts(5))
    assert single.ledger.verdict("r0").state == "up"  # lateness of a request blames nobody


async def test_a_deadline_passed_before_the_call_blames_nobody(single: Worker) -> None:
    """The time went on reading or tokenising a large body: the replica had no part in it."""
    await single.right([[1]])
    refusal = await single.refused([[1]], timeout_s=-1.5)
    assert (refusal.status, refusal.code) == (504, "timeout")
    await single.right([[2]])
    assert single.ledger.verdict("r0").state == "up"


async def test_who_leaves_takes_their_sequences_along(
    single: Worker, engines: list[EngineProcess]
) -> None:
    engines[0].fault("hang")
    tasks = [asyncio.create_task(single.run(texts(30, seed))) for seed in range(10)]
    await until(lambda: engines[0].seen()["in_flight"] == 4)
    assert single.replicas.queued() > 0
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert single.replicas.queued() == 0
    await until(lambda: engines[0].seen()["in_flight"] == 0)
    gone = asyncio.create_task(single.run([[1]]))
    await asyncio.sleep(0)  # admitted, and gone before it was sent
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    engines[0].fault("none")
    await single.right(texts(5))


async def test_what_is_late_or_left_before_it_was_sent_never_reaches_an_engine(
    single: Worker, engines: list[EngineProcess]
) -> None:
    engines[0].fault("slow", FREE_CALLS, ms=400)
    ahead = []
    for seed in range(FREE_CALLS):  # a call each, so that what comes after waits
        ahead.append(asyncio.create_task(single.right(texts(1, seed))))
        await until(lambda n=seed + 1: engines[0].seen()["in_flight"] == n)
    late = [asyncio.create_task(single.refused(texts(3, 9), timeout_s=0.1)) for _ in range(5)]
    leaves = [asyncio.create_task(single.run(texts(3, 8))) for _ in range(5)]
    await asyncio.sleep(0)
    assert single.replicas.queued() == 30
    for task in leaves:
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as gone:
            await task
        assert not isinstance(gone.value, Left)
    refusals = [await task for task in late]
    assert [r.status for r in refusals] == [504] * 5
    for refusal in refusals:  # all their time was spent waiting
        assert refusal.spent is not None
        assert refusal.spent.engine_ns == 0 and refusal.spent.queue_ns > 90_000_000
        assert refusal.spent.replicas == ()
    assert single.replicas.queued() == 0
    await asyncio.gather(*ahead, single.right(texts(1, 7)))
    assert engines[0].seen()["items"] == FREE_CALLS + 1


async def test_a_call_is_given_up_only_when_nobody_in_it_is_wanted(
    single: Worker, engines: list[EngineProcess]
) -> None:
    engines[0].fault("slow", ms=300)
    leaves = asyncio.create_task(single.run(texts(2, 1)))
    late = asyncio.create_task(single.refused(texts(2, 2), timeout_s=0.1))
    stays = asyncio.create_task(single.right(texts(2, 3)))
    await until(lambda: engines[0].seen()["in_flight"] == 1)
    assert engines[0].seen()["calls"] == 1
    leaves.cancel()
    with pytest.raises(Left):  # a replica has begun
        await leaves
    assert (await late).status == 504
    await stays
    seen = engines[0].seen()
    assert (seen["calls"], seen["items"], seen["cancelled"]) == (1, 6, 0)


async def test_what_could_not_be_computed_in_time_is_refused_at_once(
    tmp_path: Path,
) -> None:
    """The engine gets 1,000 sequences a second done; 3,000 wait; nobody is let in to be late."""
    with EngineProcess(dim=DIM, env={"ENGINE_TOKEN_US": "1000"}) as engine:
        worker = Worker(tmp_path / "ledger", [engine.address])
        bulk = [asyncio.create_task(worker.run([[1]] * 60, timeout_s=60)) for _ in range(60)]
        await asyncio.sleep(1.8)
        began = time.monotonic()
        refusal = await worker.refused([[1]], timeout_s=0.5)
        assert time.monotonic() - began < 0.05
        assert (refusal.status, refusal.code) == (503, "overloaded")
        assert refusal.retry_after_s in (1, 2) and "ahead of this request" in refusal.message
        patient = asyncio.create_task(worker.run([[1]], timeout_s=20))
        await asyncio.sleep(refusal.retry_after_s)
        assert (await worker.run([[1]], timeout_s=0.5)).values.shape == (1, DIM)
        assert 0 < worker.replicas.retry_s("m", "k", 1) <= 3
        await asyncio.gather(*bulk, patient)
        await worker.run([[1]], timeout_s=0.05)  # nobody is ahead
        await worker.replicas.close()
        worker.ledger.close()


async def test_short_texts_behind_long_ones_are_not_refused_for_these(tmp_path: Path) -> None:
    """Ten long ones a second say little of how long sixty short ones take."""
    with EngineProcess(dim=DIM, env={"ENGINE_TOKEN_US": "200"}) as engine:
        worker = Worker(tmp_path / "ledger", [engine.address])
        await asyncio.gather(*(worker.run([[1] * 500]) for _ in range(25)))
        rate = worker.replicas.movers["m"].scheduler.rate
        assert 5 < rate.per_s < 15 and 490 < rate.each < 510
        long = asyncio.create_task(worker.run([[1] * 500]))
        await until(lambda: engine.seen()["in_flight"] == 1)
        assert (await worker.run([[1]] * 60, timeout_s=3)).values.shape == (60, DIM)
        await long
        await worker.replicas.close()
        worker.ledger.close()


# -- stuck calls -----------------------------------------------------------------------------


def hedged(replica: str) -> float:
    return metrics.hedges.labels(replica)._value.get()  # type: ignore[no-any-return]


async def known_pace(worker: Worker) -> None:
    """Calls enough to know the pace of each replica, and to have earned some twins."""
    for seed in range(160):
        await worker.right(texts(1, seed))


async def test_a_stuck_call_is_computed_elsewhere(
    worker: Worker, engines: list[EngineProcess]
) -> None:
    await known_pace(worker)
    before = hedged("r0") + hedged("r1")
    for engine in engines:
        engine.fault("hang", 1)
    worker.ledger.drain("r1", "operator", True, time.time())
    asked = [asyncio.create_task(worker.right(texts(3, seed))) for seed in range(3)]
    await until(lambda: engines[0].seen()["in_flight"] == 1)
    engines[1].fault("none")
    worker.ledger.drain("r1", "operator", False, time.time())
    began = time.monotonic()
    results = await asyncio.gather(*asked)
    assert time.monotonic() - began < 2.0
    assert [result.replicas for result in results] == [("r1",)] * 3
    assert hedged("r0") + hedged("r1") == before + 1
    await until(lambda: engines[0].seen()["in_flight"] == 0)  # hung up: nobody wants it
    assert worker.ledger.verdict("r0").state == "up"  # once proves nothing
    assert (await worker.right(texts(1))).replicas == ("r1",)  # but another one is preferred
    await asyncio.sleep(0.3)
    await asyncio.gather(*(worker.right(texts(1, seed)) for seed in range(20)))


async def test_a_lone_replica_is_waited_for(single: Worker, engines: list[EngineProcess]) -> None:
    await known_pace(single)
    before = hedged("r0")
    engines[0].fault("slow", 1, ms=400)
    await single.right(texts(2))
    assert hedged("r0") == before
    assert engines[0].seen()["calls"] == 161


async def test_a_stopped_replica_costs_no_request_its_deadline(
    worker: Worker, engines: list[EngineProcess]
) -> None:
    """Until the prober finds it: calls go to it now and then, and their twins answer."""
    await known_pace(worker)
    before = hedged("r0")
    engines[0].signal(signal.SIGSTOP)
    try:
        await asyncio.wait_for(under_load(worker, 200), 8)
    finally:
        engines[0].signal(signal.SIGCONT)
    assert 1 <= hedged("r0") - before <= 12


async def test_a_hung_replica_found_by_the_prober(
    worker: Worker, engines: list[EngineProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mover, "DOUBT_S", 0.1)
    worker.ledger.paced("r0", 1000, 0.001)
    engines[0].signal(signal.SIGSTOP)
    load = asyncio.create_task(under_load(worker, 60))
    await until(lambda: worker.ledger.tokens_in_flight("r0") > 0)
    await asyncio.sleep(0.1)
    assert not load.done()
    worker.ledger.set_verdict("r0", "down", "no answer to a probe", time.time())
    await asyncio.wait_for(load, 10)


async def test_a_hung_replica_that_nobody_else_finds(
    worker: Worker, engines: list[EngineProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mover, "DOUBT_S", 0.1)
    monkeypatch.setattr(mover, "LATE_S", 0.3)
    worker.ledger.paced("r0", 1000, 0.001)
    engines[0].signal(signal.SIGSTOP)
    await asyncio.wait_for(under_load(worker, 60), 10)
    verdict = worker.ledger.verdict("r0")
    assert verdict.state == "down" and "no answer for" in verdict.reason


# -- drain and close -------------------------------------------------------------------------


async def test_a_drained_replica_finishes_and_gets_nothing_new(
    worker: Worker, engines: list[EngineProcess]
) -> None:
    engines[0].fault("slow", ms=300)
    worker.ledger.drain("r1", "operator", True, time.time())
    flying = asyncio.create_task(worker.right(texts(3)))
    await until(lambda: engines[0].seen()["in_flight"] == 1)
    worker.ledger.drain("r0", "launcher", True, time.time())
    worker.ledger.drain("r1", "operator", False, time.time())
    assert worker.ledger.verdict("r0").state == "draining"
    result = await worker.right(texts(3, 1))
    assert result.replicas == ("r1",)
    assert (await flying).replicas == ("r0",)
    assert worker.ledger.verdict("r0").state == "drained"
    assert engines[0].seen()["calls"] == 1


async def test_close_answers_those_who_wait(tmp_path: Path, engines: list[EngineProcess]) -> None:
    worker = Worker(tmp_path / "ledger", [engines[0].address])
    engines[0].fault("hang")
    waiting = asyncio.create_task(worker.refused(texts(300)))
    await until(lambda: engines[0].seen()["in_flight"] == 4)
    await worker.replicas.close()
    assert (await waiting).status == 503
    assert worker.idle()
    worker.ledger.close()


# -- several workers -------------------------------------------------------------------------


def test_workers_share_a_replicas_budget(tmp_path: Path) -> None:
    """Two processes on one ledger: in flight stays within the budget and one call each beyond."""
    script = Path(__file__).with_name("bench") / "replicas_load.py"
    budget, tokens = 2 * 2048, 128
    with EngineProcess(dim=DIM, env={"ENGINE_STEP_MS": "2", "ENGINE_TOKEN_US": "5"}) as engine:
        argv = [sys.executable, str(script), "--ledger", str(tmp_path / "ledger")]
        argv += ["--address", engine.address, "--dim", str(DIM), "--seconds", "1.5"]
        argv += ["--tokens", str(tokens), "--batch-tokens", str(budget // 2)]
        workers = [
            subprocess.Popen([*argv, "--slot", str(slot)], stdout=subprocess.PIPE, text=True)
            for slot in range(2)
        ]
        figures = [json.loads(worker.communicate(timeout=60)[0]) for worker in workers]
        seen = engine.seen()
    assert all(f["sequences_per_s"] > 50 for f in figures)
    assert seen["tokens_in_flight_max"] <= budget + 2 * budget // 4
    ledger = Ledger.open(tmp_path / "ledger", ["r0"])
    assert ledger.tokens_in_flight("r0") == 0
    ledger.close()
