"""Cohere's embeddings, v1 and v2. Its rerank is the one in `rerank`, with v2's errors here."""

from __future__ import annotations

import re
import unicodedata
from functools import partial
from typing import Any

import msgspec
import orjson

from er.dialects import numbers, rerank
from er.dialects import texts as shared
from er.dialects.json_body import Part, Shape, refuse, refuse_field
from er.job import Answer, Job, OverLength, Refusal

EMBEDS = re.compile(rb'"texts"\s*:|"inputs"\s*:\s*\[\s*\{')
TYPES = (*numbers.DTYPES, "base64")


class Request(msgspec.Struct):
    """The fields that mean something here. null is the same as absent."""

    texts: str | list[str] | None = None
    inputs: list[dict[str, Any]] | None = None
    images: list[Any] | None = None
    model: str | None = None
    input_type: str | None = None
    embedding_types: list[str] | None = None
    truncate: bool | str | None = None
    output_dimension: int | None = None
    max_tokens: int | None = None
    instruct: str | None = None
    instruction: str | None = None


FIELDS = {
    "texts": "a list of texts",
    "inputs": 'a list of objects such as {"content": [{"type": "text", "text": "..."}]}',
    "images": "left out: the models here embed texts",
    "model": "the name of a model, as text",
    "input_type": 'a text, "search_query" or "search_document"',
    "embedding_types": f"a list of some of the texts {', '.join(TYPES)}",
    "truncate": "one of the texts NONE, START and END",
    "output_dimension": "a whole number of at least 1",
    "max_tokens": "a whole number of at least 1",
    "instruct": "a text, the task in a sentence",
    "instruction": "a text, the task in a sentence",
}
SHAPE = Shape(
    Request,
    FIELDS,
    once=("texts", "model"),
    example='{"model": "...", "texts": ["a text"], "input_type": "search_document"}',
)


def embeds(body: bytes) -> bool:
    """Whether a body sent to /embed is Cohere's: it has texts, or inputs that are objects."""
    return EMBEDS.search(body) is not None


def _read(body: bytes, version: int) -> Job:
    """The Job in a body of POST /v1/embed or /v2/embed. Raises Refusal 400."""
    request = SHAPE.read(body)
    if request.images:
        refuse_field("images", f"images must be {FIELDS['images']}")
    side = shared.side(
        request.model,
        input_type=request.input_type,
        instruction=request.instruct or request.instruction,
    )
    over_length, cut_start = _truncation(request.truncate)
    return Job(
        dialect="cohere",
        task="embed",
        model=side.model,
        texts=_texts(request),
        kind=side.kind,
        instruction=side.instruction,
        over_length=over_length,
        cut_start=cut_start,
        max_tokens=shared.at_least(request.max_tokens, 1, "max_tokens"),
        dimensions=shared.at_least(request.output_dimension, 1, "output_dimension"),
        texts_name="inputs" if request.texts is None else "texts",
        dimensions_name="output_dimension",
        extra={"types": _types(request, version), "version": version},
    )


def _truncation(value: bool | str | None) -> tuple[OverLength | None, bool]:
    """What is said of too long texts; Cohere cuts them at their end where nothing is."""
    return shared.truncation("END" if value is None or value == "" else value, "truncate")


def _texts(request: Request) -> tuple[str, ...]:
    if request.texts is not None:
        if request.inputs is not None:
            refuse_field("inputs", "texts and inputs mean the same; send one of them")
        return shared.texts(request.texts, "texts", FIELDS["texts"])
    if request.inputs is None:
        refuse_field("texts", f"texts is missing; texts must be {FIELDS['texts']}")
    return shared.texts(request.inputs, "inputs", FIELDS["inputs"])


def _types(request: Request, version: int) -> tuple[str, ...]:
    """The types asked for, each once; none for v1's own shape, which is floats alone."""
    names = dict.fromkeys(name.lower() for name in request.embedding_types or ())
    wrong = next((name for name in names if name not in TYPES), None)
    if wrong is not None:
        refuse_field(
            "embedding_types",
            f"embedding_types has {wrong[:40]!r}; embedding_types must be "
            f"{FIELDS['embedding_types']}",
        )
    return tuple(names) or (("float",) if version == 2 else ())


def write(job: Job, answer: Answer) -> bytes:
    """The embeddings, each type asked for as a list of its own."""
    assert answer.vectors is not None
    found = answer.vectors
    types: tuple[str, ...] = job.extra["types"]
    if types:
        kind = b"embeddings_by_type"
        lists = b",".join(
            b'"%b":%b' % (name.encode(), numbers.list_json(_rows(name, answer))) for name in types
        )
        embeddings = b"{%b}" % lists
    else:
        kind = b"embeddings_floats"
        embeddings = numbers.list_json(numbers.rows_json(found, "float", False))
    return (
        b'{"id":%b,"response_type":"%b","texts":%b,"embeddings":%b,'
        b'"meta":{"api_version":{"version":"%d"},"billed_units":{"input_tokens":%d}}}'
    ) % (
        orjson.dumps(answer.id),
        kind,
        orjson.dumps(job.texts),
        embeddings,
        job.extra["version"],
        answer.tokens,
    )


def _rows(name: str, answer: Answer) -> list[bytes]:
    assert answer.vectors is not None
    if name == "base64":
        return numbers.rows_json(answer.vectors, "float", True)
    return numbers.rows_json(answer.vectors, numbers.DTYPES[name], False)


class Tokenize(msgspec.Struct):
    """A request for a text's tokens."""

    text: str
    model: str | None = None


TOKENIZE_FIELDS = {"text": "a text", "model": "the name of an embedding model, as text"}
TOKENIZE_SHAPE = Shape(
    Tokenize, TOKENIZE_FIELDS, once=("text", "model"), example='{"model": "...", "text": "a text"}'
)
TOKENIZES = re.compile(rb'"text"\s*:')


def tokenizes(body: bytes) -> bool:
    """Whether a body sent to /tokenize is one of Cohere's."""
    return TOKENIZES.search(body) is not None and b'"inputs"' not in body


def _read_tokenize(body: bytes) -> Job:
    """The Job in a body of POST /v1/tokenize. Raises Refusal 400."""
    request = TOKENIZE_SHAPE.read(body)
    return Job(
        dialect="cohere",
        task="embed",
        model=shared.side(request.model).model,
        texts=shared.tokenized(request.text, "text", "a text"),
        kind="document",  # the text alone, whatever its vector would be made of
        extra={"special": False},
    )


def _write_tokenize(job: Job, answer: Answer) -> bytes:
    """The tokens; their texts, one behind the other, are the whole: Dify puts it together so."""
    (pieces,) = answer.pieces
    text, stops = job.texts[0], [piece.stop for piece in pieces]
    form = unicodedata.normalize("NFC", text)  # whose characters Qwen's tokenizer counts
    if stops[-1:] == [len(form)]:
        text = form
    return orjson.dumps(
        {
            "tokens": [piece.id for piece in pieces],
            "token_strings": [text[a:b] for a, b in zip([0, *stops], stops, strict=False)],
            "meta": {"api_version": {"version": "1"}},
        }
    )


def refuse_v2(refusal: Refusal, request_id: str) -> bytes:
    """The error body of v2, in which the request's id stands too."""
    return orjson.dumps({"id": request_id, **orjson.loads(refuse(refusal, request_id))})


TOKENIZE = Part("cohere", _read_tokenize, _write_tokenize, refuse)
V1 = Part("cohere", partial(_read, version=1), write, refuse)
V2 = Part("cohere", partial(_read, version=2), write, refuse_v2)
RERANK_V2 = Part("rerank", rerank.read, rerank.write, refuse_v2)
