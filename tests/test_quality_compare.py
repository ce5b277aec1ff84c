"""`er quality compare`: what it asks, what it computes, how it says it, and what goes wrong."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pytest

from er import quality
from er.cli import __main__ as cli
from er.cli import quality_compare
from er.cli.quality_ask import Asked, Subject
from fakes import EngineProcess
from running import Gateway, gateway

QUERY = {
    "id": "q",
    "language": "en",
    "query": "hello",
    "documents": [{"text": "hi there", "grade": 3}, {"text": "a stone", "grade": 0}],
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with an embedding model, its bi-encoder, and a replica e0."""
    with gateway(tmp_path_factory.mktemp("gw")) as found:
        yield found


@pytest.fixture
def engine(running: Gateway) -> EngineProcess:
    (found,) = running.engines
    return found.fresh()


class Ended(NamedTuple):
    """What a command came to."""

    returncode: int
    stdout: str
    stderr: str


def compare(running: Gateway, *words: str, **more: str) -> Ended:
    """The command, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, running.environment() | more),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            code = cli.main(["quality", "compare", *words])
        except SystemExit as wrong_use:
            code = int(wrong_use.code or 0)
    return Ended(code, out.getvalue(), err.getvalue())


def own_set(path: Path, count: int = 1) -> Path:
    lines = [QUERY | {"id": f"q{i}", "query": f"hello {i}"} for i in range(count)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


# -- on a running gateway ------------------------------------------------------------------------


def test_a_model_and_fewer_of_its_dimensions(running: Gateway, engine: EngineProcess) -> None:
    """All figures, over the shipped set and own ones, by language and set."""
    folder = running.folder / "canary"
    folder.mkdir(exist_ok=True)
    own_set(folder / "mine.jsonl", 2)
    found = compare(running, "embed", "embed:dimensions=8", "--json")
    (folder / "mine.jsonl").unlink()
    assert found.returncode == 0, found.stderr
    answer = json.loads(found.stdout)
    assert [one["queries"] for one in answer["sets"]] == [40, 2]
    assert answer["sets"][0]["sha256"] == quality.load().sha256
    assert {row["name"]: row["queries"] for row in answer["groups"]} == {
        "en": 22, "zh": 20, "shipped": 40, str(folder / "mine.jsonl"): 2,
    }  # fmt: skip
    for one in answer["measures"].values():
        assert 0 <= one["a"] <= 1 and 0 < one["p"] <= 1
        assert one["difference"] == pytest.approx(one["a"] - one["b"])
        assert one["interval"][0] <= one["difference"] <= one["interval"][1]
    assert answer["scores_apart"]["largest"] > 0.01 and not answer["same_order"]
    assert answer["a"] == {"what": "embed", "task": "embed"}
    told = compare(running, "embed", "embed:dimensions=8")
    assert "nDCG@10, zh" in told.stdout and "95% interval" in told.stdout
    assert answer["verdict"] not in told.stdout, "the own set is gone"


def test_a_reranker_and_a_replica_by_itself(running: Gateway, engine: EngineProcess) -> None:
    """The bi-encoder ranks as its model does, and so does the replica when asked directly."""
    found = json.loads(compare(running, "embed", "bi/encoder", "--json").stdout)
    assert found["same_order"] and found["scores_apart"] is None
    assert found["b"] == {"what": "bi/encoder", "task": "score"}
    assert found["verdict"] == "Both put the documents of all 40 queries in the same order."
    before = engine.seen()
    found = json.loads(compare(running, "embed", "replica=e0", "--json").stdout)
    assert found["same_order"] and found["scores_apart"]["largest"] < 1e-6
    assert engine.seen() != before
    short = compare(running, "embed:dimensions=8", "replica=e0:dimensions=8", "--json")
    assert json.loads(short.stdout)["scores_apart"]["largest"] < 1e-6


def test_one_set_of_ones_own(running: Gateway, engine: EngineProcess, tmp_path: Path) -> None:
    mine = own_set(tmp_path / "mine.jsonl", 3)
    found = compare(running, "embed", "embed:dimensions=2", "--set", str(mine))
    assert found.returncode == 0, found.stderr
    assert f"over {mine} (3 queries)" in found.stdout
    one = own_set(tmp_path / "one.jsonl")
    found = compare(running, "embed", "embed:dimensions=2", "--set", str(one), "--json")
    assert json.loads(found.stdout)["measures"]["mrr"]["p"] is None


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["embed"], 64, "the following arguments are required: B"),
        (["embed", "embed"], 64, "A and B are the same"),
        (["embed", "embed:dimensions=x"], 64, "'x' is no number of dimensions"),
        (["embed", "replica="], 64, "names nothing"),
        (["embed", "nope"], 1, "no model nope is served; there are: embed, bi"),
        (["embed", "replica=nope"], 1, "no replica nope; there are: e0"),
        (["embed", "embed:dimensions=65"], 1, "this model's vectors have 64"),
        (["embed", "replica=e0:dimensions=65"], 1, "its vectors have 64 numbers"),
        (["embed", "bi:dimensions=8"], 1, "a reranker has no dimensions"),
        (["embed", "bi", "--set", "/nowhere/x.jsonl"], 1, "can't be read: No such file"),
    ],
)
def test_wrong_input_says_what_is_wrong(
    running: Gateway, engine: EngineProcess, words: list[str], code: int, says: str
) -> None:
    found = compare(running, *words)
    assert (found.returncode, found.stdout) == (code, ""), found.stderr
    assert says in found.stderr and "Traceback" not in found.stderr


def test_broken_sets_are_told_with_their_line(running: Gateway, tmp_path: Path) -> None:
    empty, broken = tmp_path / "empty.jsonl", tmp_path / "broken.jsonl"
    empty.write_text("\n")
    broken.write_text(json.dumps(QUERY) + "\n{}\n")
    found = compare(running, "embed", "bi", "--set", str(empty))
    assert found.returncode == 1 and f"{empty}: has no query; write" in found.stderr
    found = compare(running, "embed", "bi", "--set", str(broken))
    assert found.returncode == 1 and f"{broken}:2: " in found.stderr


def test_interrupted(running: Gateway, engine: EngineProcess, tmp_path: Path) -> None:
    """Ctrl-C while an engine does not answer: one word, and no trace."""
    mine = own_set(tmp_path / "mine.jsonl")
    engine.fault("slow", ms=30_000)
    command = [sys.executable, "-m", "er.cli", "quality", "compare", "embed", "replica=e0"]
    process = subprocess.Popen(
        [*command, "--set", str(mine)],
        env=running.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 20
    # A probe has some 30 tokens, the command's question more.
    while engine.seen()["tokens_in_flight_max"] < 60 and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    engine.fault("none")
    assert (process.returncode, out, err.strip()) == (1, "", "interrupted")


def test_nobody_answers(running: Gateway, tmp_path: Path) -> None:
    found = compare(running, "embed", "bi", RUNTIME_DIRECTORY=str(tmp_path))
    assert found.returncode == 1 and "no gateway answers at" in found.stderr


def test_a_replica_that_does_not_answer(running: Gateway, engine: EngineProcess) -> None:
    engine.kill()
    found = compare(running, "replica=e0", "replica=e0:dimensions=8")
    engine.start()
    assert found.returncode == 1
    assert "replica e0 gives no answer: no connection" in found.stderr


# -- what it makes of scores ---------------------------------------------------------------------


def sides(good: int, of: int) -> dict[str, Any]:
    """Two sides over `of` queries: A always right, B right from query `good` on."""
    canary = quality.parse(
        "\n".join(json.dumps(QUERY | {"id": f"q{i}"}) for i in range(of)).encode(), "mine"
    )
    right, wrong = [0.9, 0.1], [0.1, 0.9]
    asked = (
        Asked(task="embed", scores=[right] * of),
        Asked(task="embed", scores=[wrong] * good + [right] * (of - good)),
    )
    return quality_compare.compared(
        (Subject.parse("old"), Subject.parse("new:dimensions=8")), asked, [canary]
    )


def test_a_difference_is_said_and_not_more() -> None:
    found = sides(12, 12)
    assert found["measures"]["ndcg10"]["p"] == 2 / 2**12
    assert found["verdict"].startswith("On these 12 queries old ranks better than new:dimensions=8")
    assert "p < 0.001" in found["verdict"] and "--set FILE" in found["verdict"]


def test_what_may_be_chance_is_called_so() -> None:
    found = sides(3, 12)
    assert found["measures"]["ndcg10"]["p"] == 0.25
    assert found["verdict"].startswith("No difference is shown: 0.092 of nDCG@10 over 12 queries")
    assert "no proof that they are alike" in found["verdict"]


def test_too_few_queries_show_nothing() -> None:
    assert sides(5, 5)["verdict"].startswith("Nothing can be said of so few queries: it takes 6")


def test_the_same_order_is_called_so() -> None:
    assert sides(0, 12)["verdict"].startswith("Both put the documents of all 12 queries in the sa")


def test_names_from_outside_do_not_steer_a_terminal() -> None:
    found = sides(3, 12)
    found["a"]["what"] = "x\x1b[2J"
    assert all("\x1b" not in line for line in quality_compare.lines(found))
