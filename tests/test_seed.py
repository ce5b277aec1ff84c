"""What the operator asked for first stands in er.toml, in the defaults and in the units."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from er import config, keys
from er.quantities import Rate
from fakes import EngineProcess
from running import DIMENSIONS, Gateway, model_folder

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


# -- the shipped file at work --------------------------------------------------------------------


class Shipped(Gateway):
    """er-gateway on etc/er.toml itself; only addresses, folders and replicas are this test's."""

    def write_config(self) -> None:
        text = (TOP / "etc/er.toml").read_text(encoding="utf-8")
        text = text.replace("0.0.0.0:2048", f"127.0.0.1:{self.port}")
        text = text.replace('# metrics = "127.0.0.1:9464"', 'metrics = ""')
        model = str(model_folder(self.folder / "model"))
        text = re.sub(r'^path = ".*"', f'path = "{model}"', text, flags=re.MULTILINE)
        text = re.sub(r"^(gpu|gpu_memory_utilization) = .*\n?", "", text, flags=re.MULTILINE)
        for port, engine in zip((8000, 8001), self.engines, strict=True):
            text = re.sub(rf"^port = {port}.*", f'url = "{engine.address}"', text, flags=re.M)
        self.config.write_text(text, encoding="utf-8")


@pytest.fixture
def shipped(tmp_path: Path) -> Iterator[Shipped]:
    one = EngineProcess(dim=DIMENSIONS, name="Qwen3-Embedding-0.6B")
    two = EngineProcess(task="classify", name="Qwen3-Reranker-0.6B")
    with one, two:
        running = Shipped(tmp_path, [one, two])
        try:
            running.start()
            running.wait_for("replica embedding answers right")
            yield running
        finally:
            running.kill()


def test_the_first_key_is_made_by_itself_and_shown_once(shipped: Shipped) -> None:
    """In er_api_keys.json, as a hash; a second start makes and shows none."""
    (secret,) = shipped.secrets()
    file = shipped.state / "er_api_keys.json"
    assert file.stat().st_mode & 0o777 == 0o640
    assert secret not in file.read_text()
    before = file.read_bytes()
    assert shipped.stop() == 0
    shipped.start()
    assert shipped.secrets() == [secret]
    assert file.read_bytes() == before
    assert shipped.ask("GET", "/v1/models", key=secret).status == 200


def test_both_ways_of_authentication_and_a_hundred_a_minute(shipped: Shipped) -> None:
    """Header and query are one key: together they pass a hundred times, then it is 429."""
    body = {"model": "Qwen3-Embedding-0.6B", "input": "hello"}
    link = shipped.connection()
    in_query = f"/v1/embeddings?api_key={shipped.key}"
    for _ in range(50):
        assert shipped.ask("POST", "/v1/embeddings", body, connection=link).status == 200
        assert shipped.ask("POST", in_query, body, key=None, connection=link).status == 200
    refused = [
        shipped.ask("POST", "/v1/embeddings", body, connection=link),
        shipped.ask("POST", in_query, body, key=None, connection=link),
    ]
    link.close()
    assert [(r.status, r.code) for r in refused] == [(429, "rate_limit_exceeded")] * 2
    assert refused[0].headers["x-ratelimit-limit-requests"] == "100"
    assert 0 < int(refused[0].headers["retry-after"]) <= 60


def test_the_status_tells_the_shipped_figures(shipped: Shipped) -> None:
    command = [sys.executable, "-m", "er.cli", "status", "--json"]
    environment = shipped.environment() | {"CACHE_DIRECTORY": str(shipped.folder)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    told = json.loads(done.stdout)
    assert told["gateway"]["max_concurrency"] == 500
    assert [r["name"] for m in told["models"] for r in m["replicas"]] == ["embedding", "reranker"]
