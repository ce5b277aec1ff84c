"""Which recipe a model's files ask for, whether it can be cooked here, and how to tell people."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from er.job import Refusal, Task
from er.model_files import CLASSIFIER, ModelFiles, ModelFilesError, Pooling, PromptKind

if TYPE_CHECKING:
    from er.prompts import Prompter

# Proven equal to transformers, tests/reports/families.json. Others may be right in vLLM; for pairs
# nobody would see if they were not.
PAIR_ARCHITECTURES = (
    "BertForSequenceClassification",
    "RobertaForSequenceClassification",
    "XLMRobertaForSequenceClassification",
)
EMBED_ARCHITECTURES = ("BertModel", "RobertaModel", "XLMRobertaModel")
POOLED: dict[Pooling, str] = {
    "CLS": "the first token",
    "MEAN": "all tokens' mean",
    "LAST": "the last token",
}


def pooling(files: ModelFiles) -> Pooling:
    """How the model's vectors are made; "" where neither files nor family say."""
    causal = files.prompt == "qwen3" or files.architecture.endswith("ForCausalLM")
    return files.pooling or ("LAST" if causal else "")


def demand(files: ModelFiles, prompt: PromptKind, task: Task, instruction: str | None) -> None:
    """Raises ModelFilesError where the files and er.toml together make no right answers."""
    path, architecture = files.path, files.architecture
    if prompt == "qwen3":
        return
    if task == "score" and architecture not in PAIR_ARCHITECTURES:
        raise ModelFilesError(
            f'{path}: a {architecture} with prompt = "plain" can\'t score here; use a '
            f"Qwen3-Reranker, a cross-encoder ({', '.join(PAIR_ARCHITECTURES)}), or via = an "
            "embedding model, which ranks by the cosine of its vectors"
        )
    if task == "score" and files.labels != 1:
        raise ModelFilesError(
            f"{path}/config.json: a classifier of {files.labels} labels (id2label), which gives no "
            "one score; use a cross-encoder with one"
        )
    if instruction:
        raise ModelFilesError(
            f'{path}: a model with prompt = "plain" takes no instruction; remove instruction '
            "from it in er.toml"
        )
    if task == "embed" and CLASSIFIER in architecture:
        raise ModelFilesError(
            f'{path}: a {architecture} gives scores, no vectors; write task = "score"'
        )
    if task == "embed" and not pooling(files):
        raise ModelFilesError(
            f"{path}: nothing says how its vectors are made of the tokens' states; copy the whole "
            "folder again, with sentence-transformers' modules.json and 1_Pooling"
        )


def no_instruction() -> Refusal:
    """The answer to a client's instruction where the model was trained with none."""
    said = "this model takes no instruction; leave it out"
    return Refusal(400, "invalid_request", said, param="instruction")


def told(files: ModelFiles, prompter: Prompter, prompt: PromptKind, task: Task) -> list[str]:
    """The recipe and its reasons for people: "word  text" lines, the first without a word."""
    official = prompt == "qwen3"
    name = "Qwen3's official prompt" if official else "the tokenizer's own special tokens"
    why = f"config.json says {files.architecture}"
    if prompt != files.prompt:
        why = "er.toml says so"
    lines = [f"{task} with {name}, as {why}"]
    lines += (_scoring if task == "score" else _embedding)(files, prompter, official)
    limit = prompter.max_tokens
    other = "the model's own limit" if limit == files.max_tokens else "by max_tokens in er.toml"
    if limit != files.max_tokens:
        other += f", the model could {files.max_tokens}"
    return [*lines, f"limit      {limit} tokens, special ones included: {other}"]


def _embedding(files: ModelFiles, prompter: Prompter, official: bool) -> list[str]:
    framed = prompter.pieces("x", kind="document", special=True)
    around = ["text" if not piece.special else piece.text for piece in framed]
    query = f"Instruct: {prompter.instruction}\nQuery:" if official else files.query_prefix
    document = "" if official else files.document_prefix
    lines = [
        f"documents  {_shown(document) if document else 'as they are'}",
        f"queries    {_shown(query) if query else 'as they are'}",
        f"tokens     {' '.join(dict.fromkeys(around)) if 'text' in around else ''}",
    ]
    how = POOLED.get(pooling(files), "?")
    source = "1_Pooling says" if files.pooling else "this family does"
    dense = f", then {' and '.join(files.dense)}" if files.dense else ""
    length = "" if files.normalised else " by ER: the files leave their length as it comes"
    lines.append(
        f"vectors    {files.dimensions} numbers of {how}, as {source}{dense}; length 1{length}"
    )
    proven = files.architecture in EMBED_ARCHITECTURES and files.positions == "absolute"
    if not official and not proven:
        lines.append("unproven   ER's tests compare other families with transformers, not this one")
    return lines


def _shown(prefix: str) -> str:
    return json.dumps(prefix, ensure_ascii=False) + " before each"


def _scoring(files: ModelFiles, prompter: Prompter, official: bool) -> list[str]:
    if official:
        return [
            f"pairs      <Instruct>: {prompter.instruction}, <Query>:, <Document>:, in a chat",
            "score      the chance of yes against no as the next token",
        ]
    pairs = prompter.pairs
    assert pairs is not None
    segments = ", segments 0 and 1" if pairs.segments else ""
    return [
        f"pairs      {pairs.shown}{segments}; no instruction; only documents are cut",
        "score      the sigmoid of the model's one number",
    ]
