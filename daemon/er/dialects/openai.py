"""OpenAI's embeddings, with what Jina, Voyage and vLLM ask for there too."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
import orjson
import pybase64

from er.dialects import numbers
from er.dialects import texts as shared
from er.dialects.json_body import Shape, flag, refuse, refuse_field
from er.job import Answer, Dtype, Job, OverLength, Vectors
from er.small_file import DAMAGED

__all__ = ["one", "plain", "read", "refuse", "write"]

TokenId = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]


_ITEM = b'{"object":"embedding","index":%d,"embedding":%b}'
_LIST = b'{"object":"list","data":[%b],"model":%b,"usage":{"prompt_tokens":%d,"total_tokens":%d}}'
_ONE = _LIST.replace(b"%b", _ITEM.replace(b"%d", b"0"), 1)


class Request(msgspec.Struct):
    """The fields that mean something here. null is the same as absent, but for `input`."""

    input: str | list[str | TokenId | list[TokenId] | dict[str, Any]]
    model: str | None = None
    encoding_format: str | None = None
    dimensions: int | None = None
    input_type: str | None = None
    task: str | None = None
    prompt_name: str | None = None
    prompt: str | None = None
    instruct: str | None = None
    instruction: str | None = None
    truncate: bool | str | None = None  # Jina, NVIDIA
    truncation: bool | str | None = None  # Voyage
    truncate_prompt_tokens: int | None = None  # vLLM
    truncation_side: str | None = None  # vLLM
    embed_dtype: str | None = None  # vLLM
    endianness: str | None = None  # vLLM
    output_dtype: str | None = None  # Voyage
    output_dimension: int | None = None  # Voyage
    embedding_type: str | list[str] | None = None  # Jina
    normalized: bool | str | None = None  # Jina
    late_chunking: bool | str | None = None  # Jina
    return_multivector: bool | str | None = None  # Jina
    modality: str | None = None  # Infinity


FIELDS = {
    "input": "a text, a list of texts, a list of token ids or a list of lists of token ids",
    "model": "the name of a model, as text",
    "encoding_format": 'the text "float" or "base64"',
    "dimensions": "a whole number; 0 or nothing means all",
    "input_type": 'a text, "query" or "document"',
    "task": 'a text such as "retrieval.query"',
    "prompt_name": 'the text "query" or "document"',
    "prompt": "a text, put before each input as it is",
    "instruct": "a text, the task in a sentence",
    "instruction": "a text, the task in a sentence",
    "truncate": "true or false, or one of the texts NONE, START and END",
    "truncation": "true or false",
    "truncate_prompt_tokens": "a whole number of at least 1, or -1 for the model's limit",
    "truncation_side": 'one of the texts "left" and "right"',
    "embed_dtype": 'the text "float32"; other types are made at /pooling',
    "endianness": 'one of the texts "native" and "little"; "big" is made at /pooling',
    "output_dtype": "one of the texts float, int8, uint8, binary and ubinary",
    "output_dimension": "a whole number; 0 or nothing means all",
    "embedding_type": "one of the texts float, base64, int8, uint8, binary and ubinary",
    "normalized": "true or false",
    "late_chunking": "true or false",
    "return_multivector": "true or false",
    "modality": 'the text "text": the models here read nothing else',
}
SHAPE = Shape(
    Request,
    FIELDS,
    once=("input", "model"),
    example='{"model": "...", "input": "a text"}',
)


def read(body: bytes) -> Job:
    """The Job in a body of POST /v1/embeddings. Raises Refusal 400."""
    request = SHAPE.read(body)
    texts, ids = shared.inputs(request.input, "input", FIELDS["input"])
    if request.modality not in (None, "", "text"):
        refuse_field("modality", f"modality must be {FIELDS['modality']}")
    if request.prompt:
        if ids:
            refuse_field("prompt", "prompt goes before texts, but input holds token ids")
        shared.check_repeated(request.prompt, len(texts), "prompt")
        texts = tuple(request.prompt + text for text in texts)
    side = shared.side(
        request.model,
        input_type=request.input_type,
        task=request.task,
        prompt_name=request.prompt_name,
        instruction=request.instruct or request.instruction,
    )
    dtype, base64 = _numbers(request)
    over_length, cut_start, max_tokens = _truncation(request)
    # Infinity's clients send 0 for "all" with each request.
    shared.at_least(request.dimensions, 0, "dimensions")
    shared.at_least(request.output_dimension, 0, "output_dimension")
    return Job(
        dialect="openai",
        task="embed",
        model=side.model,
        texts=texts,
        token_ids=ids,
        kind=side.kind,
        instruction=side.instruction,
        over_length=over_length,
        cut_start=cut_start,
        max_tokens=max_tokens,
        dimensions=request.dimensions or request.output_dimension or None,
        dimensions_name="dimensions" if request.output_dimension is None else "output_dimension",
        dtype=dtype,
        base64=base64,
    )


# The commonest request: one text, and nothing that another field would say otherwise.
Plain = msgspec.defstruct(
    "Plain",
    [
        ("input", str),
        ("model", str | None, None),
        ("encoding_format", Literal["float", "base64"] | None, None),
        *((name, None, None) for name in Request.__struct_fields__[3:]),
    ],
    gc=False,  # nothing in it can be part of a circle
)
_plain = msgspec.json.Decoder(Plain).decode


def plain(body: bytes) -> Any:
    """The Plain in a body; None for every other one, which `read` reads or refuses."""
    if body.count(b'"input"') > 1 or body.count(b'"model"') > 1:
        return None
    try:
        return _plain(body)
    except DAMAGED:
        return None


def one(vectors: Vectors, as_base64: bool, model: bytes, tokens: int) -> bytes:
    """What `write` makes of (1, D) float32; `model` is its name as JSON."""
    if as_base64:
        text = b'"%b"' % pybase64.b64encode(vectors.data)
    else:
        text = orjson.dumps(vectors[0], option=orjson.OPT_SERIALIZE_NUMPY)
    return _ONE % (text, model, tokens, tokens)


def _numbers(request: Request) -> tuple[Dtype, bool]:
    """The type of the numbers, and whether they are sent as base64."""
    encoding = request.encoding_format
    if request.embed_dtype not in (None, "float32"):
        refuse_field("embed_dtype", f"embed_dtype must be {FIELDS['embed_dtype']}")
    if request.endianness not in (None, "native", "little"):
        refuse_field("endianness", f"endianness must be {FIELDS['endianness']}")
    if encoding not in (None, "float", "base64"):
        refuse_field(
            "encoding_format",
            f'encoding_format is {encoding[:40]!r}; it must be "float" or "base64"',
        )
    base64 = encoding == "base64"
    if request.output_dtype:
        return numbers.dtype(request.output_dtype, "output_dtype"), base64
    wanted = request.embedding_type
    if wanted is None:
        return "float", base64
    if isinstance(wanted, list):
        if len(wanted) > 1:
            refuse_field("embedding_type", "embedding_type names several types; send one")
        wanted = wanted[0] if wanted else None
    if wanted == "base64":
        return "float", True
    return numbers.dtype(wanted, "embedding_type"), base64


def _truncation(request: Request) -> tuple[OverLength | None, bool, int | None]:
    """What to do with too long texts, whether from their start, and of how many tokens on."""
    if request.late_chunking or request.return_multivector:
        for name in ("late_chunking", "return_multivector"):
            if flag(getattr(request, name), name):
                refuse_field(
                    name, f"{name} is true, which this server does not do; leave the field out"
                )
    if request.normalized is not None:
        shared.demand_unit_length(request.normalized, "normalized")
    left = shared.left(request.truncation_side, "truncation_side")
    limit = request.truncate_prompt_tokens
    if limit is not None:
        if limit < 1 and limit != -1:
            refuse_field(
                "truncate_prompt_tokens",
                f"truncate_prompt_tokens must be {FIELDS['truncate_prompt_tokens']}",
            )
        return "cut", left, limit if limit > 0 else None
    if request.truncate is not None:
        over_length, start = shared.truncation(request.truncate, "truncate")
    else:
        over_length, start = shared.truncation(request.truncation, "truncation")
    return over_length, left or start, None


def write(job: Job, answer: Answer) -> bytes:
    """The list of embeddings, in the order of the request."""
    assert answer.vectors is not None
    rows = numbers.rows_json(answer.vectors, job.dtype, job.base64)
    data, at = b",".join([_ITEM % (i, row) for i, row in enumerate(rows)]), _LIST.index(b"%b")
    # Joined, not formatted: over 1 MiB a join lets other threads run.
    usage = _LIST[at + 2 :] % (orjson.dumps(answer.model), answer.tokens, answer.tokens)
    return b"".join((_LIST[:at], data, usage))
