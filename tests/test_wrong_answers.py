"""Wrong numbers from an engine, through the real gateway: what the client, journal and status say.

One replica and two, each way to be wrong. None of it may reach a client; the replica is out until
an inference of its own was right.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fault_rows
from fakes import EngineProcess
from running import Gateway, gateway, model_folder

FAULTS = {
    "nan": "it gave NaN",
    "zero": "it gave a vector of length 0, not 1",
    "long_vector": "it gave a vector of length 3, not 1",
    "short": "it answered 0 bytes in place of 256",
    "long": "it answered 260 bytes in place of 256",
    "wrong_type": "it answered text/html, not application/octet-stream",
}
SOME = ("nan", "zero", "short")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway(tmp_path_factory.mktemp("wrong")) as running:
        yield running


def replica(running: Gateway) -> dict[str, Any]:
    """The one replica as GET /status on the admin socket has it, which `er status` prints."""
    argv = ["curl", "-sS", "-m", "10", "--unix-socket", str(running.runtime / "admin.sock")]
    told = subprocess.run([*argv, "http://er/status"], capture_output=True, check=True, timeout=20)
    found: dict[str, Any] = json.loads(told.stdout)["models"][0]["replicas"][0]
    return found


def until(condition: Any, seconds: float = 15.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.05)


WRONG = fault_rows.Fault(
    "the only replica of a model answers NaN, zeros, too few numbers or a wrong type",
    client="503 no_healthy_replica",
    heals="it is out until an inference of its own is right; er-vllm starts its engine anew",
    within_s=60,
)


@pytest.mark.parametrize("fault", FAULTS)
def test_of_one_replica_alone(shared: Gateway, fault: str) -> None:
    """503 at once with the reason, also on /health and in the status; proven right, it is back."""
    engine, reason = shared.engines[0], FAULTS[fault]
    until(lambda: shared.embed("is it there").status == 200)
    before = shared.text().count("replica e0 answers right")
    engine.fault(fault)
    reply = shared.embed(f"a text for {fault}")
    WRONG.saw(reply.status, reply.code)
    assert f"e0 is down ({reason})" in reply.message and "Try again" in reply.message
    assert int(reply.headers["retry-after"]) >= 1
    calls = engine.seen()["calls"]
    again = shared.embed("another one")
    assert again.code == "no_healthy_replica"
    assert f"replica e0 is down: {reason}" in shared.text()
    health = shared.ask("GET", "/health", key=None)
    assert (health.status, health.json["status"]) == (503, "down")
    assert shared.text().count("replica e0 answers right") == before
    until(lambda: engine.seen()["calls"] > calls)  # it is probed, and still wrong
    until(lambda: replica(shared)["state"] == "down")
    assert replica(shared)["reason"].startswith(("it ga", "it answered", "gave"))
    assert shared.embed("not yet").code == "no_healthy_replica"
    engine.fault("none")
    until(lambda: replica(shared)["state"] == "up", WRONG.within_s)
    until(lambda: shared.text().count("replica e0 answers right") == before + 1)
    assert shared.embed(f"a text for {fault}").status == 200


def test_of_one_of_two_nobody_sees_anything(tmp_path: Path) -> None:
    """Whoever is wrong first is out; its texts are computed by the other one."""
    with gateway(tmp_path, engines=2) as running:
        for fault in SOME:
            running.engines[0].fault(fault)
            found = [running.embed([f"{fault} {i}", f"{i}"]).status for i in range(12)]
            assert found == [200] * 12
            running.engines[0].fault("none")
            until(lambda: running.ask("GET", "/health", key=None).json["status"] == "ok")
        assert running.text().count("replica e0 is down: it ") == len(SOME)
        assert "replica e1 is down" not in running.text()


def test_a_text_without_numbers_is_500_and_the_others_are_served(shared: Gateway) -> None:
    """The first time it may be the engine, which is proven; the second time it is the text."""
    engine = shared.engines[0]
    until(lambda: shared.embed("is it there").status == 200)
    engine.fault("nan_if_id", id=ord("Z"))
    assert shared.embed(["a", "Z"]).code == "no_healthy_replica"
    until(lambda: shared.embed("a").status == 200)
    for _ in range(3):
        reply = shared.embed(["a", "Z"], headers={"x-request-id": "its-number"})
        assert (reply.status, reply.code) == (500, "internal_error")
        assert "Item 1 gets no right numbers from this model" in reply.message
        assert "change this one or leave it out" in reply.message
        assert shared.embed(["a", "b"]).status == 200
    assert "item 1 of request its-number gets no right numbers anywhere" in shared.text()
    engine.fault("none")
    assert shared.embed(["a", "Z"]).status == 200


def test_a_cut_without_numbers_is_no_nan(tmp_path: Path) -> None:
    """Where the first `dimensions` numbers are all 0 the cut has no direction, and stays 0."""
    with gateway(tmp_path) as running:
        running.engines[0].fault("late_vector")
        reply = running.embed("x", dimensions=8)
        assert reply.status == 200 and b"NaN" not in reply.body
        assert reply.json["data"][0]["embedding"] == [0.0] * 8
        whole = running.embed("x").json["data"][0]["embedding"]
        assert whole[:63] == [0.0] * 63 and whole[63] == 1.0


def test_scores_beyond_0_to_1(tmp_path: Path) -> None:
    """A reranker that gives logits was started without its activation: not one is passed on."""
    with EngineProcess(task="classify") as engine:
        running = Gateway(tmp_path)
        folder = model_folder(tmp_path / "ranker")
        running.models.append({"name": "rank", "task": "score", "path": str(folder)})
        running.replicas.append({"name": "s0", "model": "rank", "url": engine.address})
        try:
            running.start()
            body = {"model": "rank", "query": "q", "documents": ["a", "b"]}
            until(lambda: running.ask("POST", "/v1/rerank", body).status == 200)
            engine.fault("long_vector")
            reply = running.ask("POST", "/v1/rerank", body)
            assert (reply.status, reply.code) == (503, "no_healthy_replica")
            assert "s0 is down (it gave the score" in reply.message
            engine.fault("none")
            until(lambda: running.ask("POST", "/v1/rerank", body).status == 200)
        finally:
            running.kill()
