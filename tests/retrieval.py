"""mteb's retrieval task through a gateway and real vLLM, beside the same model in this machine."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
from pathlib import Path
from typing import Any

from er.prompts import INSTRUCTION
from suite import Uncached

LAB = Path(__file__).parent / "lab"
REPORT = Path(__file__).parent / "reports" / "retrieval.json"
CLOSE = 1e-5
WORST = "largest difference of a cosine"
Found = dict[str, Any]


def with_queries(model: Path, folder: Path) -> Path:
    """The model's files, and the one in which Qwen3-Embedding says what stands before a query."""
    made = folder / model.name
    made.mkdir()
    for file in model.iterdir():
        (made / file.name).symlink_to(file)
    prompts = {"query": f"Instruct: {INSTRUCTION}\nQuery:", "document": ""}
    own = made / "config_sentence_transformers.json"
    own.unlink(missing_ok=True)
    own.write_text(json.dumps({"prompts": prompts, "similarity_fn_name": "cosine"}))
    return made


def evaluate(model: Path, url: str, folder: Path) -> Found:
    """What tests/lab/mteb_task.py finds; `url` is the engine that has the model."""
    environment = subprocess.run(
        [LAB / "mteb-env"], check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()
    (folder / "gateway").mkdir()
    gateway = Uncached(folder / "gateway")
    gateway.models = [{"name": "model", "task": "embed", "path": str(model)}]
    gateway.replicas = [{"name": "r", "model": "model", "url": url}]
    try:
        gateway.start()
        out = folder / "found.json"
        command = [f"{environment}/bin/python", str(LAB / "mteb_task.py"), str(model)]
        command += [f"http://127.0.0.1:{gateway.port}/v1", "model", str(out)]
        # a home of its own: mteb looks for its cache there
        env = {**os.environ, "ER_KEY": gateway.key, "HOME": str(folder), "PYTHONPATH": ""}
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
    finally:
        gateway.kill()
    found: Found = json.loads(out.read_text(encoding="utf-8"))
    return found


def order(scores: dict[str, float]) -> list[str]:
    """The documents of one query, best first."""
    return sorted(scores, key=lambda name: -scores[name])


def difference(found: Found) -> float:
    """The largest, over the cosines of all queries with all documents."""
    local, served = found["local"]["scores"], found["served"]["scores"]
    return max(
        abs(local[query][name] - served[query][name]) for query in local for name in local[query]
    )


def assert_same(found: Found) -> None:
    """nDCG@10, and each query's order of all documents."""
    local, served = found["local"], found["served"]
    assert {len(scores) for scores in served["scores"].values()} == {30}
    assert len(served["scores"]) == 10
    assert difference(found) < CLOSE
    for query, scores in local["scores"].items():
        falling = sorted(scores.values(), reverse=True)
        gaps = [a - b for a, b in itertools.pairwise(falling)]
        assert min(gaps) > 2 * CLOSE, query  # else the order would prove nothing
        assert order(served["scores"][query]) == order(scores), query
    assert served["ndcg_at_10"] == local["ndcg_at_10"]


def report(name: str, found: Found) -> None:
    """Keep the figures in the report, and the largest difference that was ever seen with them."""
    known: Found = json.loads(REPORT.read_text()) if REPORT.exists() else {}
    figures = {f"nDCG@10, {side}": found[side]["ndcg_at_10"] for side in ("local", "served")}
    before = known.get(name, {})
    worst = difference(found)
    if known.get("made_with") == found["made_with"] and figures.items() <= before.items():
        worst = max(worst, before[WORST])
    figures[WORST] = worst
    if before != figures or known["made_with"] != found["made_with"]:
        known |= {"made_with": found["made_with"], name: figures}
        REPORT.write_text(json.dumps(known, indent=1) + "\n")
