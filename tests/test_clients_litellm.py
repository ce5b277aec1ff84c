"""LiteLLM by each of its providers that can be pointed at another server, and its router."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import client_gateway
from client_gateway import DEAD, DEAD_RERANK, LONG, TEXTS, assert_close, assert_ranked, root, waits
from client_rows import Client
from running import Gateway


def lines(provider: str, embed: str = "", rerank: str = "", more: str = "") -> Client:
    """A provider's row; `embed` and `rerank` are the addresses, "" where it has no such call."""
    made = []
    if embed:
        made.append(
            f'litellm.embedding(model="{provider}/Qwen3-Embedding-0.6B", input=texts, '
            f'api_base="{embed}", api_key="sk-er-…")'
        )
    if rerank:
        made.append(
            f'litellm.rerank(model="{provider}/Qwen3-Reranker-0.6B", query=query, documents=texts, '
            f'api_base="{rerank}", api_key="sk-er-…"{more})'
        )
    return Client(f"LiteLLM, {provider}", packages=["litellm"], lines=made)


HOST = "http://HOST:2048"
OPENAI = lines("openai", f"{HOST}/v1")
XINFERENCE = lines("xinference", f"{HOST}/v1")
PROXY = lines("litellm_proxy", f"{HOST}/v1", HOST)
TOGETHER = lines("together_ai", f"{HOST}/v1", f"{HOST}/v1")
VLLM = lines("hosted_vllm", f"{HOST}/v1", f"{HOST}/v1")
INFINITY = lines("infinity", f"{HOST}/v1", f"{HOST}/v1", ", return_documents=False")
JINA = lines("jina_ai", f"{HOST}/v1", f"{HOST}/v1")
VOYAGE = lines("voyage", f"{HOST}/v1", f"{HOST}/v1")
COHERE = lines("cohere", f"{HOST}/v2/embed", HOST)
DASHSCOPE = lines("dashscope", f"{HOST}/compatible-mode/v1", f"{HOST}/compatible-api/v1")
TEI = Client(
    "LiteLLM, huggingface",
    packages=["litellm"],
    lines=[
        'litellm.embedding(model="huggingface/Qwen3-Embedding-0.6B", input=texts, '
        'api_base="http://HOST:2048/embed", api_key="sk-er-…", input_type="embed")',
        'litellm.rerank(model="huggingface/Qwen3-Reranker-0.6B", query=query, documents=texts, '
        'api_base="http://HOST:2048", api_key="sk-er-…")',
    ],
    note=client_gateway.ONE_MODEL,
)
ROUTER = Client(
    "LiteLLM, Router",
    packages=["litellm"],
    lines=[
        'litellm.Router(num_retries=3, model_list=[{"model_name": "embed", "litellm_params": {'
        '"model": "hosted_vllm/Qwen3-Embedding-0.6B", "api_base": "http://HOST:2048/v1", '
        '"api_key": "sk-er-…"}}, {"model_name": "rerank", "litellm_params": {'
        '"model": "hosted_vllm/Qwen3-Reranker-0.6B", "api_base": "http://HOST:2048/v1", '
        '"api_key": "sk-er-…"}}])'
    ],
)
BY_SDK = [OPENAI, XINFERENCE, PROXY, TOGETHER]  # these go through OpenAI's SDK and retry as it does
EMBEDDERS = [*BY_SDK, VLLM, INFINITY, JINA, VOYAGE, COHERE, DASHSCOPE]
RANKERS = [row for row in EMBEDDERS if "litellm.rerank" in row.lines[-1]]


def prove(rows: list[Client], *words: str) -> Callable[[Any], Any]:
    """The test proves these words for each row, which it gets as `row`."""

    def mark(test: Any) -> Any:
        for row in rows:
            test = row.proves(*words)(test)
        return pytest.mark.parametrize("row", rows, ids=lambda row: row.name.split(", ")[1])(test)

    return mark


pytestmark = pytest.mark.filterwarnings("ignore")  # of libraries about themselves


@pytest.fixture(scope="module")
def er(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with client_gateway.running(tmp_path_factory.mktemp("litellm")) as gateway:
        yield gateway


@pytest.fixture(scope="module", autouse=True)
def quiet() -> None:
    """Without the advice that it prints with each error."""
    import litellm

    litellm.suppress_debug_info = True


@pytest.fixture(scope="module")
def spent(er: Gateway) -> str:
    return client_gateway.spent_key(er)


def embed(row: Client, er: Gateway, texts: list[str] = TEXTS, key: str = "", **more: Any) -> Any:
    """Its vectors; `model` comes without the provider."""
    if "model" in more:
        more["model"] = f"{row.name.split(', ')[1]}/{more['model']}"
    got = row.make(0, root(er), key or er.key, {"texts": texts}, **more)
    assert [found["index"] for found in got.data] == list(range(len(texts)))
    return [found["embedding"] for found in got.data]


def rank(row: Client, er: Gateway, query: str = "q", key: str = "", **more: Any) -> Any:
    """(index, score) of its results."""
    if "model" in more:
        more["model"] = f"{row.name.split(', ')[1]}/{more['model']}"
    given = {"texts": TEXTS, "query": query}
    got = row.make(len(row.lines) - 1, root(er), key or er.key, given, **more)
    return [(found["index"], found["relevance_score"]) for found in got.results]


@prove(EMBEDDERS, "embeddings", "queries")
def test_embeddings(er: Gateway, row: Client) -> None:
    """A query by a field that LiteLLM passes on."""
    assert_close(embed(row, er), client_gateway.vectors(er, TEXTS))
    queries = embed(row, er, input_type="search_query" if row is COHERE else "query")
    assert_close(queries, client_gateway.vectors(er, TEXTS, "query"))


# LiteLLM itself refuses `dimensions` for a model of OpenAI's that it does not know.
@prove([row for row in EMBEDDERS if row is not OPENAI], "dimensions")
def test_fewer_dimensions(er: Gateway, row: Client) -> None:
    short = client_gateway.short(client_gateway.vectors(er, TEXTS), 8)
    assert_close(embed(row, er, dimensions=8), short)


@OPENAI.proves("dimensions")
def test_fewer_dimensions_by_openai_s_name(er: Gateway) -> None:
    found = embed(OPENAI, er, dimensions=8, allowed_openai_params=["dimensions"])
    assert_close(found, client_gateway.short(client_gateway.vectors(er, TEXTS), 8))


@prove(RANKERS, "rerank")
def test_rerank(er: Gateway, row: Client) -> None:
    found = rank(row, er)
    assert len(found) == len(TEXTS)
    assert_ranked(found, client_gateway.scores(er, "q", TEXTS))
    assert rank(row, er, top_n=1) == found[:1]


def test_infinity_can_t_read_documents(er: Gateway) -> None:
    """Why its line has return_documents=False: it wants a bare text where all others an object."""
    import litellm

    with pytest.raises(litellm.exceptions.APIConnectionError, match="valid string"):
        rank(INFINITY, er, return_documents=True)


@COHERE.proves("long texts")
def test_cohere_cuts(er: Gateway) -> None:
    cut = client_gateway.vectors(er, [LONG], over_length="cut")
    assert_close(embed(COHERE, er, [LONG]), cut)


@prove(EMBEDDERS, "errors")
def test_errors_of_embeddings(er: Gateway, row: Client, spent: str) -> None:
    import litellm

    with waits() as asked:
        with pytest.raises(litellm.AuthenticationError, match="API key"):
            embed(row, er, key="wrong")
        with pytest.raises(litellm.NotFoundError, match="there is no model"):
            embed(row, er, model="nope")
        with pytest.raises(litellm.RateLimitError, match="1/hour"):
            embed(row, er, key=spent)
        assert asked == []
        with pytest.raises(litellm.ServiceUnavailableError, match="No replica of dead"):
            embed(row, er, model=DEAD)
        assert len(asked) == (2 if row in BY_SDK else 0)
        whole = {"truncate": "NONE"} if row is COHERE else {}  # which else cuts, as Cohere does
        with pytest.raises(litellm.BadRequestError, match="512"):
            embed(row, er, [LONG], **whole)


@prove(RANKERS, "errors")
def test_errors_of_rerank(er: Gateway, row: Client, spent: str) -> None:
    import litellm

    with waits() as asked:
        with pytest.raises(litellm.AuthenticationError, match="API key"):
            rank(row, er, key="wrong")
        with pytest.raises(litellm.NotFoundError, match="there is no model"):
            rank(row, er, model="nope")
        with pytest.raises(litellm.BadRequestError, match="1024"):
            rank(row, er, query=LONG * 2)
        with pytest.raises(litellm.RateLimitError, match="1/hour"):
            rank(row, er, key=spent)
        with pytest.raises(litellm.ServiceUnavailableError, match="No replica of dead"):
            rank(row, er, model=DEAD_RERANK)
        assert asked == []


@prove(BY_SDK, "retries")
def test_it_waits_and_is_served(er: Gateway, row: Client) -> None:
    client_gateway.assert_patient(er, lambda key: embed(row, er, key=key))


@TEI.proves("embeddings", "rerank")
def test_tei_of_hugging_face(er: Gateway) -> None:
    import litellm

    one = str(client_gateway.new_key(er, models=["embed"]).secret)
    other = str(client_gateway.new_key(er, models=["rerank"]).secret)
    assert_close(embed(TEI, er, key=one), client_gateway.vectors(er, TEXTS))
    found = rank(TEI, er, key=other)
    assert len(found) == len(TEXTS)
    assert_ranked(found, client_gateway.scores(er, "q", TEXTS))
    assert rank(TEI, er, key=other, top_n=1) == found[:1]
    with pytest.raises(litellm.BadRequestError, match="name a model"):
        rank(TEI, er)


@TEI.proves("errors")
def test_errors_of_tei(er: Gateway) -> None:
    """There is no unknown model: its requests name none."""
    import litellm

    def key(model: str, **limits: Any) -> str:
        return str(client_gateway.new_key(er, models=[model], **limits).secret)

    for ask, model, dead in ((embed, "embed", DEAD), (rank, "rerank", DEAD_RERANK)):
        with pytest.raises(litellm.AuthenticationError, match="API key"):
            ask(TEI, er, key="wrong")
        with pytest.raises(litellm.ServiceUnavailableError, match="No replica of dead"):
            ask(TEI, er, key=key(dead))
        often = key(model, rate_limit="1/hour")
        ask(TEI, er, key=often)
        with pytest.raises(litellm.RateLimitError, match="1/hour"):
            ask(TEI, er, key=often)
    with pytest.raises(litellm.BadRequestError, match="512"):
        embed(TEI, er, [LONG], key=key("embed"))
    with pytest.raises(litellm.BadRequestError, match="1024"):
        rank(TEI, er, query=LONG * 2, key=key("rerank"))


@ROUTER.proves("embeddings", "rerank", "retries")
async def test_the_router_waits_and_is_served(er: Gateway) -> None:
    with client_gateway.patience(er) as (key, _):
        router = ROUTER.make(0, root(er), key)
        got = await router.aembedding(model="embed", input=TEXTS)
        assert_close([found["embedding"] for found in got.data], client_gateway.vectors(er, TEXTS))
    with client_gateway.patience(er) as (key, _):
        router = ROUTER.make(0, root(er), key)
        ranked = await router.arerank(model="rerank", query="q", documents=TEXTS)
        want = client_gateway.scores(er, "q", TEXTS)
        assert_ranked([(r["index"], r["relevance_score"]) for r in ranked.results], want)
