"""Scores of a set by transformers alone, in float32: run by the Python that has torch, without er.

    python -I by_transformers.py < QUESTION.json

The question: {"folder", "task", "recipe": "qwen3" | "plain", "pooling": "CLS" | "MEAN" | "LAST",
"query_prefix", "document_prefix", "max_tokens", "threads" (0: torch's own number of them),
"queries": [{"query", "documents": [text]}]}.
On standard output lines of JSON: {"done": n, "of": m} as it goes on, at the end {"scores": a list
for each query, "torch": version, "transformers": version}.

The official recipes, as the models' cards give them: Qwen3-Embedding takes the last token's state,
Qwen3-Reranker the chance of yes against no; others by sentence-transformers' files. One sequence at
a time, without padding, so that nothing but the sequence decides. What a text says is text: names
of control tokens in it are no commands. Nothing of ER's own way to a prompt is used here, so that
this finds its mistakes too.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TASK = "Given a web search query, retrieve relevant passages that answer the query"
BEFORE = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and "
    'the Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n'
    "<|im_start|>user\n"
)
BEHIND = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
TELL_EVERY_S = 1.0

Ids = list[int]


class Progress:
    """Tells how far it is, once a second."""

    def __init__(self, of: int) -> None:
        self._done, self._of, self._told = 0, of, 0.0

    def step(self) -> None:
        """One sequence more."""
        self._done += 1
        if time.monotonic() - self._told >= TELL_EVERY_S:
            self._told = time.monotonic()
            print(json.dumps({"done": self._done, "of": self._of}), flush=True)


def definition(folder: str) -> Any:
    """tokenizer.json without cutting and filling up."""
    text = (Path(folder) / "tokenizer.json").read_text(encoding="utf-8")
    return json.loads(text) | {"truncation": None, "padding": None}


def qwen3_words(folder: str) -> tuple[Callable[[str], Ids], Callable[[str], Ids]]:
    """(text to ids that know no control token, the recipe's own pieces to ids)."""
    from tokenizers import Tokenizer

    made = definition(folder) | {"post_processor": None}
    whole = Tokenizer.from_str(json.dumps(made))
    plain = Tokenizer.from_str(json.dumps(made | {"added_tokens": []}))
    return (
        lambda text: list(plain.encode(text).ids),
        lambda text: list(whole.encode(text).ids),
    )


def plain_words(asked: Any, **cut: Any) -> Any:
    """The model's own tokenizer, whose special tokens no text can name; cut at "max_tokens"."""
    from tokenizers import Tokenizer

    made = definition(asked["folder"])
    special = {token["content"] for token in made["added_tokens"] if token["special"]}
    made["added_tokens"] = [token for token in made["added_tokens"] if not token["special"]]
    inner = made["model"]
    if isinstance(inner["vocab"], list):  # whole pieces, special ones among them
        inner["vocab"] = [
            ["\0" + text if text in special and place != inner.get("unk_id") else text, score]
            for place, (text, score) in enumerate(inner["vocab"])
        ]
    words = Tokenizer.from_str(json.dumps(made))
    words.enable_truncation(asked["max_tokens"], **cut)
    return words


def qwen3_embed(asked: Any) -> list[list[float]]:
    """Cosines: each query under its instruction, each document as it is."""
    import torch
    from transformers import AutoModel

    text, piece = qwen3_words(asked["folder"])
    (end,) = piece("<|endoftext|>")
    model = AutoModel.from_pretrained(asked["folder"], dtype=torch.float32).eval()

    def vector(said: str) -> Any:
        ids = [*text(said)[: asked["max_tokens"] - 1], end]
        with torch.inference_mode():
            state = model(input_ids=torch.tensor([ids]), use_cache=False).last_hidden_state[0, -1]
        return torch.nn.functional.normalize(state, dim=0)

    return cosines(asked, vector, f"Instruct: {TASK}\nQuery:", "")


def plain_embed(asked: Any) -> list[list[float]]:
    """Cosines of the states' first one, last one or mean, as 1_Pooling says."""
    import torch
    from transformers import AutoModel

    words = plain_words(asked)
    model = AutoModel.from_pretrained(asked["folder"], dtype=torch.float32).eval()

    def vector(said: str) -> Any:
        with torch.inference_mode():
            states = model(input_ids=torch.tensor([words.encode(said).ids])).last_hidden_state[0]
        pooled = {"CLS": states[0], "LAST": states[-1], "MEAN": states.mean(dim=0)}
        return torch.nn.functional.normalize(pooled[asked["pooling"]], dim=0)

    return cosines(asked, vector, asked["query_prefix"], asked["document_prefix"])


def cosines(
    asked: Any, vector: Callable[[str], Any], query_prefix: str, document_prefix: str
) -> list[list[float]]:
    """Of each query with each of its documents."""
    progress = Progress(sum(1 + len(query["documents"]) for query in asked["queries"]))

    def one(said: str) -> Any:
        found = vector(said).double()
        progress.step()
        return found

    scores = []
    for query in asked["queries"]:
        mine = one(query_prefix + query["query"])
        scores.append([float(mine @ one(document_prefix + text)) for text in query["documents"]])
    return scores


def qwen3_score(asked: Any) -> list[list[float]]:
    """The chance of yes against no; what is too long is cut at the end of the document."""
    import torch
    from transformers import AutoModelForCausalLM

    text, piece = qwen3_words(asked["folder"])
    before, behind = piece(BEFORE), piece(BEHIND)
    (no,), (yes,) = piece("no"), piece("yes")
    room = asked["max_tokens"] - len(before) - len(behind)
    model = AutoModelForCausalLM.from_pretrained(asked["folder"], dtype=torch.float32).eval()

    def score(query: str, document: str) -> float:
        body = text(f"<Instruct>: {TASK}\n<Query>: {query}\n<Document>: {document}")[:room]
        ids = torch.tensor([before + body + behind])
        with torch.inference_mode():
            logits = model(input_ids=ids, use_cache=False, logits_to_keep=1).logits[0, -1]
        return float(torch.softmax(logits[[no, yes]], dim=0)[1])

    return pairs(asked, score)


def plain_score(asked: Any) -> list[list[float]]:
    """A cross-encoder's one number through the sigmoid."""
    import torch
    from transformers import AutoModelForSequenceClassification

    words = plain_words(asked, strategy="only_second")
    kind = AutoModelForSequenceClassification
    model = kind.from_pretrained(asked["folder"], dtype=torch.float32).eval()
    segments = getattr(model.config, "type_vocab_size", 1) > 1

    def score(query: str, document: str) -> float:
        pair = words.encode(query, document)
        given = {"input_ids": torch.tensor([pair.ids])}
        if segments:
            given["token_type_ids"] = torch.tensor([pair.type_ids])
        with torch.inference_mode():
            return float(torch.sigmoid(model(**given).logits[0, 0]))

    return pairs(asked, score)


def pairs(asked: Any, score: Callable[[str, str], float]) -> list[list[float]]:
    """Of each query with each of its documents."""
    progress = Progress(sum(len(query["documents"]) for query in asked["queries"]))

    def one(query: str, document: str) -> float:
        found = score(query, document)
        progress.step()
        return found

    return [[one(q["query"], text) for text in q["documents"]] for q in asked["queries"]]


def main() -> None:
    """The whole of it."""
    os.nice(10)  # the service comes first, and is the last to be ended where memory runs out
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    asked = json.load(sys.stdin)
    import torch
    import transformers

    if asked["threads"]:
        torch.set_num_threads(asked["threads"])
    ways = {
        ("qwen3", "embed"): qwen3_embed,
        ("qwen3", "score"): qwen3_score,
        ("plain", "embed"): plain_embed,
        ("plain", "score"): plain_score,
    }
    scores = ways[asked["recipe"], asked["task"]](asked)
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    print(json.dumps({"scores": scores, **versions}), flush=True)


if __name__ == "__main__":
    main()
