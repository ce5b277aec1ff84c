"""Gateways that use each other's replicas: real ones, over TLS on loopback."""

from __future__ import annotations

import collections
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engine import expected
from running import DIMENSIONS, Reply
from several import Clients, Host, end_at_once, hosts


def right(reply: Reply | Exception, texts: list[str]) -> None:
    """Each vector is that of its own text: nothing lost, nothing swapped."""
    assert isinstance(reply, Reply) and reply.status == 200, reply
    data = reply.json["data"]
    assert len(data) == len(texts)
    for text, one in zip(texts, data, strict=True):
        wanted = expected([*text.encode()], DIMENSIONS)
        assert np.allclose(one["embedding"], wanted, atol=1e-6), text


def who(host: Host) -> collections.Counter[str]:
    """How many requests each replica answered, by the audit."""
    found: collections.Counter[str] = collections.Counter()
    for record in host.audit():
        if record.get("STATUS") in (200, "200") and record.get("REPLICA"):
            found.update(record["REPLICA"].split(","))
    return found


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Host]]:
    with hosts(tmp_path_factory.mktemp("pair"), (1, 1)) as both:
        yield both


def test_own_replicas_come_first(pair: list[Host]) -> None:
    one, _ = pair
    for i in range(20):
        right(one.embed(f"quiet {i}"), [f"quiet {i}"])
    time.sleep(0.3)
    assert set(who(one)) == {"e0"}
