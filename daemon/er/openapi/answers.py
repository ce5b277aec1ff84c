"""Answers and refusals as the OpenAPI document shows them: OpenAI's, rerank's and ER's own.

Dialects write them as text; that the two agree is what the tests see.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

Numbers = list[float]


class Shown(msgspec.Struct, forbid_unknown_fields=True):
    """What is not listed here is not in an answer."""


# -- OpenAI, and what is read at its addresses by others -------------------------------------------


class Usage(Shown):
    """Tokens that were computed, the template's included."""

    prompt_tokens: int
    total_tokens: int


class Item(Shown):
    """One vector, in the order of the request: numbers, or with base64 the text of their bytes."""

    object: Literal["embedding"]
    index: int
    embedding: Numbers | str


class Embeddings(Shown):
    """A vector for each input."""

    object: Literal["list"]
    data: list[Item]
    model: str
    usage: Usage


class Model(Shown):
    """What there is to know of a model, in several vendors' words.

    Lengths in tokens, `created` in Unix seconds. `query_id` is the name that makes texts queries.
    Vectors whose `fingerprint` is the same but for its last part may stand in one store.
    """

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    task: Literal["embed", "score"]
    aliases: list[str]
    root: str
    max_model_len: int
    model_type: Literal["embedding", "rerank"]
    max_tokens: int
    capabilities: list[str]
    name: str
    endpoints: list[str]
    finetuned: bool
    context_length: int
    fingerprint: str
    query_id: str | UnsetType = UNSET
    dimensions: int | UnsetType = UNSET


class Models(Shown):
    """The models that the key may use; twice, as Cohere's clients read `models`."""

    object: Literal["list"]
    data: list[Model]
    models: list[Model]


class KeyWanted(Shown):
    """Xinference's clients ask whether they are to send their key."""

    auth: Literal[True]


# -- rerank ----------------------------------------------------------------------------------------


class Result(Shown):
    """One document; `document` only where documents were asked for, an object as it was sent."""

    index: int
    relevance_score: float
    document: dict[str, Any] | UnsetType = UNSET


class Datum(Shown):
    """As a result; with `top_k` in the request `document` is the bare text, as Voyage has it."""

    index: int
    relevance_score: float
    document: dict[str, Any] | str | UnsetType = UNSET


class ApiVersion(Shown):
    """Cohere's."""

    version: str


class RankedUnits(Shown):
    """A unit is a hundred documents begun."""

    search_units: int
    input_tokens: int


class RankedTokens(Shown):
    """As in `usage`."""

    input_tokens: int
    output_tokens: int


class RankedMeta(Shown):
    """Cohere's."""

    api_version: ApiVersion
    billed_units: RankedUnits
    tokens: RankedTokens


class Ranking(Shown):
    """The documents by falling score, twice: `results` for most clients, `data` for Voyage's."""

    id: str
    object: Literal["list"]
    model: str
    results: list[Result]
    data: list[Datum]
    usage: Usage
    meta: RankedMeta


# -- the service -----------------------------------------------------------------------------------


class Alive(Shown):
    """Whether it is so."""

    status: Literal["ok", "down"]


class Ready(Shown):
    """Whether requests are wanted here; "leaving": the host is drained or stops, says `reason`."""

    status: Literal["ok", "down", "leaving"]
    reason: str | UnsetType = UNSET


class ReplicaHealth(Shown):
    """A replica; `reason` where it is not up. `since` in Unix seconds."""

    name: str
    state: str
    reason: str | UnsetType = UNSET
    since: float | UnsetType = UNSET


class ModelHealth(Shown):
    """A model, and whether it answers."""

    name: str
    task: Literal["embed", "score"]
    answers: bool
    replicas: list[ReplicaHealth]
    reason: str | UnsetType = UNSET


class SharedHealth(Shown):
    """What several hosts share: not usable ("away"), the last known keys and limits count."""

    state: Literal["ok", "away", "unknown"]
    reason: str | UnsetType = UNSET
    since: float | UnsetType = UNSET


class Health(Shown):
    """ok: every replica answers; degraded: some model does; down: none does.

    `state` where several hosts share one: a host that is cut off from it is degraded.
    """

    status: Literal["ok", "degraded", "down"]
    models: list[ModelHealth]
    state: SharedHealth | UnsetType = UNSET


# -- refusals --------------------------------------------------------------------------------------


class Wrong(Shown):
    """`code` is a stable word, `param` the field at fault."""

    message: str
    type: str
    param: str | None
    code: str


class Error(Shown):
    """ER's refusal; `message` and `detail` repeat the error's, for clients that look there."""

    error: Wrong
    message: str
    detail: str
