"""Requests that wait for a replica which is starting: who may, for how long, and how it ends."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import expected
from er.config import Config, Gateway, Hold, Model, Replica
from er.engine.sample import Life
from er.job import Refusal
from er.ledger import Ledger
from er.replicas import Replicas
from er.replicas.pools import Result
from fakes import EngineProcess, until

DIM = 16
SECOND_NS = 10**9
BULK = [[i + 1] for i in range(65)]
SMALL = [[1, 2, 3]]


@pytest.fixture(scope="module")
def engine() -> Iterator[EngineProcess]:
    with EngineProcess(dim=DIM) as started:
        yield started


class Worker:
    """A ledger and the Replicas on it; its one replica "one" is starting."""

    def __init__(self, runtime: Path, port: int, hold: Hold, places: int = 500) -> None:
        model = Model(name="m", task="embed", path=Path("/none"), hold=hold)
        config = Config(
            gateway=Gateway(max_concurrency=places),
            models=(model,),
            replicas=(Replica(name="one", model="m", port=port, gpu=("cpu",)),),
            source=Path("er.toml"),
        )
        self.sample = runtime / "replicas/one/sample.json"
        self.sample.parent.mkdir(parents=True)
        self.ledger = Ledger.open(runtime / "ledger", ["one"])
        self.ledger.claim(0)
        self.say("starting")
        self.launcher()
        self.replicas = Replicas(config, {"m": DIM}, self.ledger)

    def say(self, state: Any) -> None:
        self.ledger.set_verdict("one", state, "importing vLLM", time.time())

    def launcher(self, *, coming: bool = True, due_s: float | None = None) -> None:
        """What its launcher says of itself."""
        due = None if due_s is None else time.time() + due_s
        text = {"time": time.time(), "phase": "importing vLLM", "coming": coming, "due": due}
        fresh = self.sample.with_suffix(".new")
        fresh.write_text(json.dumps(text))
        fresh.rename(self.sample)

    def ask(self, sequences: list[list[int]], timeout_s: float = 20.0) -> asyncio.Task[Result]:
        deadline = time.monotonic_ns() + int(timeout_s * SECOND_NS)
        run = self.replicas.run("m", "embed", sequences, deadline=deadline, request_id="r")
        return asyncio.create_task(run)

    async def refused(self, sequences: list[list[int]], timeout_s: float = 20.0) -> Refusal:
        with pytest.raises(Refusal) as caught:
            await self.ask(sequences, timeout_s)
        return caught.value


@pytest.fixture
async def worker(
    tmp_path: Path,
    engine: EngineProcess,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> AsyncIterator[Worker]:
    """With the default, or the `hold` that a test names."""
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    worker = Worker(tmp_path, engine.port, getattr(request, "param", "bulk"))
    yield worker
    assert not worker.replicas.queued()
    await worker.replicas.close()
    worker.ledger.close()


async def test_bulk_waits_and_small_ones_are_refused(worker: Worker) -> None:
    """By default; once the replica is there, what waited is computed."""
    waits = worker.ask(BULK)
    refusal = await worker.refused(SMALL)
    assert (refusal.status, refusal.code) == (503, "no_healthy_replica")
    await asyncio.sleep(0.4)
    assert not waits.done()
    worker.say("up")
    result = await waits
    assert all(
        np.array_equal(v, expected(i, DIM)) for v, i in zip(result.values, BULK, strict=True)
    )
    assert result.queue_ns > 0.3 * SECOND_NS


@pytest.mark.parametrize("worker", ["all", "off"], indirect=True)
async def test_er_toml_says_who_waits(worker: Worker, request: pytest.FixtureRequest) -> None:
    if request.node.callspec.params["worker"] == "off":
        assert (await worker.refused(BULK)).status == 503
        return
    both = [worker.ask(BULK), worker.ask(SMALL)]
    await asyncio.sleep(0.2)
    worker.say("up")
    assert [len((await one).values) for one in both] == [65, 1]


async def test_a_start_that_fails_ends_the_wait(worker: Worker) -> None:
    """With 503 within a second, not at the deadline."""
    waits = worker.ask(BULK)
    await asyncio.sleep(0.1)
    worker.launcher(coming=False)
    worker.say("down")
    began = time.monotonic()
    with pytest.raises(Refusal) as caught:
        await waits
    assert caught.value.code == "no_healthy_replica"
    assert time.monotonic() - began < 1


async def test_what_was_on_its_way_waits_for_the_next_start(
    worker: Worker, engine: EngineProcess
) -> None:
    """The only replica is restarted: between two launchers there is no sample."""
    worker.say("up")
    engine.fault("hang")
    waits = worker.ask(BULK)
    await until(lambda: worker.ledger.tokens_in_flight("one") > 0)
    worker.sample.unlink()
    (worker.sample.parent / "start.json").write_text(
        json.dumps({"left": time.time(), "start_s": 9.0})
    )
    engine.kill()
    worker.say("down")
    await asyncio.sleep(0.5)
    assert not waits.done()
    assert 7 < (await worker.refused(SMALL)).retry_after_s <= 9
    engine.start()
    worker.say("up")
    assert len((await waits).values) == 65


async def test_nobody_waits_who_would_be_too_late(worker: Worker) -> None:
    """Where the last start's time is known; Retry-After is what is left of it."""
    worker.launcher(due_s=37.0)
    refusal = await worker.refused(BULK, timeout_s=20)
    assert refusal.retry_after_s is not None
    assert 35 < refusal.retry_after_s <= 37
    waits = worker.ask(BULK, timeout_s=60)
    await asyncio.sleep(0.1)
    assert not waits.done()
    worker.say("up")
    await waits


async def test_half_of_the_places_stay_free(
    tmp_path: Path, engine: EngineProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those who wait keep no more than half of max_concurrency from other models' requests."""
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    worker = Worker(tmp_path, engine.port, "bulk", places=6)
    waiting = []
    for _ in range(3):
        assert worker.ledger.enter(6)
        waiting.append(worker.ask(BULK))
        await asyncio.sleep(0)
    assert worker.ledger.enter(6)
    assert (await worker.refused(BULK)).code == "no_healthy_replica"
    assert not any(one.done() for one in waiting)
    worker.say("up")
    await asyncio.gather(*waiting)
    await worker.replicas.close()
    worker.ledger.close()


@pytest.mark.parametrize(
    ("life", "coming"),
    [
        (Life(name="a"), True),
        (Life(name="a", phase="importing vLLM", attempt=2), True),
        (Life(name="a", phase="draining"), True),
        (Life(name="a", phase="ready"), False),
        (Life(name="a", phase="waiting for the model"), False),
        (Life(name="a", phase="importing vLLM", attempt=3), False),
        (Life(name="a", phase="pausing after a failure", attempt=2, load_failed=True), False),
    ],
)
def test_what_a_launcher_calls_coming(life: Life, coming: bool) -> None:
    assert life.coming() is coming
