"""Answers and refusals as the OpenAPI document shows them: the vendors' own shapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from er.job import Piece
from er.openapi.answers import ApiVersion, Numbers, Shown, Wrong

# -- Cohere ----------------------------------------------------------------------------------------


class EmbedUnits(Shown):
    """Tokens that were computed."""

    input_tokens: int


class EmbedMeta(Shown):
    """The version of Cohere's API that was asked."""

    api_version: ApiVersion
    billed_units: EmbedUnits


class ByType(msgspec.Struct, rename={"floats": "float"}, forbid_unknown_fields=True):
    """A list of vectors for each type that was asked for; of base64 each is a text."""

    floats: list[Numbers] | UnsetType = UNSET
    int8: list[list[int]] | UnsetType = UNSET
    uint8: list[list[int]] | UnsetType = UNSET
    binary: list[list[int]] | UnsetType = UNSET
    ubinary: list[list[int]] | UnsetType = UNSET
    base64: list[str] | UnsetType = UNSET


class CohereEmbeddings(Shown):
    """The vectors: by type where types were asked for and in version 2, else a list of them."""

    id: str
    response_type: Literal["embeddings_floats", "embeddings_by_type"]
    texts: list[str]
    embeddings: list[Numbers] | ByType
    meta: EmbedMeta


class TokensMeta(Shown):
    """The version of Cohere's API that was asked."""

    api_version: ApiVersion


class CohereTokens(Shown):
    """The text's tokens."""

    tokens: list[int]
    token_strings: list[str]
    meta: TokensMeta


# -- TEI -------------------------------------------------------------------------------------------


class TeiRank(Shown):
    """One text; `text` only with `return_text`."""

    index: int
    score: float
    text: str | UnsetType = UNSET


class TeiInfo(Shown):
    """What TEI tells of its one model: here the first that the key may use."""

    model_id: str
    model_sha: None
    model_dtype: str
    served_model_name: str
    model_type: dict[str, Any]
    max_concurrent_requests: int
    max_input_length: int
    max_batch_tokens: int
    max_batch_requests: None
    max_client_batch_size: int
    auto_truncate: bool
    tokenization_workers: int
    version: str
    sha: None
    docker_label: None


# -- vLLM ------------------------------------------------------------------------------------------


class VllmUsage(Shown):
    """Tokens that were computed."""

    prompt_tokens: int
    total_tokens: int
    completion_tokens: int
    prompt_tokens_details: None


class Score(Shown):
    """The score of one pair."""

    index: int
    object: Literal["score"]
    score: float


class Scores(Shown):
    """Scores in the order of the request."""

    id: str
    object: Literal["list"]
    created: int
    model: str
    data: list[Score]
    usage: VllmUsage


class Pooled(Shown):
    """One vector, or with base64 the text of its bytes."""

    index: int
    object: Literal["pooling"]
    data: Numbers | str


class Pooling(Shown):
    """Vectors in the order of the request."""

    id: str
    object: Literal["list"]
    created: int
    model: str
    data: list[Pooled]
    usage: VllmUsage


class VllmTokens(Shown):
    """The prompt's tokens; their texts only with `return_token_strs`."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None


# -- Ollama ----------------------------------------------------------------------------------------


class OllamaEmbeddings(Shown):
    """Vectors in the order of the request; times in nanoseconds."""

    model: str
    embeddings: list[Numbers]
    total_duration: int
    load_duration: int
    prompt_eval_count: int


class OllamaEmbedding(Shown):
    """The one vector."""

    embedding: Numbers


class TagDetails(Shown):
    """What Ollama's clients read of a model; not known here where it is empty."""

    parent_model: str
    format: str
    family: str
    families: list[str]
    parameter_size: str
    quantization_level: str


class Tag(Shown):
    """One model."""

    name: str
    model: str
    modified_at: str
    size: int
    digest: str
    details: TagDetails


class Tags(Shown):
    """The models that the key may use."""

    models: list[Tag]


class RunningTag(Tag):
    """One model; none is ever unloaded."""

    size_vram: int
    expires_at: str
    context_length: int


class RunningTags(Shown):
    """The models that the key may use."""

    models: list[RunningTag]


class TagCard(Shown):
    """What Ollama's clients read of one model: `capabilities`, and the numbers in `model_info`."""

    modelfile: str
    parameters: str
    template: str
    details: TagDetails
    model_info: dict[str, Any]
    capabilities: list[str]
    modified_at: str


class Version(Shown):
    """The version of the server whose requests are spoken here."""

    version: str


# -- DashScope -------------------------------------------------------------------------------------


class DashUsage(Shown):
    """Tokens that were computed."""

    total_tokens: int


class DashItem(Shown):
    """One vector."""

    text_index: int
    embedding: Numbers


class DashItems(Shown):
    """Vectors in the order of the request."""

    embeddings: list[DashItem]


class DashEmbeddings(Shown):
    """What text-embedding answers."""

    output: DashItems
    usage: DashUsage
    request_id: str


class DashText(Shown):
    """A document's text."""

    text: str


class DashResult(Shown):
    """One document; `document` only with `return_documents`."""

    index: int
    relevance_score: float
    document: DashText | UnsetType = UNSET


class DashResults(Shown):
    """The documents by falling score."""

    results: list[DashResult]


class DashRanking(Shown):
    """What text-rerank answers."""

    output: DashResults
    usage: DashUsage
    request_id: str


# -- refusals --------------------------------------------------------------------------------------


class TeiError(Shown):
    """TEI's refusal."""

    error: str
    error_type: str


class CohereError(Shown):
    """Cohere's refusal, version 2: ER's with the request's id."""

    id: str
    error: Wrong
    message: str
    detail: str


class VllmWrong(Shown):
    """`code` is the HTTP status."""

    message: str
    type: str
    param: str | None
    code: int


class VllmError(Shown):
    """vLLM's refusal."""

    error: VllmWrong


class OllamaError(Shown):
    """Ollama's refusal."""

    error: str


class DashError(Shown):
    """DashScope's refusal; `code` in Alibaba's words."""

    code: str
    message: str
    request_id: str


TeiEmbeddings = list[Numbers]
TeiRanks = list[TeiRank]
TeiSimilarities = Numbers
TeiTokens = list[list[Piece]]


def schemas(kinds: Sequence[Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """For each of `kinds` its schema or where that stands, and the schemas that are named."""
    refs, parts = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    return list(refs), dict(parts)
