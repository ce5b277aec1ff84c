"""`er embed --ray --vllm` with real vLLM on the CPU: the vectors of the model's own reference."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ray_cluster import Hosts
from real_vllm import ENVIRONMENT, MODELS
from test_embed import read, write

pytestmark = [pytest.mark.vllm, pytest.mark.long, pytest.mark.timeout(1200)]


def test_vllm_in_the_actors(tmp_path: Path) -> None:
    """Through ER's prompts and its call into the engine; a text that is too long is named."""
    reference = json.loads((MODELS / "reference.json").read_text())
    plain = [c for c in reference["embeddings"] if c["instruction"] is None and not c["cut"]]
    cases = [c for c in plain if c["text"]]
    assert len(cases) >= 3
    given = [{"id": i, "text": case["text"]} for i, case in enumerate(cases)]
    source = write(tmp_path / "in.jsonl", [*given, {"id": -1, "text": "long " * 50_000}])
    (site,) = (ENVIRONMENT / "lib").glob("python3*/site-packages")
    hosts = Hosts(1, path=[str(site)])
    try:
        words = [source, "-o", tmp_path / "out.parquet", "--vllm", MODELS / "tiny-embed"]
        words += ["--gpus", "0", "--bad", "skip", "--document"]
        done = hosts.embed({}, *words, timeout_s=1000)
    finally:
        hosts.close()
    assert done.returncode == 0, done
    assert f"line {len(cases) + 1} has " in done.stderr and "1 rows left out" in done.stdout
    (part,) = (tmp_path / "out.parquet").glob("part-*")
    values, found = read(part)
    assert [v["id"] for v in values] == list(range(len(cases)))
    right = np.array([case["embedding"] for case in cases], np.float32)
    assert np.abs(found - right).max() < 1e-5
