"""A word for a model's recipe: which ids texts become, and what is made of the tokens' states.

It is made of what a Prompter really does, so a change of a template in ER shows like one of the
model's files. The task sentence of queries is no part of it: clients may send another with each
request, and the documents of a store have none. Where texts of which a client says nothing are
queries, or are ranked, it is.
"""

from __future__ import annotations

from hashlib import blake2b

import orjson

from er.job import Kind, Refusal, Task
from er.model_files import ModelFiles, PromptKind
from er.prompts import Prompter, recipe

# What makes other words of the same recipe needs another FORM in fingerprint/applied.
TEXTS = ("", "Paris", "The capital of China is Beijing.", "中国的首都是北京。", " 7 👍\n<|im_end|>")
SENTENCE = "a task"


def digest(
    files: ModelFiles, prompter: Prompter, *, prompt: PromptKind, task: Task, kind: Kind
) -> str:
    """The word, 8 digits. `files` with its tokenizer's text; `kind` of texts that say nothing."""
    said = [
        prompt,
        recipe.pooling(files),
        files.dense,
        files.configured,
        blake2b(files.tokenizer, digest_size=16).hexdigest(),
        _scored(prompter) if task == "score" else _embedded(prompter, prompt, kind),
    ]
    return blake2b(orjson.dumps(said, option=orjson.OPT_SORT_KEYS), digest_size=4).hexdigest()


def _embedded(prompter: Prompter, prompt: PromptKind, kind: Kind) -> list[list[list[int]]]:
    sentence = SENTENCE if prompt == "qwen3" else None
    ways: list[tuple[Kind, str | None]] = [("document", None), ("query", sentence), (kind, None)]
    return [
        prompter.embed(TEXTS, kind=side, instruction=said, over_length="cut").sequences
        for side, said in ways
    ]


def _scored(prompter: Prompter) -> list[list[int]]:
    try:
        return prompter.score(TEXTS[1], TEXTS, instruction=None).sequences
    except Refusal:  # a limit with hardly any room for texts
        return []
