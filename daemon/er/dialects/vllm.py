"""vLLM's score and tokenize. Its rerank is the one in `rerank`, its embeddings are OpenAI's."""

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
from er.job import Answer, Job, Refusal

# vLLM's names for what stands on the left of each pair and on the right, older ones behind.
LEFT = ("queries", "text_1", "data_1")
RIGHT = ("documents", "items", "text_2", "data_2")
MODEL = "the name of a model, as text"
VERSION = "0.32.0"  # of vLLM, whose requests are spoken here
LIMIT = "a whole number of at least 1, or -1 for the model's limit"
SIDE = 'one of the texts "left" and "right"'
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


def limit(value: int | None) -> int | None:
    """`truncate_prompt_tokens`: None for the model's own limit."""
    if value is not None and value < 1 and value != -1:
        refuse_field("truncate_prompt_tokens", f"truncate_prompt_tokens must be {LIMIT}")
    return None if value == -1 else value


# -- /score --------------------------------------------------------------------------------------


Given = str | dict[str, Any] | list[str | dict[str, Any]] | None


class Score(msgspec.Struct):
    """The fields that mean something here: one of each side's names, and how."""

    queries: Given = None
    text_1: Given = None
    data_1: Given = None
    documents: Given = None
    items: Given = None
    text_2: Given = None
    data_2: Given = None
    model: str | None = None
    truncate_prompt_tokens: int | None = None
    truncation_side: str | None = None
    max_tokens_per_doc: int | None = None
    use_activation: bool | str | None = None
    activation: bool | str | None = None
    instruct: str | None = None
    instruction: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None  # vLLM


SCORE_FIELDS = {
    **dict.fromkeys((*LEFT, *RIGHT), "a text or a list of texts"),
    "model": MODEL,
    "truncate_prompt_tokens": LIMIT,
    "truncation_side": SIDE,
    "max_tokens_per_doc": "a whole number; 0 or nothing means the model's limit",
    "use_activation": "true or false",
    "activation": "true or false",
    "instruct": INSTRUCTION,
    "instruction": INSTRUCTION,
    "chat_template_kwargs": f'an object such as {{"instruction": "{INSTRUCTION}"}}',
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
    length = limit(request.truncate_prompt_tokens)
    most = shared.at_least(request.max_tokens_per_doc, 0, "max_tokens_per_doc") or None
    return Job(
        dialect="vllm",
        task="score",
        model=request.model or "",
        query="" if pairs else left[0],
        queries=left if pairs else (),
        texts=right,
        instruction=shared.sentence(request),
        over_length=None if request.truncate_prompt_tokens is None else "cut",
        cut_start=shared.left(request.truncation_side, "truncation_side"),
        max_tokens=min(length, most) if length and most else length or most,
        extra={"raw_scores": active is not None and not flag(active, "use_activation")},
    )


def _given(request: Score, names: tuple[str, ...], common: str) -> tuple[str, tuple[str, ...]]:
    """The name of the field that was sent for a side, and its texts."""
    given = [name for name in names if getattr(request, name) is not None]
    if not given:
        refuse_field(common, f"{common} is missing; {common} must be {SCORE_FIELDS[common]}")
    name = given[0]
    if len(given) > 1:
        refuse_field(given[1], f"{name} and {given[1]} mean the same; send one of them")
    value = getattr(request, name)
    items = value if isinstance(value, list) else [value]
    texts = [shared.text_of(item, i, name, SCORE_FIELDS[name]) for i, item in enumerate(items)]
    return name, shared.some(texts, name)


def write_score(job: Job, answer: Answer) -> bytes:
    """The scores in the order of the request."""
    assert answer.scores is not None
    raw = job.extra["raw_scores"] and not answer.cosine
    scores = vectors.numbers_json(numbers.logits(answer.scores) if raw else answer.scores)
    rows = [
        b'{"index":%d,"object":"score","score":%b}' % (i, score) for i, score in enumerate(scores)
    ]
    return listed(rows, answer)


# -- /tokenize -----------------------------------------------------------------------------------


class Tokenize(msgspec.Struct):
    """The fields that mean something here. null is the same as absent."""

    prompt: str | None = None
    messages: Any = None
    model: str | None = None
    add_special_tokens: bool | str | None = None
    return_token_strs: bool | str | None = None


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
    special = request.add_special_tokens
    return Job(
        dialect="vllm",
        task="embed",
        model=side.model,
        texts=shared.tokenized(request.prompt or "", "prompt", TOKENIZE_FIELDS["prompt"]),
        kind=side.kind,
        extra={
            "special": special is None or flag(special, "add_special_tokens"),
            "texts": flag(request.return_token_strs, "return_token_strs"),
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


def listed(rows: list[bytes], answer: Answer) -> bytes:
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


# -- what is for another kind of model ----------------------------------------------------------


def read_classify(body: bytes) -> Job:
    """Raises Refusal 424: vLLM and Infinity have this for classifiers."""
    raise Refusal(
        424,
        "wrong_model_type",
        "no model here classifies; ER's models embed texts (POST /v1/embeddings) or rank them "
        "(POST /v1/rerank, /score)",
        param="model",
    )


def version(cards: Sequence[ModelCard]) -> bytes:
    """GET /version."""
    return orjson.dumps({"version": VERSION})


SCORE = Part("vllm", read_score, write_score, refuse)
CLASSIFY = Part("vllm", read_classify, write_score, refuse)
TOKENIZE = Part("vllm", read_tokenize, write_tokenize, refuse)
