"""Hugging Face's Text Embeddings Inference: embed, rerank, similarity, and what its models are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec
import orjson

from er import vectors
from er.dialects import numbers
from er.dialects import texts as shared
from er.dialects.json_body import Dress, Part, Shape, flag, refuse_field
from er.dialects.models import ModelCard
from er.dialects.openai import TokenId
from er.job import Answer, Job, OverLength, Refusal

# TEI's words for what went wrong, by ER's code, then by status.
ERROR_TYPES = {
    "no_healthy_replica": "unhealthy",
    401: "unauthorized",
    403: "unauthorized",
    424: "backend",
    429: "overloaded",
    503: "overloaded",
}
KEYS = {name: re.compile(rb'"%b"\s*:' % name) for name in (b"texts", b"documents")}
INPUTS = re.compile(rb'"inputs"\s*:\s*(\[\s*\{)?')
TRUNCATE = {
    "truncate": "true or false",
    "truncation_direction": 'one of the texts "left" and "right"',
    "model": "the name of a model, as text",
}


def refuse(refusal: Refusal, request_id: str) -> bytes:
    """TEI's error body, in which `error` is a text."""
    other = "backend" if refusal.status >= 500 else "validation"
    kind = ERROR_TYPES.get(refusal.code) or ERROR_TYPES.get(refusal.status, other)
    text = refusal.message.encode(errors="replace").decode()
    return orjson.dumps({"error": text, "error_type": kind})


def dress(job: Job, answer: Answer) -> Dress:
    """TEI's headers; times in whole milliseconds, characters as it counts them.

    The type is the one word that TEI itself sends from every kind of machine.
    """
    characters = sum(map(len, job.texts)) + len(job.query) * len(job.texts)
    counts = {
        b"compute-time": answer.took_ns // 1_000_000,
        b"compute-characters": characters,
        b"compute-tokens": answer.tokens,
        b"total-time": answer.took_ns // 1_000_000,
        b"tokenization-time": answer.tokenise_ns // 1_000_000,
        b"queue-time": answer.queue_ns // 1_000_000,
        b"inference-time": answer.engine_ns // 1_000_000,
    }
    headers = [(b"x-" + name, b"%d" % n) for name, n in counts.items()]
    return Dress(b"application/json", [(b"x-compute-type", b"gpu+optimized"), *headers])


def embeds(body: bytes) -> bool:
    """Whether a body sent to /embed is one of TEI's, not one of Cohere's."""
    found = INPUTS.search(body)
    return found is not None and not found[1] and not KEYS[b"texts"].search(body)


def reranks(body: bytes) -> bool:
    """Whether a body sent to /rerank is one of TEI's: it has texts where others have documents."""
    return (
        b'"texts"' in body
        and KEYS[b"texts"].search(body) is not None
        and not KEYS[b"documents"].search(body)
    )


def _truncation(
    truncate: bool | str | None, direction: str | None
) -> tuple[OverLength | None, bool]:
    over_length, start = shared.truncation(truncate, "truncate")
    return over_length, shared.left(direction, "truncation_direction") or start


# -- /embed --------------------------------------------------------------------------------------


class Embed(msgspec.Struct):
    """The fields that mean something here. null is the same as absent, but for `inputs`."""

    inputs: str | list[str | TokenId | list[TokenId]]
    model: str | None = None
    truncate: bool | str | None = None
    truncation_direction: str | None = None
    prompt_name: str | None = None
    normalize: bool | str | None = None
    dimensions: int | None = None
    instruct: str | None = None
    instruction: str | None = None


EMBED_FIELDS = {
    **TRUNCATE,
    "inputs": "a text, a list of texts, a list of token ids or a list of lists of token ids",
    "prompt_name": 'the text "query" or "document"',
    "normalize": "true or false",
    "dimensions": "a whole number of at least 1",
    "instruct": "a text, the task in a sentence",
    "instruction": "a text, the task in a sentence",
}
EMBED_SHAPE = Shape(Embed, EMBED_FIELDS, once=("inputs", "model"), example='{"inputs": "a text"}')


def read_embed(body: bytes) -> Job:
    """The Job in a body of POST /embed. Raises Refusal 400."""
    request = EMBED_SHAPE.read(body)
    shared.demand_unit_length(request.normalize, "normalize")
    texts, ids = shared.inputs(request.inputs, "inputs", EMBED_FIELDS["inputs"])
    over_length, cut_start = _truncation(request.truncate, request.truncation_direction)
    side = shared.side(
        request.model,
        prompt_name=request.prompt_name,
        instruction=request.instruct or request.instruction,
    )
    return Job(
        dialect="tei",
        task="embed",
        model=side.model,
        texts=texts,
        token_ids=ids,
        kind=side.kind,
        instruction=side.instruction,
        over_length=over_length,
        cut_start=cut_start,
        dimensions=shared.at_least(request.dimensions, 1, "dimensions"),
        texts_name="inputs",
    )


def write_embed(job: Job, answer: Answer) -> bytes:
    """A list of vectors, also for one text."""
    assert answer.vectors is not None
    return numbers.list_json(vectors.floats_json(answer.vectors))


# -- /rerank -------------------------------------------------------------------------------------


class Rerank(msgspec.Struct):
    """The fields that mean something here; `top_n` is LiteLLM's."""

    query: str
    texts: list[str]
    model: str | None = None
    truncate: bool | str | None = None
    truncation_direction: str | None = None
    raw_scores: bool | str | None = None
    return_text: bool | str | None = None
    top_n: int | None = None
    instruct: str | None = None
    instruction: str | None = None


RERANK_FIELDS = {
    **TRUNCATE,
    "query": "a text",
    "texts": "a list of texts",
    "raw_scores": "true or false",
    "return_text": "true or false",
    "top_n": "a whole number; 0 or nothing means all",
    "instruct": "a text, the task in a sentence",
    "instruction": "a text, the task in a sentence",
}
RERANK_SHAPE = Shape(
    Rerank,
    RERANK_FIELDS,
    once=("query", "texts"),
    example='{"query": "a text", "texts": ["a text", "another"]}',
)


def read_rerank(body: bytes) -> Job:
    """The Job in a body of POST /rerank with `texts`. Raises Refusal 400."""
    request = RERANK_SHAPE.read(body)
    texts = shared.some(request.texts, "texts")
    over_length, cut_start = _truncation(request.truncate, request.truncation_direction)
    return Job(
        dialect="tei",
        task="score",
        model=request.model or "",
        query=shared.one(request.query, "query"),
        texts=texts,
        instruction=request.instruct or request.instruction or None,
        over_length=over_length,
        cut_start=cut_start,
        top_n=shared.at_least(request.top_n, 0, "top_n") or None,
        return_documents=flag(request.return_text, "return_text"),
        extra={"raw_scores": flag(request.raw_scores, "raw_scores")},
    )


def write_rerank(job: Job, answer: Answer) -> bytes:
    """The scores by falling score."""
    assert answer.scores is not None
    raw = job.extra["raw_scores"] and not answer.cosine
    scores = vectors.numbers_json(numbers.logits(answer.scores) if raw else answer.scores)
    rows = []
    for i in vectors.ranked(answer.scores, job.top_n):
        text = b',"text":%b' % orjson.dumps(job.texts[i]) if job.return_documents else b""
        rows.append(b'{"index":%d%b,"score":%b}' % (i, text, scores[i]))
    return numbers.list_json(rows)


# -- /similarity ---------------------------------------------------------------------------------


class Sentences(msgspec.Struct):
    """What is compared with what."""

    source_sentence: str = ""
    sentences: list[str] = []


class Parameters(msgspec.Struct):
    """How; each field may be absent."""

    truncate: bool | str | None = None
    truncation_direction: str | None = None
    prompt_name: str | None = None


class Similarity(msgspec.Struct):
    """A request of sentence similarity."""

    inputs: Sentences
    parameters: Parameters | None = None
    model: str | None = None


SIMILARITY_FIELDS = {
    "inputs": 'an object such as {"source_sentence": "a text", "sentences": ["a text", "another"]}',
    "parameters": "an object with truncate, truncation_direction and prompt_name, or left out",
    "model": "the name of a model, as text",
}
SIMILARITY_SHAPE = Shape(
    Similarity,
    SIMILARITY_FIELDS,
    once=("inputs", "model"),
    inside={"inputs": ("source_sentence", "sentences")},
    example='{"inputs": {"source_sentence": "a text", "sentences": ["a text", "another"]}}',
)


def read_similarity(body: bytes) -> Job:
    """The Job in a body of POST /similarity: its first text is the source. Raises Refusal 400."""
    request = SIMILARITY_SHAPE.read(body)
    how = request.parameters or Parameters()
    given = request.inputs
    must = SIMILARITY_FIELDS["inputs"]
    if not given.source_sentence or not given.sentences or "" in given.sentences:
        refuse_field("inputs", f"inputs has no source, or empty sentences; inputs must be {must}")
    over_length, cut_start = _truncation(how.truncate, how.truncation_direction)
    side = shared.side(request.model, prompt_name=how.prompt_name)
    return Job(
        dialect="tei",
        task="embed",
        model=side.model,
        texts=shared.texts([given.source_sentence, *given.sentences], "inputs", must),
        kind=side.kind,
        over_length=over_length,
        cut_start=cut_start,
        texts_name="inputs",
    )


def write_similarity(job: Job, answer: Answer) -> bytes:
    """The cosine of the source with each sentence, in the order of the request."""
    assert answer.vectors is not None
    scores = vectors.cosine(answer.vectors[:1], answer.vectors[1:])
    return numbers.list_json(vectors.numbers_json(scores))


# -- /tokenize -----------------------------------------------------------------------------------


class Tokenize(msgspec.Struct):
    """The fields that mean something here. null is the same as absent, but for `inputs`."""

    inputs: str | list[str]
    model: str | None = None
    add_special_tokens: bool | str | None = None
    prompt_name: str | None = None


TOKENIZE_FIELDS = {
    "inputs": "a text or a list of texts",
    "model": "the name of an embedding model, as text",
    "add_special_tokens": "true or false",
    "prompt_name": 'the text "query" or "document"',
}
TOKENIZE_SHAPE = Shape(
    Tokenize, TOKENIZE_FIELDS, once=("inputs", "model"), example='{"inputs": "a text"}'
)


def read_tokenize(body: bytes) -> Job:
    """The Job in a body of POST /tokenize with `inputs`. Raises Refusal 400."""
    request = TOKENIZE_SHAPE.read(body)
    side = shared.side(request.model, prompt_name=request.prompt_name)
    special = request.add_special_tokens
    return Job(
        dialect="tei",
        task="embed",
        model=side.model,
        texts=shared.tokenized(request.inputs, "inputs", TOKENIZE_FIELDS["inputs"]),
        kind=side.kind,
        extra={"special": special is None or flag(special, "add_special_tokens")},
    )


def write_tokenize(job: Job, answer: Answer) -> bytes:
    """Each text's tokens, a list of lists also for one text."""
    return msgspec.json.encode(answer.pieces)


# -- what is of another kind of model, and what there is ------------------------------------------


def read_other(body: bytes) -> Job:
    """Raises Refusal 424, as TEI does where the model is of another kind."""
    raise Refusal(
        424,
        "wrong_model_type",
        "no model here is of the kind that this address is for; ER's models embed whole texts "
        "(POST /embed, /similarity) or rerank (POST /rerank)",
    )


POOLINGS = {"LAST": "last_token", "CLS": "cls", "MEAN": "mean", "": "last_token"}


def info(cards: Sequence[ModelCard]) -> bytes:
    """GET /info: of the first embedding model, or the first reranker where there is none.

    A key for the reranker alone therefore sees the reranker here.
    """
    card = min(cards, key=lambda card: card.task != "embed", default=None)
    kind: dict[str, Any] = {"embedding": {"pooling": POOLINGS[card.pooling if card else "LAST"]}}
    if card is not None and card.task == "score":
        kind = {"reranker": {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}}
    length = card.max_model_len if card else 0
    return orjson.dumps(
        {
            "model_id": card.id if card else "",
            "model_sha": None,
            "model_dtype": "float32",
            "served_model_name": card.id if card else "",
            "model_type": kind,
            "max_concurrent_requests": card.max_requests if card else 0,
            "max_input_length": length,
            "max_batch_tokens": max(16384, length),
            "max_batch_requests": None,
            "max_client_batch_size": card.max_inputs if card else 0,
            "auto_truncate": card.cuts if card else False,
            "tokenization_workers": 1,
            "version": VERSION,
            "sha": None,
            "docker_label": None,
        }
    )


VERSION = "1.8.0"  # of TEI, whose requests are spoken here
EMBED = Part("tei", read_embed, write_embed, refuse, dress)
RERANK = Part("tei", read_rerank, write_rerank, refuse, dress)
TOKENIZE = Part("tei", read_tokenize, write_tokenize, refuse, dress)
SIMILARITY = Part("tei", read_similarity, write_similarity, refuse, dress)
OTHER = Part("tei", read_other, write_embed, refuse)
