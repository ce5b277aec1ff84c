"""Who is refused again and again on one connection is answered later, on every way."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from er.gateway.insistent import FREE, HELD_S, PAUSE_S, Insistent
from running import Gateway, gateway

WRONG = {"model": "nobody", "input": "x"}
GOOD = {"model": "embed", "input": "x"}


def test_only_what_comes_in_a_row_counts() -> None:
    one, now = Insistent(), 1000.0
    for _ in range(FREE):
        assert one.hold_s(429, now) == 0
    for _ in range(3):
        assert one.hold_s(429, now) == HELD_S
        now += HELD_S + 0.9 * PAUSE_S  # from when it was said
    assert one.hold_s(503, now) == 0  # counts for nothing
    assert one.hold_s(429, now) == HELD_S
    assert one.hold_s(200, now) == 0
    assert one.hold_s(429, now) == 0
    for _ in range(FREE):
        one.hold_s(429, now)
    assert one.hold_s(429, now) == HELD_S
    now += HELD_S + 1.1 * PAUSE_S
    assert one.hold_s(429, now) == 0


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway(tmp_path_factory.mktemp("insistent")) as er:
        yield er


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/embeddings?", "/v2/rerank"])
def test_the_refusal_waits_and_its_connection_is_kept(running: Gateway, path: str) -> None:
    """By the door, by ASGI, and of another address; what is recorded is when it was decided."""
    link = running.connection()
    for _ in range(FREE):
        assert running.ask("POST", path, WRONG, connection=link).status in (400, 404)
    began = time.monotonic()
    reply = running.ask("POST", path, WRONG, connection=link)
    assert time.monotonic() - began >= HELD_S and reply.status in (400, 404)
    total = reply.headers["server-timing"].partition("total;dur=")[2]
    assert float(total.partition(",")[0]) < HELD_S * 1000
    assert running.ask("POST", "/v1/embeddings", GOOD, connection=link).status == 200
    link.close()


def test_who_is_over_its_rate_is_held_too(tmp_path: Path) -> None:
    """The straight way says 429 itself."""
    with gateway(tmp_path, rate_limit="1/hour") as running:
        link = running.connection()
        assert running.ask("POST", "/v1/embeddings", GOOD, connection=link).status == 200
        for _ in range(FREE):
            assert running.ask("POST", "/v1/embeddings", GOOD, connection=link).status == 429
        began = time.monotonic()
        assert running.ask("POST", "/v1/embeddings", GOOD, connection=link).status == 429
        assert time.monotonic() - began >= HELD_S
        link.close()
