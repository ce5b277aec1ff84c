"""What the canary's tolerances stand on, on a GPU: an engine's noise, and drift of wrong ones.

    python tests/bench/gpu/canary_gpu.py --model DIR [--waves 1234] [--seconds 900] [--out DIR]
        [--beside SCORES] [--report FILE]

DIR: a model folder in the shape of Qwen3-Embedding-0.6B (make_model.py writes one with random
weights). Run it by a Python that has vLLM and what er needs; it serves the model by ER's own
command line (er.engine.command), in waves of engines that start together: each number format, each
again in another process and with vLLM's own graphs in place of whole steps, with flipped bits, with
another pooling; and asks the right ones in wrong ways too. Each is asked for the canary set's
scores four times: `first`; `repeat`, in the same calls; `again`, in other company, as the canary
asks a second time; `busy`, while others send texts of random ids. transformers says in float32 on
the card what is exact.

OUT/scores.json keeps all scores; whom it has is not asked again, so that a rest can follow in a
later call. SCORES: such a file of another card, with which to compare. FILE: the figures by card,
means of absolute differences of scores, as in tests/reports/canary-gpu.json.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import json
import random
import time
from array import array
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import file_digest
from pathlib import Path
from typing import Any

import numpy as np
from canary_engines import SECRET, TASKS, Case, cases, exactly, start
from gpu import Gpu
from numpy.typing import NDArray
from servers import Vllm

from er import exam as canary_exam
from er import model_files
from er.admin import canary_judge
from er.config import Model
from er.exam import Paper, Scores, call
from er.prompts import Prompter
from er.quality import drift, load
from er.quality.reference import flat
from er.upstream import Upstream, UpstreamError

READY_S, LEAST_S, PATIENCE_S = 330.0, 150.0, 120.0
STRANGERS = 4  # calls of others that are always in flight while asked `busy`
AGAIN = ("repeat", "again", "busy")
EXACT, RIGHT = "transformers, float32", "bfloat16"


# -- what is asked ---------------------------------------------------------------------------------


def right(task: Any, folder: Path) -> Paper:
    model = Model(name="m", task=task, path=folder)
    return canary_exam.paper(canary_exam.prompter(model), task, load().queries)


def wrong(task: Any, folder: Path) -> dict[str, Paper]:
    """What a wrong prompt makes of the same questions; Qwen3 can't score by `plain`."""
    files, queries, asked = model_files.read(folder), load().queries, right(task, folder)
    how: dict[str, Any] = {"max_tokens": 8192, "task": task}
    other = Prompter(files, prompt="qwen3", instruction="Find what this is about.", **how)
    cut = tuple(array("I", ids[:-1]) for ids in asked.sequences)
    found = {
        "another instruction": canary_exam.paper(other, task, queries),
        "without its last token": Paper(
            task=task, dimensions=asked.dimensions, sequences=cut, pairs=asked.pairs
        ),
    }
    if task == "embed":
        plain = Prompter(files, prompt="plain", instruction=None, **how)
        found["prompt plain"] = canary_exam.paper(plain, task, queries)
    return found


async def exam(address: str, paper: Paper, again: bool = False, busy: bool = False) -> Scores:
    """All scores; `busy`: in the company of others' texts."""
    upstream, pick = Upstream(address, lambda: SECRET), random.Random(7)

    async def ask(sequences: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        return await call(upstream, paper, sequences, PATIENCE_S)

    async def rest(took_s: float) -> None:
        pass

    async def stranger() -> None:
        while True:
            sizes = [pick.choice((9, 30, 100, 400, 1500)) for _ in range(pick.randint(1, 12))]
            await ask([[pick.randrange(150_000) for _ in range(size)] for size in sizes])

    others = [asyncio.create_task(stranger()) for _ in range(STRANGERS if busy else 0)]
    try:
        return await canary_exam.exam(paper, ask, rest, again=again)
    finally:
        for other in others:
            other.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        upstream.close()


async def examined(case: Case, address: str, folder: Path) -> dict[str, Any]:
    """The scores by how they were asked for; "refused" is why there are none."""
    paper = right(case.task, folder)
    found: dict[str, Any] = {}
    try:
        found["first"] = await exam(address, paper)
        found["repeat"] = await exam(address, paper)
        found["again"] = await exam(address, paper, again=True)
        found["busy"] = await exam(address, paper, busy=True)
        if case.name == RIGHT:
            for name, other in wrong(case.task, folder).items():
                found[name] = await exam(address, other)
    except UpstreamError as error:
        found["refused"] = f"{error.kind}: {error.text}"
    return found


# -- engines ---------------------------------------------------------------------------------------


async def ask_all(there: dict[Case, Vllm], model: Path) -> dict[str, dict[str, Any]]:
    rows = await asyncio.gather(*(examined(c, s.url, model) for c, s in there.items()))
    return {case.known: row for case, row in zip(there, rows, strict=True)}


def wave(chosen: Sequence[Case], model: Path, work: Path, until: float) -> dict[str, Any]:
    """Start them all, ask those that came up."""
    began = time.monotonic()
    servers: dict[Case, Vllm] = {}
    try:
        for place, case in enumerate(chosen):
            servers[case] = start(case, 8200 + place, model, work)
        there, seconds = {}, {}
        for case, server in servers.items():
            left = min(began + READY_S, until) - time.monotonic()
            seconds[case] = server.ready(max(left, 1.0))
            print(f"START {case.known}: {seconds[case]} s", flush=True)
            if seconds[case] is not None:
                there[case] = server
        found = asyncio.run(ask_all(there, model))
        for case in chosen:
            found.setdefault(case.known, {"refused": "did not start"})["start_s"] = seconds[case]
        return found
    finally:
        for server in servers.values():
            server.stop()


# -- figures ---------------------------------------------------------------------------------------


def apart(one: Scores, other: Scores) -> dict[str, float]:
    found = drift(flat(one), flat(other))
    return {"mean": found.mean, "largest": found.largest}


def figures(known: dict[str, Any], beside: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for each engine, and for each wrong question to a right one."""
    rows = []
    for name, found in known.items():
        task = name.partition(":")[0]
        runs: dict[str, Any] = {k: v for k, v in found.items() if isinstance(v, list)}
        row: dict[str, Any] = {"engine": name} | {k: v for k, v in found.items() if k not in runs}
        first = runs.pop("first", None)
        if first is not None:
            row["ndcg10"] = canary_judge.figures(load().queries, first)[0].ndcg10
            row["spread"] = float(np.std(flat(first)))
            again = [how for how in AGAIN if how in runs]
            if len(again) == len(AGAIN):
                row["repeat to again"] = apart(runs["repeat"], runs["again"])
            row |= {how: apart(runs.pop(how), first) for how in again}
            for to in (EXACT, "float32", RIGHT):
                there = known.get(f"{task}: {to}", {}).get("first")
                if there is not None and name != f"{task}: {to}":
                    row[f"from {to}"] = apart(first, there)
            if "first" in beside.get(name, {}):
                row["from the other card"] = apart(first, beside[name]["first"])
        rows.append(row)
        rows += [
            {"engine": f"{name}, {how}", f"from {RIGHT}": apart(scores, first)}
            for how, scores in runs.items()
        ]
    return rows


def report(file: Path, model: Path, rows: list[dict[str, Any]]) -> None:
    """Put the rows there as this card's."""
    with (model / "model.safetensors").open("rb") as data:
        weights = file_digest(data, "blake2b").hexdigest()[:16]
    made = {name: importlib.metadata.version(name) for name in ("vllm", "torch")}
    by_card: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    of = {"weights": weights, "set": load().sha256, "pairs": load().pairs}
    by_card[Gpu().name] = {**made, **of, "engines": rows}
    file.write_text(json.dumps(by_card, indent=1) + "\n")


def main() -> None:
    """Ask whom there is time for, then write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", required=True, type=Path)
    parser.add_argument("--waves", default="1234")
    parser.add_argument("--seconds", type=float, default=900.0)
    parser.add_argument("--out", type=Path, default=Path("gpu-out"))
    parser.add_argument("--work", type=Path, default=Path("/tmp/er-canary"))
    parser.add_argument("--beside", type=Path)
    parser.add_argument("--report", type=Path)
    told = parser.parse_args()
    until = time.monotonic() + told.seconds
    told.out.mkdir(parents=True, exist_ok=True)
    told.work.mkdir(parents=True, exist_ok=True)
    kept = told.out / "scores.json"
    known: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    beside: dict[str, Any] = json.loads(told.beside.read_text()) if told.beside else {}
    with ThreadPoolExecutor() as pool:
        names = {f"{task}: {EXACT}": task for task in TASKS}
        exact = {n: pool.submit(exactly, t, told.model) for n, t in names.items() if n not in known}
        for number in told.waves:
            chosen = [case for case in cases(number) if case.known not in known]
            if not chosen or until - time.monotonic() < LEAST_S:
                print(f"wave {number}: left out, {len(chosen)} to ask", flush=True)
                continue
            known |= wave(chosen, told.model, told.work, until)
            known |= {name: made.result() for name, made in exact.items() if made.done()}
            kept.write_text(json.dumps(known))
    known |= {name: made.result() for name, made in exact.items()}
    kept.write_text(json.dumps(known))
    rows = figures(known, beside)
    report(told.report or told.out / "canary-gpu.json", told.model, rows)
    for row in rows:
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
