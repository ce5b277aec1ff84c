"""LangChain's OpenAI, Cohere and Jina classes against a running gateway."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import client_gateway
import connected
from client_gateway import DEAD, DEAD_RERANK, LONG, TEXTS, assert_close, assert_ranked, root
from client_rows import Client
from running import Gateway

OPENAI = Client(
    "LangChain, OpenAI",
    packages=["langchain-openai"],
    lines=[
        'langchain_openai.OpenAIEmbeddings(base_url="http://HOST:2048/v1", api_key="sk-er-…", '
        'model="Qwen3-Embedding-0.6B", check_embedding_ctx_length=False)',
        'langchain_openai.OpenAIEmbeddings(base_url="http://HOST:2048/v1", api_key="sk-er-…", '
        'model="Qwen3-Embedding-0.6B:query", check_embedding_ctx_length=False)',
    ],
)
COHERE = Client(
    "LangChain, Cohere",
    packages=["langchain-cohere", "cohere"],
    lines=[
        'langchain_cohere.CohereEmbeddings(base_url="http://HOST:2048", '
        'cohere_api_key="sk-er-…", model="Qwen3-Embedding-0.6B")',
        'langchain_cohere.CohereRerank(base_url="http://HOST:2048", '
        'cohere_api_key="sk-er-…", model="Qwen3-Reranker-0.6B")',
    ],
)
JINA = Client(
    "LangChain, Jina",
    packages=["langchain-community"],
    lines=[
        'langchain_community.embeddings.jina.JINA_API_URL = "http://HOST:2048/v1/embeddings"',
        'langchain_community.embeddings.JinaEmbeddings(jina_api_key="sk-er-…", '
        'model_name="Qwen3-Embedding-0.6B")',
        "langchain_community.document_compressors.jina_rerank.JINA_API_URL = "
        '"http://HOST:2048/v1/rerank"',
        'langchain_community.document_compressors.JinaRerank(jina_api_key="sk-er-…", '
        'model="Qwen3-Reranker-0.6B")',
    ],
)


pytestmark = pytest.mark.filterwarnings("ignore")  # of libraries about themselves


@pytest.fixture(scope="module")
def er(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with client_gateway.running(tmp_path_factory.mktemp("langchain")) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def spent(er: Gateway) -> str:
    return client_gateway.spent_key(er)


def vectors(er: Gateway, texts: list[str], kind: str = "document") -> Any:
    return client_gateway.vectors(er, texts, kind)


def ranked(results: list[dict[str, Any]]) -> list[tuple[int, float]]:
    return [(row["index"], row["relevance_score"]) for row in results]


# -- langchain-openai ----------------------------------------------------------------------------


@OPENAI.proves("embeddings", "queries", "dimensions")
def test_openai_embeddings(er: Gateway) -> None:
    documents = OPENAI.make(0, root(er), er.key)
    assert_close(documents.embed_documents(TEXTS), vectors(er, TEXTS))
    many = [f"text {i}" for i in range(1500)]  # two calls
    assert_close(documents.embed_documents(many), vectors(er, many))
    queries = OPENAI.make(1, root(er), er.key)
    assert_close(queries.embed_query("q"), vectors(er, ["q"], "query")[0])
    small = OPENAI.make(0, root(er), er.key, dimensions=8)
    assert_close(small.embed_documents(TEXTS), client_gateway.short(vectors(er, TEXTS), 8))


async def test_openai_embeddings_side_by_side(er: Gateway) -> None:
    chain = OPENAI.make(0, root(er), er.key)
    assert_close(await chain.aembed_documents(TEXTS), vectors(er, TEXTS))


def test_openai_token_ids_are_refused_with_the_setting_to_change(er: Gateway) -> None:
    """As they come from a user who left it out; LangChain counts them with tiktoken's own table."""
    import openai

    client = openai.OpenAI(base_url=f"{root(er)}/v1", api_key=er.key)
    with pytest.raises(openai.BadRequestError, match="check_embedding_ctx_length=False"):
        client.embeddings.create(model="embed", input=[[15339, 1917], [65]])


@OPENAI.proves("errors")
def test_openai_raises_its_own(er: Gateway, spent: str) -> None:
    import openai

    def ask(key: str = er.key, text: str = "x", **changes: Any) -> None:
        OPENAI.make(0, root(er), key, **changes).embed_documents([text])

    with pytest.raises(openai.AuthenticationError, match="API key"):
        ask(key="wrong")
    with pytest.raises(openai.NotFoundError, match="there is no model"):
        ask(model="nope")
    with pytest.raises(openai.BadRequestError, match="512"):
        ask(text=LONG)
    with client_gateway.waits() as asked:
        with pytest.raises(openai.RateLimitError, match="1/hour"):
            ask(key=spent)
        assert asked == []  # whoever may retry does not wait an hour for it
        with pytest.raises(openai.InternalServerError, match="No replica of dead"):
            ask(model=DEAD)


@OPENAI.proves("retries")
def test_openai_waits_and_is_served(er: Gateway) -> None:
    client_gateway.assert_patient(er, lambda key: OPENAI.make(0, root(er), key).embed_query("x"))


# -- langchain-cohere ----------------------------------------------------------------------------


@COHERE.proves("embeddings", "queries")
def test_cohere_embeddings(er: Gateway) -> None:
    chain = COHERE.make(0, root(er), er.key)
    many = TEXTS + [f"text {i}" for i in range(200)]  # three calls, at once
    assert_close(chain.embed_documents(many), vectors(er, many))
    assert_close(chain.embed_query("q"), vectors(er, ["q"], "query")[0])


@COHERE.proves("long texts")
def test_cohere_says_where_long_texts_are_cut(er: Gateway) -> None:
    from engine import expected

    chain = COHERE.make(0, root(er), er.key, truncate="START")
    tail = [*(LONG + "end").encode()[-511:], 256]
    assert_close(chain.embed_documents([LONG + "end"]), expected(tail, 64)[None])
    plain = COHERE.make(0, root(er), er.key)
    cut = client_gateway.vectors(er, [LONG], over_length="cut")
    assert_close(plain.embed_documents([LONG]), cut)


@COHERE.proves("rerank")
def test_cohere_rerank(er: Gateway) -> None:
    from langchain_core.documents import Document

    ranker = COHERE.make(1, root(er), er.key)
    want = client_gateway.scores(er, "q", TEXTS)
    assert_ranked(ranked(ranker.rerank(TEXTS, "q")), want)
    kept = COHERE.make(1, root(er), er.key, top_n=2).compress_documents(
        [Document(text, metadata={"i": i}) for i, text in enumerate(TEXTS)], "q"
    )
    assert len(kept) == 2
    assert_ranked([(d.metadata["i"], d.metadata["relevance_score"]) for d in kept], want)


@COHERE.proves("errors")
def test_cohere_raises_its_own(er: Gateway, spent: str) -> None:
    import cohere

    def embed(key: str = er.key, text: str = "x", **changes: Any) -> None:
        COHERE.make(0, root(er), key, **{"max_retries": 1, **changes}).embed_documents([text])

    def rank(key: str = er.key, **changes: Any) -> None:
        COHERE.make(1, root(er), key, **changes).rerank(TEXTS, "q")

    with client_gateway.waits() as asked:
        for ask, dead in ((embed, DEAD), (rank, DEAD_RERANK)):
            with pytest.raises(cohere.UnauthorizedError):
                ask(key="wrong")
            with pytest.raises(cohere.NotFoundError, match="there is no model"):
                ask(model="nope")
            with pytest.raises(cohere.ServiceUnavailableError, match="No replica of dead"):
                ask(model=dead)
        with pytest.raises(cohere.BadRequestError, match="512"):
            embed(text=LONG, truncate="NONE")
        asked.clear()
        with pytest.raises(cohere.TooManyRequestsError, match="1/hour"):
            rank(key=spent)
        assert asked == [60, 60]  # its own longest wait


@COHERE.proves("retries")
def test_cohere_waits_and_is_served(er: Gateway) -> None:
    client_gateway.assert_patient(er, lambda key: COHERE.make(0, root(er), key).embed_query("x"))
    client_gateway.assert_patient(er, lambda key: COHERE.make(1, root(er), key).rerank(TEXTS, "q"))


# -- langchain-community: Jina -------------------------------------------------------------------


@pytest.fixture
def jina(er: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    JINA.assign(0, root(er), er.key, monkeypatch)
    JINA.assign(2, root(er), er.key, monkeypatch)


@pytest.mark.usefixtures("jina")
@JINA.proves("embeddings", "queries")
def test_jina_embeddings(er: Gateway) -> None:
    chain = JINA.make(1, root(er), er.key)
    assert_close(chain.embed_documents(TEXTS), vectors(er, TEXTS))
    queries = JINA.make(1, root(er), er.key, model_name="Qwen3-Embedding-0.6B:query")
    assert_close(queries.embed_query("q"), vectors(er, ["q"], "query")[0])


@pytest.mark.usefixtures("jina")
@JINA.proves("rerank")
def test_jina_rerank(er: Gateway) -> None:
    from langchain_core.documents import Document

    ranker = JINA.make(3, root(er), er.key, top_n=2)
    want = client_gateway.scores(er, "q", TEXTS)
    assert_ranked(ranked(ranker.rerank(TEXTS, "q", top_n=None)), want)
    kept = ranker.compress_documents(
        [Document(text, metadata={"i": i}) for i, text in enumerate(TEXTS)], "q"
    )
    assert len(kept) == 2
    assert_ranked([(d.metadata["i"], d.metadata["relevance_score"]) for d in kept], want)


@pytest.mark.usefixtures("jina")
@JINA.proves("errors")
def test_jina_raises_what_er_says(er: Gateway, spent: str) -> None:
    """It has one exception for all, whose text is the answer's `detail`."""

    def embed(key: str = er.key, text: str = "x", model: str = "embed") -> None:
        JINA.make(1, root(er), key, model_name=model).embed_documents([text])

    def rank(key: str = er.key, text: str = "x", model: str = "rerank") -> None:
        JINA.make(3, root(er), key, model=model).rerank([text], "q")

    for ask, dead in ((embed, DEAD), (rank, DEAD_RERANK)):
        for said, given in {
            "API key": {"key": "wrong"},
            "there is no model": {"model": "nope"},
            "may ask 1/hour": {"key": spent},
            "No replica of dead": {"model": dead},
        }.items():
            with pytest.raises(RuntimeError, match=said):
                ask(**given)
    with pytest.raises(RuntimeError, match="512"):
        embed(text=LONG)


# -- what `er connect` prints --------------------------------------------------------------------


@OPENAI.proves("embeddings", "queries")
@COHERE.proves("embeddings", "queries", "rerank")
def test_what_er_connect_prints_works(er: Gateway) -> None:
    made = connected.objects(connected.printed(er, "langchain"), er.key)
    many = TEXTS + [f"text {i}" for i in range(60)]  # more than a batch
    for documents in (made["embeddings"], made["documents"]):
        assert_close(documents.embed_documents(many), vectors(er, many))
    for questions in (made["embeddings"], made["questions"]):
        assert_close(questions.embed_query("q"), vectors(er, ["q"], "query")[0])
    with pytest.raises(Exception, match="512"):  # not cut behind its user's back
        made["embeddings"].embed_documents([LONG])
    found = ranked(made["reranker"].rerank(TEXTS, "q"))
    assert_ranked(found, client_gateway.scores(er, "q", TEXTS))
    assert len(found) == 3
