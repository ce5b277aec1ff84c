"""The reference suite through a real gateway and real vLLM: each row alone, then in any company.

Rows are those of reference.json (tests/lab/reference.py). A row's company is random: requests of
one to eight rows, eight at a time, so that the gateway merges and splits them as it likes.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from running import Gateway

REPORTS = Path(__file__).parent / "reports"
CLOSE = 1e-5
DEFAULT = "Given a web search query, retrieve relevant passages that answer the query"
Row = dict[str, Any]


class Uncached(Gateway):
    """A gateway that computes every answer anew."""

    def write_config(self) -> None:
        super().write_config()
        with self.config.open("a") as file:
            file.write("\n[cache]\nsize = 0\n")


@contextmanager
def serving(folder: Path, task: str, model: Path, limits: Sequence[int], url: str) -> Iterator[Any]:
    """A gateway with the one engine as a model of each limit, named after it."""
    gateway = Uncached(folder)
    gateway.models = [
        {"name": f"m{n}", "task": task, "path": str(model), "max_tokens": n, "batch_tokens": 4096}
        | ({"over_length": "cut"} if task == "embed" else {})
        for n in limits
    ]
    gateway.replicas = [{"name": f"r{n}", "model": f"m{n}", "url": url} for n in limits]
    try:
        gateway.start(wait=False).wait_for("answers at", timeout=120.0)  # engines load beside it
        gateway.key = gateway.secrets()[-1]
        yield gateway
    finally:
        gateway.kill()


def alike(row: Row) -> tuple[Any, ...]:
    """What rows of one request have in common."""
    return (row["max_tokens"], row["instruction"], row.get("query"), row.get("side"))


def request(rows: Sequence[Row]) -> tuple[str, Row]:
    """The path and the body that ask for `rows`, which are alike."""
    limit, task, query, side = alike(rows[0])
    body: Row = {"model": f"m{limit}"}
    if "embedding" in rows[0]:
        body |= {"input": [row["text"] for row in rows]}
        if task == DEFAULT or side == "query":
            return "/v1/embeddings", body | {"input_type": "query"}
        return "/v1/embeddings", body | ({} if task is None else {"instruction": task})
    body |= {"query": query, "documents": [row["document"] for row in rows]}
    return "/v1/rerank", body | ({} if task is None else {"instruction": task})


def answered(gateway: Gateway, rows: Sequence[Row], *, ascii_only: bool = True) -> list[Any]:
    """The rows' vectors or scores. `ascii_only` writes every other character as an escape."""
    path, body = request(rows)
    sent = json.dumps(body, ensure_ascii=ascii_only).encode()
    reply = gateway.ask("POST", path, sent, headers={"content-type": "application/json"})
    assert reply.status == 200, (rows[0]["name"], reply.body[:500])
    if "embedding" in rows[0]:
        return [item["embedding"] for item in reply.json["data"]]
    found = {item["index"]: item["relevance_score"] for item in reply.json["results"]}
    return [found[i] for i in range(len(rows))]


def distance(row: Row, value: Any) -> float:
    """The largest difference between an answer and the reference."""
    right = row["embedding"] if "embedding" in row else row["score"]
    return float(np.abs(np.asarray(value) - np.asarray(right)).max())


def alone(gateway: Gateway, rows: Sequence[Row]) -> float:
    """The largest difference of any row that is asked for by itself."""
    worst = [
        distance(row, answered(gateway, [row], ascii_only=ascii_only)[0])
        for row in rows
        for ascii_only in (True, False)
    ]
    for row, seen in zip([row for row in rows for _ in range(2)], worst, strict=True):
        assert seen < CLOSE, (row["name"], seen)
    return max(worst)


def batches(rows: Sequence[Row], rounds: int, seed: int) -> list[list[Row]]:
    """Requests that together ask for every row `rounds` times, cut and ordered at random."""
    dice = random.Random(seed)
    made: list[list[Row]] = []
    for _ in range(rounds):
        kinds: dict[Any, list[Row]] = {}
        for row in dice.sample(list(rows), len(rows)):
            kinds.setdefault(alike(row), []).append(row)
        for same in kinds.values():
            while same:
                size = dice.randint(1, 8)
                made.append(same[:size])
                same = same[size:]
    dice.shuffle(made)
    return made


def together(gateway: Gateway, rows: Sequence[Row], rounds: int, seed: int = 5) -> float:
    """The largest difference of any row in any of the random batches, eight of them at a time."""

    def asked(batch: list[Row]) -> float:
        values = answered(gateway, batch)
        seen = [distance(row, value) for row, value in zip(batch, values, strict=True)]
        assert max(seen) < CLOSE, [(r["name"], s) for r, s in zip(batch, seen, strict=True)]
        return max(seen)

    with ThreadPoolExecutor(8) as pool:
        return max(pool.map(asked, batches(rows, rounds, seed)))


def report(file: str, name: str, made_with: Row, figures: Row) -> None:
    """Keep the largest differences ever seen in the report, which is rewritten only for more."""
    path = REPORTS / file
    known: Row = json.loads(path.read_text()) if path.exists() else {}
    before = known.get(name, {})
    same = {**known, "made_with": made_with} == known and before.get("rows") == figures["rows"]
    worst = ("alone", "in company")
    if same and all(before[key] >= figures[key] for key in worst):
        return
    if same:
        figures = figures | {key: max(before[key], figures[key]) for key in worst}
    known |= {"made_with": made_with, name: figures}
    path.write_text(json.dumps(known, indent=1) + "\n")
