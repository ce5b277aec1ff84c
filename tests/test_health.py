"""One true inference: right, wrong, late or refused, asked of the stand-in engine."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from engine import expected, expected_score
from er.health import judge, probe, same
from er.job import SECOND_SEGMENT
from fakes import EngineProcess, free_port

IDS = (5, 6, 7)


@pytest.fixture(scope="module")
def engine() -> Iterator[EngineProcess]:
    with EngineProcess(task="embed", dim=64) as running:
        yield running


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False) as made:
        yield made


async def test_a_right_vector_comes_back_whole(
    engine: EngineProcess, client: httpx.AsyncClient
) -> None:
    got = await probe(engine.address, "embed", IDS, 64, 5, client=client, served="model")
    assert (got.state, got.reason) == ("right", "")
    assert got.value == pytest.approx(tuple(map(float, expected(IDS))))
    assert got.ms > 0


async def test_a_pair_is_asked_of_the_path_that_knows_segments(client: httpx.AsyncClient) -> None:
    """vLLM alone could only be told the ids; that is said, not a wrong score taken for right."""
    with EngineProcess(task="classify") as running:
        pair = (5, 6, 7 | SECOND_SEGMENT)
        got = await probe(running.address, "score", pair, 64, 5, client=client)
    assert got.state == "refused" and "has no /er/pooling, which this model needs" in got.reason


async def test_a_right_score(client: httpx.AsyncClient) -> None:
    with EngineProcess(task="classify") as running:
        got = await probe(running.address, "score", IDS, 64, 5, client=client)
    assert (got.state, got.value) == ("right", (expected_score(IDS),))


@pytest.mark.parametrize(
    ("fault", "state", "reason"),
    [
        ("nan", "wrong", "gave NaN"),
        ("short", "wrong", "gave 0 bytes"),
        ("long", "wrong", "gave 260 bytes"),
        ("wrong_type", "wrong", "text/html"),
        ("500", "refused", "answered 500"),
        ("503", "refused", "answered 503"),
        ("reset", "refused", "can't be reached"),
        ("cut", "refused", "can't be reached"),
        ("hang", "late", "no answer within 0.3 s"),
    ],
)
async def test_each_way_to_misbehave_is_told(
    engine: EngineProcess, client: httpx.AsyncClient, fault: str, state: str, reason: str
) -> None:
    engine.fault(fault, 1)
    got = await probe(engine.address, "embed", IDS, 64, 0.3, client=client)
    assert got.state == state
    assert reason in got.reason


async def test_a_stopped_engine_is_late_and_another_model_is_refused(
    engine: EngineProcess, client: httpx.AsyncClient
) -> None:
    engine.signal(signal.SIGSTOP)
    try:
        got = await probe(engine.address, "embed", IDS, 64, 0.2, client=client)
    finally:
        engine.signal(signal.SIGCONT)
    assert got.state == "late"
    got = await probe(engine.address, "embed", IDS, 64, 5, client=client, served="another")
    assert got.state == "refused"
    assert "404" in got.reason


async def test_an_answer_that_trickles_is_late(client: httpx.AsyncClient) -> None:
    """Each read in time, the whole never."""

    async def trickle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 256\r\n\r\n")
            for _turn in range(256):
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.05)
        writer.close()

    server = await asyncio.start_server(trickle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    began = time.monotonic()
    got = await probe(f"http://127.0.0.1:{port}", "embed", IDS, 64, 0.3, client=client)
    server.close()
    assert (got.state, got.reason) == ("late", "no answer within 0.3 s")
    assert time.monotonic() - began < 2


async def test_nobody_listens(client: httpx.AsyncClient) -> None:
    got = await probe(f"http://127.0.0.1:{free_port()}", "embed", IDS, 64, 1, client=client)
    assert got.state == "refused"
    assert "can't be reached" in got.reason


def test_what_numbers_can_be_right() -> None:
    assert judge("score", [0.5]) == ""
    assert "not within 0 to 1" in judge("score", [1.5])
    assert judge("embed", [0.6, 0.8]) == ""
    assert judge("embed", [0.6, 0.9]).startswith("gave a vector of length")
    assert judge("embed", [float("nan"), 0.0]) == "gave NaN"
    assert judge("embed", [float("inf"), 0.0]) == "gave infinity"
    assert judge("score", [float("nan")]) == "gave NaN"


def test_two_answers_agree_within_rounding() -> None:
    assert same("embed", [0.6, 0.8], [0.601, 0.799])
    assert not same("embed", [0.6, 0.8], [0.8, 0.6])
    assert not same("embed", [0.6, 0.8], [0.6])
    assert same("score", [0.5], [0.51])
    assert not same("score", [0.5], [0.6])
