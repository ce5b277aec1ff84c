"""vLLM's /pooling: the vectors of an embedding model as JSON, or as nothing but their bytes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pybase64

from er.dialects import numbers
from er.dialects import texts as shared
from er.dialects.json_body import Dress, Part, Shape, flag, refuse_field
from er.dialects.openai import TokenId
from er.dialects.vllm import LIMIT, MODEL, SIDE, limit, listed, refuse
from er.job import Answer, Job

ENCODINGS = ("float", "base64", "bytes", "bytes_only")
ENDS = ("native", "little", "big")
BYTES_MAX = 64  # texts; clients read headers of 8 KiB at least


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


FIELDS = {
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
SHAPE = Shape(
    Pooling,
    FIELDS,
    once=("input", "model"),
    example='{"model": "...", "input": "a text"}',
)


def read(body: bytes) -> Job:
    """The Job in a body of POST /pooling, for an embedding model. Raises Refusal 400."""
    request = SHAPE.read(body)
    texts, ids = shared.inputs(request.input, "input", FIELDS["input"])
    for name in ("dimensions", "normalize"):
        if getattr(request, name) is not None:
            refuse_field(name, f"{name} must be {FIELDS[name]}")
    if request.task not in (None, "embed"):
        refuse_field(
            "task",
            f'task is {request.task[:40]!r}; it must be "embed" (scores are asked at /score)',
        )
    special = request.add_special_tokens
    if special is not None and not flag(special, "add_special_tokens"):
        must = FIELDS["add_special_tokens"]
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
    length = request.truncate_prompt_tokens
    return Job(
        dialect="vllm",
        task="embed",
        model=side.model,
        texts=texts,
        token_ids=ids,
        kind=side.kind,
        over_length=None if length is None else "cut",
        cut_start=shared.left(request.truncation_side, "truncation_side"),
        max_tokens=limit(length),
        base64=encoding == "base64",
        extra=extra,
    )


def _one_of(request: Pooling, field: str, known: Sequence[str]) -> str:
    """The word in a field, the first of those known for none. Raises Refusal 400 for another."""
    word: str = getattr(request, field) or known[0]
    if word not in known:
        refuse_field(field, f"{field} is {word[:40]!r}; it must be {FIELDS[field]}")
    return word


def write(job: Job, answer: Answer) -> bytes:
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
    return listed(
        [b'{"index":%d,"object":"pooling","data":%b}' % (i, row) for i, row in enumerate(rows)],
        answer,
    )


def dress(job: Job, answer: Answer) -> Dress:
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


POOLING = Part("vllm", read, write, refuse, dress)
