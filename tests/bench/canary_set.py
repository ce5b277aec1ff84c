"""Whether the canary set is neither trivial nor impossible: simple rankers and a real model.

    tests/bench/canary_set.py        # a minute; needs MiniLM and vLLM for the CPU

Random orders (the mean of 200), BM25 within each query's documents, and all-MiniLM-L6-v2 by
transformers, an English model: it should do well in English, and by chance in Chinese. Written to
tests/reports/canary-set.json, with each query's nDCG@10.
"""

from __future__ import annotations

import json
import math
import random
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TOP = Path(__file__).parents[2]
sys.path[:0] = [str(TOP / "daemon"), str(TOP / "tests")]

from er.cli.embed_run import Progress  # noqa: E402
from er.cli.quality_reference import computed, opened, question_of  # noqa: E402
from er.config import Model  # noqa: E402
from er.model_files import read  # noqa: E402
from er.quality import CanarySet, Query, averaged, judge, load  # noqa: E402
from real_vllm import ENVIRONMENT, MODELS  # noqa: E402

REPORT = TOP / "tests/reports/canary-set.json"
ORDERS = 200
K1, B = 1.2, 0.75  # BM25's usual constants
Scores = list[list[float]]


def terms(text: str) -> list[str]:
    """Words of Latin letters and digits; of Chinese every two characters that stand together."""
    found = re.findall(r"[a-z0-9]+", text.lower())
    for run in re.findall(r"[\u4e00-\u9fff]+", text):
        found += [run[i : i + 2] for i in range(len(run) - 1)] or [run]
    return found


def bm25(queries: Sequence[Query], language: str) -> dict[str, list[float]]:
    """Robertson and Zaragoza, 2009; document frequencies over all documents of the language."""
    mine = [query for query in queries if query.language == language]
    corpus = [terms(d.text) for query in mine for d in query.documents]
    mean = sum(map(len, corpus)) / len(corpus)

    def weight(term: str) -> float:
        having = sum(term in words for words in corpus)
        return math.log(1 + (len(corpus) - having + 0.5) / (having + 0.5))

    found = {}
    for query in mine:
        weights = {term: weight(term) for term in set(terms(query.query))}
        row = []
        for document in query.documents:
            words = terms(document.text)
            size = K1 * (1 - B + B * len(words) / mean)
            counts = {term: words.count(term) for term in weights}
            row.append(
                sum(w * counts[t] * (K1 + 1) / (counts[t] + size) for t, w in weights.items())
            )
        found[query.id] = row
    return found


def minilm(canary: CanarySet) -> Scores:
    """Cosines of the real model, by what er quality reference runs."""
    folder = MODELS / "minilm"
    question = question_of(Model(name="minilm", task="embed", path=folder), read(folder))
    asked = [{"query": q.query, "documents": [d.text for d in q.documents]} for q in canary.queries]
    with opened(folder) as seen:
        more = {"folder": str(seen), "queries": asked, "threads": 1}
        python = ENVIRONMENT / "bin" / "python"
        answer = computed(python, question | more, seen, Progress(sys.stderr))
    return [list(row) for row in answer["scores"]]


def figures(canary: CanarySet, scores: Scores) -> dict[str, Any]:
    """The means by language, rounded to what 20 queries are worth."""
    judged = judge(canary.queries, scores)
    found: dict[str, Any] = {}
    for language in canary.languages:
        of = [one for one, q in zip(judged, canary.queries, strict=True) if q.language == language]
        found[language] = {k: round(v, 3) for k, v in averaged(of)._asdict().items()}
    return found


def by_chance(canary: CanarySet) -> dict[str, Any]:
    """The mean of many random orders."""
    drawn = random.Random(20261126)
    rows = []
    for _ in range(ORDERS):
        scores = [[drawn.random() for _ in query.documents] for query in canary.queries]
        rows.append(figures(canary, scores))
    return {
        language: {
            k: round(sum(r[language][k] for r in rows) / ORDERS, 3) for k in rows[0][language]
        }
        for language in canary.languages
    }


def main() -> None:
    """Measure, print, write."""
    canary = load()
    words = {
        k: v for language in canary.languages for k, v in bm25(canary.queries, language).items()
    }
    lexical = [words[query.id] for query in canary.queries]
    model = minilm(canary)
    per_query = {
        query.id: {"bm25": round(left.ndcg10, 3), "minilm": round(right.ndcg10, 3)}
        for query, left, right in zip(
            canary.queries,
            judge(canary.queries, lexical),
            judge(canary.queries, model),
            strict=True,
        )
    }
    report = {
        "set": {"sha256": canary.sha256, "queries": len(canary.queries), "pairs": canary.pairs},
        "random": by_chance(canary),
        "bm25": figures(canary, lexical),
        "minilm": figures(canary, model),
        "ndcg10_by_query": per_query,
    }
    for name in ("random", "bm25", "minilm"):
        print(name, json.dumps(report[name]))
    REPORT.write_text(json.dumps(report, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
