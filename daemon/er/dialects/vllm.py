"""vLLM's score and pooling. Its rerank is the one in `rerank`, its embeddings are OpenAI's."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import msgspec
import orjson
import pybase64

from er import vectors
from er.dialects import numbers
from er.dialects import texts as shared
from er.dialects.json_body import Dress, Part, Shape, flag, refuse_field
from er.dialects.models import ModelCard
from er.dialects.openai import TokenId
from er.job import Answer, Job, Refusal

ENCODINGS = ("float", "base64", "bytes", "bytes_only")
ENDS = ("native", "little", "big")
BYTES_MAX = 64  # texts; clients read headers of 8 KiB at least
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


def _limit(value: int | None) -> int | None:
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
    limit = _limit(request.truncate_prompt_tokens)
    most = shared.at_least(request.max_tokens_per_doc, 0, "max_tokens_per_doc") or None
    return Job(
        dialect="vllm",
        task="score",
        model=request.model or "",
        query="" if pairs else left[0],
        queries=left if pairs else (),
        texts=right,
        instruction=request.instruct or request.instruction or None,
        over_length=None if request.truncate_prompt_tokens is None else "cut",
        cut_start=shared.left(request.truncation_side, "truncation_side"),
        max_tokens=min(limit, most) if limit and most else limit or most,
        extra={"raw_scores": active is not None and not flag(active, "use_activation")},
    )


def _given(request: Score, names: tuple[str, ...], common: str) -> tuple[str, tuple[str, ...]]:
    """The name of the field that was sent for a side, and its texts."""
    name = next((name for name in names if getattr(request, name) is not None), None)
    if name is None:
        refuse_field(common, f"{common} is missing; {common} must be {SCORE_FIELDS[common]}")
    value = getattr(request, name)
    given = value if isinstance(value, list) else [value]
    texts = [shared.text_of(item, i, name, SCORE_FIELDS[name]) for i, item in enumerate(given)]
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
    embed_dtype: str | None = None
    endianness: str | None = None
    dimensions: int | None = None
    normalize: Any = None
    truncate_prompt_tokens: int | None = None
    truncation_side: str | None = None
    add_special_tokens: bool | str | None = None


POOLING_FIELDS = {
    "input": "a text, a list of texts, a list of token ids or a list of lists of token ids",
    "model": MODEL,
    "task": 'the text "embed"',
    "encoding_format": f"one of the texts {', '.join(ENCODINGS)}",
    "embed_dtype": f"one of the texts {', '.join(numbers.VLLM_DTYPES)}",
    "endianness": f"one of the texts {', '.join(ENDS)}",
    "dimensions": "left out: /pooling takes none; send them to /v1/embeddings",
    "normalize": "left out: vectors here have length 1",
    "truncate_prompt_tokens": LIMIT,
    "truncation_side": SIDE,
    "add_special_tokens": "true, or left out: these models' vectors need their special tokens",
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
    special = request.add_special_tokens
    if special is not None and not flag(special, "add_special_tokens"):
        must = POOLING_FIELDS["add_special_tokens"]
        refuse_field("add_special_tokens", f"add_special_tokens must be {must}")
    encoding = _one_of(request, "encoding_format", ENCODINGS)
    extra = {
        "encoding": encoding,
        "dtype": _one_of(request, "embed_dtype", numbers.VLLM_DTYPES),
        "endianness": _one_of(request, "endianness", ENDS),
    }
    count = len(texts) or len(ids)
    if encoding == "bytes" and count > BYTES_MAX:
        refuse_field(
            "encoding_format",
            f'encoding_format is "bytes", which tells of each text in a header; there are {count}, '
            f'at most {BYTES_MAX} fit. Send fewer, or ask for "bytes_only"',
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
        cut_start=shared.left(request.truncation_side, "truncation_side"),
        max_tokens=_limit(limit),
        base64=encoding == "base64",
        extra=extra,
    )


def _one_of(request: Pooling, field: str, known: Sequence[str]) -> str:
    """The word in a field, the first of those known for none. Raises Refusal 400 for another."""
    word: str = getattr(request, field) or known[0]
    if word not in known:
        refuse_field(field, f"{field} is {word[:40]!r}; it must be {POOLING_FIELDS[field]}")
    return word


def write_pooling(job: Job, answer: Answer) -> bytes:
    """The vectors in the order of the request; as JSON, or nothing but their bytes."""
    assert answer.vectors is not None
    if job.extra["encoding"] == "float":
        rows = numbers.rows_json(answer.vectors, "float", False)
    else:
        whole = numbers.as_vllm(
            answer.vectors, job.extra["dtype"], job.extra["endianness"] == "big"
        )
        if not job.base64:
            return whole.tobytes()
        rows = [b'"%b"' % pybase64.b64encode(row.data) for row in whole]
    return _list(
        [b'{"index":%d,"object":"pooling","data":%b}' % (i, row) for i, row in enumerate(rows)],
        answer,
    )


def dress_pooling(job: Job, answer: Answer) -> Dress:
    """What vLLM tells of bytes in a header, as there is no JSON: which of them are whose."""
    assert answer.vectors is not None
    encoding = job.extra["encoding"]
    if encoding in ("float", "base64"):
        return Dress(b"application/json", [])
    headers = []
    if encoding == "bytes":
        size = answer.vectors.shape[1] * (4 if job.extra["dtype"] == "float32" else 2)
        items = [
            {
                "index": i,
                "embed_dtype": job.extra["dtype"],
                "endianness": job.extra["endianness"],
                "start": i * size,
                "end": (i + 1) * size,
                "shape": [answer.vectors.shape[1]],
            }
            for i in range(len(answer.vectors))
        ]
        told = {
            "id": answer.id,
            "created": answer.created,
            "model": answer.model,
            "data": items,
            "usage": {"prompt_tokens": answer.tokens, "total_tokens": answer.tokens},
        }
        headers.append((b"metadata", json.dumps(told).encode()))  # ASCII, as a header must be
    return Dress(b"application/octet-stream", headers)


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
POOLING = Part("vllm", read_pooling, write_pooling, refuse, dress_pooling)
