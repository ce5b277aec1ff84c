"""What `er check` tells of each model: the recipe its files make, and where that comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

import model_cache
from er import model_files
from er.cli.check_recipe import examined, shown
from er.config import Model
from er.model_files import ModelFiles


def told(task: Any, model: dict[str, Any], **facts: Any) -> str:
    """The lines of minilm's folder, with other facts than its own."""
    files = msgspec.structs.replace(model_files.read(model_cache.folder("minilm")), **facts)
    return lines(files, Model(name="m", task=task, path=files.path, **model))


def lines(files: ModelFiles, model: Model) -> str:
    why, recipe, _ = examined(model, files)
    assert why == "", why
    return "\n".join(shown(model.name, recipe))


def test_an_encoder() -> None:
    assert told("embed", {}).splitlines() == [
        "m: embed with the tokenizer's own special tokens, as config.json says BertModel",
        "    documents  as they are",
        "    queries    as they are",
        "    tokens     [CLS] text [SEP]",
        "    vectors    384 numbers of all tokens' mean, as 1_Pooling says; length 1",
        "    limit      256 tokens, special ones included: the model's own limit",
        "    unsaid     texts of which a client says nothing are documents",
    ]


def test_prefixes_layers_lengths_and_what_er_toml_says() -> None:
    text = told(
        "embed",
        {"max_tokens": 100, "dimensions": 64, "kind": "query", "prompt": "plain"},
        query_prefix="query: ",
        document_prefix="passage: ",
        pooling="CLS",
        normalised=False,
        dense=("2_Dense",),
        architecture="NomicBertModel",
        prompt="qwen3",
    )
    for part in (
        "as er.toml says so",
        'documents  "passage: " before each',
        'queries    "query: " before each',
        "the first token, as 1_Pooling says, then 2_Dense; length 1 by ER: the files leave",
        "limit      100 tokens, special ones included: by max_tokens in er.toml",
        "are queries",
        "answers    64 numbers, unless a request asks for others",
        "unproven",
    ):
        assert part in text, (part, text)


def test_a_cross_encoder() -> None:
    text = told("score", {}, architecture="BertForSequenceClassification", labels=1, segments=2)
    assert "[CLS] query [SEP] document [SEP], segments 0 and 1; no instruction" in text
    assert "the sigmoid of the model's one number" in text


@pytest.mark.parametrize(
    ("task", "parts"),
    [
        ("embed", ('"Instruct: Find it\\nQuery:" before each', "text <|endoftext|>", "last token")),
        ("score", ("<Instruct>: Find it", "the chance of yes against no")),
    ],
)
def test_qwen3(task: Any, parts: tuple[str, ...]) -> None:
    tokenizer = (model_cache.folder("qwen3-tokenizer") / "tokenizer.json").read_bytes()
    files = ModelFiles(
        path=Path("/models/qwen3"),
        architecture="Qwen3ForCausalLM",
        tokenizer=tokenizer,
        max_tokens=40960,
        dimensions=1024,
        vocabulary=151669,
        prompt="qwen3",
        dtype="bfloat16",
    )
    text = lines(files, Model(name="q", task=task, path=files.path, instruction="Find it"))
    assert text.startswith(f"q: {task} with Qwen3's official prompt, as config.json says Qwen3For")
    assert all(part in text for part in parts), text


def test_what_can_not_be_made_is_said_in_place_of_a_recipe() -> None:
    files = model_files.read(model_cache.folder("minilm"))
    why, recipe, _ = examined(Model(name="m", task="score", path=files.path), files)
    assert "can't score here" in why and recipe == [] and shown("m", recipe) == []
