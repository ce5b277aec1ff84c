"""DashScope's native text-rerank and text-embedding. Compatible modes: `openai`, `rerank`.

What is asked for stands in `input`, how in `parameters`; an error has `code` and `message` at the
top.
"""

from __future__ import annotations

from typing import Any

import msgspec
import orjson

from er import vectors
from er.dialects import texts as shared
from er.dialects.json_body import Part, Shape, flag, refuse_field
from er.job import Answer, Job, Refusal

# Alibaba's words for what went wrong, by ER's code, then by status.
CODES = {
    "invalid_api_key": "InvalidApiKey",
    "key_not_permitted": "AccessDenied",
    "scope_not_permitted": "AccessDenied",
    "address_not_allowed": "AccessDenied",
    "model_not_found": "ModelNotFound",
    "rate_limit_exceeded": "Throttling.RateQuota",
    "concurrency_limit_exceeded": "Throttling.RateQuota",
    "token_limit_exceeded": "Throttling.AllocationQuota",
    "insufficient_quota": "Throttling.AllocationQuota",
    "overloaded": "ServiceUnavailable",
    "no_healthy_replica": "ServiceUnavailable",
    "timeout": "RequestTimeOut",
}
MODEL = "the name of a model, as text"
DOCUMENT = 'a list of texts or of objects such as {"text": "..."}'


def refuse(refusal: Refusal, request_id: str) -> bytes:
    """DashScope's error body."""
    other = "InternalError" if refusal.status >= 500 else "InvalidParameter"
    return orjson.dumps(
        {
            "code": CODES.get(refusal.code, other),
            "message": refusal.message.encode(errors="replace").decode(),
            "request_id": request_id,
        }
    )


# -- text-embedding ------------------------------------------------------------------------------


class Texts(msgspec.Struct):
    """What is embedded."""

    texts: str | list[str] | None = None


class How(msgspec.Struct):
    """Each field may be absent."""

    text_type: str | None = None
    dimension: int | None = None
    output_type: str | None = None
    instruct: str | None = None


class Embedding(msgspec.Struct):
    """A request of text-embedding."""

    input: Texts
    model: str | None = None
    parameters: How | None = None


EMBEDDING_FIELDS = {
    "input": 'an object such as {"texts": ["a text"]}',
    "model": MODEL,
    "parameters": "an object with text_type (query or document), dimension (a whole number), "
    "output_type (dense) and instruct (a text), or left out",
}
EMBEDDING_SHAPE = Shape(
    Embedding,
    EMBEDDING_FIELDS,
    once=("input", "model"),
    inside={"input": ("texts",)},
    example='{"model": "...", "input": {"texts": ["a text"]}}',
)


def read_embedding(body: bytes) -> Job:
    """The Job in a body of text-embedding. Raises Refusal 400."""
    request = EMBEDDING_SHAPE.read(body)
    how = request.parameters or How()
    if request.input.texts is None:
        refuse_field("input", f"input has no texts; input must be {EMBEDDING_FIELDS['input']}")
    if how.output_type not in (None, "", "dense"):
        refuse_field(
            "output_type",
            f"output_type is {how.output_type[:40]!r}; the models here make no sparse vectors, so "
            'output_type must be "dense"',
        )
    side = shared.side(
        request.model, input_type=how.text_type, instruction=how.instruct, field="text_type"
    )
    return Job(
        dialect="dashscope",
        task="embed",
        model=side.model,
        texts=shared.texts(request.input.texts, "texts", "a list of texts"),
        kind=side.kind,
        instruction=side.instruction,
        dimensions=shared.at_least(how.dimension, 1, "dimension"),
        texts_name="texts",
        dimensions_name="dimension",
    )


def write_embedding(job: Job, answer: Answer) -> bytes:
    """The embeddings, in the order of the request."""
    assert answer.vectors is not None
    rows = b",".join(
        b'{"text_index":%d,"embedding":%b}' % (i, row)
        for i, row in enumerate(vectors.floats_json(answer.vectors))
    )
    return _whole(b'"embeddings":[%b]' % rows, answer)


# -- text-rerank ---------------------------------------------------------------------------------


class Query(msgspec.Struct):
    """What is ranked."""

    query: str | dict[str, Any] | None = None
    documents: list[str | dict[str, Any]] | None = None


class Ranking(msgspec.Struct):
    """How; each field may be absent."""

    top_n: int | None = None
    return_documents: bool | str | None = None
    instruct: str | None = None


class Rerank(msgspec.Struct):
    """A request of text-rerank."""

    input: Query
    model: str | None = None
    parameters: Ranking | None = None


RERANK_FIELDS = {
    "input": 'an object such as {"query": "a text", "documents": ["a text", "another"]}',
    "model": MODEL,
    "parameters": "an object with top_n (a whole number), return_documents (true or false) and "
    "instruct (a text), or left out",
}
RERANK_SHAPE = Shape(
    Rerank,
    RERANK_FIELDS,
    once=("input", "model"),
    inside={"input": ("query", "documents")},
    example='{"model": "...", "input": {"query": "a text", "documents": ["a text", "another"]}}',
)


def read_rerank(body: bytes) -> Job:
    """The Job in a body of text-rerank. Raises Refusal 400."""
    request = RERANK_SHAPE.read(body)
    how = request.parameters or Ranking()
    if request.input.query is None or request.input.documents is None:
        refuse_field(
            "input", f"input lacks query or documents; input must be {RERANK_FIELDS['input']}"
        )
    documents = [
        shared.text_of(item, i, "documents", DOCUMENT)
        for i, item in enumerate(request.input.documents)
    ]
    return Job(
        dialect="dashscope",
        task="score",
        model=request.model or "",
        query=shared.one(shared.text_of(request.input.query, None, "query", "a text"), "query"),
        texts=shared.some(documents, "documents"),
        instruction=how.instruct or None,
        top_n=shared.at_least(how.top_n, 0, "top_n") or None,
        return_documents=flag(how.return_documents, "return_documents"),
    )


def write_rerank(job: Job, answer: Answer) -> bytes:
    """The results by falling score."""
    assert answer.scores is not None
    scores = vectors.numbers_json(answer.scores)
    rows = []
    for i in vectors.ranked(answer.scores, job.top_n):
        text = b""
        if job.return_documents:
            text = b',"document":{"text":%b}' % orjson.dumps(job.texts[i])
        rows.append(b'{"index":%d,"relevance_score":%b%b}' % (i, scores[i], text))
    return _whole(b'"results":[%b]' % b",".join(rows), answer)


def _whole(output: bytes, answer: Answer) -> bytes:
    return b'{"output":{%b},"usage":{"total_tokens":%d},"request_id":%b}' % (
        output,
        answer.tokens,
        orjson.dumps(answer.id),
    )


EMBEDDING = Part("dashscope", read_embedding, write_embedding, refuse)
RERANK = Part("dashscope", read_rerank, write_rerank, refuse)
