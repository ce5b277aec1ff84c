"""The canary's tolerances, against what was measured on GPUs: tests/reports/canary-gpu.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from er.admin.canary_judge import EXACT, FLOORS

REPORT = Path(__file__).with_name("reports") / "canary-gpu.json"
ROWS = [row for card in json.loads(REPORT.read_text()).values() for row in card["engines"]]
WITHIN = ("repeat", "again", "busy", "repeat to again", "from the other card")
PROMPTS = ("instruction", "last token", "prompt plain", "pooling")


def named(row: Any) -> tuple[Any, str, str]:
    """(task, number format, what else is said of it)"""
    task, _, name = row["engine"].partition(": ")
    dtype, _, more = name.partition(", ")
    return task, dtype, more


def test_right_engines_stay_within_half_of_it() -> None:
    """Whatever they recorded as their noise: rerankers with a warm prefix cache find none."""
    seen = 0
    for row in ROWS:
        task, dtype, more = named(row)
        if more not in ("", "started again", "vLLM's own graphs"):
            continue
        for how in (*WITHIN, f"from {dtype}"):
            if how in row:
                seen += 1
                assert row[how]["mean"] <= FLOORS[task][dtype] / 2, (row["engine"], how)
        assert row["from transformers, float32"]["mean"] <= EXACT[task][dtype] / 2, row["engine"]
    assert seen > 80


@pytest.mark.parametrize("what", PROMPTS)
def test_wrong_prompts_and_pooling_are_beyond_it(what: str) -> None:
    rows = [row for row in ROWS if what in row["engine"]]
    assert rows
    for row in rows:
        task, dtype, _ = named(row)
        for tolerances in (FLOORS, EXACT):
            assert row["from bfloat16"]["mean"] > tolerances[task][dtype], row["engine"]
