#!/usr/bin/env python3
"""Writes the right answers of the tiny models, by the official recipes in transformers, float32.

    reference.py EMBED_MODEL RERANK_MODEL OUT.json

OUT.json is {"made_with": {...}, "embeddings": [...], "scores": [...]}.
An embedding: {"name", "text", "instruction", "max_tokens", "cut", "ids", "embedding"}; instruction
null is a document, taken as it is. A score: {"name", "query", "document", "instruction",
"max_tokens", "cut", "ids", "score"}; instruction null is the default one. "ids" is the whole
sequence that the model saw, "cut" says whether it is shorter than the text.

One sequence at a time, without padding, so that nothing but the sequence decides the answer. What
ER merges and vLLM batches must give the same numbers. Nothing of ER is imported here.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

PREFIX = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and "
    'the Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n'
    "<|im_start|>user\n"
)
SUFFIX = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
DEFAULT = "Given a web search query, retrieve relevant passages that answer the query"
LIMIT = 4096

LONG = " ".join(f"Paragraph {i}: the quick brown fox reads page {i * 7}." for i in range(90))
LONG_ZH = "".join(f"第{i}段：系统把每个向量后端和网关都交给守护进程管理。" for i in range(60))

# name, text, instruction, limit in tokens
TEXTS: list[tuple[str, str, str | None, int]] = [
    ("plain", "The capital of China is Beijing.", None, LIMIT),
    ("one word", "gravity", None, LIMIT),
    ("one letter", "a", None, LIMIT),
    ("chinese", "中国的首都是北京。", None, LIMIT),
    ("mixed", "向量 embedding と재순위, naïve café Ω≈ç√ 🙂👩‍👩‍👧", None, LIMIT),
    ("lines and spaces", "  two  spaces,\ttab\nnew line\r\n\n  end  ", None, LIMIT),
    ("code", 'def f(x):\n    return {"a": [1, 2.5e-3]}  # ok', None, LIMIT),
    ("query", "What is the capital of China?", DEFAULT, LIMIT),
    ("query, own task", "重置密码", "根据用户的问题，检索能回答它的帮助文章", LIMIT),
    ("long", LONG, None, LIMIT),
    ("long chinese", LONG_ZH, None, LIMIT),
    ("cut", LONG, None, 128),
    ("cut chinese", LONG_ZH, None, 100),
    ("cut query", LONG, DEFAULT, 64),
]

# name, query, document, instruction, limit in tokens
PAIRS: list[tuple[str, str, str, str | None, int]] = [
    ("fits", "What is the capital of China?", "The capital of China is Beijing.", None, LIMIT),
    ("does not", "What is the capital of China?", "Gravity attracts two bodies.", None, LIMIT),
    ("one letter", "a", "b", None, LIMIT),
    ("chinese", "中国的首都是哪里？", "中国的首都是北京。", None, LIMIT),
    ("mixed", "where is the café? 🙂", "naïve Ω≈ç√ 재순위 と 向量", None, LIMIT),
    ("lines", "two\nlines", "  - item\n\n\t<Document>: not a control token\n", None, LIMIT),
    ("own task", "reset password", "Click on 'forgot'.", "Find the help page", LIMIT),
    ("own task chinese", "重置密码", "点击“忘记密码”。", "根据问题检索帮助文章", LIMIT),
    ("long", "Who reads page 7?", LONG, None, LIMIT),
    ("long chinese", "谁管理网关？", LONG_ZH, None, LIMIT),
    ("cut", "Who reads page 7?", LONG, None, 256),
    ("cut chinese", "谁管理网关？", LONG_ZH, "检索", 200),
]


def embeddings(folder: str) -> list[dict[str, Any]]:
    """The last token's state, normalised; a text over the limit still ends in the end token."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    found = []
    for name, text, instruction, limit in TEXTS:
        prompt = text if instruction is None else f"Instruct: {instruction}\nQuery:{text}"
        whole = tokenizer(prompt)["input_ids"]
        ids = tokenizer(prompt, truncation=True, max_length=limit)["input_ids"]
        assert ids[-1] == 151643, "the tokenizer must end every text with <|endoftext|>"
        with torch.no_grad():
            state = model(input_ids=torch.tensor([ids])).last_hidden_state[0, -1]
        vector = torch.nn.functional.normalize(state, dim=0).tolist()
        found.append(
            {"name": name, "text": text, "instruction": instruction, "max_tokens": limit}
            | {"cut": len(ids) < len(whole), "ids": ids, "embedding": vector}
        )
    return found


def scores(folder: str) -> list[dict[str, Any]]:
    """P(yes) of the two words yes and no; the body of the prompt is cut, never what is round it."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    before = tokenizer.encode(PREFIX, add_special_tokens=False)
    after = tokenizer.encode(SUFFIX, add_special_tokens=False)
    words = [tokenizer.convert_tokens_to_ids(word) for word in ("no", "yes")]
    found = []
    for name, query, document, instruction, limit in PAIRS:
        task = DEFAULT if instruction is None else instruction
        body = f"<Instruct>: {task}\n<Query>: {query}\n<Document>: {document}"
        whole = tokenizer.encode(body, add_special_tokens=False)
        kept = whole[: limit - len(before) - len(after)]
        ids = before + kept + after
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids])).logits[0, -1, words]
        score = torch.nn.functional.softmax(logits, dim=0)[1].item()
        found.append(
            {"name": name, "query": query, "document": document, "instruction": instruction}
            | {"max_tokens": limit, "cut": len(kept) < len(whole), "ids": ids, "score": score}
        )
    return found


def main() -> None:
    """The command line."""
    embed, rerank, out = sys.argv[1:]
    torch.set_num_threads(1)
    answers = {
        "made_with": {"torch": torch.__version__, "transformers": transformers.__version__},
        "embeddings": embeddings(embed),
        "scores": scores(rerank),
    }
    Path(out).write_text(json.dumps(answers, ensure_ascii=False, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
