"""Real vLLM: answers equal transformers in any batch, through the mover and the whole gateway."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import real_vllm
import retrieval
import running
import suite
from collector import Collector, attributes
from console_live import beside, text
from console_live import until as console_until
from er.config import Config, Gateway, Model, Replica
from er.job import Refusal
from er.ledger import Ledger
from er.replicas import Replicas
from er.replicas.pools import Result
from real_vllm import MODELS
from test_admin import Api

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(420)]


def model_of(task: str) -> Path:
    return MODELS / ("tiny-embed" if task == "embed" else "tiny-rerank")


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as found:
        yield found


@pytest.fixture(scope="module", params=["embed", "score"])
def vllm(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, collector: Collector
) -> Iterator[tuple[str, str]]:
    """(task, address) of a real vLLM with the tiny model and ER's path inside."""
    task, folder = str(request.param), tmp_path_factory.mktemp("engine")
    traces = ["--otlp-traces-endpoint", f"{collector.endpoint}/v1/traces"]
    with real_vllm.serving(folder, model_of(task), task, more=traces) as address:
        yield task, address


async def run(replicas: Replicas, task: Any, sequences: list[list[int]]) -> Result:
    deadline = time.monotonic_ns() + 120 * 10**9
    return await replicas.run("m", task, sequences, deadline=deadline, request_id="t")


async def test_merged_answers_are_right_and_faults_are_known(
    vllm: tuple[str, str], tmp_path: Path
) -> None:
    task, address = vllm
    reference = json.loads((MODELS / "reference.json").read_text())
    cases = reference["embeddings" if task == "embed" else "scores"]
    ids = [case["ids"] for case in cases]
    right = np.array([case["embedding" if task == "embed" else "score"] for case in cases])
    model = Model(name="m", task=task, path=Path("/none"), batch_tokens=4096)  # type: ignore[arg-type]
    replica = Replica(name="r0", model="m", url=address)
    config = Config(gateway=Gateway(), models=(model,), replicas=(replica,), source=Path("x"))
    ledger = Ledger.open(tmp_path / "ledger", ["r0"])
    ledger.claim(0)
    replicas = Replicas(config, {"m": right.shape[-1]}, ledger)

    together = await run(replicas, task, ids)
    assert np.abs(together.values - right).max() < 1e-5
    singles = [run(replicas, task, [one]) for one in ids * 5]
    for result, value in zip(await asyncio.gather(*singles), list(right) * 5, strict=True):
        assert np.abs(result.values[0] - value).max() < 1e-5

    # vLLM refuses a whole batch for one bad sequence; here its neighbours are answered
    bad = asyncio.create_task(run(replicas, task, [[200_000]]))
    good = [asyncio.create_task(run(replicas, task, [one])) for one in ids]
    with pytest.raises(Refusal) as caught:
        await bad
    assert caught.value.status == 400 and "out of vocabulary" in caught.value.message
    for result, value in zip(await asyncio.gather(*good), right, strict=True):
        assert np.abs(result.values[0] - value).max() < 1e-5
    # none of it came from /pooling, which is only asked after a 404
    assert replicas.movers["m"].members["r0"].upstream.inside
    await replicas.close()
    ledger.close()


def test_the_reference_suite(vllm: tuple[str, str], tmp_path: Path) -> None:
    """Every row through the gateway, by itself and in random company; texts never command."""
    task, address = vllm
    reference = json.loads((MODELS / "reference.json").read_text())
    rows = reference["embeddings" if task == "embed" else "scores"]
    limits = sorted({row["max_tokens"] for row in rows})
    # an empty text to embed is refused; its ids and vector: test_prompts, and the test above
    asked = [row for row in rows if row.get("text") != ""]
    with suite.serving(tmp_path, task, model_of(task), limits, address) as gateway:
        lone = (
            b'{"model": "m4096", "input": "\\ud83d", "query": "\\ud83d", "documents": ["\\ude42"]}'
        )
        path = suite.request(asked[:1])[0]
        reply = gateway.ask("POST", path, lone)
        assert reply.status == 400, reply.body
        if task == "embed":
            refused = gateway.ask("POST", path, {"model": "m4096", "input": ""})
            assert refused.status == 400 and "empty" in refused.message
            prompted = next(row for row in rows if row["name"] == "a prompt already")
            body = {"model": "m4096", "input": prompted["text"], "input_type": "query"}
            (item,) = gateway.ask("POST", path, body).json["data"]
            assert suite.distance(prompted, item["embedding"]) < suite.CLOSE
        figures = {"rows": len(asked), "alone": suite.alone(gateway, asked)}
        figures["in company"] = suite.together(gateway, asked, rounds=20)
    commanded = [row for row in asked if "commanded" in row]
    assert len(commanded) >= 6
    for row in commanded:
        # the plain recipe gives another answer: ER's stands at the text's, proven above
        assert row["commanded"]["ids"] != row["ids"]
        value = row["commanded"]["embedding" if task == "embed" else "score"]
        assert suite.distance(row, value) > 100 * suite.CLOSE, row["name"]
    suite.report("reference.json", task, reference["made_with"] | {"vllm": "0.32.0"}, figures)


@pytest.mark.parametrize("vllm", ["embed"], indirect=True)
def test_retrieval_by_the_qwen3_recipe(vllm: tuple[str, str], tmp_path: Path) -> None:
    """mteb through the gateway against sentence-transformers: queries with their instruction."""
    model = retrieval.with_queries(model_of("embed"), tmp_path)
    found = retrieval.evaluate(model, vllm[1], tmp_path)
    retrieval.assert_same(found)
    retrieval.report("tiny Qwen3 model, random weights", found)


@pytest.mark.parametrize("vllm", ["embed"], indirect=True)
def test_one_trace_from_the_client_to_vllm(
    vllm: tuple[str, str], collector: Collector, tmp_path: Path
) -> None:
    """vLLM's own span is a child of the engine's span."""
    gateway = running.Gateway(tmp_path)
    gateway.tracing = {"endpoint": collector.endpoint, "sample": 0.0}
    gateway.models = [{"name": "m", "task": "embed", "path": str(model_of("embed"))}]
    gateway.replicas = [{"name": "r0", "model": "m", "url": vllm[1]}]

    def parents() -> dict[str, str]:
        """The names of this trace's spans, each with that of the one above it."""
        own = [span for span in collector.spans() if span.trace_id == trace]
        names = {span.span_id: span.name for span in own}
        return {span.name: names.get(span.parent_span_id, "client") for span in own}

    try:
        gateway.start()
        trace, sent = bytes(range(1, 17)), {"x-request-id": "mine"}
        sent["traceparent"] = f"00-{trace.hex()}-{'ab' * 8}-01"
        body = {"model": "m", "input": ["hello", "world"]}
        assert gateway.ask("POST", "/v1/embeddings", body, headers=sent).status == 200
        until(lambda: "llm_request" in parents() and "engine" in parents(), gateway)
        found = parents()
        assert found["llm_request"] == "engine" and found["engine"] == "POST /v1/embeddings"
        assert found["POST /v1/embeddings"] == "client"
        assert "mine" in [attributes(s).get("er.request_id") for s in collector.spans()]
    finally:
        gateway.kill()


# -- the canary ---------------------------------------------------------------------------------


def until(true: Callable[[], Any], gateway: running.Gateway, seconds: float = 90.0) -> Any:
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, gateway.text()[-3000:]
        time.sleep(0.2)
    return found


async def in_the_console(gateway: running.Gateway, *said: str) -> None:
    """Its Quality page comes to say all of that, and the first page why something is out."""
    async with beside(gateway.runtime) as (app, pilot):
        await pilot.press("8")
        await console_until(pilot, lambda: all(one in text(app) for one in said))
        await pilot.press("1")
        await console_until(pilot, lambda: "answers drifted" in text(app))


@pytest.mark.parametrize("vllm", ["embed"], indirect=True)
@pytest.mark.timeout(1200)
def test_the_canary_finds_a_wrong_dtype_and_a_wrong_template(
    vllm: tuple[str, str], tmp_path: Path
) -> None:
    """One replica in float32 records the reference; one in bfloat16 beside it is out by itself.

    Then er.toml has another prompt, which a restart of the gateway takes up: both are out, and
    clients get 503. With the right one again the first comes back, and the other stays out.
    """
    gateway = running.Gateway(tmp_path)
    gateway.quality = {"every": "1h"}
    api = Api(gateway.runtime / "admin.sock")
    model = {"name": "m", "task": "embed", "path": str(model_of("embed"))}
    ask = {"model": "m", "input": "hello"}

    def row(name: str) -> Any:
        found = api("GET", "/quality")[1]["replicas"]
        return next(each for each in found if each["name"] == name)

    (tmp_path / "engine").mkdir()
    wrong = ["--dtype", "bfloat16"]
    with real_vllm.serving(tmp_path / "engine", model_of("embed"), "embed", more=wrong) as wrong_at:
        try:
            gateway.models = [model]
            gateway.replicas = [{"name": "right", "model": "m", "url": vllm[1]}]
            gateway.start()
            until(lambda: row("right")["last"], gateway, 300.0)
            assert not row("right")["out"] and gateway.mishaps() == []
            gateway.replicas.append({"name": "wrong", "model": "m", "url": wrong_at})
            gateway.write_config()
            assert api("POST", "/reload")[0] == 200
            until(lambda: "wrong" in str(api("GET", "/quality")[1]), gateway, 300.0)
            until(lambda: row("wrong")["out"], gateway, 300.0)
            drift = row("wrong")["last"]["drift"]
            assert 1e-3 < drift["mean"] < 1e-2 and drift["tolerance"] == 1e-4
            assert "answers drifted: mean 0.0" in row("wrong")["reason"]
            assert not row("right")["out"]
            asyncio.run(in_the_console(gateway, "drifted", "good", "wrong", f"{drift['mean']:.4f}"))
            assert gateway.ask("POST", "/v1/embeddings", ask).status == 200
            gateway.stop()

            model["prompt"] = "plain"
            gateway.start()
            until(lambda: row("right")["out"], gateway, 300.0)
            assert row("right")["last"]["drift"]["mean"] > 0.05
            assert "since then: another prompt" in row("right")["reason"]
            assert "answers drifted" in api("GET", "/status")[1]["reason"]
            asyncio.run(in_the_console(gateway, "drifted", "another prompt"))
            assert gateway.ask("POST", "/v1/embeddings", ask).status == 503
            gateway.stop()

            del model["prompt"]
            gateway.start()
            until(lambda: not row("right")["out"], gateway, 300.0)
            until(lambda: gateway.ask("POST", "/v1/embeddings", ask).status == 200, gateway, 300.0)
            assert row("right")["last"]["drift"]["mean"] < 1e-6 and row("wrong")["out"]
        finally:
            gateway.kill()
