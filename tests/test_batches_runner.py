"""Which batches run: few at once, each owner's turn, none for ever in the way of the others."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from er import keys
from er.batches import Batch, Results, Store
from er.batches.records import new_id
from er.config import Batches
from er.gateway import run, runner, uploads
from er.gateway.batches import Place, Shelf, place_at, uncounted
from er.gateway.exchange import Head, Request
from er.gateway.run import Run
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


async def test_who_has_none_need_not_wait_for_the_end_of_another_s(store: Store) -> None:
    many = [add(store, "ka") for _ in range(RUNS)]
    async with Turned(store):
        await until(lambda: set(running()) == set(many))
        other = add(store, "kb")
        await until(lambda: set(running()) == {*many[: RUNS - 1], other})
        await asyncio.sleep(0.1)  # and there it stays: one more is none too many
        assert set(running()) == {*many[: RUNS - 1], other}


async def test_after_its_time_one_lets_another_have_a_turn(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = [add(store, f"k{n}") for n in range(RUNS)]
    late = add(store, "kz")
    async with Turned(store):
        await until(lambda: set(running()) == set(first))
        await asyncio.sleep(0.1)
        assert set(running()) == set(first)
        monkeypatch.setattr(runner, "TURN_S", 0.0)
        await until(lambda: late in running())
        assert len(running()) <= RUNS


async def test_what_only_has_to_end_needs_no_turn(store: Store) -> None:
    many = [add(store, "ka") for _ in range(RUNS + 2)]
    async with Turned(store):
        await until(lambda: len(running()) == RUNS)
        store.cancel("ka", many[-1])
        await until(lambda: set(running()) == {*many[:RUNS], many[-1]})


async def test_a_folder_that_is_removed_has_one_runner_again(store: Store) -> None:
    """With it goes the lock, which another takes in the new one."""
    add(store, "ka")
    async with Turned(store), Turned(store):
        await until(lambda: len(running()) == 1)
        # At one stroke, as the runner may be writing there.
        shutil.rmtree(store.root.rename(store.root.with_name("removed")))
        await until(lambda: running() == [])
        new = add(store, "ka")
        await until(lambda: running() == [new])
        await asyncio.sleep(0.1)
        assert running() == [new]


async def test_what_can_not_be_swept_or_read_is_in_nobody_s_way(
    store: Store, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runner, "SWEEP_S", 0.0)
    good, bad = add(store, "ka"), add(store, "kb")
    (store.folder("kb") / f"{bad}.json").unlink()
    (store.folder("kb") / f"{bad}.json").mkdir()
    async with Turned(store):
        await until(lambda: running() == [good])
        await asyncio.sleep(0.2)
        assert running() == [good] and len(FakeRun.all) == 1
    said = capfd.readouterr().out
    assert said.count("batches can't be read: ") == said.count("batches can't be removed: ") == 1


def real_run(store: Store) -> Run:
    """One whose lines wait for ever, as it stands on the disk."""
    upload = store.upload("local", 0)
    upload.write(b'{"custom_id":"a","method":"POST","url":"/v1/embeddings","body":{}}\n')
    file = upload.keep("in.jsonl")
    now = int(time.time())
    batch = Batch(
        id=new_id("batch_"),
        endpoint="/v1/embeddings",
        input_file_id=file.id,
        completion_window="24h",
        created_at=now,
        expires_at=now + 1000,
        uid=0,
    )
    store.add_batch("local", batch)
    tools: Any = SimpleNamespace(store=store, disk=Disk(store), body_max=1000)
    made = Run(tools, "local", batch)

    async def never(_: Any) -> Any:
        await asyncio.Event().wait()

    made._hand.answer = never  # type: ignore[method-assign]
    return made


async def test_results_are_taken_up_to_the_end_though_the_worker_drains(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Late, it would cut off what another worker has written since."""
    inside, go_on, closed = threading.Event(), threading.Event(), []

    class Slow(Results):
        def __init__(self, *paths: Path) -> None:
            inside.set()
            go_on.wait(10)
            super().__init__(*paths)

        def close(self) -> None:
            closed.append(True)
            super().close()

    monkeypatch.setattr(run, "Results", Slow)
    task = asyncio.create_task(real_run(store).go())
    await until(inside.is_set)
    task.cancel()
    await asyncio.sleep(0.1)
    assert not task.done()
    go_on.set()
    await asyncio.wait([task])
    assert task.cancelled() and closed


async def test_while_nothing_can_be_written_no_more_is_computed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a disk that is full leaves all that is in hand in memory: gigabytes of vectors."""
    monkeypatch.setattr(run, "UNWRITTEN_MAX", 1000)
    made, room = real_run(store), asyncio.Event()
    grow = made._tools.disk.grow

    async def answer(_: Any) -> Any:
        return 200, "req-1", b'"%b"' % (b"x" * 1000)

    async def waits(*args: Any) -> None:
        await room.wait()
        await grow(*args)

    monkeypatch.setattr(made._hand, "answer", answer)
    monkeypatch.setattr(made._tools.disk, "grow", waits)
    task = asyncio.create_task(made.go())
    await until(lambda: not made._hand.go_on.is_set())
    room.set()
    await task
    assert made.batch.status == "completed" and made._hand.go_on.is_set()


async def test_counts_are_not_written_late(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """They would put back the record that another worker has brought to its end."""
    monkeypatch.setattr(run, "TICK_S", 0.05)
    made, saving, go_on, steps = real_run(store), threading.Event(), threading.Event(), []
    save = store.save
    task = asyncio.create_task(made.go())
    await until(lambda: made._results is not None)

    def slowly(*args: Any) -> None:
        saving.set()
        go_on.wait(10)
        save(*args)
        steps.append("saved")

    monkeypatch.setattr(store, "save", slowly)
    assert made._results is not None
    made._results.completed = 1
    await until(saving.is_set)
    task.cancel()
    await asyncio.sleep(0.1)
    assert not task.done()
    go_on.set()
    await asyncio.wait([task])
    assert task.cancelled() and steps == ["saved"]


async def test_an_upload_that_is_given_up_is_written_by_nobody_any_more(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is closed under a thread's hands may be another's by the time it writes."""
    steps: list[str] = []
    write, drop = uploads.Upload.write, uploads.Upload.drop

    def slow(upload: uploads.Upload, data: bytes) -> None:
        steps.append("begun")
        time.sleep(0.2)
        write(upload, data)
        steps.append("written")

    def dropped(upload: uploads.Upload) -> None:
        steps.append("dropped")
        drop(upload)

    monkeypatch.setattr(uploads.Upload, "write", slow)
    monkeypatch.setattr(uploads.Upload, "drop", dropped)
    form = b'--B\r\nContent-Disposition: form-data; name="file"\r\n\r\n' + bytes(2 << 20)
    head = Head("POST", "/v1/files", {b"content-type": b"multipart/form-data; boundary=B"})
    request = Request(head, "x", whole=form)
    task = asyncio.create_task(uploads.receive(request, store, "ka", 4 << 20))
    await until(lambda: steps == ["begun"])
    task.cancel()
    await asyncio.wait([task])
    assert steps == ["begun", "written", "dropped"]
    assert not list(store.folder("ka").iterdir())


async def test_a_form_has_an_end(store: Store) -> None:
    """Though it says no length, and what comes is no part of a file."""
    form = b'--B\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--B--\r\n'
    head = Head("POST", "/v1/files", {b"content-type": b"multipart/form-data; boundary=B"})
    request = Request(head, "x", whole=form + bytes(1000 + uploads.FORM_MAX))
    with pytest.raises(Refusal) as refused:
        await uploads.receive(request, store, "ka", 1000)
    assert refused.value.status == 413


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
    store = Store(tmp_path, quota=134_000, keep_s=100)
    disk, file = Disk(store), tmp_path / "ka" / "x"
    file.parent.mkdir()

    def more() -> None:
        with file.open("ab") as out:
            out.write(bytes(30_000))

    for _ in range(3):
        await disk.grow(more, 30_000, "ka")
    waiting = asyncio.create_task(disk.grow(more, 30_000, "ka"))
    await asyncio.sleep(0.1)
    assert not waiting.done() and file.stat().st_size == 90_000
    (tmp_path / "kb").mkdir()
    await disk.grow((tmp_path / "kb/x").touch, 10_000, "kb")  # what is left is others'
    file.unlink()
    await waiting
    assert file.stat().st_size == 30_000


async def test_a_folder_that_is_none_is_told_to_the_operator(
    store: Store, capfd: pytest.CaptureFixture[str]
) -> None:
    """The client learns that it is not its fault; no trace for what is no mistake of ours."""
    store.root.write_text("in the way")
    place, who = place_at("POST", "/v1/files"), keys.local(0)
    assert isinstance(place, Place)
    form = b'--B\r\nContent-Disposition: form-data; name="file"\r\n\r\nx\r\n--B--\r\n'
    head = Head("POST", "/v1/files", {b"content-type": b"multipart/form-data; boundary=B"})
    shelf = Shelf(store, Batches())
    with pytest.raises(Refusal, match="the operator's log says why") as refused:
        await shelf.answer(place, Request(head, "x", whole=form), who, uncounted)
    assert refused.value.status == 500
    assert f"files of batches can't be used: {store.root}" in capfd.readouterr().out


async def test_it_can_be_turned_off(tmp_path: Path) -> None:
    """A quota of 0: nothing is answered, nothing is run, no folder is made."""
    store = Store(tmp_path / "batches", quota=0, keep_s=1000)
    shelf, place = Shelf(store, Batches(quota=0)), place_at("GET", "/v1/files")
    assert isinstance(place, Place)
    request, nobody = Request(Head("GET", "/v1/files", {}), "x", whole=b""), keys.local(0)
    with pytest.raises(Refusal, match="turned off") as refused:
        await shelf.answer(place, request, nobody, uncounted)
    assert refused.value.status == 404
    tools: Any = SimpleNamespace(store=store)
    await asyncio.wait_for(Runner(tools).run(), 1)
    assert not store.root.exists()


@pytest.mark.parametrize("path", ["//v1//files/", "/files//", "/api/v1/v1/files", "/v1/files"])
def test_base_urls_lead_to_files_as_to_all_else(path: str) -> None:
    """A slash too many or a version too much is no other address."""
    assert place_at("GET", path) == Place("files", "", "", "GET")
