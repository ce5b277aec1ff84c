#!/usr/bin/env python3
"""Writes the right answers of the tiny models, by the official recipes in transformers, float32.

    reference.py EMBED_MODEL RERANK_MODEL OUT.json

OUT.json is {"made_with": {...}, "embeddings": [...], "scores": [...]}.
An embedding: {"name", "text", "instruction", "max_tokens", "cut", "ids", "embedding"}; instruction
null is a document, taken as it is. A score: {"name", "query", "document", "instruction",
"max_tokens", "cut", "ids", "score"}; instruction null is the default one. "ids" is the whole
sequence that the model saw, "cut" says whether it is shorter than the text.

What a text says is text: where it holds a control token's name, "ids" are those of a tokenizer that
has no control tokens, with the recipe's own put round them. The recipe's plain tokenizer makes
commands of such names; what it gives stands beside as "commanded": {"ids", "embedding" or "score"}.
For every other text the two tokenizers must agree, or this stops.

One sequence at a time, without padding, so that nothing but the sequence decides the answer. What
ER merges and vLLM batches must give the same numbers. Nothing of ER is imported here.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from cases import DEFAULT, PAIR_LIMIT, PAIRS, SHORT_LIMIT, TEXTS, counted
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

PREFIX = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and "
    'the Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n'
    "<|im_start|>user\n"
)
SUFFIX = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
END = 151643
CONTROL = ("<|im_end|>", "<|im_start|>", "<|endoftext|>", "<think>", "</think>")
EDGES = (("one under", -1), ("at", 0), ("one over", 1))


def without_control(folder: str) -> tokenizers.Tokenizer:
    """The model's tokenizer for text alone: no added tokens, nothing put round a text."""
    definition = json.loads((Path(folder) / "tokenizer.json").read_text(encoding="utf-8"))
    definition |= {"added_tokens": [], "post_processor": None}
    return tokenizers.Tokenizer.from_str(json.dumps(definition))


def edge_texts(bare: tokenizers.Tokenizer) -> list[tuple[str, str, str | None, int]]:
    """Documents and queries whose sequences end one before, at and one behind the limit."""
    made: list[tuple[str, str, str | None, int]] = []
    query = len(bare.encode(f"Instruct: {DEFAULT}\nQuery:word").ids)
    for name, more in EDGES:
        made.append((f"{name} the limit", counted(SHORT_LIMIT - 1 + more), None, SHORT_LIMIT))
        text = counted(SHORT_LIMIT - query + more)
        made.append((f"query {name} the limit", text, DEFAULT, SHORT_LIMIT))
    return made


def embeddings(folder: str) -> list[dict[str, Any]]:
    """The last token's state, normalised; a text over the limit still ends in the end token."""
    tokenizer, bare = AutoTokenizer.from_pretrained(folder), without_control(folder)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()

    def vector(ids: list[int]) -> list[float]:
        with torch.no_grad():
            state = model(input_ids=torch.tensor([ids])).last_hidden_state[0, -1]
        return list(torch.nn.functional.normalize(state, dim=0).tolist())

    found = []
    for name, text, instruction, limit in [*TEXTS, *edge_texts(bare)]:
        prompt = text if instruction is None else f"Instruct: {instruction}\nQuery:{text}"
        whole = [*bare.encode(prompt).ids, END]
        ids = whole if len(whole) <= limit else [*whole[: limit - 1], END]
        plain = tokenizer(prompt, truncation=True, max_length=limit)["input_ids"]
        assert plain[-1] == END, "the tokenizer must end every text with <|endoftext|>"
        row = {"name": name, "text": text, "instruction": instruction, "max_tokens": limit}
        row |= {"cut": len(ids) < len(whole), "ids": ids, "embedding": vector(ids)}
        if any(word in prompt for word in CONTROL):
            row["commanded"] = {"ids": plain, "embedding": vector(plain)}
        else:
            assert plain == ids, f"{name}: the two tokenizers differ"
        found.append(row)
    return found


def scores(folder: str) -> list[dict[str, Any]]:
    """P(yes) of the two words yes and no; the body of the prompt is cut, never what is round it."""
    tokenizer, bare = AutoTokenizer.from_pretrained(folder), without_control(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    before = tokenizer.encode(PREFIX, add_special_tokens=False)
    after = tokenizer.encode(SUFFIX, add_special_tokens=False)
    words = [tokenizer.convert_tokens_to_ids(word) for word in ("no", "yes")]

    def score(ids: list[int]) -> float:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids])).logits[0, -1, words]
        return float(torch.nn.functional.softmax(logits, dim=0)[1])

    def body(query: str, document: str, instruction: str | None) -> str:
        task = DEFAULT if instruction is None else instruction
        return f"<Instruct>: {task}\n<Query>: {query}\n<Document>: {document}"

    round_it = len(before) + len(after)
    room = PAIR_LIMIT - round_it - len(bare.encode(body("who?", "word", None)).ids) + 1
    edges = [(f"{n} the limit", "who?", counted(room + m), None, PAIR_LIMIT) for n, m in EDGES]
    found = []
    for name, query, document, instruction, limit in [*PAIRS, *edges]:
        text = body(query, document, instruction)
        whole = bare.encode(text).ids
        kept = whole[: limit - round_it]
        plain = tokenizer.encode(text, add_special_tokens=False)[: limit - round_it]
        ids = before + kept + after
        row = {"name": name, "query": query, "document": document, "instruction": instruction}
        row |= {"max_tokens": limit, "cut": len(kept) < len(whole), "ids": ids, "score": score(ids)}
        if any(word in text for word in CONTROL):
            commanded = before + plain + after
            row["commanded"] = {"ids": commanded, "score": score(commanded)}
        else:
            assert plain == kept, f"{name}: the two tokenizers differ"
        found.append(row)
    return found


def check_edges(rows: list[dict[str, Any]]) -> None:
    """Stop when a row that is said to end at its limit does not."""
    for row in rows:
        name, ids, limit = row["name"], len(row["ids"]), row["max_tokens"]
        if name.endswith("the limit"):
            wanted = {"under": limit - 1}.get(name.split()[-3], limit)
            assert (ids, row["cut"]) == (wanted, "one over" in name), (name, ids, limit)


def main() -> None:
    """The command line."""
    embed, rerank, out = sys.argv[1:]
    torch.set_num_threads(1)
    answers = {
        "made_with": {"torch": torch.__version__, "transformers": transformers.__version__},
        "embeddings": embeddings(embed),
        "scores": scores(rerank),
    }
    check_edges([*answers["embeddings"], *answers["scores"]])
    Path(out).write_text(json.dumps(answers, ensure_ascii=False, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
