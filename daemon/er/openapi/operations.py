"""Every address of the client API for the OpenAPI document: whose, what for, with which bodies.

An address that a dialect gets, or that the gateway answers itself, is declared here, but for files
and batches, which stand beside what answers them. The tests hold this table against what routes
requests and against the structs that read the bodies.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from er import dialects
from er.dialects import Dialect, cohere, dashscope, ollama, openai, pooling, rerank, tei, vllm
from er.dialects.json_body import Shape
from er.dialects.models import ModelCard
from er.job import Task
from er.openapi import answers, vendors
from er.openapi.bounds import WORDS, Schema


class Body(NamedTuple):
    """One kind of body that an address takes: who reads it, its struct, what answers it.

    Without `dialect` it only names a model, of which `told` is the answer.
    """

    dialect: Dialect | None
    shape: Shape[Any]
    answer: Any
    task: Task
    told: Callable[[ModelCard], bytes] | None = None


class Operation(NamedTuple):
    """One method at one address. Of several bodies the one whose fields were sent counts."""

    method: Literal["get", "post", "delete"]
    path: str
    tag: str
    id: str
    summary: str
    text: str = ""
    bodies: tuple[Body, ...] = ()
    answer: Any = None  # of a GET; None: no body, or a text of the `media` type
    refuse: dialects.Refuse = dialects.refuse  # where no body's dialect says how
    media: str = "application/json"
    open: bool = False  # asks for no key
    down: Any = None  # the answer of 503, where that is no refusal
    named: bool = False  # a model is named in the address
    bytes: bool = False  # the answer may be bytes instead of JSON
    query: tuple[tuple[str, str, Schema], ...] = ()  # what the address may say, and what it means
    form: tuple[tuple[str, str], ...] = ()  # the parts of a form, in place of JSON
    more: tuple[int, ...] = ()  # further statuses of refusals


TAGS = {
    "OpenAI": "Embeddings and models as OpenAI has them; Jina's, Voyage's and NVIDIA's fields too.",
    "Rerank": "One request and one answer for the clients of Cohere, Jina, Voyage, SiliconFlow, "
    "DashScope's compatible mode, vLLM, Infinity and llama.cpp.",
    "Batches": "Files of many requests, computed in what other requests leave, as OpenAI has it.",
    "Feedback": "What users made of an answer, which ER sums up by model and key.",
    "Cohere": "Cohere's embeddings.",
    "TEI": "Hugging Face's Text Embeddings Inference.",
    "vLLM": "vLLM's own requests.",
    "Ollama": "Ollama's embeddings and lists.",
    "DashScope": "DashScope's native requests.",
    "Service": "Whether ER is well; no key is asked for, but for /metrics.",
}

_TEI_EMBED = Body(tei.EMBED, tei.EMBED_SHAPE, vendors.TeiEmbeddings, "embed")
_COHERE_EMBED = Body(cohere.V1, cohere.SHAPE, vendors.CohereEmbeddings, "embed")
_TEI_RERANK = Body(tei.RERANK, tei.RERANK_SHAPE, vendors.TeiRanks, "score")
_TOKENIZES = (
    Body(tei.TOKENIZE, tei.TOKENIZE_SHAPE, vendors.TeiTokens, "embed"),
    Body(vllm.TOKENIZE, vllm.TOKENIZE_SHAPE, vendors.VllmTokens, "embed"),
    Body(cohere.TOKENIZE, cohere.TOKENIZE_SHAPE, vendors.CohereTokens, "embed"),
)
_EITHER_EMBED = (
    "With `texts`, or `inputs` that are objects, the request is Cohere's, else TEI's, and so is "
    "the answer."
)
_EITHER_TOKENIZE = (
    "With `inputs` the request is TEI's, with `prompt` vLLM's, with `text` Cohere's, and so is the "
    "answer."
)
_OTHER = "ER has no model of the kind that this is for, and says so as TEI does: with status 424."


def _rerank(path: str, name: str, whose: str, dialect: Dialect = rerank) -> Operation:
    return Operation(
        "post",
        path,
        "Rerank",
        name,
        f"Rank documents ({whose})",
        "With `texts` in place of `documents` the request is TEI's, and so is the answer.",
        (Body(dialect, rerank.SHAPE, answers.Ranking, "score"), _TEI_RERANK),
    )


def _other(path: str, name: str) -> Operation:
    summary = "Not served here: status 424"
    return Operation("post", path, "TEI", name, summary, _OTHER, refuse=tei.refuse)


def _page(path: str, name: str, summary: str, answer: Any, **more: Any) -> Operation:
    return Operation("get", path, "Service", name, summary, answer=answer, open=True, **more)


def _operator(page: str, name: str, summary: str) -> Operation:
    about = "As the admin API says it, read only, for keys with the scope admin-read."
    path = f"/v1/er/{page}"
    return Operation(
        "get", path, "Service", name, summary, about, answer=dict[str, Any], more=(503,)
    )


OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "post",
        "/v1/embeddings",
        "OpenAI",
        "createEmbeddings",
        "Embed texts",
        "Texts are documents unless one of the fields for queries says otherwise. Token ids are "
        "refused unless the model's `token_ids` in er.toml says what they are.",
        (Body(openai, openai.SHAPE, answers.Embeddings, "embed"),),
    ),
    Operation(
        "get",
        "/v1/models",
        "OpenAI",
        "listModels",
        "List models",
        answer=answers.Models,
        query=(("endpoint", "embed or rerank: only models for that, as Cohere has it", WORDS),),
    ),
    Operation(
        "get",
        "/v1/models/{model}",
        "OpenAI",
        "getModel",
        "Describe one model",
        answer=answers.Model,
        named=True,
    ),
    _rerank("/v1/rerank", "rerank", "Cohere v1, Jina, Voyage, vLLM and most others"),
    _rerank("/v2/rerank", "rerankV2", "Cohere v2", cohere.RERANK_V2),
    _rerank("/v1/reranks", "reranks", "DashScope's compatible mode"),
    _rerank("/v1/reranking", "reranking", "llama.cpp"),
    _rerank("/api/rerank", "apiRerank", "Dify's plugin for Ollama"),
    Operation(
        "post",
        "/v2/embed",
        "Cohere",
        "embedV2",
        "Embed texts (Cohere v2)",
        bodies=(Body(cohere.V2, cohere.SHAPE, vendors.CohereEmbeddings, "embed"),),
    ),
    Operation(
        "post",
        "/v1/embed",
        "Cohere",
        "embedV1",
        "Embed texts (Cohere v1)",
        _EITHER_EMBED,
        (_COHERE_EMBED, _TEI_EMBED),
    ),
    Operation(
        "post",
        "/v1/tokenize",
        "Cohere",
        "tokenizeV1",
        "The tokens of a text (Cohere; TEI, vLLM)",
        _EITHER_TOKENIZE,
        _TOKENIZES[::-1],
    ),
    Operation(
        "post",
        "/embed",
        "TEI",
        "embed",
        "Embed texts (TEI)",
        _EITHER_EMBED,
        (_TEI_EMBED, _COHERE_EMBED),
    ),
    Operation(
        "post",
        "/",
        "TEI",
        "embedAtRoot",
        "Embed texts, at the address of the server itself",
        _EITHER_EMBED,
        (_TEI_EMBED, _COHERE_EMBED),
    ),
    Operation(
        "post",
        "/similarity",
        "TEI",
        "similarity",
        "Compare a sentence with others",
        bodies=(Body(tei.SIMILARITY, tei.SIMILARITY_SHAPE, vendors.TeiSimilarities, "embed"),),
    ),
    Operation(
        "post",
        "/tokenize",
        "TEI",
        "tokenize",
        "The tokens of texts (TEI, vLLM, Cohere)",
        _EITHER_TOKENIZE,
        _TOKENIZES,
    ),
    Operation(
        "get",
        "/info",
        "TEI",
        "info",
        "Describe the first model that the key may use",
        answer=vendors.TeiInfo,
        refuse=tei.refuse,
    ),
    _other("/predict", "predict"),
    _other("/embed_all", "embedAll"),
    _other("/embed_sparse", "embedSparse"),
    _other("/decode", "decode"),
    Operation(
        "post",
        "/score",
        "vLLM",
        "score",
        "Score pairs of texts",
        "One text with one, one with many, or as many with as many.",
        (Body(vllm.SCORE, vllm.SCORE_SHAPE, vendors.Scores, "score"),),
    ),
    Operation(
        "post",
        "/pooling",
        "vLLM",
        "pooling",
        "Embed texts (vLLM's own shape)",
        'With `encoding_format` "bytes" and "bytes_only" the answer is the numbers\' bytes alone.',
        (Body(pooling.POOLING, pooling.SHAPE, vendors.Pooling, "embed"),),
        bytes=True,
    ),
    Operation(
        "post",
        "/classify",
        "vLLM",
        "classify",
        "Not served here: status 424",
        "No model here classifies, which is said in vLLM's shape.",
        refuse=vllm.refuse,
        more=(424,),
    ),
    Operation(
        "get",
        "/version",
        "vLLM",
        "vllmVersion",
        "vLLM's version, for clients that ask",
        answer=vendors.Version,
        refuse=vllm.refuse,
    ),
    Operation(
        "post",
        "/api/embed",
        "Ollama",
        "ollamaEmbed",
        "Embed texts",
        bodies=(Body(ollama.EMBED, ollama.EMBED_SHAPE, vendors.OllamaEmbeddings, "embed"),),
    ),
    Operation(
        "post",
        "/api/embeddings",
        "Ollama",
        "ollamaEmbeddings",
        "Embed one text (the older request)",
        bodies=(
            Body(ollama.EMBEDDINGS, ollama.EMBEDDINGS_SHAPE, vendors.OllamaEmbedding, "embed"),
        ),
    ),
    Operation(
        "get",
        "/api/tags",
        "Ollama",
        "ollamaTags",
        "List models",
        answer=vendors.Tags,
        refuse=ollama.refuse,
    ),
    Operation(
        "get",
        "/api/ps",
        "Ollama",
        "ollamaPs",
        "List the models that run, which are all",
        answer=vendors.RunningTags,
        refuse=ollama.refuse,
    ),
    Operation(
        "post",
        "/api/show",
        "Ollama",
        "ollamaShow",
        "Describe one model",
        bodies=(Body(None, ollama.SHOW_SHAPE, vendors.TagCard, "embed", ollama.show),),
        refuse=ollama.refuse,
    ),
    Operation(
        "get",
        "/api/version",
        "Ollama",
        "ollamaVersion",
        "Ollama's version, for clients that ask whether it is new enough",
        answer=vendors.Version,
        refuse=ollama.refuse,
    ),
    Operation(
        "post",
        "/api/v1/services/embeddings/text-embedding/text-embedding",
        "DashScope",
        "dashscopeEmbedding",
        "Embed texts",
        bodies=(
            Body(dashscope.EMBEDDING, dashscope.EMBEDDING_SHAPE, vendors.DashEmbeddings, "embed"),
        ),
    ),
    Operation(
        "post",
        "/api/v1/services/rerank/text-rerank/text-rerank",
        "DashScope",
        "dashscopeRerank",
        "Rank documents",
        bodies=(Body(dashscope.RERANK, dashscope.RERANK_SHAPE, vendors.DashRanking, "score"),),
    ),
    _page(
        "/health", "health", "Which models and replicas answer", answers.Health, down=answers.Health
    ),
    _page("/livez", "livez", "Whether this process works", answers.Alive),
    _page(
        "/readyz",
        "readyz",
        "Whether at least one model answers and the host is not about to go",
        answers.Ready,
        down=answers.Ready,
    ),
    _page(
        "/v1/cluster/auth", "clusterAuth", "That a key is wanted (Xinference)", answers.KeyWanted
    ),
    _page("/ping", "ping", "Whether somebody is there", None),
    _page("/", "root", "Whether somebody is there", None),
    _page("/openapi.json", "openapi", "This document", dict[str, Any]),
    _page("/docs", "docs", "This document as a page to read and try", None, media="text/html"),
    Operation(
        "get",
        "/metrics",
        "Service",
        "metrics",
        "Figures for Prometheus",
        "Prometheus' text, or OpenMetrics where Accept asks for it. The same without a key on the "
        "address that `metrics` in er.toml names.",
        media="text/plain",
    ),
    _operator("status", "operatorStatus", "What runs, what does not, and why"),
    _operator("keys", "operatorKeys", "All keys, without secrets, and what each uses"),
    _operator("traffic", "operatorTraffic", "The last minute by model, dialect and key"),
)
