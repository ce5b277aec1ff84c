"""Wrong keys: later and later for who sends many, and nothing of it for anybody else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from er.gateway import guesses
from er.gateway.guesses import Guesses, source_of
from er.job import Refusal
from fakes import Clock
from proxies import through
from running import Gateway, gateway
from siege import besiege

GUESSER, OTHER = "127.0.0.5", "127.0.0.6"


class Asleep:
    """In the place of asyncio.sleep: notes how long it was asked to, and waits to be let go."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.over = asyncio.Event()

    async def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)
        await self.over.wait()


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> Asleep:
    asleep = Asleep()
    monkeypatch.setattr(guesses.asyncio, "sleep", asleep)
    return asleep


def refusal() -> Refusal:
    return Refusal(401, "invalid_api_key", "no")


async def turns() -> None:
    loop = asyncio.get_running_loop()
    for _ in range(3):
        turn = loop.create_future()
        loop.call_soon(turn.set_result, None)
        await turn


async def test_each_waits_longer_than_the_one_before(slept: Asleep) -> None:
    slept.over.set()
    clock = Clock()
    counted = Guesses(lambda: clock() / 1e9)
    for _ in range(guesses.FREE):
        await counted.slow(refusal(), GUESSER)
    assert slept.asked == []
    for _ in range(8):
        await counted.slow(refusal(), GUESSER)
    assert slept.asked == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    await counted.slow(refusal(), OTHER)
    clock.advance(61)  # the minute is over
    await counted.slow(refusal(), GUESSER)
    assert len(slept.asked) == 8


async def test_only_so_many_wait(slept: Asleep, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one source, and of all; who does not wait loses its connection. Also over a minute."""
    monkeypatch.setattr(guesses, "ALL_WAITING", 20)
    clock = Clock()
    counted = Guesses(lambda: clock() / 1e9)
    said = [refusal() for _ in range(40)]
    first = [asyncio.ensure_future(counted.slow(one, GUESSER)) for one in said]
    await turns()
    assert len(slept.asked) == guesses.WAITING
    closed = [one for one in said if one.headers.get("connection") == "close"]
    assert len(closed) == 40 - guesses.FREE - guesses.WAITING
    clock.advance(61)
    again = [asyncio.ensure_future(counted.slow(refusal(), GUESSER)) for _ in range(40)]
    more = [
        asyncio.ensure_future(counted.slow(refusal(), f"127.0.1.{i // 20}")) for i in range(400)
    ]
    await turns()
    assert len(slept.asked) == 20
    first[guesses.FREE].cancel()  # its client has hung up
    slept.over.set()
    await asyncio.gather(*first, *again, *more, return_exceptions=True)
    assert counted._waiting == 0
    assert all(source.waiting == 0 for source in counted._sources.values())


async def test_memory_has_a_bound(capfd: pytest.CaptureFixture[str]) -> None:
    counted = Guesses()
    for i in range(guesses.SOURCES + 500):
        await counted.slow(refusal(), f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}")
    assert len(counted._sources) == guesses.SOURCES and len(counted._said) == guesses.SOURCES
    counted.log()
    said = capfd.readouterr().out
    assert "wrong API keys in the last minute: 1 from 10.0.0.0, " in said
    assert f"{guesses.SOURCES + 500 - guesses.SHOWN} from others" in said
    counted.log()
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("client", "source"),
    [
        ("1.2.3.4", "1.2.3.4"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unknown", "unknown"),
        ("a:b", "a:b"),
    ],
)
def test_whose_guesses_are_counted_together(client: str, source: str) -> None:
    assert source_of(client) == source


# -- at a real gateway -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway(tmp_path_factory.mktemp("g")) as found:
        yield found


def test_ten_thousand_guesses_hurt_nobody_else(running: Gateway) -> None:
    """Others' latency and the memory stay as they were; a good key from there passes at once."""
    found = besiege(running, "guesses", 10_000)
    print(json.dumps(found))
    assert found["statuses"] == {"401": 10_000}
    assert found["closed"] > 9000 and found["waited_s"] > 1
    assert found["peak_mib"] < 12
    for who in ("others_beside", "good_key_from_there"):
        assert found[who]["requests"] > 50
        # With 24 connections that guess as fast as they can beside it on the same two cores.
        assert found[who]["p50_ms"] < found["others_alone"]["p50_ms"] * 3 + 50


def test_who_guesses_is_told_to_the_operator(running: Gateway, tmp_path: Path) -> None:
    """Each in the audit; in the journal once a minute, or at the end of a worker."""
    for _ in range(3):
        link = through(running.port, "127.0.0.99")
        assert running.embed(key="sk-er-kaaaaaaaa-wrong", connection=link).status == 401
    running.wait_for('"CLIENT":"127.0.0.99"', count=3)
    (record, *_) = [r for r in running.audit() if r["CLIENT"] == "127.0.0.99"]
    assert (record["STATUS"], record["CODE"]) == (401, "invalid_api_key")
    running.stop()
    assert "wrong API keys in the last minute: " in running.text()
    assert "3 from 127.0.0.99" in running.text()
