"""mteb's retrieval task by a model whose ranking means something: the same through ER."""

from __future__ import annotations

from pathlib import Path

import pytest

import real_vllm
import retrieval

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(420)]


def test_minilm_finds_the_same(tmp_path: Path) -> None:
    model = retrieval.with_queries(real_vllm.MODELS / "minilm", tmp_path)
    (tmp_path / "engine").mkdir()
    with real_vllm.serving(tmp_path / "engine", model, "embed", limit=256) as address:
        found = retrieval.evaluate(model, address, tmp_path)
    retrieval.assert_same(found)
    assert found["served"]["ndcg_at_10"] > 0.7
    retrieval.report("all-MiniLM-L6-v2", found)
