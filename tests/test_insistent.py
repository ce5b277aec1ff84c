"""Who is refused again and again on one connection is answered later, on every way."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from er.gateway.insistent import FREE, HELD_S, PAUSE_S, Insistent
from running import Gateway, gateway

COHERE = {"model": "embed", "texts": ["x"], "input_type": "search_query"}
GOOD = {"model": "embed", "input": "x"}


def test_only_what_comes_in_a_row_counts() -> None:
    one, now = Insistent(), 1000.0
    for _ in range(FREE):
        assert one.hold_s(429, now) == 0
    for _ in range(3):
        assert one.hold_s(429, now) == HELD_S
        now += HELD_S + 0.9 * PAUSE_S  # from when it was said
    for status in (400, 404, 413, 503):  # count for nothing
        assert one.hold_s(status, now) == 0
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
    with gateway(tmp_path_factory.mktemp("insistent"), rate_limit="1/hour") as er:
        assert er.ask("POST", "/v1/embeddings", GOOD).status == 200
        yield er


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/embeddings?", "/v2/embed"])
def test_the_refusal_waits_and_its_connection_is_kept(running: Gateway, path: str) -> None:
    """The straight way's, ASGI's, the door's; what is recorded is when it was decided."""
    body = GOOD if path.startswith("/v1") else COHERE
    link = running.connection()
    for _ in range(FREE):
        assert running.ask("POST", path, body, connection=link).status == 429
    began = time.monotonic()
    reply = running.ask("POST", path, body, connection=link)
    assert time.monotonic() - began >= HELD_S and reply.status == 429
    total = reply.headers["server-timing"].partition("total;dur=")[2]
    assert float(total.partition(",")[0]) < HELD_S * 1000
    assert running.ask("POST", path, body, connection=link).status == 429
    link.close()
