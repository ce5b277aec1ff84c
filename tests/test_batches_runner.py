"""Which batches run: few at once, each owner's turn, none for ever in the way of the others."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from er import keys
from er.batches import Batch, Store
from er.batches.records import new_id
from er.config import Batches
from er.gateway import runner
from er.gateway.batches import Place, Shelf, place_at
from er.gateway.exchange import Head, Request
from er.gateway.runner import RUNS, STALLED_S, Disk, Runner
from er.job import Refusal
from fakes import until


class FakeRun:
    """A batch whose test says when it is over."""

    all: list[FakeRun] = []  # noqa: RUF012

    def __init__(self, _: Any, owner: str, batch: Batch) -> None:
        self.owner, self.batch, self.moved = owner, batch, time.monotonic()
        self.let_go = asyncio.Event()
        self.wrong: Exception | None = None
        self.over = False
        FakeRun.all.append(self)

    async def go(self) -> None:
        try:
            await self.let_go.wait()
            if self.wrong:
                raise self.wrong
        finally:
            self.over = True


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    FakeRun.all = []
    monkeypatch.setattr(runner, "Run", FakeRun)
    monkeypatch.setattr(runner, "LOOK_S", 0.01)
    return Store(tmp_path / "batches", quota=1 << 30, keep_s=1000)


def add(store: Store, owner: str) -> str:
    now = int(time.time())
    batch = Batch(
        id=new_id("batch_"),
        endpoint="/v1/embeddings",
        input_file_id="file-x",
        completion_window="24h",
        created_at=now,
        expires_at=now + 1000,
    )
    store.add_batch(owner, batch)
    return batch.id


def running() -> list[str]:
    return [run.batch.id for run in FakeRun.all if not run.over]


class Turned:
    """A runner at work; ended with the test."""

    def __init__(self, store: Store) -> None:
        tools: Any = SimpleNamespace(store=store)
        self.task = asyncio.create_task(Runner(tools).run())

    async def __aenter__(self) -> Turned:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def test_few_at_once_and_each_owner_before_another_has_two(store: Store) -> None:
    many = [add(store, "ka") for _ in range(RUNS + 2)]
    other = add(store, "kb")
    async with Turned(store):
        await until(lambda: len(running()) == RUNS)
        assert set(running()) == {*many[: RUNS - 1], other}
        FakeRun.all[0].let_go.set()
        store.close("ka", many[0])
        await until(lambda: many[RUNS - 1] in running())
        assert len(running()) == RUNS
    assert running() == []


async def test_one_that_gets_nothing_done_makes_room_for_those_that_wait(store: Store) -> None:
    """As without a replica of its model; it has its turn again later."""
    stuck = [add(store, "ka") for _ in range(RUNS)]
    async with Turned(store):
        await until(lambda: len(running()) == RUNS)
        for run in FakeRun.all:
            run.moved -= STALLED_S + 1
        await asyncio.sleep(0.1)
        assert set(running()) == set(stuck)  # nobody waits
        new = add(store, "kb")
        await until(lambda: new in running())
        assert len(running()) <= RUNS
        next(run for run in FakeRun.all if run.batch.id == new).let_go.set()
        store.close("kb", new)
        await until(lambda: set(running()) == set(stuck))


async def test_a_mistake_of_ours_is_told_and_tried_again_later(
    store: Store, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runner, "PAUSE_S", 0.2)
    batch_id = add(store, "ka")
    async with Turned(store):
        await until(lambda: len(FakeRun.all) == 1)
        FakeRun.all[0].wrong = RuntimeError("broken")
        began = time.monotonic()
        FakeRun.all[0].let_go.set()
        await until(lambda: len(FakeRun.all) == 2)
        assert time.monotonic() - began >= 0.2
    assert f"unexpected RuntimeError while running {batch_id}" in capfd.readouterr().out


async def test_another_runs_them_once_the_lock_is_free(store: Store) -> None:
    add(store, "ka")
    lock = store.lock()
    assert lock is not None
    async with Turned(store), Turned(store):
        await asyncio.sleep(0.1)
        assert running() == []
        os.close(lock)
        await until(lambda: len(running()) == 1)
        await asyncio.sleep(0.1)
        assert len(running()) == 1


async def test_a_disk_that_refuses_is_asked_again_and_it_is_said_once(
    store: Store, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runner, "AGAIN_S", 0.01)
    tries = 0

    def work() -> None:
        nonlocal tries
        tries += 1
        if tries < 5:
            raise OSError(28, "No space left on device")

    await Disk(store).write(work)
    said = capfd.readouterr().out
    assert tries == 5
    assert said.count("batches wait for room: No space left on device") == 1
    assert said.count("batches go on: there is room again") == 1


async def test_a_write_that_has_begun_ends_though_it_is_cancelled(store: Store) -> None:
    """Who takes the lock next must find nobody still writing."""
    steps: list[str] = []

    def work() -> None:
        steps.append("begun")
        time.sleep(0.2)
        steps.append("ended")

    task = asyncio.create_task(Disk(store).write(work))
    await until(lambda: steps == ["begun"])
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert steps == ["begun", "ended"]


async def test_the_quota_counts_what_is_written_between_two_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "AGAIN_S", 0.01)
    store = Store(tmp_path, quota=100_000, keep_s=100)
    disk, file = Disk(store), tmp_path / "ka" / "x"
    file.parent.mkdir()

    def more() -> None:
        with file.open("ab") as out:
            out.write(bytes(30_000))

    for _ in range(3):
        await disk.grow(more, 30_000)
    waiting = asyncio.create_task(disk.grow(more, 30_000))
    await asyncio.sleep(0.1)
    assert not waiting.done() and file.stat().st_size == 90_000
    file.unlink()
    await waiting
    assert file.stat().st_size == 30_000


async def test_it_can_be_turned_off(tmp_path: Path) -> None:
    """A quota of 0: nothing is answered, nothing is run, no folder is made."""
    store = Store(tmp_path / "batches", quota=0, keep_s=1000)
    shelf, place = Shelf(store, Batches(quota=0)), place_at("GET", "/v1/files")
    assert isinstance(place, Place)
    request, nobody = Request(Head("GET", "/v1/files", {}), "x", whole=b""), keys.local(0)
    with pytest.raises(Refusal, match="turned off") as refused:
        await shelf.answer(place, request, nobody, lambda: None)
    assert refused.value.status == 404
    tools: Any = SimpleNamespace(store=store)
    await asyncio.wait_for(Runner(tools).run(), 1)
    assert not store.root.exists()


@pytest.mark.parametrize("path", ["//v1//files/", "/files//", "/api/v1/v1/files", "/v1/files"])
def test_base_urls_lead_to_files_as_to_all_else(path: str) -> None:
    """A slash too many or a version too much is no other address."""
    assert place_at("GET", path) == Place("files", "", "", "GET")
