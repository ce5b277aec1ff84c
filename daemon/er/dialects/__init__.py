"""Client APIs: which path speaks which, and each one's bytes to a Job and an Answer to bytes."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple, Protocol
from urllib.parse import unquote

from er.dialects import openai, rerank
from er.dialects.json_body import refuse
from er.job import Answer, Job, Refusal

__all__ = ["HOT", "Dialect", "Route", "find", "refuse"]

# Base URLs differ from client to client: some bring a version of their own, some double it.
PREFIX = re.compile(r"(?:/v1|/compatible-api/v1|/compatible-mode/v1)*(?=/)")


class Dialect(Protocol):
    """What each module here offers."""

    def read(self, body: bytes) -> Job:
        """The Job in a request's body. Raises Refusal 400."""

    def write(self, job: Job, answer: Answer) -> bytes:
        """The answer's body, JSON."""

    def refuse(self, refusal: Refusal, request_id: str) -> bytes:
        """The body of a refusal, JSON."""


class Route(NamedTuple):
    """Where a request goes. `model` is the name in the path, with the name "model" only."""

    dialect: Dialect
    name: Literal["embeddings", "rerank", "models", "model"]
    model: str = ""


EMBEDDINGS = Route(openai, "embeddings")
RERANK = Route(rerank, "rerank")
POSTS = {
    "/embeddings": EMBEDDINGS,
    "/rerank": RERANK,
    "/v2/rerank": RERANK,  # Cohere
    "/reranks": RERANK,  # DashScope
    "/reranking": RERANK,  # llama.cpp
}
# The addresses that nearly all requests are sent to, as they stand in a request's first line.
_KNOWN = {base + path: route for base in ("", "/v1") for path, route in POSTS.items()}
HOT = {path.encode(): path for path in _KNOWN}
MODELS = "/models"


def find(method: str, path: str) -> Route | Refusal:
    """The Route of a request; the Refusal 404 for an unknown path, 405 for a wrong method.

    `path` is without the query, percent-decoded or not. /health and the like are not known here.
    """
    if method == "POST" and (known := _KNOWN.get(path)) is not None:
        return known
    plain = path[:-1] if path.endswith("/") else path
    prefix = PREFIX.match(plain)
    plain = plain[prefix.end() :] if prefix else plain
    route = POSTS.get(plain)
    if route is not None:
        return route if method == "POST" else _wrong_method(method, path, "POST")
    if plain == MODELS or plain.startswith(f"{MODELS}/"):
        if method not in ("GET", "HEAD"):
            return _wrong_method(method, path, "GET")
        name = unquote(plain[len(MODELS) + 1 :])
        return Route(openai, "model", name) if name else Route(openai, "models")
    return Refusal(
        404,
        "not_found",
        f"there is nothing at {path[:200]}; ER answers POST /v1/embeddings, POST /v1/rerank and "
        "GET /v1/models",
    )


def _wrong_method(method: str, path: str, allowed: str) -> Refusal:
    return Refusal(
        405,
        "method_not_allowed",
        f"{path[:200]} does not take {method[:20]}; use {allowed}",
        headers={"allow": "GET, HEAD" if allowed == "GET" else allowed},
    )
