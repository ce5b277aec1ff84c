"""What the operator asked for first stands in er.toml, in the defaults and in the units."""

from __future__ import annotations

from pathlib import Path

import pytest

from er import config, keys
from er.quantities import Rate

TOP = Path(__file__).parent.parent
SHIPPED = config.load(TOP / "etc/er.toml")
BY_NAME = {replica.name: replica for replica in SHIPPED.replicas}
MODELS = Path("/mnt/workspace/model/Qwen")


@pytest.mark.parametrize("gateway", [SHIPPED.gateway, config.Gateway()], ids=["shipped", "default"])
def test_the_gateways_figures(gateway: config.Gateway) -> None:
    assert gateway.listen == ("0.0.0.0:2048",)
    assert gateway.workers == "auto"
    assert gateway.max_concurrency == 500
    assert gateway.rate_limit == Rate(100, 60)
    assert gateway.timeout_s == 600
    assert gateway.first_key_in_log


@pytest.mark.parametrize(
    ("name", "model", "gpu", "port", "share"),
    [
        ("embedding", "Qwen3-Embedding-0.6B", 1, 8000, 0.90),
        ("reranker", "Qwen3-Reranker-0.6B", 0, 8001, 0.97),
    ],
)
def test_the_replicas(name: str, model: str, gpu: int, port: int, share: float) -> None:
    replica = BY_NAME[name]
    assert (replica.model, replica.gpu, replica.port) == (model, (gpu,), port)
    assert replica.gpu_memory_utilization == share
    found = SHIPPED.model(model)
    assert found is not None
    assert found.path == MODELS / model


@pytest.mark.parametrize(("workers", "fits"), [(1, True), (64, True), (0, False), (65, False)])
def test_up_to_64_workers(workers: int, fits: bool) -> None:
    text = (TOP / "etc/er.toml").read_text(encoding="utf-8")
    text = text.replace('workers = "auto"', f"workers = {workers}")
    if fits:
        assert config.parse(text, Path("er.toml")).gateway.workers == workers
    else:
        with pytest.raises(config.ConfigError, match="from 1 to 64"):
            config.parse(text, Path("er.toml"))


def test_the_key_file_has_its_name() -> None:
    assert keys.path().name == "er_api_keys.json"


def test_the_socket_holds_the_shipped_port() -> None:
    unit = (TOP / "units/er-gateway-http.socket").read_text(encoding="utf-8")
    assert "ListenStream=0.0.0.0:2048\n" in unit
