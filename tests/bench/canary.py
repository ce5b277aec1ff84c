"""What the canary's tolerances stand on: noise of real engines, and drift of those that are wrong.

    tests/bench/canary.py [--quick] [MODEL…]    needs vLLM for the CPU (tests/lab/models)

Each model is served by real vLLM on the CPU: in float32, from which the reference comes, then in
float16 and bfloat16, with flipped bits in its weights, with another pooling, and asked with another
prompt. For each: the mean difference of two runs (`noise`), and of the first one from the reference
(`drift`). Written to tests/reports/canary.json.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

TOP = Path(__file__).parents[2]
sys.path[:0] = [str(TOP / "daemon"), str(TOP / "tests")]

from flips import flipped  # noqa: E402

import real_vllm  # noqa: E402
from er import exam as canary_exam  # noqa: E402
from er.admin import canary_judge  # noqa: E402
from er.config import Model  # noqa: E402
from er.exam import Paper, Scores, call  # noqa: E402
from er.quality import CanarySet, load  # noqa: E402
from er.quality.reference import flat  # noqa: E402
from er.upstream import Upstream  # noqa: E402

REPORT = TOP / "tests/reports/canary.json"
MODELS = (("tiny-embed", "embed"), ("tiny-rerank", "score"), ("minilm", "embed"))
LIMIT = 512


def questions(folder: Path, task: Any, canary: CanarySet, prompt: Any = None) -> Paper:
    model = Model(name="m", task=task, path=folder, max_tokens=LIMIT, prompt=prompt)
    return canary_exam.paper(canary_exam.prompter(model), task, canary.queries)


async def asked(address: str, paper: Paper) -> tuple[Scores, Scores]:
    """Two runs, the second in other company."""
    upstream = Upstream(address)

    async def ask(sequences: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        return await call(upstream, paper, sequences, 120.0)

    async def rest(took_s: float) -> None:
        pass

    first = await canary_exam.exam(paper, ask, rest)
    again = await canary_exam.exam(paper, ask, rest, again=True)
    upstream.close()
    return first, again


def row(name: str, figures: tuple[Scores, Scores], reference: Scores, canary: CanarySet) -> Any:
    overall, by_language = canary_judge.figures(canary.queries, figures[0])
    found = {
        "engine": name,
        "ndcg10": round(overall.ndcg10, 4),
        **{f"ndcg10 {k}": round(v.ndcg10, 4) for k, v in by_language.items()},
        "noise": canary_judge.noise(*figures),
        "drift": canary_judge.noise(figures[0], reference),
        "largest": float(np.abs(np.subtract(flat(figures[0]), flat(reference))).max()),
    }
    print(json.dumps(found), flush=True)
    return found


def measured(name: str, task: str, folder: Path, quick: bool) -> list[Any]:
    """All engines of one model."""
    canary, model = load(), real_vllm.MODELS / name
    paper = questions(model, task, canary)
    other = questions(model, task, canary, "plain") if name == "tiny-embed" else None
    rows: list[Any] = []
    reference: Scores = []
    cases: list[tuple[str, Path, list[str]]] = [
        ("float32", model, []),
        ("float16", model, ["--dtype", "float16"]),
        ("bfloat16", model, ["--dtype", "bfloat16"]),
    ]
    if not quick:
        for bits, bit in ((1, 30), (1, 22), (16, 22), (256, 22)):
            what = "exponent" if bit == 30 else "fraction"
            copy = flipped(model, folder / f"{name}-{bits}-{bit}", bits, bit)
            cases.append((f"float32, {bits} bit(s) of the {what} flipped", copy, []))
        if task == "embed":
            pooling = "CLS" if name == "minilm" else "MEAN"
            how = json.dumps({"pooling_type": pooling, "use_activation": True})
            cases.append((f"float32, {pooling} pooling", model, ["--pooler-config", how]))
    for what, path, more in cases:
        place = folder / f"{name}-{len(rows)}"
        place.mkdir()
        with real_vllm.serving(place, path, task, LIMIT, more) as address:
            figures = asyncio.run(asked(address, paper))
            reference = reference or figures[0]
            rows.append(row(what, figures, reference, canary))
            if other is not None and what == "float32":
                figures = asyncio.run(asked(address, other))
                rows.append(row("float32, prompt plain", figures, reference, canary))
    return rows


def main() -> None:
    """Measure all, or the models that are named, and write them into the report."""
    quick, names = "--quick" in sys.argv, [name for name in sys.argv[1:] if name[0] != "-"]
    for name, task in MODELS:
        if names and name not in names:
            continue
        print(name, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            rows = measured(name, task, Path(folder), quick)
        if not quick:
            report = json.loads(REPORT.read_text()) if REPORT.exists() else {}
            report[name] = {"set": load().sha256, "pairs": load().pairs, "engines": rows}
            REPORT.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
