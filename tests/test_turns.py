"""Held in place of refused (`rate_wait`), and large bodies aside: keys take turns."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pytest

from er.gateway.aside import Aside
from er.gateway.turns import SECOND_NS, Turns
from er.job import Refusal
from er.limits import Limits, Taken
from er.quantities import Rate
from fakes import until
from running import gateway

FAR = 1 << 62
RATE = Rate(5, 1)


@pytest.fixture
async def limits(tmp_path: Path) -> AsyncIterator[Limits]:
    made = Limits.open(tmp_path / "limits")
    yield made
    made.close()


async def ask(turns: Turns, key: str, left_ns: int = FAR) -> tuple[bool, float]:
    """Whether it passed, and after how many seconds that was known."""
    began = time.monotonic()
    taken = await turns.take(key, RATE, left_ns)
    return taken.allowed, time.monotonic() - began


# -- rate_wait -------------------------------------------------------------------------------


async def test_a_request_is_held_until_its_turn_and_in_order(limits: Limits) -> None:
    turns, order = Turns(limits, 2.05, 100), list[int]()

    async def one(number: int) -> tuple[bool, float]:
        said = await ask(turns, "k")
        order.append(number)
        return said

    said = await asyncio.gather(*(one(i) for i in range(12)))
    assert order == sorted(order)
    assert [allowed for allowed, _ in said] == [True] * 12
    for number, (_, after) in enumerate(said):
        assert number // 5 - 0.05 <= after < number // 5 + 0.5
    assert not turns.lines


async def test_whose_turn_would_come_too_late_is_told_so_at_once(limits: Limits) -> None:
    turns = Turns(limits, 1.5, 100)
    asked = [asyncio.create_task(turns.take("k", RATE, FAR)) for _ in range(10)]
    await asyncio.sleep(0)
    refused = await turns.take("k", RATE, FAR)  # its turn is in two seconds
    assert not refused.allowed and 1.5 < refused.retry_after_s <= 2
    deadline = await Turns(limits, 9.0, 100).take("k", RATE, SECOND_NS // 10)
    assert not deadline.allowed
    other = await turns.take("other", RATE, FAR)  # a key of its own
    assert other.allowed
    assert all(taken.allowed for taken in await asyncio.gather(*asked))


async def test_no_more_are_held_than_may_be(limits: Limits) -> None:
    turns = Turns(limits, 5.0, 3)
    asked = [asyncio.create_task(turns.take("k", RATE, FAR)) for _ in range(9)]
    await asyncio.sleep(0.05)
    refused = [one.result() for one in asked if one.done() and not one.result().allowed]
    assert len(refused) == 1
    assert len([one for one in asked if not one.done()]) == 3
    assert sum(taken.allowed for taken in await asyncio.gather(*asked)) == 8


async def test_who_hangs_up_leaves_the_line_to_the_next(limits: Limits) -> None:
    turns = Turns(limits, 2.0, 100)
    asked = [asyncio.create_task(turns.take("k", RATE, FAR)) for _ in range(9)]
    await asyncio.sleep(0.05)
    for one in asked[5:8]:
        one.cancel()
    assert (await asked[8]).allowed and not turns.lines
    assert (await turns.take("k", RATE, FAR)).remaining == 3  # three took nothing


async def test_a_turn_that_another_worker_took_is_the_next_ones_or_a_refusal(
    limits: Limits,
) -> None:
    turns = Turns(limits, 1.2, 100)
    asked = [asyncio.create_task(turns.take("k", RATE, FAR)) for _ in range(7)]
    await asyncio.sleep(0.05)
    now = turns._clock()
    for _ in range(4):  # as if in another worker's time, a second on
        assert limits.take("k", RATE, now + SECOND_NS).allowed
    said: list[Taken] = await asyncio.gather(*asked)
    assert [taken.allowed for taken in said] == [True] * 6 + [False]
    assert said[-1].retry_after_s > 0.5


def test_over_http_it_is_held_and_off_by_default(tmp_path: Path) -> None:
    """Both ways in; a hang-up ends it; in flight while it is held; 429 says the whole wait."""
    with gateway(tmp_path, rate_limit="5/second", rate_wait="2s") as running:
        with ThreadPoolExecutor(24) as pool:
            began = time.monotonic()
            replies = list(pool.map(lambda i: running.embed(f"text {i}"), range(24)))
            took = time.monotonic() - began
        said = [reply.status for reply in replies]
        assert 15 <= said.count(200) <= 20 and set(said) == {200, 429}
        assert 1.9 < took < 4
        refused = next(reply for reply in replies if reply.status == 429)
        assert int(refused.headers["retry-after-ms"]) > 2000
        time.sleep(2.1)
        links = [running.connection() for _ in range(9)]
        for link in links:
            body = json.dumps({"model": "embed", "input": "x"})
            head = {"authorization": f"Bearer {running.key}", "x-request-id": "held"}
            link.request("POST", "/v1/embeddings", body, head)
            time.sleep(0.02)
        for link in links[5:]:
            link.close()
        running.wait_for('"STATUS":499', count=4)
        assert running.embed().status == 200


def test_a_large_body_over_the_rate_is_refused_unread(tmp_path: Path) -> None:
    """Its texts are neither read nor tokenised; one of small size keeps the order of checks."""
    with gateway(tmp_path, rate_limit="2/minute") as running:
        assert [running.embed().status for _ in range(2)] == [200, 200]
        body = b'{"model": "embed", "input": [' + b'"x" ' * (1 << 20) + b"]}"  # and no JSON
        for data in (body, b"not JSON either" * 1000):
            reply = running.ask("POST", "/v1/embeddings", data)
            assert (reply.status, reply.code) == (429, "rate_limit_exceeded")
            assert "retry-after" in reply.headers
        assert running.ask("POST", "/v1/embeddings", b"{").status == 400


# -- large bodies ----------------------------------------------------------------------------


def soon() -> int:
    return time.monotonic_ns() + 20 * SECOND_NS


class Work:
    """What threads are given: each waits until it is let go."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self._gates: dict[int, threading.Event] = {}
        self._numbers = count()

    def make(self, name: str) -> tuple[int, Callable[[], str]]:
        number = next(self._numbers)
        gate = self._gates[number] = threading.Event()

        def work() -> str:
            self.begun.append(name)
            gate.wait(20)
            return name

        return number, work

    def go(self, number: int) -> None:
        self._gates[number].set()


async def test_a_key_never_has_all_threads_and_keys_take_turns() -> None:
    aside, work = Aside(2), Work()
    tasks, numbers = [], []
    for name in ("a", "a", "a", "b", "b", "c"):
        number, do = work.make(name)
        numbers.append(number)
        tasks.append(asyncio.create_task(aside.do(name, soon(), do)))
        await asyncio.sleep(0.02)
    assert work.begun == ["a", "b"]
    work.go(numbers[0])
    await until(lambda: len(work.begun) == 3)
    assert work.begun[2] == "a"  # the only free line: b has one, and c came later
    work.go(numbers[3])
    await until(lambda: len(work.begun) == 4)
    for number in numbers:
        work.go(number)
    assert await asyncio.gather(*tasks) == ["a", "a", "a", "b", "b", "c"]
    assert work.begun.index("c") < 6 and not aside._lines and not aside._busy
    aside.close()


async def test_who_leaves_or_is_late_gives_the_thread_to_the_next() -> None:
    aside, work = Aside(2), Work()
    first, do = work.make("a")
    running = asyncio.create_task(aside.do("a", soon(), do))
    await asyncio.sleep(0.02)
    leaves = asyncio.create_task(aside.do("a", soon(), work.make("leaves")[1]))
    with pytest.raises(Refusal) as late:
        await aside.do("a", time.monotonic_ns() + SECOND_NS // 20, work.make("late")[1])
    assert late.value.status == 504
    last, do = work.make("last")
    stays = asyncio.create_task(aside.do("a", soon(), do))
    await asyncio.sleep(0.02)
    leaves.cancel()
    work.go(first)
    work.go(last)
    assert await running == "a" and await stays == "last"
    assert work.begun == ["a", "last"] and not aside._lines and not aside._busy
    aside.close()


async def test_a_thread_whose_client_left_is_taken_until_it_is_done() -> None:
    aside, work = Aside(2), Work()
    number, do = work.make("a")
    left = asyncio.create_task(aside.do("a", soon(), do))
    await asyncio.sleep(0.02)
    left.cancel()
    await asyncio.sleep(0.02)
    assert aside._busy == {"a": 1}
    work.go(number)
    await until(lambda: not aside._busy)
    aside.close()
