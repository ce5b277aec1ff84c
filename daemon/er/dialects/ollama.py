"""Ollama's embeddings, new and old, and its lists of models and of its version."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import orjson

from er import vectors
from er.dialects import texts as shared
from er.dialects.json_body import Part, Shape, flag, refuse_field
from er.dialects.models import ModelCard
from er.job import Answer, Job, OverLength, Refusal

VERSION = (
    "0.13.0"  # of Ollama, whose requests are spoken here; clients ask whether it is new enough
)
FOREVER = "2318-01-01T00:00:00Z"
LATEST = ":latest"  # what its clients put behind a name without a tag


def refuse(refusal: Refusal, request_id: str) -> bytes:
    """Ollama's error body, in which `error` is a text."""
    return orjson.dumps({"error": refusal.message.encode(errors="replace").decode()})


class Embed(msgspec.Struct):
    """The fields that mean something here. null is the same as absent, but for `input`."""

    input: str | list[str]
    model: str | None = None
    truncate: bool | str | None = None
    dimensions: int | None = None
    input_type: str | None = None
    instruct: str | None = None
    instruction: str | None = None


class Embeddings(msgspec.Struct):
    """The old request, for one text."""

    prompt: str
    model: str | None = None
    input_type: str | None = None
    instruct: str | None = None
    instruction: str | None = None


FIELDS = {
    "input": "a text or a list of texts",
    "prompt": "a text",
    "model": "the name of a model, as text",
    "truncate": "true or false",
    "dimensions": "a whole number of at least 1",
    "input_type": 'a text, "query" or "document"',
    "instruct": "a text, the task in a sentence",
    "instruction": "a text, the task in a sentence",
}
EMBED_SHAPE = Shape(
    Embed, FIELDS, once=("input", "model"), example='{"model": "...", "input": "a text"}'
)
EMBEDDINGS_SHAPE = Shape(
    Embeddings, FIELDS, once=("prompt", "model"), example='{"model": "...", "prompt": "a text"}'
)


def read_embed(body: bytes) -> Job:
    """The Job in a body of POST /api/embed. Raises Refusal 400."""
    request = EMBED_SHAPE.read(body)
    texts = shared.texts(request.input, "input", FIELDS["input"])
    cuts = request.truncate is None or flag(request.truncate, "truncate")
    over_length: OverLength = "cut" if cuts else "refuse"
    return _job(request, texts, over_length, request.dimensions)


def read_embeddings(body: bytes) -> Job:
    """The Job in a body of POST /api/embeddings. Raises Refusal 400."""
    request = EMBEDDINGS_SHAPE.read(body)
    return _job(request, (shared.one(request.prompt, "prompt"),), "cut", None)


def _job(
    request: Embed | Embeddings,
    texts: tuple[str, ...],
    over_length: OverLength,
    dimensions: int | None,
) -> Job:
    side = shared.side(
        (request.model or "").removesuffix(LATEST),
        input_type=request.input_type,
        instruction=request.instruct or request.instruction,
    )
    return Job(
        dialect="ollama",
        task="embed",
        model=side.model,
        texts=texts,
        kind=side.kind,
        instruction=side.instruction,
        over_length=over_length,
        dimensions=shared.at_least(dimensions, 1, "dimensions"),
        texts_name="prompt" if isinstance(request, Embeddings) else "input",
    )


def write_embed(job: Job, answer: Answer) -> bytes:
    """The vectors, in the order of the request; times in nanoseconds."""
    assert answer.vectors is not None
    return (
        b'{"model":%b,"embeddings":[%b],"total_duration":%d,"load_duration":0,'
        b'"prompt_eval_count":%d}'
    ) % (
        orjson.dumps(answer.model),
        b",".join(vectors.floats_json(answer.vectors)),
        answer.took_ns,
        answer.tokens,
    )


def write_embeddings(job: Job, answer: Answer) -> bytes:
    """The one vector."""
    assert answer.vectors is not None
    return b'{"embedding":%b}' % vectors.floats_json(answer.vectors)[0]


def tags(cards: Sequence[ModelCard]) -> bytes:
    """GET /api/tags. Sizes are not known here, and 0."""
    return orjson.dumps({"models": [_tag(card) for card in cards]})


def running(cards: Sequence[ModelCard]) -> bytes:
    """GET /api/ps: no model is ever unloaded here, so all run, until Ollama's "forever"."""
    rows = [
        {
            **_tag(card),
            "size_vram": 0,
            "expires_at": FOREVER,
            "context_length": card.max_model_len,
        }
        for card in cards
    ]
    return orjson.dumps({"models": rows})


def _tag(card: ModelCard) -> dict[str, Any]:
    return {
        "name": card.id,
        "model": card.id,
        "modified_at": _moment(card),
        "size": 0,
        "digest": hashlib.sha256(card.id.encode()).hexdigest(),
        "details": _details(card),
    }


def _moment(card: ModelCard) -> str:
    return datetime.fromtimestamp(card.created, UTC).isoformat().replace("+00:00", "Z")


class Show(msgspec.Struct):
    """A request for one model's card; older clients say `name`."""

    model: str | None = None
    name: str | None = None


SHOW_SHAPE = Shape(
    Show,
    {"model": FIELDS["model"], "name": FIELDS["model"]},
    once=("model", "name"),
    example='{"model": "..."}',
)


def read_show(body: bytes) -> str:
    """The model that a body of POST /api/show names. Raises Refusal 400."""
    request = SHOW_SHAPE.read(body)
    name = request.model or request.name
    if not name:
        refuse_field("model", f"model is missing; model must be {FIELDS['model']}")
    return shared.split_model(name.removesuffix(LATEST))[0]


def _family(card: ModelCard) -> str:
    """As GGUF files name the families: bert is all that pools like it, XLM-RoBERTa too."""
    return "qwen3" if card.pooling == "LAST" else "bert"


def _details(card: ModelCard) -> dict[str, Any]:
    return {
        "parent_model": "",
        "format": "safetensors",
        "family": _family(card),
        "families": [_family(card)],
        "parameter_size": "",
        "quantization_level": "",
    }


def show(card: ModelCard) -> bytes:
    """POST /api/show. Clients look at `capabilities` for what a model is good for."""
    family = _family(card)
    size = {} if card.dimensions is None else {f"{family}.embedding_length": card.dimensions}
    return orjson.dumps(
        {
            "modelfile": "",
            "parameters": "",
            "template": "",
            "details": _details(card),
            "model_info": {
                "general.architecture": family,
                "general.basename": card.id,
                f"{family}.context_length": card.max_model_len,
                **size,
            },
            "capabilities": ["embedding"] if card.task == "embed" else [],
            "modified_at": _moment(card),
        }
    )


def version(cards: Sequence[ModelCard]) -> bytes:
    """GET /api/version."""
    return orjson.dumps({"version": VERSION})


EMBED = Part("ollama", read_embed, write_embed, refuse)
EMBEDDINGS = Part("ollama", read_embeddings, write_embeddings, refuse)
