"""`er bench` on a running gateway: what it prints, what it refuses; and the benches' own client."""

from __future__ import annotations

import json
import math
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from er.cli import bench as er_bench
from er.cli.bench_load import Tally, Where, Wrong, refusal_text
from fakes import free_port
from running import Gateway, gateway
from test_cli import er

BENCH = Path(__file__).parent / "bench"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with one engine and the default rate limit."""
    with gateway(tmp_path_factory.mktemp("bench"), rate_limit="100/minute") as found:
        yield found


def environment(running: Gateway, **more: str) -> dict[str, str]:
    return running.environment() | more


# -- figures -------------------------------------------------------------------------------------


def test_percentiles_are_exact_to_a_bucket() -> None:
    """Within 1 % of the true ones, from a microsecond to minutes, and bounded in size."""
    tally = Tally()
    for i in range(1, 1001):
        tally.add(i / 1000, 2)
    for percent, right_ms in ((50, 500), (90, 900), (99, 990), (100, 1000)):
        assert tally.percentile(percent) == pytest.approx(right_ms, rel=0.011)
    assert (tally.count, tally.tokens) == (1000, 2000)
    rows = tally.histogram(12)
    assert len(rows) <= 12 and sum(n for _, n in rows) == 1000
    assert rows[-1][0] >= 1000 and [end for end, _ in rows] == sorted(end for end, _ in rows)
    tally.add(0.0, 0)
    tally.add(1e9, 0)
    assert math.isnan(Tally().percentile(50)) and Tally().histogram(12) == []


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("http://h:2048", Where(None, "h", 2048)),
        ("https://h/v1", Where(None, "h", 443, True)),
        ("http://[::1]:9/a/v1/", Where(None, "::1", 9, False, "/a")),
    ],
)
def test_urls(url: str, where: Where) -> None:
    """With or without /v1, as SDKs want it."""
    assert Where.parse(url) == where


def test_a_refusal_is_told_in_its_own_words() -> None:
    """Whatever shape it has."""
    body = b'{"error": {"code": "overloaded", "message": "too\\nmuch"}}'
    assert refusal_text(503, body) == "503 overloaded: too much"
    assert refusal_text(502, b"<html>") == "502"


# -- the command ---------------------------------------------------------------------------------


def test_it_measures_over_the_local_socket(running: Gateway) -> None:
    """Without a key or a limit; every figure is there and they agree with each other."""
    words = ("bench", "--seconds", "1", "--clients", "4", "--inputs", "3", "--tokens", "5")
    done = er(environment(running), *words, "--json")
    assert done.returncode == 0, done.stderr
    value = json.loads(done.stdout)
    assert (value["model"], value["task"], value["errors"]) == ("embed", "embed", 0)
    assert value["requests"] > 10 and not value["interrupted"]
    assert value["sequences_per_s"] == pytest.approx(3 * value["requests_per_s"], rel=0.01)
    assert value["tokens_per_s"] > value["sequences_per_s"]
    found = value["percentiles_ms"]
    assert 0 < found["50"] <= found["90"] <= found["99"] <= found["99.9"]
    assert sum(bar["requests"] for bar in value["histogram"]) >= value["requests"]
    assert any(r["KEY_ID"] == "local" and r["ITEMS"] == 3 for r in running.audit())


def test_it_measures_a_reranker(running: Gateway) -> None:
    """The task chooses the model; plain text where there is no terminal."""
    done = er(environment(running), "bench", "--task", "score", "--seconds", "0.5")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("bi (score): 32 clients, 1 text a request")
    assert re.search(r"p99 +[\d.]+ ms", done.stdout) and " ms  #" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr and "█" not in done.stdout


def test_refusals_are_counted_and_told(running: Gateway) -> None:
    """By --url it is a client like others, with its key and its limit; then the end is 1."""
    url, key = f"http://127.0.0.1:{running.port}", running.key
    words = ("bench", "--url", url, "--clients", "4", "--tokens", "3", "--seconds", "2")
    done = er(environment(running, ER_API_KEY=key), *words)
    assert done.returncode == 1
    assert "not answered well" in done.stdout and "429 rate_limit_exceeded: " in done.stdout
    assert key not in done.stdout + done.stderr
    done = er(environment(running), *words)
    assert done.returncode == 1 and "put a key into ER_API_KEY" in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--clients", "0"), 64, "--clients 0: from 1 to 1024"),
        (("--seconds", "99999"), 64, "--seconds 99999: from 1 to 3600"),
        (("--inputs", "x"), 64, "invalid int value"),
        (("--url", "host:80"), 64, "is not as http://HOST:PORT"),
        (("--url", "http://u:p@h"), 64, "put the key into ER_API_KEY"),
        (("--model", "none"), 1, "404 model_not_found"),
        (("--url", f"http://127.0.0.1:{free_port()}"), 1, "http://127.0.0.1:"),
    ],
)
def test_what_it_says_no_to(running: Gateway, words: tuple[str, ...], code: int, said: str) -> None:
    """Before any load is made."""
    done = er(environment(running), "bench", *words)
    assert (done.returncode, done.stdout) == (code, "") and said in done.stderr


def test_without_a_gateway(tmp_path: Path) -> None:
    """It says where it looked and what to do."""
    alone = Gateway(tmp_path)
    done = er(alone.environment(), "bench")
    assert done.returncode == 1 and "no gateway answers at" in done.stderr
    assert "--url" in done.stderr and "Traceback" not in done.stderr


def test_ctrl_c_on_a_terminal_prints_what_there_is(running: Gateway) -> None:
    """A bar while it measures, then the figures so far with their histogram."""
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "er.cli", "bench", "--seconds", "60"]
    command += ["--clients", "2", "--tokens", "4"]
    env = environment(running, PYTHONIOENCODING="utf-8")
    with subprocess.Popen(command, env=env, stdin=slave, stdout=slave, stderr=slave) as process:
        os.close(slave)
        text, asked, until = "", False, time.monotonic() + 30
        while time.monotonic() < until:
            try:
                part = os.read(master, 4096)
            except OSError:  # its end
                break
            text += part.decode(errors="replace")
            if "p99" in text and not asked:
                asked = True
                process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0, text[-900:]
    os.close(master)
    assert "of 60 s" in text and "░" in text
    after = text.rpartition("\x1b[K")[2]
    assert "interrupted" in after and "p99.9" in after and "█" in after


def test_lines_for_people() -> None:
    """A hostile model's name can't steer the terminal; what was not answered is told."""
    result = {
        "model": "a\x1b[2Jb",
        "task": "embed",
        "clients": 1,
        "inputs": 1,
        "seconds": 1.0,
        "interrupted": False,
        "requests": 0,
        "requests_per_s": 0.0,
        "sequences_per_s": 0.0,
        "tokens_per_s": 0,
        "percentiles_ms": {"50": None},
        "histogram": [],
        "errors": 2,
        "wrong": [{"count": 2, "first": "503 overloaded: later"}],
        "unanswered": 3,
    }
    text = "\n".join(er_bench.lines(result, unicode=True))
    assert "\x1b" not in text and "2 x 503 overloaded: later" in text
    assert "3 requests were still unanswered" in text


# -- the benches' client -------------------------------------------------------------------------

LOAD = """
import json, sys
import tempfile
from pathlib import Path
sys.path[:0] = {paths!r}
from fakes import free_port
from load import Stream, drive, request
from measure import instant
at = ("127.0.0.1", free_port())
def make():
    body = json.dumps({{"task": "embed", "input": [[1, 2]], "encoding_format": "bytes_only"}})
    return request(at, "/pooling", body.encode()), None
def check(_, body):
    return None if len(body) == {size} else "another size"
closed, paced = Stream(4, make, check, count=200), Stream(8, make, check, rate=300.0)
with tempfile.TemporaryDirectory() as folder, instant(Path(folder), at[1], "--dim", "64"):
    drive(at, closed)
    drive(at, paced, seconds=1.0)
print(json.dumps([[s.good, s.errors, s.sent, s.per_s(), s.said[:1]] for s in (closed, paced)]))
"""


@pytest.mark.parametrize(("size", "wrong"), [(256, ""), (8, "another size")])
def test_the_benches_client_counts_what_is_right(size: int, wrong: str) -> None:
    """A closed loop sends what it should, a paced one at its rate; wrong answers are no answers."""
    code = LOAD.format(paths=[str(BENCH), str(BENCH.parent)], size=size)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    closed, paced = json.loads(done.stdout)
    assert closed[2] == 200 and 150 <= paced[2] <= 302
    if not wrong:
        assert closed[:2] == [200, 0] and paced[1] == 0 and paced[3] > 150
    else:
        assert closed[:2] == [0, 200] and wrong in closed[4][0] and not paced[0]


def test_the_stand_in_answers_by_ids_and_a_wrong_index_is_seen() -> None:
    """What the long bench relies on: its check notices a swapped vector."""
    code = f"""
import sys
sys.path[:0] = [{str(BENCH)!r}, {str(BENCH.parent)!r}]
import orjson, pybase64
from instant import row_of, table
from row_million import check
rows = [pybase64.b64encode(r) for r in table(32)]
a, b = rows[row_of([1, 2, 3])], rows[row_of([1, 2, 4])]
def answer(*found):
    data = [dict(index=i, embedding=e.decode()) for i, e in enumerate(found)]
    return orjson.dumps(dict(data=data))
print(check([a, b], answer(a, b)), check([a, b], answer(b, a)), check([a, b], answer(a)), sep="|")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    right, swapped, short = done.stdout.strip().split("|")
    assert right == "None" and "another text in place 0" in swapped and "1 vectors for 2" in short


def test_an_answer_of_another_shape_is_wrong() -> None:
    """A proxy's cheerful 200 is no vector."""
    work = er_bench.Work(task="embed", model="m", inputs=2, tokens=3)
    for body in (b"ok", b"{}", b'{"data":[{}],"usage":{"total_tokens":1}}'):
        with pytest.raises(Wrong):
            work.tokens_in(body)
    assert work.tokens_in(b'{"data":[{},{}],"usage":{"total_tokens":7}}') == 7
