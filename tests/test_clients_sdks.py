"""The SDKs of OpenAI, Cohere, Voyage, Hugging Face, DashScope and Ollama against a gateway."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import client_gateway
from client_gateway import (
    DEAD,
    DEAD_RERANK,
    EMBED,
    LONG,
    RERANK,
    TEXTS,
    assert_close,
    assert_ranked,
    bits,
    root,
    scores,
    short,
    vectors,
    waits,
)
from client_rows import Client
from engine import expected
from running import DIMENSIONS, Gateway

OPENAI = Client(
    "OpenAI",
    packages=["openai"],
    lines=[
        'openai.OpenAI(base_url="http://HOST:2048/v1", api_key="sk-er-…")',
        'client.embeddings.create(model="Qwen3-Embedding-0.6B", input=texts, '
        'extra_body={"input_type": "query"})',
        'client.embeddings.create(model="Qwen3-Embedding-0.6B:query", input=texts)',
    ],
)
COHERE = Client(
    "Cohere",
    packages=["cohere"],
    lines=[
        'cohere.ClientV2(base_url="http://HOST:2048", api_key="sk-er-…")',
        'cohere.Client(base_url="http://HOST:2048", api_key="sk-er-…")',
    ],
)
VOYAGE = Client(
    "Voyage",
    packages=["voyageai"],
    lines=['voyageai.Client(base_url="http://HOST:2048/v1", api_key="sk-er-…")'],
)
HUGGING_FACE = Client(
    "Hugging Face, InferenceClient",
    packages=["huggingface-hub"],
    lines=[
        'huggingface_hub.InferenceClient(base_url="http://HOST:2048", token="sk-er-…")',
        'huggingface_hub.InferenceClient(model="http://HOST:2048/similarity", token="sk-er-…")',
    ],
    note=client_gateway.ONE_MODEL,
)
DASHSCOPE = Client(
    "DashScope",
    packages=["dashscope"],
    lines=[
        'dashscope.base_http_api_url = "http://HOST:2048/api/v1"',
        'dashscope.TextEmbedding.call(model="Qwen3-Embedding-0.6B", input=texts, '
        'text_type="query", api_key="sk-er-…")',
        'dashscope.TextReRank.call(model="Qwen3-Reranker-0.6B", query=query, documents=texts, '
        'api_key="sk-er-…")',
    ],
)
OLLAMA = Client(
    "Ollama",
    packages=["ollama"],
    lines=[
        'ollama.Client(host="http://HOST:2048", headers={"authorization": "Bearer sk-er-…"})',
    ],
)


pytestmark = pytest.mark.filterwarnings("ignore")  # of libraries about themselves


@pytest.fixture(scope="module")
def er(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with client_gateway.running(tmp_path_factory.mktemp("sdks")) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def spent(er: Gateway) -> str:
    return client_gateway.spent_key(er)


def narrow(er: Gateway, model: str, **limits: Any) -> str:
    """A key for one model: TEI's requests can't name one of several."""
    return str(client_gateway.new_key(er, models=[model], **limits).secret)


def assert_steps(got: Any, want: Any, offset: int = 0) -> None:
    """int8 of vectors, where 127 stands for 1: the nearest step; uint8 with an offset of 128."""
    assert np.abs(np.array(got) - offset - want * 127).max() <= 0.5 + 1e-4


# -- OpenAI --------------------------------------------------------------------------------------


def rows(answer: Any) -> list[list[float]]:
    assert [row.index for row in answer.data] == list(range(len(answer.data)))
    return [row.embedding for row in answer.data]


@OPENAI.proves("embeddings", "queries", "dimensions")
def test_openai(er: Gateway) -> None:
    client = OPENAI.make(0, root(er), er.key)
    create = client.embeddings.create
    want, queries = vectors(er, TEXTS), vectors(er, TEXTS, "query")
    plain = create(model=EMBED, input=TEXTS)
    assert_close(rows(plain), want)
    assert plain.usage.prompt_tokens == plain.usage.total_tokens > 0
    assert_close(rows(create(model=EMBED, input=TEXTS, encoding_format="float")), want)
    (coded,) = create(model=EMBED, input="one", encoding_format="base64").data
    assert_close(np.frombuffer(base64.b64decode(coded.embedding), "<f4"), want[0])
    for line in (1, 2):
        made = OPENAI.make(line, root(er), er.key, {"client": client, "texts": TEXTS})
        assert_close(rows(made), queries)
    jina = create(model=EMBED, input=TEXTS, extra_body={"task": "retrieval.query"})
    assert_close(rows(jina), queries)
    assert_close(rows(create(model=EMBED, input=TEXTS, dimensions=16)), short(want, 16))


async def test_openai_side_by_side(er: Gateway) -> None:
    import asyncio

    import openai

    client = openai.AsyncOpenAI(base_url=f"{root(er)}/v1", api_key=er.key)
    texts = [f"text {i}" for i in range(50)]
    made = await asyncio.gather(
        *(client.embeddings.create(model=EMBED, input=text) for text in texts)
    )
    assert_close([answer.data[0].embedding for answer in made], vectors(er, texts))


def test_openai_models(er: Gateway) -> None:
    models = OPENAI.make(0, root(er), er.key).models
    assert {"embed", "rerank", "bi"} <= {card.id for card in models.list()}
    card = models.retrieve(EMBED)
    assert card.model_extra["dimensions"] == DIMENSIONS
    assert EMBED in card.model_extra["aliases"]
    assert models.retrieve("bi/encoder").id == "bi"  # the slash comes percent-encoded


@OPENAI.proves("errors")
def test_openai_raises_its_own(er: Gateway, spent: str) -> None:
    import openai

    def ask(key: str = er.key, text: Any = "x", model: str = EMBED) -> None:
        OPENAI.make(0, root(er), key).embeddings.create(model=model, input=text)

    with waits() as asked:
        with pytest.raises(openai.AuthenticationError, match="API key") as wrong:
            ask(key="wrong")
        assert wrong.value.code == "invalid_api_key" and wrong.value.request_id
        with pytest.raises(openai.NotFoundError, match="there is no model") as missing:
            ask(model="nope")
        assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
        with pytest.raises(openai.BadRequestError, match="512") as long:
            ask(text=LONG)
        assert long.value.param == "input"
        with pytest.raises(openai.BadRequestError, match="token ids"):
            ask(text=[[1, 2]])
        with pytest.raises(openai.RateLimitError, match="1/hour"):
            ask(key=spent)
        assert asked == []  # whoever may retry does not wait an hour for it
        with pytest.raises(openai.InternalServerError, match="No replica of dead"):
            ask(model=DEAD)
        assert len(asked) == 2 and min(asked) > 1


@OPENAI.proves("retries")
def test_openai_waits_and_is_served(er: Gateway) -> None:
    def ask(key: str) -> None:
        OPENAI.make(0, root(er), key).embeddings.create(model=EMBED, input="x")

    client_gateway.assert_patient(er, ask)


# -- Cohere --------------------------------------------------------------------------------------


@COHERE.proves("embeddings", "queries", "types")
def test_cohere_embeddings_of_both_versions(er: Gateway) -> None:
    want = vectors(er, TEXTS)
    new = COHERE.make(0, root(er), er.key).embed(
        model=EMBED,
        texts=TEXTS,
        input_type="search_document",
        embedding_types=["float", "int8", "uint8", "binary", "ubinary", "base64"],
    )
    made = new.embeddings
    assert_close(made.float_, want)
    assert_close([np.frombuffer(base64.b64decode(t), "<f4") for t in made.base64], want)
    assert np.array_equal(made.ubinary, bits(want))
    assert np.array_equal(made.binary, bits(want).astype(int) - 128)
    assert_steps(made.int8, want)
    assert_steps(made.uint8, want, 128)
    assert new.meta.billed_units.input_tokens
    old = COHERE.make(1, root(er), er.key)
    query = old.embed(model=EMBED, texts=["q"], input_type="search_query")
    assert query.response_type == "embeddings_floats"
    assert_close(query.embeddings, vectors(er, ["q"], "query"))
    many = [f"text {i}" for i in range(200)]  # the SDK makes three calls of these
    typed = old.embed(
        model=EMBED, texts=many, input_type="search_document", embedding_types=["float"]
    )
    assert_close(typed.embeddings.float_, vectors(er, many))


@COHERE.proves("long texts", "dimensions")
def test_cohere_cuts_at_the_side_that_is_asked_for(er: Gateway) -> None:
    import cohere

    client = COHERE.make(0, root(er), er.key)
    text = LONG + "end"
    cut = vectors(er, [text], over_length="cut")

    def embed(**more: Any) -> Any:
        return client.embed(
            model=EMBED, texts=[text], input_type="search_document", **more
        ).embeddings.float_

    tail = [*text.encode()[-511:], 256]
    assert_close(embed(truncate="START"), expected(tail, DIMENSIONS)[None])
    assert_close(embed(truncate="END"), cut)
    assert_close(embed(), cut)
    with pytest.raises(cohere.BadRequestError, match="512"):
        embed(truncate="NONE")
    assert_close(embed(output_dimension=8), short(cut, 8))


def found(results: Any) -> list[tuple[int, float]]:
    return [(r.index, r.relevance_score) for r in results]


@COHERE.proves("rerank", "long texts")
def test_cohere_rerank(er: Gateway) -> None:
    client = COHERE.make(0, root(er), er.key)
    answer = client.rerank(model=RERANK, query="q", documents=TEXTS, top_n=2)
    assert len(answer.results) == 2
    assert_ranked(found(answer.results), scores(er, "q", TEXTS))
    cut = client.rerank(model=RERANK, query="q", documents=[LONG], max_tokens_per_doc=9)
    assert_ranked(found(cut.results), scores(er, "q", [LONG[:8]]))
    old = COHERE.make(1, root(er), er.key)
    v1 = old.rerank(model=RERANK, query="q", documents=[{"text": "a"}], return_documents=True)
    assert v1.results[0].document.text == "a"
    assert_ranked(found(v1.results), scores(er, "q", ["a"]))


def test_cohere_lists_models(er: Gateway) -> None:
    models = COHERE.make(0, root(er), er.key).models
    told = {m.name: (m.endpoints, m.context_length) for m in models.list().models}
    assert told["embed"] == (["embed"], 512) and told["rerank"] == (["rerank"], 1024)
    assert {m.name for m in models.list(endpoint="embed").models} == {"embed", DEAD}
    assert models.list(endpoint="chat").models == []
    assert models.get("embed").context_length == 512


@COHERE.proves("errors")
def test_cohere_raises_its_own(er: Gateway, spent: str) -> None:
    import cohere

    def embed(key: str = er.key, model: str = EMBED, kind: str = "search_query") -> None:
        COHERE.make(0, root(er), key).embed(model=model, texts=["x"], input_type=kind)

    def rank(key: str = er.key, model: str = RERANK, query: str = "q") -> None:
        COHERE.make(0, root(er), key).rerank(model=model, query=query, documents=TEXTS)

    with waits() as asked:
        for ask, dead in ((embed, DEAD), (rank, DEAD_RERANK)):
            with pytest.raises(cohere.UnauthorizedError):
                ask(key="wrong")
            with pytest.raises(cohere.NotFoundError, match="there is no model"):
                ask(model="nope")
            assert asked == []
            with pytest.raises(cohere.TooManyRequestsError, match="1/hour"):
                ask(key=spent)
            assert asked == [60, 60]  # its own longest wait
            with pytest.raises(cohere.ServiceUnavailableError, match="No replica of dead"):
                ask(model=dead)
            asked.clear()
        with pytest.raises(cohere.BadRequestError, match="search_query"):
            embed(kind="sideways")
        with pytest.raises(cohere.BadRequestError, match="1024"):
            rank(query=LONG * 2)


@COHERE.proves("retries")
def test_cohere_waits_and_is_served(er: Gateway) -> None:
    def embed(key: str) -> None:
        COHERE.make(0, root(er), key).embed(model=EMBED, texts=["x"], input_type="search_query")

    client_gateway.assert_patient(er, embed)


# -- Voyage --------------------------------------------------------------------------------------


@VOYAGE.proves("embeddings", "queries", "types", "dimensions", "long texts")
def test_voyage_embeddings_in_every_type(er: Gateway) -> None:
    voyage = VOYAGE.make(0, root(er), er.key)
    want = vectors(er, TEXTS, "query")
    made = {
        kind: voyage.embed(TEXTS, model=EMBED, input_type="query", output_dtype=kind)
        for kind in (None, "float", "int8", "uint8", "binary", "ubinary")
    }
    assert_close(made[None].embeddings, want)
    assert_close(made["float"].embeddings, want)
    assert_steps(made["int8"].embeddings, want)
    assert_steps(made["uint8"].embeddings, want, 128)
    assert np.array_equal(made["ubinary"].embeddings, bits(want))
    assert np.array_equal(made["binary"].embeddings, bits(want).astype(int) - 128)
    given: dict[str, Any] = {"instruction": None, "over_length": "refuse"}
    sequences = client_gateway.embedder(er).embed(TEXTS, kind="query", **given).sequences
    assert made[None].total_tokens == sum(map(len, sequences))
    for kind in (None, "document"):
        plain = voyage.embed(TEXTS, model=EMBED, input_type=kind)
        assert_close(plain.embeddings, vectors(er, TEXTS))
    small = voyage.embed(TEXTS, model=EMBED, output_dimension=8)
    assert_close(small.embeddings, short(vectors(er, TEXTS), 8))
    cut = voyage.embed([LONG], model=EMBED)
    assert_close(cut.embeddings, vectors(er, [LONG], over_length="cut"))


@VOYAGE.proves("rerank")
def test_voyage_rerank(er: Gateway) -> None:
    answer = VOYAGE.make(0, root(er), er.key).rerank("q", TEXTS, model=RERANK, top_k=2)
    assert len(answer.results) == 2
    assert_ranked(found(answer.results), scores(er, "q", TEXTS))
    assert [r.document for r in answer.results] == [TEXTS[r.index] for r in answer.results]


@VOYAGE.proves("errors")
def test_voyage_raises_its_own(er: Gateway, spent: str) -> None:
    from voyageai import error

    def embed(key: str = er.key, model: str = EMBED, texts: list[str] = TEXTS, **more: Any) -> None:
        VOYAGE.make(0, root(er), key).embed(texts, model=model, **more)

    def rank(key: str = er.key, model: str = RERANK, query: str = "q") -> None:
        VOYAGE.make(0, root(er), key).rerank(query, TEXTS, model=model)

    for ask, dead in ((embed, DEAD), (rank, DEAD_RERANK)):
        with pytest.raises(error.AuthenticationError):
            ask(key="wrong")
        with pytest.raises(error.APIError, match="there is no model"):
            ask(model="nope")
        with pytest.raises(error.RateLimitError, match="1/hour"):
            ask(key=spent)
        with pytest.raises(error.ServiceUnavailableError):  # in its own words
            ask(model=dead)
    with pytest.raises(error.InvalidRequestError, match="512"):
        embed(texts=[LONG], truncation=False)
    with pytest.raises(error.InvalidRequestError, match="output_dtype"):
        embed(output_dtype="int4")
    with pytest.raises(error.InvalidRequestError, match="1024"):
        rank(query=LONG * 2)


@VOYAGE.proves("retries")
def test_voyage_tries_again_and_is_served(er: Gateway) -> None:
    """It has waits of its own, 1 to 2 s at first; what is told is not looked at."""
    with client_gateway.patience(er) as (key, asked):
        VOYAGE.make(0, root(er), key, max_retries=3).embed(["x"], model=EMBED)
    assert len(asked) == 1 and 1 <= asked[0] <= 2


# -- Hugging Face's TEI --------------------------------------------------------------------------


@HUGGING_FACE.proves("embeddings", "queries", "dimensions", "long texts")
def test_hugging_face_inference_client(er: Gateway) -> None:
    """Given the whole address, or only the server's."""
    key = narrow(er, "embed")
    server = HUGGING_FACE.make(0, root(er), key)
    assert_close(server.feature_extraction("one"), vectors(er, ["one"]))
    query = server.feature_extraction("one", prompt_name="query")
    assert_close(query, vectors(er, ["one"], "query"))
    small = server.feature_extraction("one", dimensions=8)
    assert_close(small, short(vectors(er, ["one"]), 8))
    cut = server.feature_extraction(LONG, truncate=True)
    assert_close(cut, vectors(er, [LONG], over_length="cut"))
    alike = HUGGING_FACE.make(1, root(er), key).sentence_similarity("one", ["two", "one"])
    pair = vectors(er, ["one", "two"])
    assert alike == pytest.approx([float(pair[0] @ pair[1]), 1.0], abs=1e-6)
    whole = HUGGING_FACE.make(1, root(er), key, model=f"{root(er)}/embed")
    assert_close(whole.feature_extraction("one"), vectors(er, ["one"]))


@HUGGING_FACE.proves("errors")
def test_hugging_face_reads_what_went_wrong(er: Gateway) -> None:
    """One exception for all, with the answer in it. Its requests name no model."""
    from huggingface_hub.errors import HfHubHTTPError

    def ask(key: str, text: str = "x") -> None:
        HUGGING_FACE.make(0, root(er), key).feature_extraction(text)

    with pytest.raises(HfHubHTTPError, match="512") as long:
        ask(narrow(er, "embed"), LONG)
    assert long.value.response.json()["error_type"] == "validation"
    often = narrow(er, "embed", rate_limit="1/hour")
    ask(often)
    for status, said, key in (
        (401, "API key", "wrong"),
        (400, "name a model", er.key),
        (429, "1/hour", often),
        (503, "No replica of dead", narrow(er, DEAD)),
    ):
        with pytest.raises(HfHubHTTPError, match=said) as refused:
            ask(key)
        assert refused.value.response.status_code == status


# -- DashScope -----------------------------------------------------------------------------------


@pytest.fixture
def native(er: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    DASHSCOPE.assign(0, root(er), er.key, monkeypatch)


@pytest.mark.usefixtures("native")
@DASHSCOPE.proves("embeddings", "queries", "dimensions", "rerank", "instruction")
def test_dashscope(er: Gateway) -> None:
    def embed(**more: Any) -> Any:
        made = DASHSCOPE.make(1, root(er), er.key, {"texts": TEXTS}, **more)
        assert made.status_code == 200, made
        rows = made.output["embeddings"]
        assert [row["text_index"] for row in rows] == [0, 1, 2]
        assert made.usage["total_tokens"] > 0 and made.request_id
        return [row["embedding"] for row in rows]

    queries = vectors(er, TEXTS, "query")
    assert_close(embed(), queries)
    assert_close(embed(dimension=16), short(queries, 16))
    assert_close(embed(text_type="document"), vectors(er, TEXTS))
    own = vectors(er, TEXTS, "query", instruction="Find it")
    assert_close(embed(instruct="Find it"), own)
    given = {"texts": TEXTS, "query": "q"}
    ranked = DASHSCOPE.make(2, root(er), er.key, given)
    assert_ranked(found(ranked.output.results), scores(er, "q", TEXTS))
    more = {"top_n": 2, "return_documents": True, "instruct": "Find it"}
    ranked = DASHSCOPE.make(2, root(er), er.key, given, **more)
    assert ranked.status_code == 200 and len(ranked.output.results) == 2
    assert_ranked(found(ranked.output.results), scores(er, "q", TEXTS, instruction="Find it"))
    first = ranked.output.results[0]
    assert first["document"]["text"] == TEXTS[first.index]


@pytest.mark.usefixtures("native")
@DASHSCOPE.proves("errors")
def test_dashscope_says_what_went_wrong(er: Gateway, spent: str) -> None:
    """It raises nothing: the answer has status and code."""

    def embed(**more: Any) -> tuple[int, str]:
        said = DASHSCOPE.make(1, root(er), er.key, {"texts": ["x"]}, **more)
        assert said.message and said.request_id
        return said.status_code, said.code

    def rank(**more: Any) -> tuple[int, str]:
        given = {"texts": TEXTS, "query": "q"}
        said = DASHSCOPE.make(2, root(er), er.key, given, **more)
        assert said.message and said.request_id
        return said.status_code, said.code

    for ask, dead in ((embed, DEAD), (rank, DEAD_RERANK)):
        assert ask(api_key="wrong") == (401, "InvalidApiKey")
        assert ask(model="nope") == (404, "ModelNotFound")
        assert ask(api_key=spent)[0] == 429
        assert ask(model=dead)[0] == 503
    assert embed(input=[LONG]) == (400, "InvalidParameter")
    assert rank(query=LONG * 2) == (400, "InvalidParameter")
    assert embed(dimension=0) == (400, "InvalidParameter")
    assert embed(output_type="sparse") == (400, "InvalidParameter")


# -- Ollama --------------------------------------------------------------------------------------


@OLLAMA.proves("embeddings", "queries", "dimensions", "long texts")
def test_ollama(er: Gateway) -> None:
    client = OLLAMA.make(0, root(er), er.key)
    made = client.embed(model=f"{EMBED}:latest", input=TEXTS, dimensions=16)
    assert_close(made.embeddings, short(vectors(er, TEXTS), 16))
    assert made.total_duration and made.prompt_eval_count
    query = client.embed(model=f"{EMBED}:query", input="q")
    assert_close(query.embeddings, vectors(er, ["q"], "query"))
    assert_close(client.embeddings(model=EMBED, prompt="q").embedding, vectors(er, ["q"])[0])
    names = [m.model for m in client.list().models]
    assert names == ["embed", "bi", "rerank", DEAD, DEAD_RERANK]
    cut = vectors(er, [LONG], over_length="cut")
    assert_close(client.embed(model=EMBED, input=LONG).embeddings, cut)
    shown = client.show("text-embedding-v4:latest")
    assert shown.capabilities == ["embedding"]
    assert shown.modelinfo["qwen3.context_length"] == 512
    assert shown.modelinfo["qwen3.embedding_length"] == DIMENSIONS
    assert next(m.context_length for m in client.ps().models) == 512


@OLLAMA.proves("errors")
def test_ollama_raises_its_own(er: Gateway, spent: str) -> None:
    """One exception, with the status in it."""
    import ollama

    refused: list[tuple[int, str, str, dict[str, Any]]] = [
        (401, "this API key", "wrong", {}),
        (404, "there is no model", er.key, {"model": "nope"}),
        (400, ".*512", er.key, {"input": LONG, "truncate": False}),
        (429, ".*1/hour", spent, {}),
        (503, "No replica of dead", er.key, {"model": DEAD}),
    ]
    for status, said, key, more in refused:
        with pytest.raises(ollama.ResponseError, match=f"^{said}") as found:
            OLLAMA.make(0, root(er), key).embed(**{"model": EMBED, "input": "x", **more})
        assert found.value.status_code == status
    with pytest.raises(ollama.ResponseError, match=r"^there is no model") as missing:
        OLLAMA.make(0, root(er), er.key).show("nope")
    assert missing.value.status_code == 404
    with pytest.raises(ollama.ResponseError, match=r"^no API key"):
        ollama.Client(host=root(er)).embed(model=EMBED, input="x")
    with pytest.raises(ollama.ResponseError, match=r"^there is nothing at /api/chat; .*/api/embed"):
        OLLAMA.make(0, root(er), er.key).chat(model=EMBED, messages=[])
