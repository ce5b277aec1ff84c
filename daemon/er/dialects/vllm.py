"""vLLM's score and pooling. Its rerank is the one in `rerank`, its embeddings are OpenAI's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec
import orjson

from er import vectors
from er.dialects import numbers
from er.dialects import texts as shared
from er.dialects.json_body import Part, Shape, flag, refuse_field
from er.dialects.models import ModelCard
from er.dialects.openai import TokenId
from er.job import Answer, Job, Refusal

# vLLM's names for what stands on the left of each pair and on the right, older ones behind.
LEFT = ("queries", "text_1", "data_1")
RIGHT = ("documents", "items", "text_2", "data_2")
MODEL = "the name of a model, as text"
VERSION = "0.32.0"  # of vLLM, whose requests are spoken here
LIMIT = "a whole number of at least 1, or -1 for the model's limit"
INSTRUCTION = "a text, the task in a sentence"


def refuse(refusal: Refusal, request_id: str) -> bytes:
    """vLLM's error body, in which `code` is the status."""
    error = {
        "message": refusal.message.encode(errors="replace").decode(),
        "type": refusal.type,
        "param": refusal.param,
        "code": refusal.status,
    }
    return orjson.dumps({"error": error})


def _limit(value: int | None) -> int | None:
    """`truncate_prompt_tokens`: None for the model's own limit."""
    if value is not None and value < 1 and value != -1:
        refuse_field("truncate_prompt_tokens", f"truncate_prompt_tokens must be {LIMIT}")
    return None if value == -1 else value


# -- /score --------------------------------------------------------------------------------------


class Score(msgspec.Struct):
    """The fields that mean something here: one of each side's names, and how."""

    queries: str | list[str] | None = None
    text_1: str | list[str] | None = None
    data_1: str | list[str] | None = None
    documents: str | list[str] | None = None
    items: str | list[str] | None = None
    text_2: str | list[str] | None = None
    data_2: str | list[str] | None = None
    model: str | None = None
    truncate_prompt_tokens: int | None = None
    use_activation: bool | str | None = None
    activation: bool | str | None = None
    instruct: str | None = None
    instruction: str | None = None


SCORE_FIELDS = {
    **dict.fromkeys((*LEFT, *RIGHT), "a text or a list of texts"),
    "model": MODEL,
    "truncate_prompt_tokens": LIMIT,
    "use_activation": "true or false",
    "activation": "true or false",
    "instruct": INSTRUCTION,
    "instruction": INSTRUCTION,
}
SCORE_SHAPE = Shape(
    Score,
    SCORE_FIELDS,
    once=("model",),
    example='{"model": "...", "text_1": "a text", "text_2": ["a text", "another"]}',
)


def read_score(body: bytes) -> Job:
    """The Job in a body of POST /score: one with one, one with many, or pairs. Raises Refusal."""
    request = SCORE_SHAPE.read(body)
    left_name, left = _given(request, LEFT, "text_1")
    right_name, right = _given(request, RIGHT, "text_2")
    for i, text in enumerate(left):
        shared.one(text, left_name if len(left) == 1 else f"{left_name}[{i}]")
    if len(left) > 1 and len(left) != len(right):
        refuse_field(
            left_name,
            f"{left_name} has {len(left)} texts and {right_name} {len(right)}; send one text in "
            f"{left_name}, or as many as in {right_name}",
        )
    active = request.activation if request.use_activation is None else request.use_activation
    pairs = len(left) > 1
    limit = request.truncate_prompt_tokens
    return Job(
        dialect="vllm",
        task="score",
        model=request.model or "",
        query="" if pairs else left[0],
        queries=left if pairs else (),
        texts=right,
        instruction=request.instruct or request.instruction or None,
        over_length=None if limit is None else "cut",
        max_tokens=_limit(limit),
        extra={"raw_scores": active is not None and not flag(active, "use_activation")},
    )


def _given(request: Score, names: tuple[str, ...], common: str) -> tuple[str, tuple[str, ...]]:
    """The name of the field that was sent for a side, and its texts."""
    name = next((name for name in names if getattr(request, name) is not None), None)
    if name is None:
        refuse_field(common, f"{common} is missing; {common} must be {SCORE_FIELDS[common]}")
    value: str | list[str] = getattr(request, name)
    texts = [value] if isinstance(value, str) else value
    return name, shared.some(texts, name)


def write_score(job: Job, answer: Answer) -> bytes:
    """The scores in the order of the request."""
    assert answer.scores is not None
    raw = job.extra["raw_scores"] and not answer.cosine
    scores = vectors.numbers_json(numbers.logits(answer.scores) if raw else answer.scores)
    rows = [
        b'{"index":%d,"object":"score","score":%b}' % (i, score) for i, score in enumerate(scores)
    ]
    return _list(rows, answer)


# -- /pooling ------------------------------------------------------------------------------------


class Pooling(msgspec.Struct):
    """The fields that mean something here. null is the same as absent, but for `input`."""

    input: str | list[str | TokenId | list[TokenId]]
    model: str | None = None
    task: str | None = None
    encoding_format: str | None = None
    dimensions: int | None = None
    normalize: Any = None
    truncate_prompt_tokens: int | None = None


POOLING_FIELDS = {
    "input": "a text, a list of texts, a list of token ids or a list of lists of token ids",
    "model": MODEL,
    "task": 'the text "embed"',
    "encoding_format": 'the text "float" or "base64"',
    "dimensions": "left out: /pooling takes none; send them to /v1/embeddings",
    "normalize": "left out: vectors here have length 1",
    "truncate_prompt_tokens": LIMIT,
}
POOLING_SHAPE = Shape(
    Pooling,
    POOLING_FIELDS,
    once=("input", "model"),
    example='{"model": "...", "input": "a text"}',
)


def read_pooling(body: bytes) -> Job:
    """The Job in a body of POST /pooling, for an embedding model. Raises Refusal 400."""
    request = POOLING_SHAPE.read(body)
    texts, ids = shared.inputs(request.input, "input", POOLING_FIELDS["input"])
    for name in ("dimensions", "normalize"):
        if getattr(request, name) is not None:
            refuse_field(name, f"{name} must be {POOLING_FIELDS[name]}")
    if request.task not in (None, "embed"):
        refuse_field(
            "task",
            f'task is {request.task[:40]!r}; it must be "embed" (scores are asked at /score)',
        )
    encoding = request.encoding_format
    if encoding not in (None, "float", "base64"):
        refuse_field(
            "encoding_format",
            f"encoding_format is {encoding[:40]!r}; it must be {POOLING_FIELDS['encoding_format']}",
        )
    side = shared.side(request.model)
    limit = request.truncate_prompt_tokens
    return Job(
        dialect="vllm",
        task="embed",
        model=side.model,
        texts=texts,
        token_ids=ids,
        kind=side.kind,
        over_length=None if limit is None else "cut",
        max_tokens=_limit(limit),
        base64=encoding == "base64",
    )


def write_pooling(job: Job, answer: Answer) -> bytes:
    """The vectors in the order of the request."""
    assert answer.vectors is not None
    rows = numbers.rows_json(answer.vectors, "float", job.base64)
    return _list(
        [b'{"index":%d,"object":"pooling","data":%b}' % (i, row) for i, row in enumerate(rows)],
        answer,
    )


# -- /tokenize -----------------------------------------------------------------------------------


class Tokenize(msgspec.Struct):
    """The fields that mean something here. null is the same as absent."""

    prompt: str | None = None
    messages: Any = None
    model: str | None = None
    add_special_tokens: bool | None = None
    return_token_strs: bool | None = None


TOKENIZE_FIELDS = {
    "prompt": "a text",
    "messages": "left out: the models here have no chats; send prompt",
    "model": "the name of an embedding model, as text",
    "add_special_tokens": "true or false",
    "return_token_strs": "true or false",
}
TOKENIZE_SHAPE = Shape(
    Tokenize, TOKENIZE_FIELDS, once=("prompt", "model"), example='{"prompt": "a text"}'
)
TOKENIZES = re.compile(rb'"(?:prompt|messages)"\s*:')


def tokenizes(body: bytes) -> bool:
    """Whether a body sent to /tokenize is one of vLLM's."""
    there = b'"prompt"' in body or b'"messages"' in body
    return there and TOKENIZES.search(body) is not None and b'"inputs"' not in body


def read_tokenize(body: bytes) -> Job:
    """The Job in a body of POST /tokenize with `prompt`. Raises Refusal 400."""
    request = TOKENIZE_SHAPE.read(body)
    if request.messages is not None:
        refuse_field("messages", f"messages must be {TOKENIZE_FIELDS['messages']}")
    side = shared.side(request.model)
    return Job(
        dialect="vllm",
        task="embed",
        model=side.model,
        texts=shared.tokenized(request.prompt or "", "prompt", TOKENIZE_FIELDS["prompt"]),
        kind=side.kind,
        extra={
            "special": request.add_special_tokens is not False,
            "texts": request.return_token_strs is True,
        },
    )


def write_tokenize(job: Job, answer: Answer) -> bytes:
    """The one text's token ids, and their texts where they were asked for."""
    (pieces,) = answer.pieces
    return orjson.dumps(
        {
            "count": len(pieces),
            "max_model_len": answer.limit,
            "tokens": [piece.id for piece in pieces],
            "token_strs": [piece.text for piece in pieces] if job.extra["texts"] else None,
        }
    )


def _list(rows: list[bytes], answer: Answer) -> bytes:
    return (
        b'{"id":%b,"object":"list","created":%d,"model":%b,"data":[%b],'
        b'"usage":{"prompt_tokens":%d,"total_tokens":%d,"completion_tokens":0,'
        b'"prompt_tokens_details":null}}'
    ) % (
        orjson.dumps(answer.id),
        answer.created,
        orjson.dumps(answer.model),
        b",".join(rows),
        answer.tokens,
        answer.tokens,
    )


def version(cards: Sequence[ModelCard]) -> bytes:
    """GET /version."""
    return orjson.dumps({"version": VERSION})


SCORE = Part("vllm", read_score, write_score, refuse)
TOKENIZE = Part("vllm", read_tokenize, write_tokenize, refuse)
POOLING = Part("vllm", read_pooling, write_pooling, refuse)
