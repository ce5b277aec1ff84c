"""Real vLLM on the CPU: a wrong dtype and a wrong template are each caught, taken out, and told."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import real_vllm
from real_vllm import MODELS
from running import Gateway
from test_admin import Api

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(420)]


def until(true: Callable[[], Any], gateway: Gateway, seconds: float = 90.0) -> Any:
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, gateway.text()[-3000:]
        time.sleep(0.2)
    return found


def test_a_wrong_dtype_and_a_wrong_template_are_caught(tmp_path: Path) -> None:
    """One replica in float32 records the reference; one in bfloat16 beside it is out by itself.

    Then er.toml has another prompt, which a restart of the gateway takes up: both are out, and
    clients get 503. With the right one again the first comes back, and the other stays out.
    """
    gateway = Gateway(tmp_path)
    gateway.quality = {"every": "1h"}
    api = Api(gateway.runtime / "admin.sock")
    model = {"name": "m", "task": "embed", "path": str(MODELS / "tiny-embed")}
    ask = {"model": "m", "input": "hello"}

    def row(name: str) -> Any:
        found = api("GET", "/quality")[1]["replicas"]
        return next(each for each in found if each["name"] == name)

    places = [tmp_path / name for name in ("right", "wrong")]
    for place in places:
        place.mkdir()
    wrong = ["--dtype", "bfloat16"]
    with (
        real_vllm.serving(places[0], MODELS / "tiny-embed", "embed") as right_at,
        real_vllm.serving(places[1], MODELS / "tiny-embed", "embed", more=wrong) as wrong_at,
    ):
        try:
            gateway.models = [model]
            gateway.replicas = [{"name": "right", "model": "m", "url": right_at}]
            gateway.start()
            until(lambda: row("right")["last"], gateway)
            assert not row("right")["out"] and gateway.mishaps() == []
            gateway.replicas.append({"name": "wrong", "model": "m", "url": wrong_at})
            gateway.write_config()
            assert api("POST", "/reload")[0] == 200
            until(lambda: "wrong" in str(api("GET", "/quality")[1]), gateway)
            until(lambda: row("wrong")["out"], gateway)
            drift = row("wrong")["last"]["drift"]
            assert 1e-3 < drift["mean"] < 1e-2 and drift["tolerance"] == 1e-4
            assert "answers drifted: mean 0.0" in row("wrong")["reason"]
            assert not row("right")["out"]
            assert gateway.ask("POST", "/v1/embeddings", ask).status == 200
            gateway.stop()

            model["prompt"] = "plain"
            gateway.start()
            until(lambda: row("right")["out"], gateway)
            assert row("right")["last"]["drift"]["mean"] > 0.05
            assert "since then: another prompt" in row("right")["reason"]
            assert "answers drifted" in api("GET", "/status")[1]["reason"]
            assert gateway.ask("POST", "/v1/embeddings", ask).status == 503
            gateway.stop()

            del model["prompt"]
            gateway.start()
            until(lambda: not row("right")["out"], gateway)
            until(lambda: gateway.ask("POST", "/v1/embeddings", ask).status == 200, gateway)
            assert row("right")["last"]["drift"]["mean"] < 1e-6 and row("wrong")["out"]
        finally:
            gateway.kill()
