"""Rerank: one request that takes what every vendor's clients send, one answer that all can read.

The clients are those of Cohere (v1 and v2), Jina, Voyage, SiliconFlow, DashScope's compatible mode,
vLLM, Infinity and llama.cpp. They differ in the names of fields, hardly in their meaning.
"""

from __future__ import annotations

from typing import Any

import msgspec
import orjson

from er import vectors
from er.dialects import numbers
from er.dialects import texts as texts_of
from er.dialects.json_body import Shape, flag, refuse, refuse_deep, refuse_field
from er.job import Answer, Job, OverLength

__all__ = ["read", "refuse", "write"]

DOCUMENTS_PER_UNIT = 100  # what Cohere bills as one search
RANK_FIELDS_MAX = 100  # looked for in each document


class Request(msgspec.Struct):
    """The fields that mean something here. null is the same as absent, but for the first two."""

    query: str | dict[str, Any]
    documents: str | dict[str, Any] | list[str | dict[str, Any]]
    model: str | None = None
    top_n: int | None = None
    top_k: int | None = None
    return_documents: bool | str | None = None
    rank_fields: list[str] | None = None
    instruct: str | None = None
    instruction: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None  # vLLM
    truncation: bool | str | None = None  # Jina, Voyage
    max_tokens_per_doc: int | None = None  # Cohere, vLLM
    truncate_prompt_tokens: int | None = None  # vLLM
    truncation_side: str | None = None  # vLLM
    use_activation: bool | str | None = None  # vLLM
    raw_scores: bool | str | None = None  # Infinity


FIELDS = {
    "query": "a text",
    "documents": 'a list of texts or of objects such as {"text": "..."}',
    "model": "the name of a model, as text",
    "top_n": "a whole number; 0 or nothing means all",
    "top_k": "a whole number; 0 or nothing means all",
    "return_documents": "true or false",
    "rank_fields": "a list of the names of fields, as texts",
    "instruct": "a text, the task in a sentence",
    "instruction": "a text, the task in a sentence",
    "chat_template_kwargs": 'an object such as {"instruction": "a text, the task in a sentence"}',
    "truncation": "true or false",
    "max_tokens_per_doc": "a whole number; 0 or nothing means the model's limit",
    "truncate_prompt_tokens": "a whole number of at least 1, or -1 for the model's limit",
    "truncation_side": 'one of the texts "left" and "right"',
    "use_activation": "true or false",
    "raw_scores": "true or false",
}
SHAPE = Shape(
    Request,
    FIELDS,
    once=("query", "documents", "model"),
    example='{"model": "...", "query": "a text", "documents": ["a text", "another"]}',
)


def read(body: bytes) -> Job:
    """The Job in a rerank request's body. Raises Refusal 400."""
    request = SHAPE.read(body)
    try:
        return _job(request)
    except RecursionError:
        refuse_deep()  # one level more than the stack had room for when it was decoded


def _job(request: Request) -> Job:
    documents = request.documents
    if not isinstance(documents, list):
        documents = [documents]
    query = texts_of.text_of(request.query, None, "query", FIELDS["query"])
    if not query:
        refuse_field("query", "query is empty; send a text of at least one character")
    if not documents:
        refuse_field("documents", "documents is an empty list; send at least one document")
    return_documents = flag(request.return_documents, "return_documents")
    extra: dict[str, Any] = {
        "top_k": request.top_k is not None,
        "raw_scores": _raw(request),
    }
    over_length, cut_start, max_tokens = _truncation(request)
    if set(map(type, documents)) == {str}:
        texts: list[str] = documents  # type: ignore[assignment]
    else:
        # Each once: a text is never more than its document has.
        fields = list(dict.fromkeys(request.rank_fields or ()))
        if len(fields) > RANK_FIELDS_MAX:
            refuse_field("rank_fields", f"rank_fields has over {RANK_FIELDS_MAX} names; send fewer")
        texts = [_text(item, i, fields) for i, item in enumerate(documents)]
        if return_documents:
            # Written here: the answer may be made further up a stack, where a deep one has no room.
            extra["documents"] = [_document(item) for item in documents]
    return Job(
        dialect="rerank",
        task="score",
        model=request.model or "",
        texts=tuple(texts),
        query=query,
        instruction=texts_of.sentence(request),
        over_length=over_length,
        cut_start=cut_start,
        max_tokens=max_tokens,
        top_n=_top_n(request),
        return_documents=return_documents,
        extra=extra,
    )


def _raw(request: Request) -> bool:
    """Whether logits are asked for: Infinity's word for it, or vLLM's for the opposite."""
    active = request.use_activation is None or flag(request.use_activation, "use_activation")
    return flag(request.raw_scores, "raw_scores") or not active


def _truncation(request: Request) -> tuple[OverLength | None, bool, int | None]:
    """What to do with too long documents, whether from their start, and of how many tokens on."""
    over_length, cut_start = texts_of.truncation(request.truncation, "truncation")
    cut_start = texts_of.left(request.truncation_side, "truncation_side") or cut_start
    most = texts_of.at_least(request.max_tokens_per_doc, 0, "max_tokens_per_doc") or None
    whole = request.truncate_prompt_tokens
    if whole is not None:
        if whole < 1 and whole != -1:
            must = FIELDS["truncate_prompt_tokens"]
            refuse_field("truncate_prompt_tokens", f"truncate_prompt_tokens must be {must}")
        over_length = "cut"
        if whole > 0:
            most = min(whole, most or whole)
    return over_length, cut_start, most


def _top_n(request: Request) -> int | None:
    for field, value in (("top_n", request.top_n), ("top_k", request.top_k)):
        if value is not None and value < 0:
            refuse_field(field, f"{field} is below 0; {field} must be {FIELDS[field]}")
    return request.top_n or request.top_k or None


def _text(document: str | dict[str, Any], index: int, rank_fields: list[str]) -> str:
    """What is ranked of a document: the text, or of an object `text` or its `rank_fields`."""
    if isinstance(document, str):
        return document
    if rank_fields:
        parts = [document[name] for name in rank_fields if document.get(name) is not None]
        if not parts:
            names = ", ".join(rank_fields)[:200]
            refuse_field("documents", f"documents[{index}] has none of the rank_fields {names}")
        return "\n".join(
            part if isinstance(part, str) else msgspec.json.encode(part).decode() for part in parts
        )
    text: str = texts_of.text_of(document, index, "documents", FIELDS["documents"])
    return text


def write(job: Job, answer: Answer) -> bytes:
    """The results by falling score.

    `data` repeats them for Voyage's clients, which read nothing else; they say `top_k`, and only
    then documents stand there too, as the bare texts they expect.
    """
    assert answer.scores is not None
    raw = job.extra.get("raw_scores") and not answer.cosine
    scores = vectors.numbers_json(numbers.logits(answer.scores) if raw else answer.scores)
    order = vectors.ranked(answer.scores, job.top_n)
    bare = [b'{"index":%d,"relevance_score":%b' % (i, scores[i]) for i in order]
    results = data = [item + b"}" for item in bare]
    if job.return_documents:
        objects = job.extra.get("documents")
        shown = [objects[i] if objects else _document(job.texts[i]) for i in order]
        results = [b'%b,"document":%b}' % pair for pair in zip(bare, shown, strict=True)]
        if job.extra.get("top_k"):
            data = [
                b'%b,"document":%b}' % (item, orjson.dumps(job.texts[i]))
                for item, i in zip(bare, order, strict=True)
            ]
    tokens = answer.tokens
    units = -(-len(job.texts) // DOCUMENTS_PER_UNIT)
    return (
        b'{"id":%b,"object":"list","model":%b,"results":[%b],"data":[%b],'
        b'"usage":{"prompt_tokens":%d,"total_tokens":%d},'
        b'"meta":{"api_version":{"version":"2"},"billed_units":{"search_units":%d,'
        b'"input_tokens":%d},"tokens":{"input_tokens":%d,"output_tokens":0}}}'
    ) % (
        orjson.dumps(answer.id),
        orjson.dumps(answer.model),
        b",".join(results),
        b",".join(data),
        tokens,
        tokens,
        units,
        tokens,
        tokens,
    )


def _document(given: str | dict[str, Any]) -> bytes:
    """A document as Cohere gives it back: an object whole, a text as {"text": ...}."""
    if isinstance(given, dict):
        return msgspec.json.encode(given)
    return b'{"text":%b}' % orjson.dumps(given)
