"""`er embed` on a running gateway: right vectors in order, whatever ends it in the middle."""

from __future__ import annotations

import base64
import contextlib
import gzip
import io
import json
import os
import pty
import random
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar, NamedTuple
from unittest import mock

import numpy as np
import pytest
from numpy.typing import NDArray
from pyarrow import parquet

from er.cli import __main__ as cli
from er.cli import embed_ask
from er.cli.embed_part import MAGIC, Part
from fakes import EngineProcess, free_port
from running import DIMENSIONS, Gateway, gateway
from test_cli import er

COUNT = 600


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway without a cache, so that each text that is asked twice is seen by the engine."""
    with gateway(tmp_path_factory.mktemp("gw")) as found:
        found.stop()
        found.write_config()
        found.config.write_text(found.config.read_text() + "\n[cache]\nsize = 0\n")
        found.write_config = lambda: None  # type: ignore[method-assign]
        yield found.start()


@pytest.fixture
def engine(running: Gateway) -> EngineProcess:
    """Its engine, counting from 0 and without faults."""
    (found,) = running.engines
    return found.fresh()


def rows(count: int = COUNT) -> list[dict[str, Any]]:
    """Rows whose texts are all different, with every kind of other field."""
    return [
        {
            "id": i,
            "text": f"text {i}",
            "score": i / 3 if i % 2 else i,
            "good": i % 3 == 0 if i % 7 else None,
            "title": f"\u6807\u9898 \U0001f600 {i}",
            "tags": ["a", i],
            "late": "x" if i > count // 2 else None,
        }
        for i in range(count)
    ]


def write(path: Path, values: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(v, ensure_ascii=False) + "\n" for v in values))
    return path


def read(path: Path, name: str = "embedding") -> tuple[list[dict[str, Any]], NDArray[np.float32]]:
    """(the rows without their vectors, the vectors) of an output of either kind."""
    if path.suffix == ".parquet":
        table = parquet.read_table(path)
        assert table.schema.field(name).type.list_size == table.column(name).type.list_size > 0
        values = table.to_pylist()
    else:
        values = [json.loads(line) for line in path.read_text().splitlines()]
    found = np.array([value.pop(name) for value in values], np.float32)
    return values, found


def direct(running: Gateway, texts: Sequence[str]) -> NDArray[np.float32]:
    """The vectors that the service itself gives for these texts."""
    found = []
    for start in range(0, len(texts), 500):
        data = running.embed(list(texts[start : start + 500]), encoding_format="base64").json[
            "data"
        ]
        found += [np.frombuffer(base64.b64decode(d["embedding"]), "<f4") for d in data]
    return np.stack(found)


class Ended(NamedTuple):
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


def embed(running: Gateway, *words: str | Path, **more: str) -> Ended:
    """The command in this process, which takes half a second less than a process of its own."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, running.environment() | more),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            code = cli.main(["embed", *map(str, words)])
        except SystemExit as end:  # the parser's
            code = int(end.code or 0)
    return Ended(code, out.getvalue(), err.getvalue())


def begin(running: Gateway, *words: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "er.cli", "embed", *map(str, words)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=running.environment(), stdout=pipe, stderr=pipe, text=True)


def grown(path: Path, size: int, timeout_s: float = 20.0) -> None:
    """Until the file has that many bytes."""
    until = time.monotonic() + timeout_s
    while not (path.exists() and path.stat().st_size >= size):
        assert time.monotonic() < until, path
        time.sleep(0.01)


def whole(running: Gateway, output: Path, given: list[dict[str, Any]]) -> None:
    """All rows are there, once and in order, with the vectors that a client gets; no other file."""
    values, found = read(output)
    assert [v["id"] for v in values] == [v["id"] for v in given]
    assert np.array_equal(found, direct(running, [v["text"] for v in given]))
    assert [p.name for p in output.parent.glob(output.name + "*")] == [output.name]


# -- all goes well -------------------------------------------------------------------------------


def test_json_lines_are_kept_as_they_stand(running: Gateway, tmp_path: Path) -> None:
    """Every byte of an object, and the vector behind; blank lines are none."""
    lines = [
        '{"text": "one", "n": 1.50, "big": 123456789012345678901234567890, "n": 2}',
        '  {"text":"two \\u4e8c","deep":{"a":[1,{}]}}  ',
    ]
    source = tmp_path / "in.jsonl"
    source.write_text("\ufeff" + "\n\n".join(lines) + "\r\n\n")
    done = embed(running, source, "-o", tmp_path / "out.jsonl")
    assert (done.returncode, done.stderr) == (0, ""), done
    got = (tmp_path / "out.jsonl").read_text().splitlines()
    assert [g.partition(',"embedding":')[0] + "}" for g in got] == [x.strip() for x in lines]
    assert np.array_equal(read(tmp_path / "out.jsonl")[1], direct(running, ["one", "two 二"]))
    assert re.match(r".*out.jsonl: 2 rows, \d+ tokens \(.*rows/s, .*tokens/s\)\n", done.stdout)


def test_parquet_has_columns_and_the_same_numbers(running: Gateway, tmp_path: Path) -> None:
    """As a client gets them, to the bit; a field of mixed or nested values is JSON text."""
    given = rows()
    source, output = write(tmp_path / "in.jsonl", given), tmp_path / "out.parquet"
    done = embed(running, source, "-o", output, "--clients", "3", "--inputs", "100")
    assert (done.returncode, done.stderr) == (0, ""), done
    whole(running, output, given)
    types = {f.name: str(f.type) for f in parquet.read_schema(output)}
    assert types == {
        "id": "int64",
        "text": "string",
        "score": "double",
        "good": "bool",
        "title": "string",
        "tags": "string",
        "late": "string",
        "embedding": f"fixed_size_list<element: float>[{DIMENSIONS}]",
    }
    values, _ = read(output)
    assert [{**v, "tags": json.loads(v["tags"])} for v in values] == given


def test_the_requests_are_bulk(running: Gateway, engine: EngineProcess, tmp_path: Path) -> None:
    """So many texts at once that what people wait for goes before; each text is asked once."""
    source = write(tmp_path / "in.jsonl", rows())
    before = len(running.audit())
    assert embed(running, source, "-o", tmp_path / "out.jsonl").returncode == 0
    until = time.monotonic() + 10
    while len(own := [r for r in running.audit()[before:] if r.get("ITEMS") in (88, 256)]) < 3:
        assert time.monotonic() < until
        time.sleep(0.02)
    assert sorted(r["ITEMS"] for r in own) == [88, 256, 256]
    assert {r["KEY_ID"] for r in own} == {"local"}
    assert engine.seen()["items"] == COUNT


def test_texts_of_lines_packed_or_from_standard_input(running: Gateway, tmp_path: Path) -> None:
    """.txt, .gz, "-": the same vectors, the lines under the name that --field says."""
    texts = ["one", "  two ", '{"not": "json"}']
    plain = tmp_path / "in.txt"
    plain.write_bytes("\r\n".join(texts).encode())
    packed = tmp_path / "in.txt.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    piped = tmp_path / "piped.jsonl"
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    feeder = threading.Thread(target=lambda: fifo.write_bytes(plain.read_bytes()))
    feeder.start()
    ways = ((plain, []), (packed, []), (Path("-"), ["--plain"]), (fifo, ["--plain"]))
    for source, words in ways:
        output = piped if str(source) == "-" else tmp_path / f"{source.name}.parquet"
        command = [sys.executable, "-m", "er.cli", "embed", str(source), "-o", str(output)]
        with plain.open() as stdin:
            done = subprocess.run(
                [*command, *words, "--field", "line", "--vector", "v"],
                stdin=stdin,
                env=running.environment(),
                check=True,
            )
        assert done.returncode == 0
        values, found = read(output, "v")
        assert values == [{"line": text} for text in texts]
        assert np.array_equal(found, direct(running, texts))


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        (["--query"], {"input_type": "query"}),
        (["--document"], {"input_type": "document"}),
        (["--query", "--instruction", "Find it"], {"instruction": "Find it"}),
        (["--dimensions", "16"], {"dimensions": 16}),
        (["--model", "embed:query"], {"input_type": "query"}),
    ],
)
def test_what_is_asked(
    running: Gateway, tmp_path: Path, words: list[str], fields: dict[str, Any]
) -> None:
    source = write(tmp_path / "in.jsonl", rows(3))
    done = embed(running, source, "-o", tmp_path / "out.parquet", *words)
    assert done.returncode == 0, done.stderr
    body = {"model": "embed", "input": [r["text"] for r in rows(3)], **fields}
    data = running.ask("POST", "/v1/embeddings", body).json["data"]
    right = np.array([d["embedding"] for d in data], np.float32)
    assert np.array_equal(read(tmp_path / "out.parquet")[1], right)


# -- ended in the middle ---------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_killed_and_gone_on(
    running: Gateway, engine: EngineProcess, tmp_path: Path, ending: str
) -> None:
    """kill -9, twice: what was kept is not asked again, and the output is as in one run."""
    given = rows()
    source, output = write(tmp_path / "in.jsonl", given), tmp_path / f"out{ending}"
    words = [source, "-o", output, "--inputs", "20", "--clients", "2"]
    part = Path(f"{output}.part")
    engine.fault("slow", ms=30)
    for size in (60_000, 110_000):
        with begin(running, *words) as process:
            grown(part, size)
            process.kill()
        assert not output.exists()
    kept = part.stat().st_size // (4 * DIMENSIONS)
    engine.fault("none")
    before = engine.seen()["items"]
    done = embed(running, *words)
    assert done.returncode == 0 and "rows this time" in done.stdout, done
    asked = engine.seen()["items"] - before
    assert asked <= COUNT - kept + 20 and kept >= 400
    whole(running, output, given)


@pytest.mark.long
@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_killed_at_any_moment(
    running: Gateway, engine: EngineProcess, tmp_path: Path, ending: str
) -> None:
    """While it reads, asks, writes or renames: after however many kills the output is right."""
    given = rows(4000)
    source, output = write(tmp_path / "in.jsonl", given), tmp_path / f"out{ending}"
    words = [source, "-o", output, "--inputs", "70", "--clients", "2"]
    engine.fault("slow", ms=150)  # 57 calls, two at once: seconds, on a quick machine too
    kills, pick = 0, random.Random(ending)
    for _ in range(60):
        with begin(running, *words) as process:
            try:
                process.wait(pick.uniform(0.2, 2.0))
            except subprocess.TimeoutExpired:
                process.kill()
                kills += 1
                continue
            break
    assert kills >= 2 and (process.returncode == 0 or output.exists())
    whole(running, output, given)


def test_interrupted_it_says_how_to_go_on(
    running: Gateway, engine: EngineProcess, tmp_path: Path
) -> None:
    """Ctrl-C: exit 1, and the command that it prints ends the work; SIGTERM is the same."""
    given = rows()
    source, output = write(tmp_path / "a b.jsonl", given), tmp_path / "out.jsonl"
    engine.fault("slow", ms=30)
    for number, size in ((signal.SIGINT, 30_000), (signal.SIGTERM, 60_000)):
        with begin(running, source, "-o", output, "--inputs", "20", "--clients", "2") as process:
            grown(Path(f"{output}.part"), size)
            process.send_signal(number)
            said = process.communicate(timeout=20)
        assert process.returncode == 1 and said[0] == ""
        assert re.match(r"er embed: interrupted\n\d+ of 600 rows are done and kept in ", said[1])
    engine.fault("none")
    command = shlex.split(said[1].splitlines()[-1])
    assert command[:2] == ["er", "embed"] and "--inputs" in command
    assert er(running.environment(), *command[1:]).returncode == 0
    whole(running, output, given)


def test_interrupted_at_a_terminal(running: Gateway, engine: EngineProcess, tmp_path: Path) -> None:
    """There is a line that moves, with rates and the time left, and it is gone at the end."""
    source, output = write(tmp_path / "in.jsonl", rows()), tmp_path / "out.jsonl"
    engine.fault("slow", ms=60)
    main, side = pty.openpty()
    command = [sys.executable, "-m", "er.cli", "embed", str(source), "-o", str(output)]
    process = subprocess.Popen(
        [*command, "--inputs", "20", "--clients", "1"],
        env=running.environment() | {"COLUMNS": "120"},
        stderr=side,
        stdout=subprocess.DEVNULL,
    )
    os.close(side)
    shown = b""
    while b" left" not in shown:
        shown += os.read(main, 4096)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 1
    line = re.search(rb"\r\d+ of 600 rows, [\d.]+ %, \d+ rows/s, [\d,]+ tokens/s, .*s left", shown)
    assert line, shown
    while b"To go on" not in shown:
        shown += os.read(main, 4096)
    assert shown.split(b"er embed: interrupted")[0].endswith(b"\r\x1b[K")
    os.close(main)


class Moody(BaseHTTPRequestHandler):
    """A service that answers the first times with what `moods` has: a status, or 0 to hang up."""

    moods: ClassVar[list[int]] = []
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        mood = self.moods.pop(0) if self.moods else 200
        if not mood:
            self.close_connection = True
            return
        data = [
            {"index": i, "embedding": base64.b64encode(np.float32([len(t), i])).decode()}
            for i, t in enumerate(body["input"])
        ]
        answer: Any = {"data": data, "model": "m", "usage": {"total_tokens": 7}}
        if mood != 200:
            answer = {"error": {"code": "moody", "message": "not now"}}
        text = json.dumps(answer).encode()
        self.send_response(mood)
        self.send_header("content-length", str(len(text)))
        if mood in (429, 503):
            self.send_header("retry-after", "1")
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass


class Quiet(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """A client that hangs up is what the test wanted."""


@pytest.fixture
def moody() -> Iterator[str]:
    """Its address."""
    with Quiet(("127.0.0.1", 0), Moody) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_service_with_moods(running: Gateway, tmp_path: Path, moody: str) -> None:
    """503 as long as it says, 500 and broken connections again at once; nothing is lost."""
    given = [{"text": "x" * (i + 1)} for i in range(30)]
    source, output = write(tmp_path / "in.jsonl", given), tmp_path / "out.parquet"
    words = [source, "-o", output, "--url", moody, "--model", "m", "--inputs", "10"]
    Moody.moods = [200, 503, 0, 500, 0]
    began = time.monotonic()
    done = embed(running, *words, "--clients", "1")
    assert (done.returncode, done.stderr) == (0, "") and time.monotonic() - began > 1
    assert read(output)[1].tolist() == [[i + 1, i % 10] for i in range(30)]
    assert Moody.moods == []


@pytest.mark.parametrize(("mood", "times"), [(400, 1), (401, 1), (403, 1), (404, 1), (500, 5)])
def test_what_no_patience_mends(
    running: Gateway, tmp_path: Path, moody: str, mood: int, times: int
) -> None:
    """It ends with what the service said; what was done before is kept."""
    source, output = write(tmp_path / "in.jsonl", rows(30)), tmp_path / "out.parquet"
    words = [source, "-o", output, "--url", moody, "--model", "m", "--inputs", "10"]
    Moody.moods = [200] + [mood] * times
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embed_ask, "PAUSE_S", 0.01)
        code = embed(running, *words, "--clients", "1").returncode
    assert code == 1 and Moody.moods == [] and not output.exists()
    assert Path(f"{output}.part").stat().st_size > 0


def test_a_service_that_changes_its_mind(running: Gateway, tmp_path: Path, moody: str) -> None:
    """Other vectors than those that are there, from another model or of another size, stop it."""
    source, output = write(tmp_path / "in.jsonl", rows(30)), tmp_path / "out.parquet"
    words = [source, "-o", output, "--model", "embed", "--inputs", "10", "--clients", "1"]
    Moody.moods = [200, 404]
    assert embed(running, *words, "--url", moody).returncode == 1
    done = embed(running, *words)
    assert done.returncode == 1
    assert f"answers with vectors of {DIMENSIONS} numbers, and what is there came with" in (
        done.stderr
    )
    assert "10 of 30 rows are done and kept" in done.stderr and not output.exists()


def test_killed_while_the_output_is_written(running: Gateway, tmp_path: Path) -> None:
    """Before the output has its name it is written again; after it only the work file goes."""
    given = rows(5)
    source, output = write(tmp_path / "in.jsonl", given), tmp_path / "out.jsonl"
    part, writing = Path(f"{output}.part"), Path(f"{output}.writing")
    kept: list[bytes] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Part, "remove", lambda self: kept.append(self.path.read_bytes()))
        assert embed(running, source, "-o", output).returncode == 0
    good = output.read_bytes()
    unmarked = kept[0][: kept[0].rindex(MAGIC)]
    for work, half in ((unmarked, good[:50]), (kept[0], good)):
        part.write_bytes(work)
        writing.write_bytes(half)
        output.unlink()
        assert embed(running, source, "-o", output).returncode == 0
        whole(running, output, given)
    part.write_bytes(kept[0])
    done = embed(running, source, "-o", output)
    assert done.returncode == 0 and "was whole already" in done.stdout
    part.write_bytes(kept[0])
    done = embed(running, source, "-o", output, "--query")
    assert done.returncode == 1 and "already, with another --query or --document" in done.stderr
    assert output.read_bytes() == good
    whole(running, output, given)


# -- what is there already -------------------------------------------------------------------------


def test_nothing_is_overwritten_unasked(running: Gateway, tmp_path: Path) -> None:
    source, output = write(tmp_path / "in.jsonl", rows(3)), tmp_path / "out.jsonl"
    assert embed(running, source, "-o", output).returncode == 0
    before = output.read_bytes()
    again = embed(running, source, "-o", output)
    assert again.returncode == 1 and "is there already; to write it anew: --force" in again.stderr
    assert output.read_bytes() == before
    write(source, rows(5))
    assert embed(running, source, "-o", output, "--force").returncode == 0
    whole(running, output, rows(5))


def test_another_input_or_option_does_not_go_on(
    running: Gateway, engine: EngineProcess, tmp_path: Path
) -> None:
    """Half of one and half of the other would be wrong without a word."""
    source, output = write(tmp_path / "in.jsonl", rows()), tmp_path / "out.jsonl"
    engine.fault("slow", ms=200)
    words = [source, "-o", output, "--inputs", "20", "--clients", "2"]
    with begin(running, *words) as process:
        grown(Path(f"{output}.part"), 30_000)
        twin = embed(running, *words)
        process.kill()
    assert twin.returncode == 1 and "another er embed is writing" in twin.stderr
    engine.fault("none")
    for more, what in ((["--query"], "--query or --document"), (["--dimensions", "8"], "--dimen")):
        other = embed(running, *words, *more)
        assert other.returncode == 1
        assert f"was begun with another {what}" in other.stderr and "--force" in other.stderr
    write(source, [*rows(), {"text": "more"}])
    other = embed(running, *words)
    assert other.returncode == 1 and "was begun with another input" in other.stderr
    assert embed(running, *words, "--force").returncode == 0
    assert len(read(output)[0]) == COUNT + 1


def test_a_file_of_that_name_that_is_no_work_file(running: Gateway, tmp_path: Path) -> None:
    source, output = write(tmp_path / "in.jsonl", rows(3)), tmp_path / "out.jsonl"
    Path(f"{output}.part").write_text("my notes")
    for more in ([], ["--force"]):
        done = embed(running, source, "-o", output, *more)
        assert done.returncode == 1 and "is no work file of er embed; move it away" in done.stderr
        assert Path(f"{output}.part").read_text() == "my notes"


# -- rows that can't be embedded -------------------------------------------------------------------

BAD = [
    ('{"text": ""}', "line 2 is empty in its field text"),
    ('{"txt": "x"}', "line 3 has no field text, which must be a text"),
    ('{"text": 5}', "line 4 is a number in its field text, which must be a text"),
    ('["x"]', "line 5 is a list, not an object"),
    ('{"text": "x"', "line 6 is not JSON: "),
    ('{"text": "\\ud800"}', "line 7 is not JSON: "),
]


def test_bad_rows_end_it_before_anything_is_asked(
    running: Gateway, engine: EngineProcess, tmp_path: Path
) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out.parquet"
    source.write_text('{"text": "good"}\n' + "\n".join(line for line, _ in BAD))
    done = embed(running, source, "-o", output)
    assert done.returncode == 1 and done.stdout == ""
    for _, said in BAD:
        assert said in done.stderr
    assert "6 of 7 rows can't be embedded; correct them, or leave them out" in done.stderr
    assert engine.seen()["items"] == 0 and list(tmp_path.iterdir()) == [source]
    done = embed(running, source, "-o", output, "--bad", "skip")
    assert done.returncode == 0 and "1 rows, 5 tokens, 6 rows left out" in done.stdout
    assert read(output)[0] == [{"text": "good"}]


def test_texts_that_are_too_long(running: Gateway, tmp_path: Path) -> None:
    """Named with their tokens and the limit, wherever they stand in a request; left out, or cut."""
    given = rows(100)
    for i in (0, 41, 99):
        given[i]["text"] = "x" * (600 + i)
    source, output = write(tmp_path / "in.jsonl", given), tmp_path / "out.jsonl"
    done = embed(running, source, "-o", output, "--inputs", "64")
    assert done.returncode == 1
    assert "line 1 has 601 tokens, special tokens included; the limit of this model is 512" in (
        done.stderr
    )
    assert "cut what is too long with --cut, or leave it out with --bad skip" in done.stderr
    done = embed(running, source, "-o", output, "--inputs", "64", "--bad", "skip")
    assert done.returncode == 0 and "97 rows" in done.stdout and "3 rows left out" in done.stdout
    assert [f"line {i}" in done.stderr for i in (1, 42, 100)] == [True] * 3
    whole(running, output, [r for r in given if len(r["text"]) < 600])
    done = embed(running, source, "-o", output, "--cut", "--force")
    assert done.returncode == 0 and "100 rows" in done.stdout and "3 texts cut" in done.stdout
    values, found = read(output)
    assert values == given
    assert np.array_equal(found[:1], direct(running, ["x" * 511]))


def test_what_is_too_much_for_one_request_is_asked_in_parts(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever limits the service has."""
    narrow = {"max_inputs": 50, "max_request_tokens": 8192, "max_body": "8KiB"}
    given = [{"id": i, "text": f"{i} " + "x" * 400} for i in range(100)]
    source, output = write(tmp_path / "in.jsonl", given), tmp_path / "out.parquet"
    with gateway(tmp_path_factory.mktemp("narrow"), **narrow) as running:
        done = embed(running, source, "-o", output)
        assert (done.returncode, done.stderr) == (0, "")
        whole_ids = [v["id"] for v in read(output)[0]]
        assert whole_ids == list(range(100))
        right = np.stack([direct(running, [g["text"]])[0] for g in given])
        assert np.array_equal(read(output)[1], right)
        codes = {r["CODE"] for r in running.audit() if "CODE" in r}
        assert {"body_too_large", "too_many_items"} & codes


# -- another service, and wrong use ----------------------------------------------------------------


def test_a_key_and_its_rate_limit(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """429 is waited out; the key comes from the environment or a file, and is never shown."""
    given = rows(60)
    source = write(tmp_path / "in.jsonl", given)
    with gateway(tmp_path_factory.mktemp("limited"), rate_limit="4/second") as running:
        url = f"http://127.0.0.1:{running.port}/v1"
        words = [source, "--url", url, "--inputs", "5"]
        done = embed(running, *words, "-o", tmp_path / "none.jsonl")
        assert done.returncode == 1 and "401 invalid_api_key" in done.stderr
        assert "here: --key-file FILE, or the variable ER_API_KEY" in done.stderr
        done = embed(running, *words, "-o", tmp_path / "a.jsonl", ER_API_KEY=running.key)
        assert (done.returncode, done.stderr) == (0, ""), done
        assert sum(r.get("STATUS") == 429 for r in running.audit()) > 0
        key = tmp_path / "key"
        key.write_text(running.key + "\n")
        done = embed(running, *words, "-o", tmp_path / "b.parquet", "--key-file", key)
        assert (done.returncode, done.stderr) == (0, ""), done
        assert running.key not in done.stdout
        for name in ("a.jsonl", "b.parquet"):
            assert [v["id"] for v in read(tmp_path / name)[0]] == list(range(60))
        assert np.array_equal(read(tmp_path / "a.jsonl")[1], read(tmp_path / "b.parquet")[1])


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["in.jsonl"], 64, "required: -o/--output"),
        (["in.jsonl", "-o", "out.csv"], 64, "the name must end in one of: .parquet, .jsonl"),
        (["in.jsonl", "-o", "folder.jsonl"], 64, "that is a folder"),
        (["folder.jsonl", "-o", "o.jsonl"], 1, "folder.jsonl: Is a directory"),
        (["in.jsonl", "-o", "in.jsonl"], 64, "the output is the input"),
        (["in.jsonl", "-o", "o.jsonl", "--inputs", "0"], 64, "--inputs 0: from 1 to 2048"),
        (["in.jsonl", "-o", "o.jsonl", "--vector", "text"], 64, "--vector and --field are both"),
        (["in.jsonl", "-o", "o.jsonl", "--query", "--document"], 64, "not allowed with"),
        (["in.jsonl", "-o", "o.jsonl", "--document", "--instruction", "x"], 64, "is for queries"),
        (["in.jsonl", "-o", "o.jsonl", "--key-file", "k"], 64, "--key-file goes with --url"),
        (["in.jsonl", "-o", "o.jsonl", "--url", "http://u:p@h"], 64, "not into the URL"),
        (
            ["in.jsonl", "-o", "o.jsonl", "--url", "http://h", "--key-file", "no"],
            64,
            "--key-file no: No such file",
        ),
        (["lines.csv", "-o", "o.jsonl"], 1, "2 of 2 rows can't be embedded; name the text's field"),
        (["none.jsonl", "-o", "o.jsonl"], 1, "none.jsonl: No such file"),
        (["in.jsonl", "-o", "no/o.jsonl"], 1, "there is no folder"),
        (["in.jsonl", "-o", "n" * 300 + ".jsonl"], 1, "File name too long"),
        (["empty.jsonl", "-o", "o.jsonl"], 1, "has no row that can be embedded"),
        (["cut.jsonl.gz", "-o", "o.jsonl"], 1, "can't be unpacked"),
        (["in.jsonl", "-o", "o.jsonl", "--vector", "id"], 1, "line 1 has a field id, as the vec"),
        (["in.jsonl", "-o", "o.jsonl", "--model", "x"], 1, "404 model_not_found: there is no"),
        (
            ["in.jsonl", "-o", "o.jsonl", "--dimensions", "999"],
            1,
            "400 invalid_request: dimensions",
        ),
    ],
)
def test_wrong_use_says_what_is_right(
    running: Gateway,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    code: int,
    said: str,
) -> None:
    """And leaves nothing behind."""
    write(tmp_path / "in.jsonl", rows(2))
    (tmp_path / "folder.jsonl").mkdir()
    (tmp_path / "empty.jsonl").write_text("\n\n")
    (tmp_path / "lines.csv").write_text("a,b\n1,2\n")
    packed = gzip.compress(os.urandom(1000))
    (tmp_path / "cut.jsonl.gz").write_bytes(packed[:500])
    there = sorted(tmp_path.iterdir())
    monkeypatch.chdir(tmp_path)
    done = embed(running, *words)
    assert done.returncode == code and said in done.stderr
    assert sorted(tmp_path.iterdir()) == there


def test_nobody_answers(running: Gateway, tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", rows(2))
    nowhere = f"http://127.0.0.1:{free_port()}"
    done = embed(running, source, "-o", tmp_path / "o.jsonl", "--url", nowhere)
    assert done.returncode == 1 and nowhere in done.stderr and "refused" in done.stderr
    done = embed(running, source, "-o", tmp_path / "o.jsonl", RUNTIME_DIRECTORY=str(tmp_path))
    assert done.returncode == 1 and "no gateway answers at" in done.stderr
    assert list(tmp_path.iterdir()) == [source]
