"""The folder of batches: lines, results that are cut off anywhere, owners, room, age."""

from __future__ import annotations

import errno
import io
import json
import os
import random
import time
from pathlib import Path
from typing import Any

import pytest

from er.batches import Batch, File, Full, Line, NotThere, Results, Store, Upload, lines
from er.batches.records import new_id
from er.batches.results import Result
from er.batches.source import AROUND, READ_BYTES, READ_LINES, Source
from er.cli import check_batches
from er.config import Batches, parse
from er.config.render import render
from er.units import takeup

URL = "/v1/embeddings"


def line(custom_id: Any = "a", **other: Any) -> bytes:
    return json.dumps(
        {"custom_id": custom_id, "method": "POST", "url": URL, "body": {"input": "x"}, **other}
    ).encode()


def problems(*raw: bytes, body_max: int = 1000) -> list[tuple[int | None, str, str]]:
    """(line, code, message) of each, as a file of those lines has them."""
    check = lines.Check(URL, body_max)
    for number, text in enumerate(raw, 1):
        check.look(text + b"\n", number)
    check.end()
    return [(p.line, p.code, p.message) for p in check.problems]


# -- lines -----------------------------------------------------------------------------------------


def test_good_lines_have_no_problems() -> None:
    """Blank ones, Windows' ends, the mark of some editors and unknown fields are none either."""
    good = [b"\xef\xbb\xbf" + line("a"), b"", b"  ", line("b") + b"\r", line("c", extra=1)]
    assert problems(*good) == []
    assert problems(line("\N{GRINNING FACE}" * 512)) == []


@pytest.mark.parametrize(
    ("raw", "code", "said"),
    [
        (b"{", "invalid_json_line", "the line is not JSON"),
        (b"\xff", "invalid_json_line", "the line is not JSON"),
        (line()[:-1] + b",}", "invalid_json_line", "the line is not JSON"),
        (line() + line(), "invalid_json_line", "the line is not JSON"),
        (b"[1]", "invalid_line", "the line is no object"),
        (b"{}", "invalid_line", "custom_id is missing"),
        (line(custom_id=5), "invalid_line", "custom_id is not a text"),
        (line(""), "invalid_custom_id", "1 to 512 characters"),
        (line("x" * 513), "invalid_custom_id", "1 to 512 characters"),
        (line(method="GET"), "invalid_method", "'GET'; it must be \"POST\""),
        (line(url="/v1/rerank"), "mismatched_url", "'/v1/rerank', but the batch is for " + URL),
        (line(url="https://elsewhere/x"), "mismatched_url", "the batch is for"),
        (line(body="text"), "invalid_line", "body must be a JSON object"),
        (line(body={"input": "x" * 1000}), "body_too_large", "at most 1000"),
    ],
)
def test_what_is_no_request_is_told_with_its_line(raw: bytes, code: str, said: str) -> None:
    (found,) = problems(line("before"), raw, line("after"))
    assert found[:2] == (2, code) and said in found[2]


def test_a_custom_id_stands_there_once() -> None:
    (found,) = problems(line("a"), line("b"), line("a"))
    assert found == (3, "duplicate_custom_id", "custom_id 'a' is that of line 1 too")


def test_an_empty_file_and_one_of_too_many_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    assert problems(b"", b" ")[0][1] == "empty_file"
    monkeypatch.setattr(lines, "LINES_MAX", 3)
    assert problems(*map(line, "abc")) == []
    assert [p[:2] for p in problems(*map(line, "abcde"))] == [(4, "too_many_lines")]


def test_not_all_that_is_wrong_is_told() -> None:
    assert len(problems(*[b"x"] * 500)) == lines.PROBLEMS_MAX


def test_a_file_is_read_in_groups_and_no_line_is_endless() -> None:
    long = b"x" * (AROUND + 200)
    raw = [line(str(i)) for i in range(READ_LINES + 5)]
    raw[3] = long
    raw[7] = long * 30
    source = Source(io.BytesIO(b"\n".join(raw)).readline, 100)
    found: list[tuple[int, bytes | None]] = []
    groups = 0
    while not source.over:
        group = source.group()
        assert len(group) <= READ_LINES
        assert sum(len(x or b"") for _, x in group) <= READ_BYTES + AROUND + 200
        found += group
        groups += 1
    assert groups >= 2
    assert [n for n, _ in found] == list(range(1, len(raw) + 1))
    assert [n for n, text in found if text is None] == [4, 8]
    assert all(x is None or x.strip() == raw[n - 1] for n, x in found)


# -- results ---------------------------------------------------------------------------------------


def result(number: int, good: bool, size: int = 50) -> Result:
    one = Line(number, f"id {number}", b"{}")
    body = b'{"x":"%b"}' % (b"y" * size)
    status = 200 if good else 400
    return Result(number, good, lines.answered("batch_" + "a" * 24, one, status, "req-1", body))


def stands(*paths: Path) -> list[int]:
    """The numbers of the lines whose results stand in the files; each line is whole JSON."""
    found = []
    for path in paths:
        for raw in path.read_bytes().splitlines(keepends=True):
            tree = json.loads(raw)
            number = lines.number_of(raw)
            assert number is not None and tree["custom_id"] == f"id {number}"
            assert set(tree) == {"id", "custom_id", "response", "error"}
            found.append(number)
    return found


def test_a_result_is_openai_s() -> None:
    one = Line(7, 'a "quoted" id', b"{}")
    answered = json.loads(lines.answered("batch_0f", one, 200, "req-9", b'{"data":[1.5]}'))
    assert answered == {
        "id": "batch_req_0f-7",
        "custom_id": 'a "quoted" id',
        "response": {"status_code": 200, "request_id": "req-9", "body": {"data": [1.5]}},
        "error": None,
    }
    left = json.loads(lines.unanswered("batch_0f", one, "batch_expired", "too late"))
    assert left["response"] is None
    assert left["error"] == {"code": "batch_expired", "message": "too late"}


def test_what_is_no_whole_result_has_no_number() -> None:
    whole = result(12, True).text
    assert lines.number_of(whole) == 12
    for torn in (b"", whole[:-1], whole[1:], whole[:60] + b"\0" * 9 + whole[69:], b"{}\n"):
        assert lines.number_of(torn) is None


@pytest.mark.parametrize("seed", range(25))
def test_cut_off_anywhere_each_line_stands_there_once_in_the_end(tmp_path: Path, seed: int) -> None:
    """A kill leaves half a line, a lost power pages of nothing: what is whole counts, no more."""
    chance = random.Random(seed)
    paths = tmp_path / "output", tmp_path / "errors"
    total = 60
    for _ in range(8):
        results = Results(*paths)
        assert sorted(stands(*paths)) == [n for n in range(1, total + 1) if results.is_done(n)]
        todo = [n for n in range(1, total + 1) if not results.is_done(n)]
        chance.shuffle(todo)
        for start in range(0, len(todo) // 2, 3):
            group = [result(n, n % 3 != 0, chance.randrange(200)) for n in todo[start : start + 3]]
            results.write(group)
        results.close()
        path = chance.choice(paths)
        data = path.read_bytes()
        keep = chance.randrange(max(0, len(data) - 300), len(data) + 1)
        path.write_bytes(data[:keep] + b"\0" * chance.choice((0, 0, 1, 4096)))
    results = Results(*paths)
    results.write([result(n, n % 3 != 0) for n in range(1, total + 1) if not results.is_done(n)])
    results.sync()
    assert (results.completed, results.failed) == (40, 20)
    results.close()
    assert sorted(stands(paths[0])) == [n for n in range(1, total + 1) if n % 3]
    assert sorted(stands(paths[1])) == [n for n in range(1, total + 1) if not n % 3]


def test_a_group_is_written_whole_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full after some bytes of the second file: then the first has nothing of it."""
    paths = tmp_path / "output", tmp_path / "errors"
    results = Results(*paths)
    results.write([result(1, True), result(2, False)])
    before = [path.read_bytes() for path in paths]
    from er.batches import results as module

    real, calls = module.os.write, []

    def write(file: int, data: bytes) -> int:
        calls.append(file)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(file, data[:10] if len(calls) == 2 else data)

    monkeypatch.setattr(module.os, "write", write)
    with pytest.raises(OSError, match="No space"):
        results.write([result(3, False), result(4, True)])
    monkeypatch.undo()
    assert [path.read_bytes() for path in paths] == before
    assert not results.is_done(3) and not results.is_done(4)
    results.write([result(3, False), result(4, True)])
    assert (results.completed, results.failed) == (2, 2)
    results.close()
    assert sorted(stands(*paths)) == [1, 2, 3, 4]


# -- the folder ------------------------------------------------------------------------------------


def batch(file_id: str, **more: Any) -> Batch:
    now = int(time.time())
    return Batch(
        id=new_id("batch_"),
        endpoint=URL,
        input_file_id=file_id,
        completion_window="24h",
        created_at=now,
        expires_at=now + 86400,
        **more,
    )


def uploaded(store: Store, owner: str, data: bytes = b"x" * 100) -> File:
    upload = store.upload(owner, len(data))
    upload.write(data)
    return upload.keep("in.jsonl")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "batches", quota=1 << 20, keep_s=100)


def test_each_owner_sees_its_own(store: Store) -> None:
    mine, other = uploaded(store, "kaaaaaaaa"), uploaded(store, "kbbbbbbbb")
    one = batch(mine.id)
    store.add_batch("kaaaaaaaa", one)
    assert [f.id for f in store.files("kaaaaaaaa")] == [mine.id]
    assert store.batch("kaaaaaaaa", one.id) == one
    assert store.batches("kbbbbbbbb") == []
    for ask in (
        lambda: store.file("kaaaaaaaa", other.id),
        lambda: store.batch("kbbbbbbbb", one.id),
        lambda: store.open_file("kbbbbbbbb", mine.id),
        lambda: store.delete_file("kbbbbbbbb", mine.id),
        lambda: store.file("kaaaaaaaa", one.id),
        lambda: store.batch("kaaaaaaaa", mine.id),
        lambda: store.file("kaaaaaaaa", f"../kbbbbbbbb/{other.id}"),
        lambda: store.file("kaaaaaaaa", ""),
    ):
        with pytest.raises(NotThere):
            ask()
    with pytest.raises(ValueError, match="no key's id"):
        store.files("../kaaaaaaaa")


def test_files_are_private_and_half_an_upload_is_none(store: Store) -> None:
    file = uploaded(store, "k1")
    folder = store.folder("k1")
    for path in (folder / file.id, folder / f"{file.id}.json"):
        assert path.stat().st_mode & 0o777 == 0o640
    upload = store.upload("k1", 10)
    upload.write(b"half")
    assert len(store.files("k1")) == 1
    upload.drop()
    assert {path.name for path in folder.iterdir()} == {file.id, f"{file.id}.json"}


def test_the_quota_holds_for_all_owners_together_and_none_has_all_of_it(store: Store) -> None:
    """Three quarters of what others leave; so there is some for one more, however many they are."""
    uploaded(store, "k1", b"x" * 700_000)
    with pytest.raises(Full):
        store.upload("k1", 100_000)
    with pytest.raises(Full):
        store.upload("k2", 300_000)
    small = uploaded(store, "k2", b"x" * 200_000)
    with pytest.raises(Full) as full:
        store.upload("k2", 100_000)
    assert full.value.own == store.taken()["k2"] > 200_000
    assert full.value.share == (store.quota - store.taken()["k1"]) * 3 // 4
    assert full.value.used == store.used() < store.quota
    uploaded(store, "k3", b"x" * 80_000)
    store.delete_file("k2", small.id)
    uploaded(store, "k2", b"x" * 100_000)


def test_an_upload_that_did_not_say_its_size_meets_the_quota_too(tmp_path: Path) -> None:
    store = Store(tmp_path / "b", quota=40 << 20, keep_s=100)
    upload = store.upload("k1", 0)
    with pytest.raises(Full):
        for _ in range(64):
            upload.write(bytes(1 << 20))
    assert upload.size <= 30 << 20  # three quarters, as nobody else has any
    upload.drop()
    assert store.used() == 0


def test_a_file_in_use_is_known(store: Store) -> None:
    file = uploaded(store, "k1")
    one = batch(file.id)
    store.add_batch("k1", one)
    assert store.user_of("k1", file.id) == one.id
    store.save("k1", one.became("failed", time.time()))
    store.close("k1", one.id)
    assert store.user_of("k1", file.id) is None and store.open_batches() == []


def test_a_wish_to_cancel_shows_at_once(store: Store) -> None:
    file = uploaded(store, "k1")
    one = batch(file.id)
    store.add_batch("k1", one)
    store.cancel("k1", one.id)
    seen = store.batch("k1", one.id)
    assert seen.status == "cancelling" and abs((seen.cancelling_at or 0) - time.time()) < 5


def test_handing_over_twice_is_once(store: Store) -> None:
    """Killed in between, the runner does it again."""
    file = uploaded(store, "k1")
    one = batch(file.id)
    store.add_batch("k1", one)
    results = Results(*store.results("k1", one.id))
    results.write([result(1, True)])
    results.close()
    one = one.became("finalizing", time.time(), output_file_id=new_id("file-"))
    path = store.results("k1", one.id)[0]
    assert one.output_file_id is not None
    path.rename(store.folder("k1") / one.output_file_id)  # and then it was killed
    for _ in range(2):
        store.hand_over("k1", one)
        output = store.file("k1", one.output_file_id)
        assert (output.purpose, output.filename) == ("batch_output", f"{one.id}_output.jsonl")
        assert stands(store.folder("k1") / output.id) == [1]
    assert not any(path.exists() for path in store.results("k1", one.id))
    store.delete_file("k1", output.id)
    store.hand_over("k1", one)  # killed once more, and its owner was faster
    with pytest.raises(NotThere):
        store.file("k1", output.id)


def test_what_can_not_be_read_is_not_gone(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch would fail, and its mark be removed, for want of a descriptor."""
    file = uploaded(store, "k1")
    monkeypatch.setattr(Path, "read_bytes", lambda _: raise_error(errno.EMFILE))
    with pytest.raises(OSError, match="Too many open files"):
        store.file("k1", file.id)


def test_one_holds_the_lock(store: Store) -> None:
    import os

    first = store.lock()
    assert first is not None and store.lock() is None
    os.close(first)
    second = store.lock()
    assert second is not None
    os.close(second)


def test_what_is_over_goes_in_its_time(store: Store) -> None:
    """Not before, not while a batch that runs needs it; and what a kill left behind, later."""
    now = time.time()
    file, other = uploaded(store, "k1"), uploaded(store, "k1")
    runs, ended = batch(file.id), batch(other.id).became("completed", now)
    store.add_batch("k1", runs)
    store.add_batch("k1", ended)
    store.close("k1", ended.id)
    half = store.upload("k1", 10)
    store.cancel("k1", ended.id)  # as late as that
    (store.root / "open" / f"k1.{new_id('batch_')}").touch()
    assert store.sweep(now) == 0 and len(store.files("k1")) == 2
    assert store.sweep(now + 200) == 2
    assert [f.id for f in store.files("k1")] == [file.id]
    assert [b.id for b in store.batches("k1")] == [runs.id]
    store.sweep(now + 8000)
    assert not list(store.folder("k1").glob("*.part"))
    assert not list(store.folder("k1").glob("*.cancel")) and len(store.open_batches()) == 1
    half.drop()


def test_a_record_that_can_not_be_written_stays_as_it_was(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = batch(uploaded(store, "k1").id)
    store.add_batch("k1", one)
    monkeypatch.setattr("os.fsync", lambda _: full())
    with pytest.raises(OSError, match="full"):
        store.save("k1", one.became("failed", 5))
    second = batch(one.input_file_id)
    with pytest.raises(OSError, match="full"):
        store.add_batch("k1", second)
    monkeypatch.undo()
    assert store.batch("k1", one.id) == one
    assert store.open_batches() == [("k1", one.id)]
    upload = store.upload("k1", 10)
    upload.write(b"0123456789")
    monkeypatch.setattr("os.fsync", lambda n: None if n == upload_fd(upload) else full())
    with pytest.raises(OSError, match="full"):
        upload.keep("x")
    upload.drop()
    monkeypatch.undo()
    assert {path.name.partition(".")[0] for path in store.folder("k1").iterdir()} == {
        one.id,
        one.input_file_id,
    }


def upload_fd(upload: Upload) -> int:
    return -1 if upload._file.closed else upload._file.fileno()


def raise_error(number: int) -> Any:
    raise OSError(number, os.strerror(number))


def full() -> None:
    raise OSError(errno.ENOSPC, "full")


# -- er.toml ---------------------------------------------------------------------------------------

TOML = '[batches]\n{}\n[[model]]\nname = "m"\ntask = "embed"\npath = "/m"\n'


@pytest.mark.parametrize(
    "text", ["", "quota = 0", 'quota = "1MiB"', 'keep = "2h"\nmax_file = "3MiB"', 'quota = "1GiB"']
)
def test_er_toml_is_read_written_and_taken_up(text: str) -> None:
    made = parse(TOML.format(text), Path("er.toml"))
    assert parse(render(made), Path("er.toml")).batches == made.batches
    plain = parse(TOML.format(""), Path("er.toml"))
    assert plain.batches == Batches(quota=10 << 30, keep_s=30 * 86400, max_file=200 << 20)
    merged = takeup.merge(plain, made)
    assert merged.config.batches == made.batches and merged.held == ()
    for key in ("quota", "keep", "max_file"):
        if key in text:
            assert any(f"[batches] {key}: " in taken for taken in merged.taken)


def test_check_says_where_there_is_no_room(tmp_path: Path) -> None:
    """Of a folder that is not there yet, too; what lies in it already is room."""

    def warned(text: str) -> list[tuple[str, str]]:
        return list(check_batches.findings(parse(TOML.format(text), Path("x")), tmp_path / "state"))

    assert warned('quota = "1MiB"') == [] and warned("quota = 0") == []
    ((key, said),) = warned('quota = "900000GiB"')
    assert key == "quota" and "has room for" in said
