"""Client APIs: which path speaks which, and each one's bytes to a Job and an Answer to bytes."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, Protocol
from urllib.parse import unquote

from er.dialects import cohere, dashscope, models, ollama, openai, pooling, rerank, tei, vllm
from er.dialects.json_body import Part, refuse
from er.dialects.models import ModelCard
from er.job import Answer, Job, Refusal

__all__ = ["EMBEDDINGS", "HOT", "Dialect", "Part", "Refuse", "Route"]
__all__ += ["choose", "find", "name", "refuse", "refuse_at", "stripped"]

Refuse = Callable[[Refusal, str], bytes]

# Base URLs differ from client to client: some bring a version of their own, some double it.
PREFIX = re.compile(r"(?:/v1|/api/v1(?!/services/)|/compatible-api/v1|/compatible-mode/v1)*(?=/)")
SLASHES = re.compile("/{2,}")


class Dialect(Protocol):
    """What a module here offers, or each `Part` of one."""

    def read(self, body: bytes) -> Job:
        """The Job in a request's body. Raises Refusal 400."""

    def write(self, job: Job, answer: Answer) -> bytes:
        """The answer's body, JSON."""

    def refuse(self, refusal: Refusal, request_id: str) -> bytes:
        """The body of a refusal, JSON."""


class Route(NamedTuple):
    """Where a request goes.

    `page` makes what is told of all models of a key, with the name "models", or what is told to
    everybody, with "open". With the name "model", `one` makes what is told of one model, whose name
    is `model` or what `named` finds in the body.
    """

    dialect: Dialect
    name: Literal["embeddings", "rerank", "tokenize", "models", "model", "open"]
    model: str = ""
    page: Callable[[Sequence[ModelCard]], bytes] | None = None
    one: Callable[[ModelCard], bytes] = models.model
    named: Callable[[bytes], str] | None = None

    @property
    def is_page(self) -> bool:
        """Whether nothing is computed for it."""
        return self.name in ("models", "model", "open")


NATIVE = "/api/v1/services/"  # DashScope's own
_EMBEDDING = "embeddings/text-embedding/text-embedding"
_RERANK = "rerank/text-rerank/text-rerank"
EMBEDDINGS = Route(openai, "embeddings")
RERANK = Route(rerank, "rerank")
EMBED = Route(tei.EMBED, "embeddings")
POSTS = {
    "/embeddings": EMBEDDINGS,
    "/rerank": RERANK,
    "/v2/rerank": Route(cohere.RERANK_V2, "rerank"),
    "/reranks": RERANK,  # DashScope
    "/reranking": RERANK,  # llama.cpp
    "/api/rerank": RERANK,  # Dify's plugin for Ollama
    "/embed": EMBED,
    "/v2/embed": Route(cohere.V2, "embeddings"),
    "/": EMBED,  # huggingface_hub, given a base_url
    "/similarity": Route(tei.SIMILARITY, "embeddings"),
    **dict.fromkeys(
        ("/predict", "/embed_all", "/embed_sparse", "/decode"), Route(tei.OTHER, "embeddings")
    ),
    "/tokenize": Route(tei.TOKENIZE, "tokenize"),
    "/score": Route(vllm.SCORE, "rerank"),
    "/pooling": Route(pooling.POOLING, "embeddings"),
    "/classify": Route(vllm.CLASSIFY, "embeddings"),
    "/api/embed": Route(ollama.EMBED, "embeddings"),
    "/api/embeddings": Route(ollama.EMBEDDINGS, "embeddings"),
    NATIVE + _EMBEDDING: Route(dashscope.EMBEDDING, "embeddings"),
    NATIVE + _RERANK: Route(dashscope.RERANK, "rerank"),
}
# Behind a version these are Cohere's: what is refused unread is refused in its shape.
VERSIONED = {
    "/embed": Route(cohere.V1, "embeddings"),
    "/tokenize": Route(cohere.TOKENIZE, "tokenize"),
}
GETS = {
    "/models": Route(openai, "models", page=models.models),
    "/cluster/auth": Route(openai, "open", page=models.key_wanted),  # Xinference
    "/version": Route(vllm.SCORE, "models", page=vllm.version),
    "/info": Route(tei.EMBED, "models", page=tei.info),
    "/api/tags": Route(ollama.EMBED, "models", page=ollama.tags),
    "/api/ps": Route(ollama.EMBED, "models", page=ollama.running),
    "/api/version": Route(ollama.EMBED, "models", page=ollama.version),
}
# What is told of the model that a body names.
SHOWS = {"/api/show": Route(ollama.EMBED, "model", one=ollama.show, named=ollama.read_show)}
# The addresses that nearly all requests are sent to, as they stand in a request's first line.
_KNOWN = {path: route for path, route in POSTS.items() if path != "/"}
_KNOWN |= {"/v1" + path: route for path, route in (_KNOWN | VERSIONED).items()}
HOT = {path.encode(): path for path in _KNOWN}
MODELS = "/models/"


def find(method: str, path: str) -> Route | Refusal:
    """The Route of a request; the Refusal 404 for an unknown path, 405 for a wrong method.

    `path` is without the query, percent-decoded or not. /health and the like are not known here.
    """
    if method == "POST" and (known := _KNOWN.get(path)) is not None:
        return known
    plain, versioned = stripped(path)
    page = GETS.get(plain)
    if page is None and plain.startswith(MODELS):
        page = Route(openai, "model", models.named(unquote(plain[len(MODELS) :])))
    route = _posted(plain, versioned)
    if route is not None and method == "POST":
        return route
    if page is not None and method in ("GET", "HEAD"):
        return page
    if route is not None or page is not None:
        return _wrong_method(method, path, "POST" if page is None else "GET")
    return Refusal(
        404,
        "not_found",
        f"there is nothing at {path[:200]}; ER answers {_instead(plain)}",
    )


def choose(dialect: Dialect, body: bytes) -> Dialect:
    """The dialect that `body` is in, where the address of `dialect` serves another one too."""
    if dialect is openai:
        return dialect
    if dialect is rerank or dialect is cohere.RERANK_V2:
        return tei.RERANK if tei.reranks(body) else dialect
    if dialect is cohere.V1:
        return tei.EMBED if tei.embeds(body) else dialect
    if dialect is tei.EMBED:
        return cohere.V1 if cohere.embeds(body) else dialect
    if dialect is tei.TOKENIZE or dialect is cohere.TOKENIZE:
        if vllm.tokenizes(body):
            return vllm.TOKENIZE
        if cohere.tokenizes(body):
            return cohere.TOKENIZE
        return tei.TOKENIZE if b'"inputs"' in body else dialect
    return dialect


def refuse_at(path: str) -> Refuse:
    """How a request is refused that found no Route: as whoever's address it nearly is."""
    plain, versioned = stripped(path)
    route = _posted(plain, versioned) or GETS.get(plain)
    if route is not None:
        return route.dialect.refuse
    if plain.startswith(NATIVE):
        return dashscope.refuse
    return ollama.refuse if plain.startswith("/api/") else refuse


def stripped(path: str) -> tuple[str, bool]:
    """`path` without what clients' base URLs put before it, and without a slash too many; whether
    there was anything before it.
    """
    plain = SLASHES.sub("/", path) if "//" in path else path
    plain = plain[:-1] if plain.endswith("/") and plain != "/" else plain
    prefix = PREFIX.match(plain)
    end = prefix.end() if prefix else 0
    return plain[end:], end > 0


def name(dialect: Dialect) -> str:
    """The dialect's name in the audit and the metrics."""
    if isinstance(dialect, Part):
        return dialect.name
    return str(getattr(dialect, "__name__", "")).rsplit(".", 1)[-1]


def _posted(plain: str, versioned: bool) -> Route | None:
    found = VERSIONED.get(plain) if versioned else None
    return found or POSTS.get(plain) or SHOWS.get(plain)


def _instead(plain: str) -> str:
    """What there is for the clients of an address where there is nothing."""
    if plain.startswith(NATIVE):
        return f"POST {NATIVE}{_EMBEDDING} and POST {NATIVE}{_RERANK}"
    if plain.startswith("/api/"):
        return "POST /api/embed, POST /api/show and GET /api/tags"
    return "POST /v1/embeddings, POST /v1/rerank and GET /v1/models"


def _wrong_method(method: str, path: str, allowed: str) -> Refusal:
    return Refusal(
        405,
        "method_not_allowed",
        f"{path[:200]} does not take {method[:20]}; use {allowed}",
        headers={"allow": "GET, HEAD" if allowed == "GET" else allowed},
    )
