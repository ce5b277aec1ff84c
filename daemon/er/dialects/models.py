"""GET /v1/models: one answer for the clients of OpenAI, Cohere, vLLM, Xinference and Infinity.

OpenAI's read `data`, Cohere's `models`, of which each has its own fields; vLLM's clients read
`max_model_len` and `root`, Xinference's `model_type` and `max_tokens`, Infinity's `capabilities`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs

import msgspec
import orjson

from er.dialects.texts import split_model
from er.job import Task
from er.model_files import Pooling


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """What clients are told of a model."""

    id: str
    task: Task
    created: int  # Unix seconds
    max_model_len: int  # tokens, special ones included
    dimensions: int | None = None  # of a vector; None where it is not known yet, or no vector
    aliases: tuple[str, ...] = ()
    max_inputs: int = 1  # texts (or documents) in one request
    max_requests: int = 1  # at once, all models together
    pooling: Pooling = "LAST"
    cuts: bool = False  # too long texts are cut unless a request says otherwise
    owned_by: str = "er"
    fingerprint: str = ""  # what its answers are of; "" where that is not asked for


def _told(card: ModelCard) -> dict[str, Any]:
    embeds = card.task == "embed"
    told: dict[str, Any] = {
        "id": card.id,
        "object": "model",
        "created": card.created,
        "owned_by": card.owned_by,
        "task": card.task,
        "aliases": card.aliases,
        "root": card.id,
        "max_model_len": card.max_model_len,
        "model_type": "embedding" if embeds else "rerank",
        "max_tokens": card.max_model_len,
        "capabilities": [_endpoint(card)],
        "name": card.id,
        "endpoints": [_endpoint(card)],
        "finetuned": False,
        "context_length": card.max_model_len,
    }
    if card.fingerprint:
        told["fingerprint"] = card.fingerprint
    if embeds:
        told["query_id"] = f"{card.id}:query"
        if card.dimensions is not None:
            told["dimensions"] = card.dimensions
    return told


def model(card: ModelCard) -> bytes:
    """One model."""
    return orjson.dumps(_told(card))


def models(cards: Sequence[ModelCard]) -> bytes:
    """The list of models, twice."""
    rows = [_told(card) for card in cards]
    return orjson.dumps({"object": "list", "data": rows, "models": rows})


def asked(cards: Sequence[ModelCard], query: bytes) -> list[ModelCard]:
    """The models that Cohere's clients mean with ?endpoint=rerank or embed; all without it."""
    (endpoint,) = parse_qs(query.decode("latin-1")).get("endpoint", [""])[:1]
    return [card for card in cards if endpoint in ("", _endpoint(card))]


def _endpoint(card: ModelCard) -> str:
    return "embed" if card.task == "embed" else "rerank"


def named(path: str) -> str:
    """The model that a name in a path means, whichever side of a search its ending names."""
    return split_model(path)[0]


def key_wanted(cards: Sequence[ModelCard]) -> bytes:
    """GET /v1/cluster/auth, which Xinference's clients ask first, without a key.

    Only where this says so do they send the key that they have; a 404 means to them "no key".
    """
    return b'{"auth":true}'
