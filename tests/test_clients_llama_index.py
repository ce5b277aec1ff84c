"""LlamaIndex's OpenAI-like embeddings, Cohere and Jina rerankers against a running gateway."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import client_gateway
import connected
from client_gateway import DEAD, DEAD_RERANK, LONG, TEXTS, assert_close, assert_ranked, root, waits
from client_rows import Client
from running import Gateway

OPENAI = Client(
    "LlamaIndex, OpenAI-like",
    packages=["llama-index-embeddings-openai-like"],
    lines=[
        'llama_index.embeddings.openai_like.OpenAILikeEmbedding(api_base="http://HOST:2048/v1", '
        'api_key="sk-er-…", model_name="Qwen3-Embedding-0.6B")',
        'llama_index.embeddings.openai_like.OpenAILikeEmbedding(api_base="http://HOST:2048/v1", '
        'api_key="sk-er-…", model_name="Qwen3-Embedding-0.6B:query")',
    ],
)
COHERE = Client(
    "LlamaIndex, Cohere",
    packages=["llama-index-postprocessor-cohere-rerank", "cohere"],
    lines=[
        'llama_index.postprocessor.cohere_rerank.CohereRerank(base_url="http://HOST:2048", '
        'api_key="sk-er-…", model="Qwen3-Reranker-0.6B")'
    ],
)
JINA = Client(
    "LlamaIndex, Jina",
    packages=["llama-index-postprocessor-jinaai-rerank"],
    lines=[
        'llama_index.postprocessor.jinaai_rerank.JinaRerank(base_url="http://HOST:2048/v1", '
        'api_key="sk-er-…", model="Qwen3-Reranker-0.6B")'
    ],
)


pytestmark = pytest.mark.filterwarnings("ignore")  # of libraries about themselves


@pytest.fixture(scope="module")
def er(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with client_gateway.running(tmp_path_factory.mktemp("llama-index")) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def spent(er: Gateway) -> str:
    return client_gateway.spent_key(er)


@OPENAI.proves("embeddings", "queries", "dimensions")
def test_openai_like_embeddings(er: Gateway) -> None:
    model = OPENAI.make(0, root(er), er.key)
    many = TEXTS + [f"text {i}" for i in range(25)]  # three calls
    assert_close(model.get_text_embedding_batch(many), client_gateway.vectors(er, many))
    query = OPENAI.make(1, root(er), er.key).get_query_embedding("q")
    assert_close(query, client_gateway.vectors(er, ["q"], "query")[0])
    small = OPENAI.make(0, root(er), er.key, dimensions=8).get_text_embedding("one")
    assert_close(small, client_gateway.short(client_gateway.vectors(er, ["one"]), 8)[0])


@OPENAI.proves("queries")
def test_openai_like_says_query_in_a_field(er: Gateway) -> None:
    """One more field of the body, for who would rather not use the alias."""
    model = OPENAI.make(
        0, root(er), er.key, additional_kwargs={"extra_body": {"input_type": "query"}}
    )
    assert_close(model.get_query_embedding("q"), client_gateway.vectors(er, ["q"], "query")[0])


@OPENAI.proves("errors")
def test_openai_like_raises_openai_s(er: Gateway, spent: str) -> None:
    import openai

    def ask(key: str = er.key, text: str = "x", **changes: Any) -> None:
        OPENAI.make(0, root(er), key, **changes).get_text_embedding(text)

    with waits() as asked:
        with pytest.raises(openai.AuthenticationError, match="API key"):
            ask(key="wrong")
        with pytest.raises(openai.NotFoundError, match="there is no model"):
            ask(model_name="nope")
        with pytest.raises(openai.BadRequestError, match="512"):
            ask(text=LONG)
        assert asked == []
        with pytest.raises(openai.RateLimitError, match="1/hour"):
            ask(key=spent, max_retries=2)
        assert asked == [120]  # its own longest wait; what ER says is an hour
        with pytest.raises(openai.InternalServerError, match="No replica of dead"):
            ask(model_name=DEAD, max_retries=2)


@OPENAI.proves("retries")
def test_openai_like_waits_and_is_served(er: Gateway) -> None:
    client_gateway.assert_patient(
        er, lambda key: OPENAI.make(0, root(er), key).get_text_embedding("x")
    )


def rank(row: Client, er: Gateway, key: str = "", query: str = "q", **changes: Any) -> Any:
    """(index, score) of what that reranker keeps of TEXTS."""
    return kept_by(row.make(0, root(er), key or er.key, **changes), query)


def kept_by(ranker: Any, query: str) -> Any:
    """The same of a reranker."""
    from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

    nodes = [NodeWithScore(node=TextNode(text=t, id_=str(i))) for i, t in enumerate(TEXTS)]
    kept = ranker.postprocess_nodes(nodes, query_bundle=QueryBundle(query))
    return [(int(n.node.node_id), n.score) for n in kept]


@COHERE.proves("rerank")
@JINA.proves("rerank")
@pytest.mark.parametrize("row", [COHERE, JINA], ids=lambda row: row.name)
def test_rerank(er: Gateway, row: Client) -> None:
    want = client_gateway.scores(er, "q", TEXTS)
    found = rank(row, er, top_n=3)
    assert_ranked(found, want)
    assert len(found) == 3
    assert rank(row, er, top_n=1) == found[:1]
    assert len(rank(row, er)) == 2  # its own default


@COHERE.proves("errors")
def test_cohere_raises_its_own(er: Gateway, spent: str) -> None:
    import cohere

    with waits() as asked:
        with pytest.raises(cohere.UnauthorizedError):
            rank(COHERE, er, key="wrong")
        with pytest.raises(cohere.NotFoundError, match="there is no model"):
            rank(COHERE, er, model="nope")
        with pytest.raises(cohere.BadRequestError, match="1024"):
            rank(COHERE, er, query=LONG * 2)
        assert asked == []
        with pytest.raises(cohere.TooManyRequestsError, match="1/hour"):
            rank(COHERE, er, key=spent)
        assert asked == [60, 60]
        with pytest.raises(cohere.ServiceUnavailableError, match="No replica of dead"):
            rank(COHERE, er, model=DEAD_RERANK, max_retries=2)


@COHERE.proves("retries")
def test_cohere_waits_and_is_served(er: Gateway) -> None:
    client_gateway.assert_patient(er, lambda key: rank(COHERE, er, key=key))


@JINA.proves("errors")
def test_jina_raises_what_er_says(er: Gateway, spent: str) -> None:
    """It has one exception for all, whose text is the answer's `detail`."""
    refused: dict[str, dict[str, Any]] = {
        "API key": {"key": "wrong"},
        "there is no model": {"model": "nope"},
        "1024": {"query": LONG * 2},
        "may ask 1/hour": {"key": spent},
        "No replica of dead": {"model": DEAD_RERANK},
    }
    for said, given in refused.items():
        with pytest.raises(RuntimeError, match=said):
            rank(JINA, er, **given)


@OPENAI.proves("embeddings", "queries")
@COHERE.proves("rerank")
def test_what_er_connect_prints_works(er: Gateway) -> None:
    made = connected.objects(connected.printed(er, "llama-index"), er.key)
    many = TEXTS + [f"text {i}" for i in range(60)]  # more than a batch
    documents, questions = made["documents"], made["questions"]
    assert_close(documents.get_text_embedding_batch(many), client_gateway.vectors(er, many))
    want = client_gateway.vectors(er, ["q"], "query")[0]
    assert_close(questions.get_query_embedding("q"), want)
    found = kept_by(made["reranker"], "q")
    assert_ranked(found, client_gateway.scores(er, "q", TEXTS))
    assert len(found) == 3
