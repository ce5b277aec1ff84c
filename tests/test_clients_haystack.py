"""Haystack's OpenAI, Cohere and Jina components against a running gateway."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import client_gateway
from client_gateway import DEAD, DEAD_RERANK, LONG, TEXTS, assert_close, assert_ranked, root, waits
from client_rows import Client
from running import Gateway

SECRET = 'haystack.utils.Secret.from_token("sk-er-…")'
OPENAI = Client(
    "Haystack, OpenAI",
    packages=["haystack-ai"],
    lines=[
        "haystack.components.embedders.OpenAIDocumentEmbedder("
        f'api_base_url="http://HOST:2048/v1", api_key={SECRET}, model="Qwen3-Embedding-0.6B")',
        "haystack.components.embedders.OpenAITextEmbedder("
        f'api_base_url="http://HOST:2048/v1", api_key={SECRET}, '
        'model="Qwen3-Embedding-0.6B:query")',
    ],
)
COHERE = Client(
    "Haystack, Cohere",
    packages=["cohere-haystack", "cohere"],
    lines=[
        "haystack_integrations.components.embedders.cohere.CohereDocumentEmbedder("
        f'api_base_url="http://HOST:2048", api_key={SECRET}, model="Qwen3-Embedding-0.6B")',
        "haystack_integrations.components.embedders.cohere.CohereTextEmbedder("
        f'api_base_url="http://HOST:2048", api_key={SECRET}, model="Qwen3-Embedding-0.6B")',
        "haystack_integrations.components.rankers.cohere.CohereRanker("
        f'api_base_url="http://HOST:2048", api_key={SECRET}, model="Qwen3-Reranker-0.6B")',
    ],
)
JINA = Client(
    "Haystack, Jina",
    packages=["jina-haystack"],
    lines=[
        "haystack_integrations.components.embedders.jina.JinaDocumentEmbedder("
        f'base_url="http://HOST:2048/v1/embeddings", api_key={SECRET}, '
        'model="Qwen3-Embedding-0.6B", task="retrieval.passage")',
        "haystack_integrations.components.embedders.jina.JinaTextEmbedder("
        f'base_url="http://HOST:2048/v1/embeddings", api_key={SECRET}, '
        'model="Qwen3-Embedding-0.6B", task="retrieval.query")',
        "haystack_integrations.components.rankers.jina.JinaRanker("
        f'base_url="http://HOST:2048/v1/rerank", api_key={SECRET}, model="Qwen3-Reranker-0.6B")',
    ],
)


pytestmark = pytest.mark.filterwarnings("ignore")  # of libraries about themselves


@pytest.fixture(scope="module")
def er(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with client_gateway.running(tmp_path_factory.mktemp("haystack")) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def spent(er: Gateway) -> str:
    return client_gateway.spent_key(er)


def documents(texts: list[str]) -> Any:
    from haystack import Document

    return [Document(content=text, id=str(i)) for i, text in enumerate(texts)]


def embed(
    row: Client, er: Gateway, texts: list[str] = TEXTS, key: str = "", **changes: Any
) -> list[list[float]]:
    """By its embedder of documents, which is its first line."""
    tool = row.make(0, root(er), key or er.key, progress_bar=False, **changes)
    return [d.embedding for d in tool.run(documents=documents(texts))["documents"]]


def query(row: Client, er: Gateway, text: str = "q", key: str = "", **changes: Any) -> list[float]:
    """By its embedder of one text."""
    found: list[float] = row.make(1, root(er), key or er.key, **changes).run(text=text)["embedding"]
    return found


def rank(row: Client, er: Gateway, key: str = "", text: str = "q", **changes: Any) -> Any:
    """(index, score) of what its ranker keeps of TEXTS."""
    ranker = row.make(2, root(er), key or er.key, **changes)
    kept = ranker.run(query=text, documents=documents(TEXTS))["documents"]
    return [(int(d.id), d.score) for d in kept]


@OPENAI.proves("embeddings", "queries")
@COHERE.proves("embeddings", "queries")
@JINA.proves("embeddings", "queries")
@pytest.mark.parametrize("row", [OPENAI, COHERE, JINA], ids=lambda row: row.name)
def test_documents_and_queries(er: Gateway, row: Client) -> None:
    many = TEXTS + [f"text {i}" for i in range(50)]  # two calls
    assert_close(embed(row, er, many), client_gateway.vectors(er, many))
    assert_close(query(row, er), client_gateway.vectors(er, ["q"], "query")[0])


@OPENAI.proves("dimensions")
@JINA.proves("dimensions")
@pytest.mark.parametrize("row", [OPENAI, JINA], ids=lambda row: row.name)
def test_fewer_dimensions(er: Gateway, row: Client) -> None:
    short = client_gateway.short(client_gateway.vectors(er, TEXTS), 8)
    assert_close(embed(row, er, dimensions=8), short)


@COHERE.proves("types", "long texts")
def test_cohere_types_and_cuts(er: Gateway) -> None:
    from haystack_integrations.components.embedders.cohere.embedding_types import EmbeddingTypes

    small = query(COHERE, er, embedding_type=EmbeddingTypes.INT8)
    want = client_gateway.vectors(er, ["q"], "query")[0]
    assert np.abs(np.array(small) - want * 127).max() <= 0.5 + 1e-4
    cut = client_gateway.vectors(er, [LONG], over_length="cut")
    assert_close(embed(COHERE, er, [LONG]), cut)


@COHERE.proves("rerank")
@JINA.proves("rerank")
@pytest.mark.parametrize("row", [COHERE, JINA], ids=lambda row: row.name)
def test_rerank(er: Gateway, row: Client) -> None:
    found = rank(row, er)
    assert len(found) == len(TEXTS)
    assert_ranked(found, client_gateway.scores(er, "q", TEXTS))
    assert rank(row, er, top_k=1) == found[:1]


@OPENAI.proves("errors")
def test_openai_raises_its_own(er: Gateway, spent: str) -> None:
    import openai

    with waits() as asked:
        for ask, more in ((embed, {"raise_on_failure": True}), (query, {})):
            with pytest.raises(openai.AuthenticationError, match="API key"):
                ask(OPENAI, er, key="wrong", **more)
            with pytest.raises(openai.NotFoundError, match="there is no model"):
                ask(OPENAI, er, model="nope", **more)
            with pytest.raises(openai.RateLimitError, match="1/hour"):
                ask(OPENAI, er, key=spent, **more)
            assert asked == []
            with pytest.raises(openai.InternalServerError, match="No replica of dead"):
                ask(OPENAI, er, model=DEAD, max_retries=1, **more)
            assert len(asked) == 1 and asked.pop() > 1
        with pytest.raises(openai.BadRequestError, match="512"):
            query(OPENAI, er, text=LONG)


@COHERE.proves("errors")
def test_cohere_raises_its_own(er: Gateway, spent: str) -> None:
    import cohere

    with waits() as asked:
        for ask, dead in ((query, DEAD), (rank, DEAD_RERANK)):
            with pytest.raises(cohere.UnauthorizedError):
                ask(COHERE, er, key="wrong")
            with pytest.raises(cohere.NotFoundError, match="there is no model"):
                ask(COHERE, er, model="nope")
            assert asked == []
            with pytest.raises(cohere.TooManyRequestsError, match="1/hour"):
                ask(COHERE, er, key=spent)
            assert asked == [60, 60]
            with pytest.raises(cohere.ServiceUnavailableError, match="No replica of dead"):
                ask(COHERE, er, model=dead)
            asked.clear()
        with pytest.raises(cohere.BadRequestError, match="512"):
            query(COHERE, er, text=LONG, truncate="NONE")
        with pytest.raises(cohere.BadRequestError, match="1024"):
            rank(COHERE, er, text=LONG * 2)


@JINA.proves("errors")
def test_jina_raises_what_er_says(er: Gateway, spent: str) -> None:
    """It has one exception for all, whose text is the answer's `detail`."""
    for ask, dead in ((embed, DEAD), (query, DEAD), (rank, DEAD_RERANK)):
        refused: dict[str, dict[str, Any]] = {
            "API key": {"key": "wrong"},
            "there is no model": {"model": "nope"},
            "may ask 1/hour": {"key": spent},
            "No replica of dead": {"model": dead},
        }
        for said, given in refused.items():
            with pytest.raises(RuntimeError, match=said):
                ask(JINA, er, **given)
    with pytest.raises(RuntimeError, match="512"):
        query(JINA, er, text=LONG)
    with pytest.raises(RuntimeError, match="1024"):
        rank(JINA, er, text=LONG * 2)


@OPENAI.proves("retries")
@COHERE.proves("retries")
@pytest.mark.parametrize("row", [OPENAI, COHERE], ids=lambda row: row.name)
def test_it_waits_and_is_served(er: Gateway, row: Client) -> None:
    client_gateway.assert_patient(er, lambda key: query(row, er, key=key))
    if row is COHERE:
        client_gateway.assert_patient(er, lambda key: rank(row, er, key=key))
