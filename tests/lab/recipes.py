#!/usr/bin/env python3
"""Measures what each usual mistake with Qwen3's recipes does to the numbers, by transformers.

    "$(tests/lab/vllm-env)"/bin/python tests/lab/recipes.py [CACHE [OUT.json]]

CACHE has tiny-embed and tiny-rerank (default: $ER_TEST_CACHE, else /var/cache/er-tests; made by
`tests/lab/models`); OUT.json is tests/reports/recipes.json unless another is named. For vectors a
mistake's figure is the cosine to the right vector, for scores the difference to the right score,
over the pairs and texts of cases.py. The weights are random: the figures tell that an answer is
another one, not how much worse a search with it is. Nothing of ER is imported here.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from cases import DEFAULT, PAIRS, TEXTS
from reference import CONTROL, END, PREFIX, SUFFIX
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

OUT = Path(__file__).resolve().parents[1] / "reports/recipes.json"
HALVES = {"in bfloat16": torch.bfloat16, "in float16": torch.float16}


def plain(*texts: str) -> bool:
    """Not empty, short, no control token's name in it."""
    named = any(word in text for text in texts for word in CONTROL)
    return all(texts) and not named and max(map(len, texts)) < 300


def embedding_rows(folder: str) -> dict[str, dict[str, float]]:
    """Mistake -> least and mean cosine to the right vectors of the queries (documents)."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    models = {
        name: AutoModel.from_pretrained(folder, dtype=dtype).eval()
        for name, dtype in {"": torch.float32, **HALVES}.items()
    }

    def vector(text: str, *, end: bool = True, mean: bool = False, model: str = "") -> torch.Tensor:
        ids = tokenizer.encode(text, add_special_tokens=False) + [END] * end
        with torch.no_grad():
            states = models[model](input_ids=torch.tensor([ids])).last_hidden_state[0].float()
        state = states.mean(0) if mean else states[-1]
        return torch.nn.functional.normalize(state, dim=0)

    queries = [text for _, text, _, _ in TEXTS if plain(text)]
    right = [vector(f"Instruct: {DEFAULT}\nQuery:{text}") for text in queries]
    documents = [vector(text) for text in queries]

    def cosines(want: list[torch.Tensor], make: Callable[[str], torch.Tensor]) -> dict[str, float]:
        found = [float(w @ make(text)) for w, text in zip(want, queries, strict=True)]
        return {"least": round(min(found), 4), "mean": round(sum(found) / len(found), 4)}

    def asked(text: str) -> str:
        return f"Instruct: {DEFAULT}\nQuery:{text}"

    rows = {
        "a query without its instruction": cosines(right, vector),
        "a document under the query's instruction": cosines(documents, lambda t: vector(asked(t))),
        "a blank behind Query:": cosines(
            right, lambda t: vector(f"Instruct: {DEFAULT}\nQuery: {t}")
        ),
        "without the end-of-text token": cosines(right, lambda t: vector(asked(t), end=False)),
        "the mean of all tokens in place of the last": cosines(
            right, lambda t: vector(asked(t), mean=True)
        ),
    }
    for name in HALVES:
        rows[name] = cosines(right, lambda t, name=name: vector(asked(t), model=name))
    lengths = [float(vector_[:32].norm()) for vector_ in right]
    rows["cut to half its numbers and not normalised again: its length"] = {
        "least": round(min(lengths), 4),
        "mean": round(sum(lengths) / len(lengths), 4),
    }
    return rows


def score_rows(folder: str) -> dict[str, dict[str, float]]:
    """Mistake -> largest and mean difference to the right scores."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    models = {
        name: AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
        for name, dtype in {"": torch.float32, **HALVES}.items()
    }
    words = [tokenizer.convert_tokens_to_ids(word) for word in ("no", "yes")]

    def score(text: str, *, alone: bool = False, model: str = "") -> float:
        ids = tokenizer.encode(text, add_special_tokens=False)
        with torch.no_grad():
            logits = models[model](input_ids=torch.tensor([ids])).logits[0, -1, words].float()
        if alone:
            return float(torch.sigmoid(logits[1]))
        return float(torch.nn.functional.softmax(logits, dim=0)[1])

    pairs = [(query, document) for _, query, document, _, _ in PAIRS if plain(query, document)]

    def body(query: str, document: str) -> str:
        return f"<Instruct>: {DEFAULT}\n<Query>: {query}\n<Document>: {document}"

    right = [score(PREFIX + body(*pair) + SUFFIX) for pair in pairs]

    def apart(make: Callable[[str, str], float]) -> dict[str, float]:
        found = [abs(make(*p) - r) for p, r in zip(pairs, right, strict=True)]
        return {"largest": round(max(found), 6), "mean": round(sum(found) / len(found), 6)}

    def prompt(query: str, document: str) -> str:
        return PREFIX + body(query, document) + SUFFIX

    rows = {
        "query and document joined, no template": apart(lambda q, d: score(q + d)),
        "the template without its system message": apart(
            lambda q, d: score("<|im_start|>user\n" + body(q, d) + SUFFIX)
        ),
        "the suffix lost (a document cut through it)": apart(
            lambda q, d: score(PREFIX + body(q, d))
        ),
        "one newline lost at the end": apart(lambda q, d: score(prompt(q, d)[:-1])),
        "the end-of-text token behind the suffix": apart(
            lambda q, d: score(prompt(q, d) + CONTROL[2])
        ),
        "yes alone, without no": apart(lambda q, d: score(prompt(q, d), alone=True)),
    }
    for name in HALVES:
        rows[name] = apart(lambda q, d, name=name: score(prompt(q, d), model=name))
    return rows


def main() -> None:
    """The command line."""
    cache = Path((sys.argv[1:] or [os.environ.get("ER_TEST_CACHE", "/var/cache/er-tests")])[0])
    out = Path(sys.argv[2]) if len(sys.argv) > 2 else OUT
    torch.set_num_threads(1)
    found: dict[str, Any] = {
        "made_with": {"torch": torch.__version__, "transformers": transformers.__version__},
        "weights": "random, hidden size 64",
        "embed": embedding_rows(str(cache / "tiny-embed")),
        "score": score_rows(str(cache / "tiny-rerank")),
    }
    out.write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(out.read_text(encoding="utf-8"), end="")


if __name__ == "__main__":
    main()
