"""The parts of `er embed --ray`, without Ray: cutting, reading, keeping, and several gateways."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from er.cli import __main__ as cli
from er.cli import embed_ray, embed_ray_gateways, embed_ray_work
from er.cli.bench_load import Where
from er.cli.embed_ask import Away, Got, Hopeless
from er.cli.embed_ask import Wish as Request
from er.cli.embed_ray_cost import Cost, Price
from er.cli.embed_ray_gateways import Gateways, Lane
from er.cli.embed_ray_parts import (
    InputPart,
    PartReading,
    Plan,
    Scanned,
    cut,
    even,
    lines_of,
    scan,
)
from er.cli.embed_ray_plan import _with_lines
from er.cli.embed_ray_store import File, S3Access, Secret, Store, StoreError
from er.cli.embed_ray_work import DONE, Embedder, Work, kept
from er.cli.embed_rows import Columns, Damaged
from test_embed import read, rows, write

NOWHERE = S3Access()


def plan(parts: Sequence[InputPart] = (), **more: Any) -> Plan:
    fields: dict[str, Any] = {
        "files": [File("in.jsonl", 5, 1)],
        "parts": list(parts),
        "kinds": {},
        "plain": False,
        "field": "text",
        "vector": "embedding",
        "model": "m",
        "vllm": "",
        "kind": None,
        "instruction": None,
        "dimensions": None,
    }
    return Plan(**fields | more)


# -- cutting and reading ---------------------------------------------------------------------------


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([b"", b"a", b"bb\r", b"c" * 50, "二".encode()]), max_size=12),
    st.booleans(),
    st.integers(1, 40),
)
def test_each_line_is_in_one_part(lines: list[bytes], ended: bool, most: int) -> None:
    """Wherever the cuts fall: amid a line, a character or a line's end, or behind the last byte."""
    data = b"\n".join(lines) + (b"\n" if ended and lines else b"")
    found: list[bytes] = []
    for first, end in even(len(data), most):
        found += lines_of(io.BytesIO(data), first, end)
    assert found == [line.removesuffix(b"\n") for line in io.BytesIO(data)]


def test_lines_longer_than_a_block() -> None:
    """A part that begins within one has none of it."""
    data = b"x" * (3 << 20) + b"\n" + b"y\n"
    parts = [list(lines_of(io.BytesIO(data), a, b)) for a, b in even(len(data), 1 << 20)]
    assert [len(lines) for lines in parts] == [1, 0, 0, 1]


def scanned(store: Store, parts: list[InputPart], **more: Any) -> list[InputPart]:
    asked: dict[str, Any] = {"field": "text", "plain": False, "vector": "v", "kinds": True} | more
    return _with_lines(parts, {p.number: scan(store, p, **asked) for p in parts})


def test_rows_keep_their_lines_whatever_the_part(tmp_path: Path) -> None:
    """As an editor counts them in each file; the parts together have each row once, in order."""
    write(tmp_path / "b.jsonl", rows(90))
    (tmp_path / "a.ndjson").write_text('\ufeff{"text": "first"}\n\n{"text": 5}\n{"text": "third"}')
    (tmp_path / "c.txt.gz").write_bytes(gzip.compress(b"one\n\ntwo"))
    for name in ("_SUCCESS", ".hidden.jsonl", "notes.md"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "_old").mkdir()
    write(tmp_path / "_old" / "d.jsonl", rows(3))
    store = Store(str(tmp_path), NOWHERE)
    files = store.inputs(embed_ray.INPUTS)
    assert [Path(f.path).name for f in files] == ["a.ndjson", "b.jsonl", "c.txt.gz"]
    parts = scanned(store, cut(store, files, 1000, "text", "v"))
    assert len(parts) > 5 and [p.number for p in parts] == list(range(len(parts)))
    found = []
    for part in parts:
        reading = PartReading(store, part, field="text", plain=False)
        found += [(Path(part.file).name, row.line, row.text) for row in reading.rows()]
        assert reading.digest == part.digest
    wanted = [("a.ndjson", 1, "first"), ("a.ndjson", 3, ""), ("a.ndjson", 4, "third")]
    wanted += [("b.jsonl", i + 1, f"text {i}") for i in range(90)]
    wanted += [("c.txt.gz", 1, "one"), ("c.txt.gz", 2, ""), ("c.txt.gz", 3, "two")]
    assert found == wanted
    pattern = Store(f"{tmp_path}/[ab]*.jsonl", NOWHERE)
    assert [Path(f.path).name for f in pattern.inputs(embed_ray.INPUTS)] == ["b.jsonl"]
    assert store.inputs((".nothing",)) == []
    with pytest.raises(StoreError, match="no such file or folder"):
        Store(f"{tmp_path}/no", NOWHERE).inputs(embed_ray.INPUTS)


def test_columns_of_parts_are_those_of_the_whole(tmp_path: Path) -> None:
    """Whole numbers here and others there are numbers; a field that only one part has is one."""
    values: list[dict[str, Any]] = [{"text": "a", "n": 1}, {"text": "b", "n": 0.5, "x": None}]
    values += [{"text": "c", "x": "y", "big": (1 << 53) + 1}, {"text": "d", "big": 0.5}]
    whole, merged = Columns(), Columns()
    for value in values:
        whole.add(value)
        one = Columns()
        one.add(value)
        merged.merge(one)
    assert (
        merged.kinds()
        == whole.kinds()
        == {"text": "text", "n": "float", "x": "text", "big": "json"}
    )


def test_parquet_is_cut_between_row_groups(tmp_path: Path) -> None:
    table = pa.table(
        {"id": range(100), "text": [f"text {i}" if i % 7 else None for i in range(100)]}
    )
    parquet.write_table(table, tmp_path / "in.parquet", row_group_size=10)
    store = Store(str(tmp_path / "in.parquet"), NOWHERE)
    files = store.inputs(embed_ray.INPUTS)
    parts = scanned(store, cut(store, files, 400, "text", "v"))
    assert len(parts) > 2 and sum(p.rows for p in parts) == 100
    found = []
    for part in parts:
        reading = PartReading(store, part, field="text", plain=False)
        for chunk in reading.batches(3, all_columns=True):
            found += [(row.line, row.text) for row in chunk.rows]
            assert chunk.batch.column("id").to_pylist() == [row.line - 1 for row in chunk.rows]
        assert reading.digest == part.digest
    assert found == [(i + 1, f"text {i}" if i % 7 else "") for i in range(100)]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"field": "body"}, "has no column body; name one by --field: id, text"),
        ({"field": "id"}, "the column id is of int64, not of texts"),
        ({"vector": "id"}, "has a column id, as the vectors' would be; choose --vector NAME"),
    ],
)
def test_columns_that_do_not_fit(tmp_path: Path, words: dict[str, str], said: str) -> None:
    parquet.write_table(pa.table({"id": [1], "text": ["a"]}), tmp_path / "in.parquet")
    store = Store(str(tmp_path), NOWHERE)
    asked = {"field": "text", "vector": "v"} | words
    with pytest.raises(Damaged, match=said):
        cut(store, store.inputs(embed_ray.INPUTS), 1000, **asked)
    (tmp_path / "in.parquet").write_text("no")
    with pytest.raises(Damaged, match="is no Parquet file"):
        cut(store, store.inputs(embed_ray.INPUTS), 1000, "text", "v")


# -- the plan --------------------------------------------------------------------------------------


def test_many_parts_are_no_burden() -> None:
    """The plan's word is made once, however many parts ask for their names."""
    parts = [InputPart(number=i, file="f" * 50, first=i, end=i + 1) for i in range(20_000)]
    large = plan(parts)
    assert len({large.stem(part) for part in parts}) == len(parts)
    assert large.stem(parts[7]) == f"part-000007-{large.id}"


def test_another_plan_is_named_and_has_other_files() -> None:
    part = InputPart(number=7, file="f", first=0, end=5)
    one, other = plan([part]), plan([part], kind="query", vector="v", files=[File("f", 6, 1)])
    assert one.differs(other) == "input, --query or --document, --vector"
    assert one.differs(plan()) == ""  # how it was cut then is how it goes on
    assert one.stem(part) == f"part-000007-{one.id}" != other.stem(part)
    again = msgspec.json.decode(msgspec.json.encode(one), type=Plan)
    assert again == one and again.id == one.id
    more = json.loads(msgspec.json.encode(one)) | {"of a later ER": 1}
    assert msgspec.json.decode(json.dumps(more), type=Plan) == one


# -- an actor, without Ray -------------------------------------------------------------------------


class Fake:
    """An engine: a vector of each text's length; what is in `wrong` can't be embedded."""

    ahead, waiting = 2, ""

    def __init__(self, wrong: Sequence[str] = ()) -> None:
        self.wrong, self.asked = wrong, 0

    async def embed(self, texts: Sequence[str]) -> Got:
        self.asked += len(texts)
        wrong = {i: "is too long" for i, text in enumerate(texts) if text in self.wrong}
        good = [[len(t), 1] for i, t in enumerate(texts) if i not in wrong]
        vectors = np.array(good, np.float32).reshape(-1, 2)
        return Got(vectors, wrong, len(texts), 0, "m")


class Nobody:
    """A board that is away."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


class Bench:
    """One actor with a plan of its own in a folder."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, **more: Any) -> None:
        self.engine = more.pop("engine", Fake())

        async def engine(_: Any) -> Fake:
            return self.engine

        monkeypatch.setattr(embed_ray_work, "_engine", engine)
        output = more.pop("output", "out.parquet")
        self.source, self.out = (
            Store(str(folder / "in"), NOWHERE),
            Store(str(folder / output), NOWHERE),
        )
        parts = cut(self.source, self.source.inputs(embed_ray.INPUTS), 1000, "text", "embedding")
        self.plan = plan(scanned(self.source, parts))
        self.work = Work(
            source=self.source,
            out=self.out,
            id=self.plan.id,
            plain=False,
            field="text",
            vector="embedding",
            parquet=output.endswith("parquet"),
            kinds={"id": "int", "text": "text"},
            skip=more.pop("skip", False),
            inputs=16,
            lane=None,
        )
        self.out.make(self.work.notes)
        self.out.put(self.work.plan_path, b"{}")
        self.actor = Embedder(self.work, Nobody())

    def embed(self, number: int) -> dict[str, Any]:
        part = self.plan.parts[number]
        item = {"part": msgspec.json.encode(part), "stem": self.plan.stem(part)}
        result: dict[str, Any] = json.loads(self.actor(item)["result"])
        return result


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "a.jsonl", [{"id": i, "text": "x" * (i + 1)} for i in range(60)])
    return tmp_path


@pytest.mark.parametrize("output", ["out.parquet", "out.jsonl"])
def test_a_part_is_a_file_and_a_note(
    folder: Path, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    """What is there is not asked again; a note without its file, or half a note, is none."""
    bench = Bench(folder, monkeypatch, output=output)
    part = bench.plan.parts[1]
    result = bench.embed(1)
    assert result == {"number": 1, "stop": "", "rows": part.rows, "tokens": part.rows, "listed": []}
    (file,) = (folder / output).glob("part-*")
    values, found = read(file)
    assert [v["text"] for v in values] == ["x" * (v["id"] + 1) for v in values]
    assert found.tolist() == [[len(v["text"]), 1] for v in values]
    note = folder / output / "_parts" / f"{bench.plan.stem(part)}{DONE}"
    asked, before = bench.engine.asked, file.stat()
    assert bench.embed(1) == result and bench.engine.asked == asked
    assert file.stat() == before
    note.write_bytes(note.read_bytes()[:-3])
    assert kept(bench.out, bench.work.notes, bench.plan.stem(part)) is None
    assert bench.embed(1) == result and bench.engine.asked == 2 * asked
    assert sorted(p.name for p in note.parent.iterdir()) == sorted(
        [note.name, f"plan-{bench.plan.id}.json"]
    )


def test_what_ends_a_part(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that is too long, an input that is another now, an output that was begun anew."""
    bench = Bench(folder, monkeypatch, engine=Fake(["xxx"]))
    cure = "shorten it, cut what is too long with --cut, or leave it out with --bad skip"
    name = folder / "in" / "a.jsonl"
    said = bench.embed(0)
    assert said["stop"] == f"{name}: line 3 can't be embedded; {cure}"
    assert said["listed"] == [f"{name}: line 3 is too long"]
    write(name, [{"id": i, "text": "y" * (i + 1)} for i in range(60)])
    assert bench.embed(1)["stop"] == f"{name} was changed meanwhile; begin anew with --force"
    bench.out.remove([bench.work.plan_path])
    write(name, [{"id": i, "text": "x" * (i + 1)} for i in range(60)])
    assert "was begun anew by somebody else" in bench.embed(1)["stop"]
    name.unlink()
    assert str(name) in bench.embed(1)["stop"]
    assert list((folder / "out.parquet").glob("part-*")) == []
    assert list((folder / "out.parquet/_parts").iterdir()) == []


def test_rows_left_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of nothing else have no file, and are done all the same."""
    texts = ["x" * (i + 1) for i in range(60)]
    bench = Bench(folder, monkeypatch, engine=Fake(texts), skip=True)
    result = bench.embed(0)
    assert (result["stop"], result["rows"]) == ("", bench.plan.parts[0].rows)
    assert list((folder / "out.parquet").glob("part-*")) == []
    done = kept(bench.out, bench.work.notes, bench.plan.stem(bench.plan.parts[0]))
    assert done is not None and done.missing == done.rows and done.bytes == 0


# -- several gateways ------------------------------------------------------------------------------


class Answers:
    """In place of a Service: what it does the next times, then good answers."""

    def __init__(self, *todo: Exception) -> None:
        self.todo, self.calls = list(todo), 0

    async def embed(self, texts: Sequence[str]) -> Got:
        self.calls += 1
        await asyncio.sleep(0)
        if self.todo:
            raise self.todo.pop(0)
        return Got(np.ones((len(texts), 1), np.float32), {}, 1, 0, "m")


class Time:
    """A clock that sleeping moves."""

    def __init__(self) -> None:
        self.now, self.slept = 1000.0, 0.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    found = Time()
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        await (real(0) if not seconds else found.sleep(seconds))

    monkeypatch.setattr(embed_ray_gateways.asyncio, "sleep", sleep)
    return found


def several(clock: Time, *services: Answers) -> Gateways:
    wheres = tuple(Where.parse(f"http://g{i}") for i in range(len(services)))
    lane = Lane(gateways=wheres, key=Secret("k"), wish=Request(model="m"), clients=4)
    found = Gateways(lane, clock)
    for gateway, service in zip(found._all, services, strict=True):
        gateway.service = service  # type: ignore[assignment]
    return found


async def test_what_one_gateway_does_not_answer_another_does(clock: Time) -> None:
    """At once; the first rests as long as it said, then it is asked again."""
    first, second = Answers(Away("429", 7.0, status=429)), Answers()
    both = several(clock, first, second)
    assert len((await both.embed(["a"])).vectors) == 1 and clock.slept == 0
    assert (first.calls, second.calls) == (1, 1)
    for _ in range(3):
        await both.embed(["a"])
    assert (first.calls, second.calls) == (1, 4)
    clock.now += 8
    await both.embed(["a"])
    assert first.calls == 2


async def test_all_gateways_away_are_waited_for(clock: Time) -> None:
    """As long as patience lasts, which is short until anything was answered."""
    gone = [Away("refused", 0.0, status=0) for _ in range(8)]
    alone = several(clock, Answers(*gone[:4]))
    await alone.embed(["a"])
    assert 0 < clock.slept < embed_ray_gateways.FIRST_S
    never = several(clock, Answers(*gone * 100), Answers(*gone * 100))
    with pytest.raises(Hopeless, match="refused"):
        await never.embed(["a"])


async def test_what_fails_everywhere_ends_it(clock: Time) -> None:
    failed = [Away("500 x", 0.0, status=500) for _ in range(9)]
    both = several(clock, Answers(*failed), Answers(*failed))
    with pytest.raises(Hopeless, match="500 x"):
        await both.embed(["a"])
    refused = several(clock, Answers(Hopeless("404 no such model")), Answers())
    with pytest.raises(Hopeless, match="404"):
        await refused.embed(["a"])


# -- secrets, costs, wrong use ---------------------------------------------------------------------


def test_secrets_do_not_show() -> None:
    access = S3Access.of({"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "hush"}, None)
    lane = Lane(gateways=(), key=Secret("sk-er-x"), wish=Request(model="m"), clients=1)
    for shown in (repr(access), repr(lane), str(Store("s3://b/x", access)._access)):
        assert "hush" not in shown and "AKID" not in shown and "sk-er-x" not in shown
    assert S3Access.of({"AWS_ACCESS_KEY_ID": "AKID"}, None).key is None


def test_costs_are_those_of_all_runs(tmp_path: Path) -> None:
    """A run that was killed counts up to what it last put down."""
    store, now = Store(str(tmp_path), NOWHERE), [0.0]
    first = Cost(store, str(tmp_path), Price(2.5, "EUR"), lambda: now[0])
    assert first.text() == ""
    first.gpus = 8
    now[0] = 3600.0
    first.keep()
    now[0] = 3620.0
    first.keep()  # too soon after the last
    now[0] = 10_000.0
    second = Cost(store, str(tmp_path), Price(2.5, "EUR"), lambda: now[0])
    second.gpus = 4
    now[0] += 1800.0
    assert second.text() == "10.00 GPU-hours, 25.00 EUR"
    assert second.text(0.5) == "10.00 GPU-hours, 25.00 EUR of 30.00"
    assert Cost(store, str(tmp_path), None, lambda: now[0]).text() == "8.00 GPU-hours"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--part", "1MiB"], "--part goes with --ray"),
        (["--endpoint", "http://x"], "--endpoint goes with --ray"),
        (["--url", "http://a", "--url", "http://b"], "several --url go with --ray"),
        (["--ray", "ray://h:10001"], "run the command on a host of the cluster"),
        (["--ray", "auto", "--part", "5"], 'write a size as "32MiB"'),
        (["--ray", "auto", "--part", "5B"], "at least 1024 bytes"),
        (["--ray", "auto", "--actors", "0"], "--actors 0: it must be over 0"),
        (["--ray", "auto", "--inputs", "0"], "--inputs 0: from 1 to 2048"),
        (["--ray", "auto", "--vllm", "/m", "--url", "http://h"], "leave out --url"),
        (["--ray", "auto", "--key-file", "k"], "--key-file goes with --url"),
        (["--ray", "auto", "--url", "http://u:p@h"], "not into the URL"),
    ],
)
def test_wrong_use_says_what_is_right(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["embed", "in.jsonl", "-o", "out.parquet", *words]) == 64
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("names", "code", "said"),
    [
        (["-", "-o", "out.parquet"], 64, "standard input is no input for --ray"),
        (["in.jsonl", "-o", "out.csv"], 64, "the name must end in one of: .parquet, .jsonl"),
        (["s3://AK:SK@b/x", "-o", "out.parquet"], 64, "not into s3://"),
        (["none", "-o", "out.parquet"], 1, "none: no such file or folder"),
        (["empty", "-o", "out.parquet"], 1, "has no file that ends in one of: .jsonl"),
        (["in.jsonl", "-o", "other.parquet"], 1, "and not from er embed --ray; name another"),
        (["in.jsonl", "-o", "done.parquet"], 1, "is there already; to write it anew: --force"),
        (["in.jsonl", "-o", "out.parquet"], 1, "Ray is not installed beside this er (er[ray])"),
    ],
)
def test_what_can_not_be_begun_leaves_nothing(
    tmp_path: Path,
    names: list[str],
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Here Ray is not there, as in what install.sh installs."""
    write(tmp_path / "in.jsonl", rows(2))
    (tmp_path / "empty").mkdir()
    for name, inside in (("other", "mine.txt"), ("done", "_parts/plan-1.json")):
        file = tmp_path / f"{name}.parquet" / inside
        file.parent.mkdir(parents=True)
        file.write_text("{}")
    (tmp_path / "done.parquet/_SUCCESS").write_text("{}")
    there = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    assert cli.main(["embed", *names, "--ray", "auto", "--model", "m"]) == code
    assert said in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == there


def test_a_name_is_whole_or_not_there(tmp_path: Path) -> None:
    """What was there stays until what comes is on the disk; a file that can't be put says why."""
    store = Store(str(tmp_path), NOWHERE)
    path = store.under("a.json")
    assert store.read(path) is None
    store.put(path, b"1")
    store.put(path, b"2")
    assert store.read(path) == b"2" and list(tmp_path.iterdir()) == [Path(path)]
    with pytest.raises(StoreError, match="No such file or directory"):
        store.put(store.under("no", "b.json"), b"1")
    fresh = store.writing(str(tmp_path))
    fresh.write_bytes(b"3")
    store.take(fresh, path)
    assert store.read(path) == b"3" and list(tmp_path.iterdir()) == [Path(path)]
    assert Scanned(number=1).listed == []
