"""Feedback: the rings of answered requests, the book of months, sums; kills, full disks, damage."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from er import feedback
from er.feedback import Answered, Given, book
from er.feedback.book import Book, Full
from er.feedback.memory import Memory
from er.feedback.report import answer
from er.feedback.ring import CLICK, DEPTH, FAR, ONE_MORE, RATING, Ranking, Ring

NOON = int(datetime(2026, 11, 26, 12, tzinfo=UTC).timestamp())
KEY, OTHER = "kab2cd3ef", "kzz2cd3ef"


def given(request: str = "req-1", **more: object) -> Given:
    """A feedback of KEY."""
    fields = {"at": NOON + 5.0, "asked": NOON, "key": KEY, "model": "rank", **more}
    return Given(id=request, **fields)  # type: ignore[arg-type]


def asked(*ids: str, key: str = KEY, model: str = "embed") -> Answered:
    """Requests of a key to a model."""
    return many([(key, model, name) for name in ids])


def many(rows: list[tuple[str, str, str]]) -> Answered:
    """Requests, each with its key and model."""
    keys, models = ([*dict.fromkeys(row[i] for row in rows)] for i in (0, 1))
    key_of = np.array([keys.index(row[0]) for row in rows], np.intp)
    model_of = np.array([models.index(row[1]) for row in rows], np.intp)
    return Answered([row[2] for row in rows], keys, key_of, models, model_of)


def kept(where: Path, *every: Given) -> Book:
    """A book that has these."""
    found = Book(where)
    with found.locked():
        found.append(every)
    return found


def test_a_ring_finds_a_keys_own_requests_and_the_newest_of_an_id(tmp_path: Path) -> None:
    """Also through another's map of the file; a second one of the same id hides the first."""
    ring = Ring.open(tmp_path / "known" / "asked-0", ranked=False)
    ids = [f"req-{i}" for i in range(1000)]
    ring.add(asked(*ids), NOON)
    ring.add(asked("x" * 128, "req-7", key=OTHER, model="other"), NOON + 1)
    look = Ring.look(tmp_path / "known" / "asked-0", ranked=False)
    assert look is not None
    for name in ids:
        known = look.find(KEY, name)
        assert known is not None and (known.model, known.at) == ("embed", NOON)
        assert known.ranking is None
    theirs = look.find(OTHER, "req-7")
    assert theirs is not None and theirs.model == "other"
    assert look.find(OTHER, "x" * 128) and not look.find(KEY, "x" * 128)
    assert not look.find(OTHER, "req-8") and not look.find("", "req-8")
    ring.add(asked("req-7", model="embed-2"), NOON + 9)
    known = look.find(KEY, "req-7")
    assert known is not None and (known.model, known.at) == ("embed-2", NOON + 9)
    assert (tmp_path / "known" / "asked-0").stat().st_mode & 0o777 == 0o640


def test_a_ring_forgets_the_oldest_and_says_since_when_it_knows_all(tmp_path: Path) -> None:
    ring = Ring.open(tmp_path / "ranked-0", ranked=True)
    assert ring.oldest() is None
    ranking = Ranking(3, 3, (2, 0, 1))
    ring.add(asked("first"), NOON, ranking)
    ring.add(asked(*(f"r{i}" for i in range(32_767))), NOON + 10, ranking)
    assert ring.find(KEY, "first") and ring.oldest() is None
    ring.add(asked("last"), NOON + 20, ranking)
    assert not ring.find(KEY, "first") and ring.oldest() == NOON + 10
    last = ring.find(KEY, "last")
    assert last is not None and last.ranking == ranking


def test_more_models_than_a_ring_has_names_for_begin_it_anew(tmp_path: Path) -> None:
    ring = Ring.open(tmp_path / "asked-0", ranked=False)
    for i in range(65):
        ring.add(asked(f"req-{i}", model=f"model-{i}"), NOON)
    assert not ring.find(KEY, "req-3")
    known = ring.find(KEY, "req-64")
    assert known is not None and known.model == "model-64"


def test_what_was_told_of_a_request_is_known_to_all(tmp_path: Path) -> None:
    ring = Ring.open(tmp_path / "asked-0", ranked=False)
    ring.add(asked("a", "b"), NOON)
    look = Ring.look(tmp_path / "asked-0", ranked=False)
    assert look is not None
    mine, theirs = ring.find(KEY, "a"), look.find(KEY, "a")
    assert mine is not None and theirs is not None
    look.tell(theirs, CLICK)
    assert ring.told(mine) == ONE_MORE | CLICK
    for _ in range(100):
        ring.tell(mine, RATING)
    assert look.told(theirs) > 20 * ONE_MORE and look.told(theirs) & (CLICK | RATING)
    other = ring.find(KEY, "b")
    assert other is not None and ring.told(other) == 0


def test_ranks_are_those_of_the_answer() -> None:
    """Equal scores by their number, as they are answered; what the answer did not have is none."""
    ranking = Ranking.of(np.array([0.1, 0.9, 0.9, 0.5], np.float32), 3)
    assert ranking == Ranking(4, 3, (1, 2, 3))
    assert [ranking.rank(i) for i in (1, 2, 3)] == [1, 2, 3]
    with pytest.raises(ValueError):
        ranking.rank(0)
    deep = Ranking.of(np.linspace(1, 0, 70_000, dtype=np.float32), None)
    assert deep.rank(DEPTH - 1) == DEPTH and deep.rank(DEPTH) is None and deep.rank(69_000) is None
    far = Ranking.of(np.linspace(0, 1, 70_000, dtype=np.float32), 5)
    assert far.order == (FAR,) * 5 and far.rank(69_999) is None


def test_a_memory_finds_what_any_worker_answered(tmp_path: Path) -> None:
    """The ranking where both rings have it; a damaged file is set aside, not believed."""
    first, second = Memory(tmp_path, 0, {"rank"}), Memory(tmp_path, 1, {"rank"})
    first.ranked(KEY, "rank", "req-1", np.array([0.1, 0.2], np.float32), None)
    first.ranked(KEY, "rank", "req-2", None, None)
    first.asked(many([(KEY, "embed", "req-3"), (KEY, "rank", "req-1"), (KEY, "rank", "req-4")]))
    for memory in (first, second):
        known = memory.find(KEY, "req-1")
        assert known is not None and known.ranking == Ranking(2, 2, (1, 0))
        pairs, plain = memory.find(KEY, "req-2"), memory.find(KEY, "req-3")
        assert pairs is not None and pairs.ranking is None
        assert plain is not None and plain.model == "embed"
        assert memory.find(KEY, "req-4") is None and memory.since() is None
    path = tmp_path / "known" / "ranked-0"
    path.write_bytes(b"not ER's" * 2000)
    assert second.find(KEY, "req-1") is None
    again = Memory(tmp_path, 0, {"rank"})
    again.ranked(KEY, "rank", "req-1", np.array([0.1, 0.2], np.float32), None)
    assert second.find(KEY, "req-1") is not None
    assert len(list(path.parent.glob("ranked-0.damaged-*"))) == 1


def test_a_disk_without_room_is_told_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    memory = Memory(tmp_path, 0, ())
    memory.asked(asked("req-1"))
    assert not memory.ready and memory.find(KEY, "req-1") is None
    monkeypatch.undo()
    memory.asked(asked("req-1"))
    assert not memory.ready  # not with each request
    monkeypatch.setattr("er.feedback.memory.AGAIN_S", 0.0)
    memory.asked(asked("req-1"))
    assert memory.ready and memory.find(KEY, "req-1") is not None


# -- the book -------------------------------------------------------------------------------------


def test_the_last_feedback_of_a_request_counts(tmp_path: Path) -> None:
    """Also where it comes in another month; another request of the same id is another."""
    december = NOON + 20 * 86400.0
    store = kept(
        tmp_path,
        given(rating=0.0),
        given("req-2", document=1, rank=2),
        given(rating=1.0, at=december),
        given(rating=0.5, asked=NOON + 60),
    )
    read = store.read(NOON - 1)
    assert [(one.id, one.rating) for one in read.given] == [
        ("req-2", None),
        ("req-1", 0.5),
        ("req-1", 1.0),
    ]
    assert not read.damaged and store.months() == ["2026-11.jsonl"]
    assert [one.id for one in store.read(NOON + 1).given] == ["req-1"]
    assert (tmp_path / "2026-11.jsonl").stat().st_mode & 0o777 == 0o640


def test_damaged_lines_are_passed_over_and_told(tmp_path: Path) -> None:
    """One that broke off harms no later one."""
    store = kept(tmp_path, given("req-1", rating=1.0), given("req-2", rating=1.0))
    path = tmp_path / "2026-11.jsonl"
    path.write_bytes(b"\xff\x00 nothing\n" + path.read_bytes()[:-5])
    kept(tmp_path, given("req-3", rating=0.0))
    read = store.read(0)
    assert [one.id for one in read.given] == ["req-1", "req-3"]
    assert read.damaged == [f"{path}: 2"]


def test_a_full_disk_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = kept(tmp_path, given(rating=1.0))
    before = (tmp_path / "2026-11.jsonl").read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"), store.locked():
        store.append([given("req-2", rating=1.0)])
    assert (tmp_path / "2026-11.jsonl").read_bytes() == before


def test_months_go_by_age_and_by_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [int(datetime(2026, month, 5, tzinfo=UTC).timestamp()) for month in range(1, 12)]
    store = kept(tmp_path, *(given(asked=at, rating=1.0) for at in asked))
    assert len(store.months()) == 11
    store.forget(NOON, 100 * 86400.0)
    assert store.months()[0] == "2026-08.jsonl"
    one = (tmp_path / "2026-11.jsonl").stat().st_size
    monkeypatch.setattr(book, "BYTES_MAX", 3 * one)
    with pytest.raises(Full), store.locked():
        store.append([given(rating=1.0)])
    store.forget(NOON, 100 * 86400.0)
    assert store.months() == ["2026-10.jsonl", "2026-11.jsonl"]
    kept(tmp_path, given(rating=1.0))


KILLED = """
import sys
from pathlib import Path
from er.feedback import Given
from er.feedback.book import Book
store = Book(Path(sys.argv[1]))
for i in range(100000):
    with store.locked():
        one = Given(id=f"req-{i}", at=i, asked=int(sys.argv[2]), key="k", model="m", rating=1.0)
        store.append([one])
    print(i, flush=True)
"""


def test_what_was_told_to_be_kept_outlives_a_kill(tmp_path: Path) -> None:
    """kill -9 amid writing: all that was answered is there, and the next writer has the lock."""
    where = feedback.folder(tmp_path)
    where.mkdir()
    command = [sys.executable, "-c", KILLED, str(where), str(NOON)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        for line in writer.stdout:
            if int(line) > 30:
                writer.send_signal(signal.SIGKILL)
                break
        told = [int(line), *map(int, writer.stdout.read().split())][-1]
    store = kept(where, given("after", rating=0.0))
    ids = {one.id for one in store.read(0).given}
    assert {f"req-{i}" for i in range(told + 1)} | {"after"} <= ids


# -- sums -----------------------------------------------------------------------------------------


def test_figures_by_model_and_key() -> None:
    """By hand: ranks 1, 4 and one past what is known give (1 + 1/4 + 0) / 3."""
    every = [
        given("a", document=3, rank=1, rating=1.0, comment="good"),
        given("b", document=9, rank=4),
        given("c", document=400, rank=None),
        given("d", rating=0.25),
        given("e", rating=0.5, key=OTHER, model="embed"),
    ]
    requests = {(KEY, "rank"): 10, (OTHER, "embed"): 4, (OTHER, "rank"): 2}
    found = answer(NOON, every, requests, {KEY: "web"})
    embed, rank = found["models"]
    assert rank == {
        "model": "rank",
        "requests": 12,
        "feedbacks": 4,
        "clicks": 3,
        "ratings": 2,
        "good": 1,
        "bad": 1,
        "mean_rating": 0.625,
        "click_rate": 0.25,
        "satisfaction": 0.5,
        "mrr": round(1.25 / 3, 4),
    }
    assert (embed["requests"], embed["satisfaction"], embed["mrr"]) == (4, None, None)
    mine, theirs = found["keys"]
    assert (mine["key"], mine["name"], mine["requests"]) == (KEY, "web", 10)
    assert (theirs["name"], theirs["requests"], theirs["mean_rating"]) == ("", 6, 0.5)
    assert (found["total"], found["since"]) == (5, NOON)
    newest, *_, oldest = found["recent"]
    assert newest["kind"] == "rating" and newest["rank"] is None
    assert (oldest["kind"], oldest["rank"], oldest["rating"]) == ("click", 1, 1.0)
    assert oldest["comment"] == "good"


def test_nothing_has_no_figures() -> None:
    found = answer(NOON, [], {(KEY, "rank"): 3}, {})
    assert found["models"][0]["click_rate"] == 0.0 and found["models"][0]["mrr"] is None
    assert found["keys"] == [] and found["recent"] == []
