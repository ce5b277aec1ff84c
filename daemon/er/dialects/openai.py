"""OpenAI's embeddings and its list of models, in the words that all its clients share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
import orjson
import pybase64

from er import vectors
from er.dialects.json_body import Shape, refuse, refuse_field
from er.job import Answer, Job, Kind, Task, Vectors

__all__ = ["ModelCard", "model", "models", "one", "plain", "read", "refuse", "write"]

INPUTS_MAX = 2048
TokenId = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]

# How clients that can say so say on which side of a search a text is (Cohere, Voyage, NVIDIA).
SIDES: dict[str, Kind] = {
    "query": "query",
    "search_query": "query",
    "document": "document",
    "passage": "document",
    "search_document": "document",
    "classification": "document",
    "clustering": "document",
}
PROMPTS: dict[str, Kind] = {"query": "query", "document": "document"}  # sentence-transformers


_ITEM = b'{"object":"embedding","index":%d,"embedding":%b}'
_LIST = b'{"object":"list","data":[%b],"model":%b,"usage":{"prompt_tokens":%d,"total_tokens":%d}}'
_ONE = _LIST.replace(b"%b", _ITEM.replace(b"%d", b"0"), 1)


class Request(msgspec.Struct):
    """The fields that mean something here. null is the same as absent, but for `input`."""

    input: str | list[str | TokenId | list[TokenId]]
    model: str | None = None
    encoding_format: str | None = None
    dimensions: int | None = None
    input_type: str | None = None
    task: str | None = None
    prompt_name: str | None = None
    instruct: str | None = None
    instruction: str | None = None


FIELDS = {
    "input": "a text, a list of texts, a list of token ids or a list of lists of token ids",
    "model": "the name of a model, as text",
    "encoding_format": 'the text "float" or "base64"',
    "dimensions": "a whole number of at least 1",
    "input_type": 'a text, "query" or "document"',
    "task": 'a text such as "retrieval.query"',
    "prompt_name": 'the text "query" or "document"',
    "instruct": "a text, the task in a sentence",
    "instruction": "a text, the task in a sentence",
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
    texts, ids = _inputs(request.input)
    encoding = request.encoding_format
    if encoding not in (None, "float", "base64"):
        refuse_field(
            "encoding_format",
            f'encoding_format is {encoding[:40]!r}; it must be "float" or "base64"',
        )
    if request.dimensions is not None and request.dimensions < 1:
        refuse_field("dimensions", f"dimensions must be {FIELDS['dimensions']}")
    return Job(
        dialect="openai",
        task="embed",
        model=request.model or "",
        texts=texts,
        token_ids=ids,
        kind=_kind(request),
        instruction=request.instruct or request.instruction or None,
        dimensions=request.dimensions,
        base64=encoding == "base64",
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
)
_plain = msgspec.json.Decoder(Plain).decode


def plain(body: bytes) -> Any:
    """The Plain in a body; None for every other one, which `read` reads or refuses."""
    if body.count(b'"input"') > 1 or body.count(b'"model"') > 1:
        return None
    try:
        return _plain(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def one(vectors: Vectors, as_base64: bool, model: bytes, tokens: int) -> bytes:
    """What `write` makes of (1, D) float32; `model` is its name as JSON."""
    if as_base64:
        text = b'"%b"' % pybase64.b64encode(vectors.data)
    else:
        text = orjson.dumps(vectors[0], option=orjson.OPT_SERIALIZE_NUMPY)
    return _ONE % (text, model, tokens, tokens)


def _inputs(
    given: str | list[str | int | list[int]],
) -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]:
    """Texts or lists of ids, one of the two."""
    items: list[Any] = [given] if isinstance(given, str) else list(given)
    kinds = set(map(type, items))
    if not items:
        refuse_field("input", "input is an empty list; send at least one text")
    if len(kinds) > 1:
        refuse_field("input", f"input mixes kinds; it must be {FIELDS['input']}")
    if kinds == {int}:
        items = [items]
    if len(items) > INPUTS_MAX:
        refuse_field(
            "input", f"input has {len(items)} items; at most {INPUTS_MAX} fit in one request"
        )
    for i, item in enumerate(items):
        if not item:
            name = "input" if isinstance(given, str) else f"input[{i}]"
            refuse_field("input", f"{name} is empty; send texts of at least one character")
    if kinds == {str}:
        return tuple(items), ()
    return (), tuple(map(tuple, items))


def _kind(request: Request) -> Kind:
    """Which side the texts are on: a document, unless the client says query in one of the ways."""
    if request.input_type:
        return _side("input_type", request.input_type, SIDES)
    if request.task:
        return "query" if request.task.endswith(".query") else "document"
    if request.prompt_name:
        return _side("prompt_name", request.prompt_name, PROMPTS)
    return "query" if request.instruct or request.instruction else "document"


def _side(field: str, value: str, known: dict[str, Kind]) -> Kind:
    side = known.get(value.lower())
    if side is None:
        refuse_field(field, f"{field} is {value[:40]!r}; it must be one of: {', '.join(known)}")
    return side


def write(job: Job, answer: Answer) -> bytes:
    """The list of embeddings, in the order of the request."""
    assert answer.vectors is not None
    if job.base64:
        rows = [b'"%b"' % text for text in vectors.base64_texts(answer.vectors)]
    else:
        rows = vectors.floats_json(answer.vectors)
    data = b",".join([_ITEM % (i, row) for i, row in enumerate(rows)])
    return _LIST % (data, orjson.dumps(answer.model), answer.tokens, answer.tokens)


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """What clients are told of a model."""

    id: str
    task: Task
    created: int  # Unix seconds
    max_model_len: int  # tokens, special ones included
    owned_by: str = "er"


def model(card: ModelCard) -> bytes:
    """One model. `model_type` is for Xinference's clients, `max_model_len` for vLLM's."""
    return orjson.dumps(
        {
            "id": card.id,
            "object": "model",
            "created": card.created,
            "owned_by": card.owned_by,
            "model_type": "embedding" if card.task == "embed" else "rerank",
            "max_model_len": card.max_model_len,
        }
    )


def models(cards: Sequence[ModelCard]) -> bytes:
    """The list of models."""
    return b'{"object":"list","data":[%b]}' % b",".join(map(model, cards))
