"""`er capacity`: what it finds is what a machine of known capacity carries, and the advice fits."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import io
import json
import math
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import pytest

from er.capacity import result, words
from er.capacity.advice import Machine, advice
from er.capacity.quantiles import quantile
from er.capacity.result import Capacity
from er.capacity.sweep import Found, Outcome, Shape, judge, knee
from er.capacity.watch import Clients, clients, harm
from er.cli import capacity as er_capacity
from er.cli.__main__ import main
from er.cli.capacity_load import Book
from er.report import markdown
from fakes import EngineProcess
from launched import until
from running import DIMENSIONS, Gateway

ONE = Shape(1, 128)


class Simulated:
    """A Load on a simulated machine: `servers` that each take one request at a time.

    A request costs `call_s` and `text_s` a text. Its clock stands still but for what is asked.
    """

    def __init__(
        self,
        call_s: float = 0.01,
        text_s: float = 0.0,
        servers: int = 1,
        room: float = math.inf,
        seed: int = 1,
    ) -> None:
        self.call_s, self.text_s, self.servers, self.room = call_s, text_s, servers, room
        self.now = 0.0
        self.asked: list[float] = []
        self._pick = random.Random(seed)

    def cost(self, shape: Shape) -> float:
        return (self.call_s + self.text_s * shape.inputs) * self._pick.uniform(0.9, 1.1)

    async def press(self, shape: Shape, clients: int, seconds: float) -> Outcome:
        """Each client asks again as soon as it was answered."""
        free = [0.0] * self.servers
        ready = [0.0] * min(clients, int(min(self.room, clients)))
        refused = clients - len(ready)
        times = []
        while ready[0] < seconds:
            due = heapq.heappop(ready)
            ends = max(due, heapq.heappop(free)) + self.cost(shape)
            heapq.heappush(free, ends)
            heapq.heappush(ready, ends)
            times.append((ends, ends - due))
        self.now += seconds
        inside = [took for ends, took in times if ends <= seconds]
        kinds = {"503 overloaded": refused} if refused else {}
        parts = {"queue": 1.0, "engine": 9.0, "tokenise": 0.1}
        return Outcome(
            seconds, inside, kinds, 130 * len(inside) * shape.inputs, len(inside), 0.0, parts
        )

    async def arrive(self, shape: Shape, rate: float, seconds: float) -> Outcome:
        """Poisson arrivals, first come first served; over `room` at once are refused."""
        self.asked.append(rate)
        free, due, times, refused, answered = [0.0] * self.servers, 0.0, list[float](), 0, 0
        inside: list[float] = []
        while (due := due + self._pick.expovariate(rate)) < seconds:
            while inside and inside[0] <= due:
                heapq.heappop(inside)
            if len(inside) >= self.room:
                refused += 1
                continue
            ends = max(due, heapq.heappop(free)) + self.cost(shape)
            heapq.heappush(free, ends)
            heapq.heappush(inside, ends)
            times.append(ends - due)
            answered += ends <= seconds
        self.now += seconds
        kinds = {"503 overloaded": refused} if refused else {}
        return Outcome(seconds, times, kinds, 130 * len(times) * shape.inputs, answered)


async def truth(make: Callable[[], Simulated], shape: Shape, goal_s: float) -> float:
    """The highest rate whose p99 stays under the goal, from samples far larger than a sweep's."""
    low, high = 0.0, make().servers / make().call_s  # no sample is so long that it could hide more
    while high - low > 0.02 * high:
        rate = (low + high) / 2
        outcome = await make().arrive(shape, rate, 8_000 / rate)
        found = quantile(sorted(outcome.times), 0.99)
        good = found is not None and found.value <= goal_s and not outcome.refused
        low, high = (rate, high) if good else (low, rate)
    return low


async def measured(
    load: Simulated,
    shape: Shape = ONE,
    seconds: float = 60.0,
    goal_s: float | None = None,
    **more: Any,
) -> Found:
    return await knee(load, shape, seconds, goal_s, now=lambda: load.now, **more)


# -- the sweep -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call_s", "servers", "goal_s", "gently"),
    [
        (0.01, 1, None, False),
        (0.01, 1, 0.03, False),
        (0.05, 8, None, False),
        (0.002, 2, 0.2, False),
        (0.01, 1, None, True),
        (0.05, 8, 0.2, True),
    ],
)
async def test_the_knee_is_where_it_is(
    call_s: float, servers: int, goal_s: float | None, gently: bool
) -> None:
    """Within 20 % of what a machine of known capacity carries at that p99."""
    right = await truth(
        lambda: Simulated(call_s, servers=servers, seed=7), ONE, goal_s or max(0.025, 5 * call_s)
    )
    found = await measured(Simulated(call_s, servers=servers), goal_s=goal_s, gently=gently)
    row = found.row
    if gently and row.open_end:
        assert row.rate <= 1.25 * right  # from below, within its steps
    else:
        tight = goal_s is not None and goal_s <= 3 * call_s  # and so few requests are carried
        assert row.rate == pytest.approx(right, rel=0.25 if gently or tight else 0.2), row.tried
    assert row.p99_ms is not None and row.p99_ms <= row.goal_ms * 1.0001
    assert row.texts_per_s == row.rate and row.mean_tokens == 130


@pytest.mark.parametrize(("call_s", "servers", "goal_s"), [(0.002, 2, 0.5), (0.05, 8, 1.0)])
async def test_a_generous_goal_hides_no_overload(
    call_s: float, servers: int, goal_s: float
) -> None:
    """Waits that grow, and would pass the goal after some time, are no load that is carried."""
    for seed in range(4):
        found = await measured(Simulated(call_s, servers=servers, seed=seed), ONE, 20.0, goal_s)
        assert found.row.rate == pytest.approx(servers / call_s, rel=0.1), found.row.tried


async def test_the_error_is_small_on_the_whole() -> None:
    """Over many sweeps the found capacity is neither high nor low."""
    right = await truth(lambda: Simulated(0.02, seed=7), ONE, 0.1)
    found = [(await measured(Simulated(0.02, seed=i))).row.rate for i in range(6)]
    assert statistics.mean(found) == pytest.approx(right, rel=0.1)
    assert all(rate == pytest.approx(right, rel=0.25) for rate in found)


async def test_its_time_is_bounded_and_each_rate_has_requests_enough() -> None:
    """Whatever the machine's speed; steps that say nothing are not taken for good."""
    for call_s in (0.0002, 0.01, 0.5):
        load = Simulated(call_s)
        found = await measured(load, seconds=30.0)
        assert load.now <= 31.0 and 1 <= len(found.row.tried) <= 40
        for one in found.row.tried:
            assert one.requests >= 80 or call_s == 0.5


async def test_who_is_told_to_end_keeps_what_there_is() -> None:
    """The best of what was tried."""
    load = Simulated()
    found = await measured(load, over=lambda: len(load.asked) >= 6)
    assert len(load.asked) == 6 and found.row.rate > 0
    load = Simulated()
    nothing = await measured(load, over=lambda: True)
    assert (nothing.row.rate, nothing.row.tried, load.asked) == (0.0, [], [])


async def test_from_below_it_never_presses() -> None:
    """Where clients are served: each rate is at most half as high again as one that was good."""
    load = Simulated()
    await measured(load, gently=True)
    good = load.asked[0]
    for rate in load.asked[1:]:
        assert rate <= 1.5 * good + 1e-9
        good = max(good, rate)
    assert max(load.asked) < 160  # of 100 that it carries


async def test_an_unanswering_machine_carries_nothing() -> None:
    """Nobody answers: no figures, and no division by nothing."""

    class Dead(Simulated):
        async def press(self, shape: Shape, clients: int, seconds: float) -> Outcome:
            self.now += seconds
            return Outcome(seconds, [], {"503 no_healthy_replica": 9}, 0, 0)

        async def arrive(self, shape: Shape, rate: float, seconds: float) -> Outcome:
            return await self.press(shape, 1, seconds)

    found = await measured(Dead())
    assert found.row.rate == 0 and {one.verdict for one in found.row.tried} == {"refused"}
    assert [one.kind for one in advice([found], machine())] == ["nothing"]


@pytest.mark.parametrize(
    ("outcome", "verdict"),
    [
        (Outcome(10.0, [0.01] * 1000, {}, 0, 1000), "good"),
        (Outcome(10.0, [0.5] * 1000, {}, 0, 1000), "slow"),
        (Outcome(10.0, [0.01] * 950, {"503 overloaded": 50}, 0, 950), "refused"),
        (Outcome(10.0, [0.001 * i for i in range(1000)], {}, 0, 600), "behind"),
        (Outcome(10.0, [], {}, 0, 0), "behind"),
        (Outcome(10.0, [0.01] * 60, {}, 0, 60), "unclear"),  # too few for a p99
    ],
)
def test_what_a_rate_is_judged(outcome: Outcome, verdict: str) -> None:
    """By refusals, by growing waits, by the p99 and how sure it is."""
    assert judge(outcome, 100.0 if len(outcome.times) != 60 else 6.0, 0.1) == verdict


def test_the_interval_holds_the_true_quantile() -> None:
    """In some 95 % of samples."""
    pick, right = random.Random(3), -math.log(0.01)
    inside = 0
    for _ in range(400):
        found = quantile(sorted(pick.expovariate(1.0) for _ in range(1000)), 0.99)
        assert found is not None and found.low <= found.value <= found.high
        inside += found.low <= right <= found.high
    assert 0.92 <= inside / 400 <= 0.995
    assert quantile([], 0.99) is None
    few = quantile([1.0, 2.0], 0.99)
    assert few is not None and math.isinf(few.high)


# -- advice --------------------------------------------------------------------------------------


def machine(**more: Any) -> Machine:
    whole: dict[str, Any] = {"workers": 1, "cores": 8, "replicas": 1, "max_concurrency": 500}
    whole |= {"rate_limit": None, "worker_share": 0.2, "own_share": 0.2, "gpu_percent": None}
    return Machine(**(whole | more))


async def swept(load: Simulated, parts: dict[str, float] | None = None) -> list[Found]:
    """The usual two shapes on a machine; `parts` is what its answers say of where time went."""
    found = [await measured(load, shape, 30.0) for shape in (ONE, Shape(16, 128))]
    if parts is not None:
        found = [
            one._replace(ceiling=one.ceiling and one.ceiling._replace(parts_ms=parts))
            for one in found
        ]
    return found


@pytest.mark.parametrize(
    ("load", "parts", "around", "kinds"),
    [
        # A text costs as much in whatever request: the engine.
        (Simulated(0.0, 0.01), None, {}, ["replicas"]),
        # A GPU that idles meanwhile is not the limit: its calls are.
        (Simulated(0.0, 0.01), None, {"gpu_percent": 30.0}, ["larger_calls"]),
        (Simulated(0.0, 0.01), None, {"gpu_percent": 97.0}, ["replicas"]),
        # A call costs much, a text little: clients that batch, then more replicas.
        (Simulated(0.01, 0.0005), None, {}, ["batching", "replicas"]),
        # 100 requests a second, of which each is tokenised for 8 ms by one worker.
        (Simulated(0.0, 0.01), {"tokenise": 8.0, "engine": 2.0}, {}, ["tokenising"]),
        (Simulated(0.0, 0.01), {"tokenise": 8.0, "engine": 2.0}, {"workers": 8}, []),
        (Simulated(0.0, 0.01), None, {"worker_share": 0.97}, ["gateway"]),
        (Simulated(0.0, 0.01, room=20), None, {"max_concurrency": 20}, ["concurrency"]),
        (Simulated(0.0, 0.01), None, {"own_share": 0.99}, ["generator", "replicas"]),
        (Simulated(0.0, 0.01), None, {"rate_limit": ("100/minute", 100 / 60)},
         ["replicas", "rate_limit"]),
        (Simulated(0.0, 0.01), None, {"rate_limit": ("1000/second", 1000)}, ["replicas"]),
    ],
)  # fmt: skip
async def test_the_advice_fits_the_bottleneck(
    load: Simulated, parts: dict[str, float] | None, around: dict[str, Any], kinds: list[str]
) -> None:
    """The limit that was built in comes first, and nothing that was not."""
    found = advice(await swept(load, parts), machine(**around))
    assert [one.kind for one in found] == kinds
    for one in found:
        for language in ("en", "zh"):
            text = words.advice(one, language)
            assert text != one.kind and "{" not in text


def test_a_late_sender_says_so() -> None:
    """It measured itself: at least this is carried."""
    row = msgspec.convert(
        dict.fromkeys(("p50_ms", "p95_ms", "p99_low_ms", "p99_high_ms"), 5.0)
        | {"inputs": 1, "tokens": 9, "mean_tokens": 9.0, "goal_ms": 50.0, "rate": 9.0}
        | {"texts_per_s": 9.0, "tokens_per_s": 81.0, "p99_ms": 5.0, "open_end": True}
        | {"parts_ms": {}, "tried": []},
        result.Row,
    )
    found = advice([Found(row, None, 0.03)], machine())
    assert [one.kind for one in found] == ["generator", "open_end"]


def test_every_kind_of_advice_is_made_somewhere() -> None:
    """No sentence that nothing says."""
    source = (Path(er_capacity.__file__).parents[1] / "capacity/advice.py").read_text()
    assert all(f'_of("{kind}"' in source for kind in words.ADVICE)


# -- clients -------------------------------------------------------------------------------------


def key(id_: str | None, requests: int, p99_ms: float | None, failed: int = 0) -> dict[str, Any]:
    return {"id": id_, "requests": requests, "p99_ms": p99_ms, "failed": failed}


def test_clients_are_those_with_keys() -> None:
    """Neither the measurement itself nor callers that nobody knows; who asks seldom has no p99."""
    rows = [
        key("local", 9000, 900.0),
        key("", 50, 1.0, 50),
        key("k1", 40, 30.0),
        key("k2", 3, 999.0),
    ]
    assert clients(rows) == Clients(43, 0, 30.0)


@pytest.mark.parametrize(
    ("before", "now", "stops"),
    [
        (Clients(40, 0, 30.0), Clients(40, 0, 79.0), False),
        (Clients(40, 0, 30.0), Clients(40, 0, 81.0), True),
        (Clients(40, 0, 300.0), Clients(40, 0, 590.0), False),
        (Clients(40, 0, 300.0), Clients(40, 0, 601.0), True),
        (Clients(40, 2, 30.0), Clients(40, 5, 30.0), True),
        (Clients(0, 0, None), Clients(50, 0, 900.0), False),
        (Clients(0, 0, None), Clients(50, 0, 1100.0), True),
    ],
)
def test_when_it_ends_for_their_sake(before: Clients, now: Clients, stops: bool) -> None:
    """Twice as slow and by 50 ms, or failures; with a reason in words."""
    assert bool(harm(before, now)) is stops


# -- the command ---------------------------------------------------------------------------------


def called(environment: dict[str, str], *words_: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, environment),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = main(words_)
    return code, out.getvalue(), err.getvalue()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--minutes", "0"), "--minutes 0: from 0.1 to 60"),
        (("--tokens", "many"), '--tokens many: numbers with commas, as "1,16"'),
        (("--inputs", "0"), "--inputs 0: from 1 to 2048"),
        (("--p99", "-1"), "--p99 -1: milliseconds"),
        (("--tokens", "1,2,3,4,5,6,7,8,9", "--inputs", "1,2"), "18 shapes of requests; at most 16"),
        (("--url", "ftp://x"), "is not as http://HOST:PORT"),
    ],
)
def test_wrong_words(tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    """64, and nothing is loaded."""
    code, out, err = called({"RUNTIME_DIRECTORY": str(tmp_path)}, "capacity", *options)
    assert (code, out) == (64, "") and said in err


def test_nobody_is_loaded_unasked(tmp_path: Path) -> None:
    """Without a terminal it takes --yes; without a gateway there is nothing to measure."""
    code, _, err = called({"RUNTIME_DIRECTORY": str(tmp_path)}, "capacity", "--yes")
    assert code == 1 and "no gateway runs here" in err
    code, _, err = called({}, "capacity", "--url", "http://127.0.0.1:9")
    assert code == 1 and "To agree: --yes" in err and "can't be seen from here" in err


def test_texts_are_all_different_and_as_long_as_asked() -> None:
    """So that no cache answers."""
    book = Book(1)
    texts = [book.text(n) for n in (1, 2, 3, 50, 50, 50) for _ in range(200)]
    assert len(set(texts)) == len(texts)
    assert all(len(book.text(n).split()) == n - 1 for n in (5, 50, 500))


def test_the_file_is_whole_or_the_last_one(tmp_path: Path) -> None:
    """A full disk keeps the old; a damaged or newer one says what to do; no link is followed."""
    whole = Capacity(
        er="1", at=1e9, seconds=9.0, interrupted=False, stopped="", workers=1, cores=2, models=[]
    )
    path = result.write(tmp_path, whole)
    assert result.read(tmp_path) == whole and oct(path.stat().st_mode & 0o777) == "0o640"
    with (
        mock.patch("os.fsync", side_effect=OSError(28, "No space left on device")),
        pytest.raises(OSError, match="No space"),
    ):
        result.write(tmp_path, msgspec.structs.replace(whole, er="2"))
    assert result.read(tmp_path) == whole and [p.name for p in tmp_path.iterdir()] == [result.FILE]
    path.write_text("{}")
    with pytest.raises(ValueError, match="measure anew: er capacity"):
        result.read(tmp_path)
    path.unlink()
    path.symlink_to("/etc/passwd")
    with pytest.raises(OSError, match="symbolic"):
        result.read(tmp_path)
    assert result.read(tmp_path / "none") is None


TOKEN_US = 200  # the engine computes one call at a time: 5,000 tokens a second, no more


def test_a_real_gateway_is_measured_and_quoted(tmp_path: Path) -> None:
    """No more than an engine of known speed carries; then in status and report."""
    env = {"ENGINE_TOKEN_US": str(TOKEN_US)}
    with EngineProcess(dim=DIMENSIONS, env=env) as engine:
        running = Gateway(tmp_path, [engine], rate_limit="100/minute")
        try:
            running.start()
            until(lambda: _up(running))
            options = ("--minutes", "0.16", "--tokens", "8", "--inputs", "1", "--p99", "1500")
            code, out, err = called(
                running.environment(), "capacity", "--yes", "--json", "--model", "embed", *options
            )
            assert code == 0, err
            found = json.loads(out)
            (model,) = found["models"]
            (row,) = model["rows"]
            each_s = row["mean_tokens"] * TOKEN_US / 1e6
            right = asyncio.run(truth(lambda: Simulated(each_s, seed=7), ONE, 1.5))
            # A machine that runs other tests carries less, never more; how exact a sweep is, and
            # that the advice fits, the simulated machines above say.
            assert 0 < row["rate"] <= 1.2 * right, row["tried"]
            assert "rate_limit" in [one["kind"] for one in model["advice"]], model
            shown = called(running.environment(), "status")[1]
            assert f"capacity  embed: {row['texts_per_s']:,.0f} texts/s" in shown
            report = called(running.environment() | {"LC_ALL": "C"}, "report")[1]
            first = words.advice(msgspec.convert(model["advice"][0], result.Advice))
            assert "embed carries" in report and markdown.safe(first) in report
            _interrupted(running)
        finally:
            running.kill()


def _up(running: Gateway) -> bool:
    answer = json.loads(called(running.environment(), "status", "--json")[1])
    return bool(answer["models"][0]["replicas"][0]["state"] == "up")


def _interrupted(running: Gateway) -> None:
    """Ctrl-C, while somebody with a key was served: no traceback, and it says so."""
    assert running.embed("a client").status == 200
    command = [sys.executable, "-m", "er.cli", "capacity", "--yes", "--minutes", "2"]
    command += ["--tokens", "8", "--inputs", "1"]
    process = subprocess.Popen(
        command,
        env=running.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(2.0)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 1 and "Interrupted" in out and "Traceback" not in err
