"""A vLLM at a url says its version before it is asked anything: too old, too new, none at all."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from er.admin.introduced import Introduced
from er.admin.prober import Question
from er.config import Replica, parse
from er.health import Probe, version
from fakes import EngineProcess
from running import Gateway

OLD = "vLLM 0.9.0 at {} is older than 0.25.1, the oldest ER accepts: upgrade it"
QUESTION = Question(task="embed", ids=(1, 2, 3), dimensions=64)
MODEL = (
    '[[model]]\nname = "m"\ntask = "embed"\npath = "/m"\n[[replica]]\nname = "one"\nmodel = "m"\n'
)


def replica(where: str) -> Replica:
    return parse(MODEL + where, Path("er.toml")).replicas[0]


AWAY = replica('url = "http://10.0.0.7:8000"\n')
OURS = replica('gpu = "cpu"\nport = 8000\n')


class Asked:
    """What is asked in which order, and what comes back."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.probe, self.version = Probe("right", 1.0), "0.32.0"
        self.introduced = Introduced(self._ask, self._version)

    async def _ask(self, replica: Replica, question: Question, timeout_s: float) -> Probe:
        self.said.append("inference")
        return self.probe

    async def _version(self, address: str) -> str | None:
        assert address == "http://10.0.0.7:8000"
        self.said.append("version")
        return self.version or None

    async def once(self, one: Replica = AWAY) -> Any:
        self.said.clear()
        return await self.introduced(one, QUESTION, 5.0)


async def test_the_version_is_asked_once_for_each_time_it_comes_back() -> None:
    asked = Asked()
    for order in (["version", "inference"], ["inference"], ["inference"]):
        assert (await asked.once()).state == "right" and asked.said == order
    asked.probe = Probe("refused", 1.0, "can't be reached")
    for order in (["inference"], ["version", "inference"]):
        assert (await asked.once()).state == "refused" and asked.said == order
    asked.probe = Probe("right", 1.0)
    assert (await asked.once()).state == "right" and asked.said == ["version", "inference"]
    await asked.once()
    assert asked.said == ["inference"]


async def test_an_old_one_gets_no_inference_until_it_is_another() -> None:
    asked = Asked()
    asked.version = "0.9.0"
    for _ in range(2):
        assert await asked.once() == Probe("refused", 0.0, OLD.format(AWAY.url))
        assert asked.said == ["version"]
    asked.version = "0.32.0"
    assert (await asked.once()).state == "right" and asked.said == ["version", "inference"]


async def test_a_newer_one_is_used_and_said_once(capfd: pytest.CaptureFixture[str]) -> None:
    asked = Asked()
    asked.version = "0.40.0"
    for state in ("right", "refused", "right", "right"):
        asked.probe = Probe(state, 1.0)  # type: ignore[arg-type]
        assert (await asked.once()).state == state
    told = capfd.readouterr()
    said = "vLLM 0.40.0 at http://10.0.0.7:8000 is not one that ER was tried with (0.25.1 to below"
    assert (told.out + told.err).count(said) == 1


async def test_no_version_is_judged_by_its_answers(capfd: pytest.CaptureFixture[str]) -> None:
    asked = Asked()
    for word in ("", "dev", "0.1.dev1234+gabcdef"):
        asked.version = word
        assert (await asked.once()).state == "right"
    told = capfd.readouterr()
    assert "vLLM" not in told.out + told.err


async def test_our_own_are_known_by_their_files() -> None:
    asked = Asked()
    await asked.once(OURS)
    assert asked.said == ["inference"]


async def test_what_a_server_says_of_its_version() -> None:
    with EngineProcess() as engine:
        async with httpx.AsyncClient(trust_env=False) as client:
            assert await version(client, engine.address) == "0.32.0"
            for odd in ("0.9\n", "9" * 41, {"a": 1}, "x" * 70_000):
                engine.fault("version", **{"is": odd})
                assert await version(client, engine.address) is None
            engine.fault("no_version")
            assert await version(client, engine.address) is None
            engine.kill()
            assert await version(client, engine.address) is None


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Gateway]:
    """A gateway with two engines at urls, the second of them too old."""
    with EngineProcess() as good, EngineProcess() as old:
        old.fault("version", **{"is": "0.9.0"})
        gateway = Gateway(tmp_path, [good, old])
        try:
            yield gateway.start()
        finally:
            gateway.kill()


def er(gateway: Gateway, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "er.cli", *words]
    return subprocess.run(command, env=gateway.environment(), capture_output=True, text=True)


def row(gateway: Gateway) -> dict[str, Any]:
    """The second replica in er status."""
    answer = json.loads(er(gateway, "status", "--json").stdout)
    found: dict[str, Any] = answer["models"][0]["replicas"][1]
    return found


def until(gateway: Gateway, state: str) -> dict[str, Any]:
    end = time.monotonic() + 20
    while (found := row(gateway))["state"] != state:
        assert time.monotonic() < end, found
        time.sleep(0.2)
    return found


def test_an_old_engine_is_named_and_comes_back_upgraded(two: Gateway) -> None:
    """In er status, /health and er doctor; it is asked nothing but its version."""
    reason = OLD.format(two.engines[1].address)
    assert until(two, "down")["reason"] == reason
    link = http.client.HTTPConnection("127.0.0.1", two.port, timeout=10)
    link.request("GET", "/health")
    health = json.load(link.getresponse())
    link.close()
    assert health["status"] == "degraded" and reason in json.dumps(health)
    for _ in range(8):
        assert two.embed().status == 200
    assert two.engines[1].seen()["calls"] == 0
    told = er(two, "doctor").stdout
    assert f"vLLM of e0: 0.32.0 at {two.engines[0].address}" in told
    assert f"vLLM of e1: {reason.rpartition(': ')[0]}\n      -> upgrade it" in told
    two.engines[1].fault("version", **{"is": "0.99.0"})
    until(two, "up")
    assert "is not one that ER was tried with" in two.text()
    assert "er quality run compares" in er(two, "doctor").stdout
