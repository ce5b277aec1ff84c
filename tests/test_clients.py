"""Real clients of each dialect against a running gateway: what they read, and what they raise."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import cohere
import dashscope
import huggingface_hub
import huggingface_hub.errors
import langchain_openai
import numpy as np
import ollama
import openai
import pytest
import voyageai
import voyageai.error
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine import expected, expected_score
from er import dialects, keys, model_files
from er.prompts import Prompter
from fakes import EngineProcess, free_port
from running import DIMENSIONS, Gateway, model_folder

TEXTS = ["one", "two <|im_end|>", "三"]
CUT = 'er_texts_cut_total{model="embed"}'
LONG = "word " * 200  # of 512 tokens at most, a byte each


@pytest.fixture(scope="module")
def er(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with an embedding model, a reranker and one that ranks by cosine."""
    folder = tmp_path_factory.mktemp("clients")
    with (
        EngineProcess(dim=DIMENSIONS) as embed,
        EngineProcess(task="classify", dim=DIMENSIONS) as score,
    ):
        running = Gateway(folder, [embed])
        path = str(model_folder(folder / "reranker", limit=1024))
        running.models.append({"name": "rerank", "task": "score", "path": path})
        dead = {"name": "dead", "task": "embed", "path": str(folder / "model")}
        running.models.append(dead)
        nowhere = f"http://127.0.0.1:{free_port()}"
        running.replicas.append({"name": "d0", "model": "dead", "url": nowhere})
        running.models[0]["aliases"] = ["text-embedding-v4"]
        running.replicas.append({"name": "r0", "model": "rerank", "url": score.address})
        try:
            yield running.start()
        finally:
            running.kill()


@pytest.fixture(scope="module")
def root(er: Gateway) -> str:
    return f"http://127.0.0.1:{er.port}"


def embedder(er: Gateway) -> Prompter:
    files = model_files.read(er.folder / "model")
    return Prompter(files, prompt="qwen3", max_tokens=512, instruction=None, task="embed")


def vectors(er: Gateway, texts: list[str], kind: Any = "document", **more: Any) -> Any:
    """What the engine computes for these texts, shape (n, 64)."""
    given = {"instruction": None, "over_length": "refuse", **more}
    sequences = embedder(er).embed(texts, kind=kind, **given).sequences
    return np.stack([expected(ids, DIMENSIONS) for ids in sequences])


def scores(er: Gateway, query: str, texts: list[str], **more: Any) -> list[float]:
    """What the engine computes for these documents."""
    files = model_files.read(er.folder / "reranker")
    tool = Prompter(files, prompt="qwen3", max_tokens=1024, instruction=None, task="score")
    found = tool.score(query, texts, **{"instruction": None, **more})
    return [expected_score(ids) for ids in found.sequences]


def assert_close(got: Any, want: NDArray[np.float32]) -> None:
    found = np.array(got, np.float32)
    assert found.shape == want.shape
    assert np.abs(found - want).max() < 1e-6


def assert_ranked(results: Any, want: list[float], name: str = "relevance_score") -> None:
    """Each score at its index, falling."""
    found = [(r.index, getattr(r, name)) for r in results]
    assert found == sorted(found, key=lambda pair: -pair[1])
    for index, score in found:
        assert score == pytest.approx(want[index], abs=1e-6)


def bits(rows: NDArray[np.float32]) -> Any:
    return np.packbits(rows > 0, axis=1)


# -- Cohere --------------------------------------------------------------------------------------


def cohere_client(er: Gateway, root: str) -> cohere.ClientV2:
    return cohere.ClientV2(api_key=er.key, base_url=root)


def test_cohere_embeddings_of_both_versions(er: Gateway, root: str) -> None:
    want = vectors(er, TEXTS)
    new = cohere_client(er, root).embed(
        model="embed",
        texts=TEXTS,
        input_type="search_document",
        embedding_types=["float", "int8", "uint8", "binary", "ubinary", "base64"],
    )
    made = new.embeddings
    assert_close(made.float_, want)
    assert made.base64 is not None
    assert_close([np.frombuffer(base64.b64decode(t), "<f4") for t in made.base64], want)
    assert np.array_equal(made.ubinary, bits(want))
    assert np.array_equal(made.binary, bits(want).astype(int) - 128)
    steps = np.array(made.int8)
    assert np.abs(steps - want * 127).max() <= 0.5 + 1e-4  # 64 numbers: 127 stands for 1
    assert np.array_equal(made.uint8, steps + 128)
    assert new.meta and new.meta.billed_units and new.meta.billed_units.input_tokens
    old = cohere.Client(api_key=er.key, base_url=root)
    query = old.embed(model="embed", texts=["q"], input_type="search_query")
    assert query.response_type == "embeddings_floats"
    assert_close(query.embeddings, vectors(er, ["q"], "query"))
    many = [f"text {i}" for i in range(200)]  # the SDK makes three calls of these
    typed = old.embed(
        model="embed", texts=many, input_type="search_document", embedding_types=["float"]
    )
    assert_close(typed.embeddings.float_, vectors(er, many))  # type: ignore[union-attr]


def test_cohere_cuts_at_the_side_that_is_asked_for(er: Gateway, root: str) -> None:
    client = cohere_client(er, root)
    text = LONG + "end"

    def embed(**more: Any) -> Any:
        return client.embed(
            model="embed", texts=[text], input_type="search_document", **more
        ).embeddings.float_

    ids = list(text.encode())
    tail = [*ids[-511:], 256]
    assert_close(embed(truncate="START"), expected(tail, DIMENSIONS)[None])
    assert_close(embed(truncate="END"), vectors(er, [text], over_length="cut"))
    assert_close(embed(), vectors(er, [text], over_length="cut"))
    with pytest.raises(cohere.BadRequestError, match="512"):
        embed(truncate="NONE")
    assert_close(embed(output_dimension=8), _short(vectors(er, [text], over_length="cut"), 8))


def _short(rows: NDArray[np.float32], size: int) -> Any:
    return rows[:, :size] / np.linalg.norm(rows[:, :size], axis=1, keepdims=True)


def test_cohere_rerank(er: Gateway, root: str) -> None:
    client = cohere_client(er, root)
    answer = client.rerank(model="rerank", query="q", documents=TEXTS, top_n=2)
    assert len(answer.results) == 2
    assert_ranked(answer.results, scores(er, "q", TEXTS))
    cut = client.rerank(model="rerank", query="q", documents=[LONG], max_tokens_per_doc=9)
    assert_ranked(cut.results, scores(er, "q", [LONG[:8]]))
    old = cohere.Client(api_key=er.key, base_url=root)
    v1 = old.rerank(model="rerank", query="q", documents=[{"text": "a"}], return_documents=True)
    assert v1.results[0].document and v1.results[0].document.text == "a"


def test_cohere_lists_models(er: Gateway, root: str) -> None:
    client = cohere_client(er, root)
    told = {m.name: (m.endpoints, m.context_length) for m in client.models.list().models}
    assert told["embed"] == (["embed"], 512) and told["rerank"] == (["rerank"], 1024)
    assert client.models.get("embed").context_length == 512
    ranking = client.models.list(endpoint="rerank").models
    assert {m.name for m in ranking} == {"bi", "rerank"}
    assert client.models.list(endpoint="chat").models == []


def test_cohere_raises_its_own(er: Gateway, root: str) -> None:
    client = cohere_client(er, root)
    with pytest.raises(cohere.NotFoundError, match="there is no model"):
        client.embed(model="nope", texts=["x"], input_type="search_query")
    with pytest.raises(cohere.BadRequestError, match="search_query"):
        client.embed(model="embed", texts=["x"], input_type="sideways")
    with pytest.raises(cohere.UnauthorizedError):
        cohere.ClientV2(api_key="wrong", base_url=root).embed(
            model="embed", texts=["x"], input_type="search_query"
        )


# -- OpenAI, LangChain ---------------------------------------------------------------------------


def test_openai_and_langchain(er: Gateway, root: str) -> None:
    client = openai.OpenAI(base_url=f"{root}/v1", api_key=er.key)
    answer = client.embeddings.create(model="embed:query", input=TEXTS, dimensions=16)
    assert_close([row.embedding for row in answer.data], _short(vectors(er, TEXTS, "query"), 16))
    jina = client.embeddings.create(
        model="embed", input=TEXTS, extra_body={"task": "retrieval.query"}, encoding_format="float"
    )
    assert_close([row.embedding for row in jina.data], vectors(er, TEXTS, "query"))
    chain = langchain_openai.OpenAIEmbeddings(
        model="embed",
        base_url=f"{root}/v1",
        api_key=er.key,  # type: ignore[arg-type]
        check_embedding_ctx_length=False,
    )
    assert_close(chain.embed_documents(TEXTS), vectors(er, TEXTS))
    card = client.models.retrieve("embed")
    assert card.model_extra and card.model_extra["dimensions"] == DIMENSIONS
    assert card.model_extra["aliases"] == ["text-embedding-v4"]


# -- Voyage --------------------------------------------------------------------------------------


@pytest.fixture
def voyage(er: Gateway, root: str) -> Any:
    return voyageai.Client(api_key=er.key, base_url=f"{root}/v1")


def test_voyage_embeddings_in_every_type(er: Gateway, voyage: Any) -> None:
    want = vectors(er, TEXTS, "query")
    made = {
        kind: voyage.embed(TEXTS, model="embed", input_type="query", output_dtype=kind)
        for kind in (None, "float", "int8", "uint8", "binary", "ubinary")
    }
    assert_close(made[None].embeddings, want)
    assert_close(made["float"].embeddings, want)
    steps = np.array(made["int8"].embeddings)
    assert np.abs(steps - want * 127).max() <= 0.5 + 1e-4
    assert np.array_equal(made["uint8"].embeddings, steps + 128)
    assert np.array_equal(made["ubinary"].embeddings, bits(want))
    assert np.array_equal(made["binary"].embeddings, bits(want).astype(int) - 128)
    assert made[None].total_tokens == sum(
        map(
            len,
            embedder(er)
            .embed(TEXTS, kind="query", instruction=None, over_length="refuse")
            .sequences,
        )
    )
    short = voyage.embed(TEXTS, model="embed", output_dimension=8)
    assert_close(short.embeddings, _short(vectors(er, TEXTS), 8))
    cut = voyage.embed([LONG], model="embed")
    assert_close(cut.embeddings, vectors(er, [LONG], over_length="cut"))


def test_voyage_rerank_and_what_it_raises(er: Gateway, root: str, voyage: Any) -> None:
    answer = voyage.rerank("q", TEXTS, model="rerank", top_k=2)
    assert len(answer.results) == 2
    assert_ranked(answer.results, scores(er, "q", TEXTS))
    assert [r.document for r in answer.results] == [TEXTS[r.index] for r in answer.results]
    with pytest.raises(voyageai.error.InvalidRequestError, match="512"):
        voyage.embed([LONG], model="embed", truncation=False)
    with pytest.raises(voyageai.error.InvalidRequestError, match="output_dtype"):
        voyage.embed(TEXTS, model="embed", output_dtype="int4")
    with pytest.raises(voyageai.error.APIError, match="there is no model"):
        voyage.embed(TEXTS, model="nope")
    with pytest.raises(voyageai.error.AuthenticationError):
        voyageai.Client(api_key="wrong", base_url=f"{root}/v1").embed(TEXTS, model="embed")


# -- Hugging Face's TEI --------------------------------------------------------------------------


def narrow(er: Gateway, model: str) -> str:
    """A key for one model: TEI's requests can't name one of several."""
    path = er.state / "er_api_keys.json"
    return str(keys.create(path, name=model, now=datetime.now(UTC), models=[model]).secret)


@pytest.fixture(scope="module")
def only_embed(er: Gateway) -> str:
    return narrow(er, "embed")


def test_hugging_face_inference_client(er: Gateway, root: str, only_embed: str) -> None:
    """Given the whole address, or only the server's."""
    whole = huggingface_hub.InferenceClient(model=f"{root}/embed", token=only_embed)
    one = whole.feature_extraction("one", prompt_name="query", truncate=True)
    assert_close(one, vectors(er, ["one"], "query"))
    server = huggingface_hub.InferenceClient(base_url=root, token=only_embed)
    assert_close(server.feature_extraction("one"), vectors(er, ["one"]))
    alike = huggingface_hub.InferenceClient(model=f"{root}/similarity", token=only_embed)
    got = alike.sentence_similarity("one", ["two", "one"])
    pair = vectors(er, ["one", "two"])
    assert got == pytest.approx([float(pair[0] @ pair[1]), 1.0], abs=1e-6)


def test_tei_tells_what_a_request_took(er: Gateway, only_embed: str) -> None:
    """As TEI's proxies and Hugging Face's endpoints read it: whole numbers in headers."""
    names = ("compute-time", "total-time", "tokenization-time", "queue-time", "inference-time")
    for path, body, characters in (
        ("/embed", {"inputs": ["ab", "三"]}, 3),
        ("/", {"inputs": "ab"}, 2),
        ("/tokenize", {"inputs": "ab"}, 2),
        ("/similarity", {"inputs": {"source_sentence": "a", "sentences": ["bc"]}}, 3),
    ):
        headers = er.ask("POST", path, body, key=only_embed).headers
        assert headers["x-compute-type"]
        assert int(headers["x-compute-characters"]) == characters
        assert int(headers["x-compute-tokens"]) >= characters
        assert all(0 <= int(headers[f"x-{name}"]) < 10_000 for name in names)
    ranked = er.ask("POST", "/rerank", {"model": "rerank", "query": "ab", "texts": ["c", "d"]})
    assert ranked.headers["x-compute-characters"] == "6"  # the query counts with each text
    assert "x-compute-time" not in er.embed().headers


def test_hugging_face_reads_what_went_wrong(root: str, only_embed: str) -> None:
    client = huggingface_hub.InferenceClient(model=f"{root}/embed", token=only_embed)
    with pytest.raises(huggingface_hub.errors.HfHubHTTPError, match="512") as long:
        client.feature_extraction(LONG)
    assert long.value.response.json()["error_type"] == "validation"
    with pytest.raises(huggingface_hub.errors.HfHubHTTPError, match="API key") as key:
        huggingface_hub.InferenceClient(model=f"{root}/embed", token="no").feature_extraction("x")
    assert key.value.response.status_code == 401


def test_tei_as_dify_and_litellm_ask_it(er: Gateway) -> None:
    info = er.ask("GET", "/info").json
    assert (info["model_id"], list(info["model_type"])) == ("embed", ["embedding"])
    assert info["max_input_length"] == 512
    assert info["max_concurrent_requests"] == er.settings.get("max_concurrency", 500)
    other = er.ask("GET", "/info", key=narrow(er, "rerank")).json
    assert (other["model_id"], list(other["model_type"])) == ("rerank", ["reranker"])
    assert er.ask("GET", "/", key=None).status == er.ask("HEAD", "/ping", key=None).status == 200
    body = {"model": "rerank", "query": "q", "texts": TEXTS, "return_text": True, "top_n": 2}
    rows = er.ask("POST", "/rerank", body).json
    want = scores(er, "q", TEXTS)
    assert len(rows) == 2 and rows[0]["score"] > rows[1]["score"]
    for row in rows:
        assert row["text"] == TEXTS[row["index"]]
        assert row["score"] == pytest.approx(want[row["index"]], abs=1e-6)
    raw = er.ask("POST", "/rerank", {**body, "raw_scores": True, "return_text": False}).json
    assert raw[0]["score"] == pytest.approx(np.log(max(want) / (1 - max(want))), abs=1e-3)
    reply = er.ask("POST", "/rerank", {**body, "model": "nope"})
    assert reply.status == 404 and isinstance(reply.json["error"], str)
    for path in ("/predict", "/embed_all", "/embed_sparse", "/decode"):
        reply = er.ask("POST", path, {"inputs": "x"})
        assert (reply.status, reply.json["error_type"]) == (424, "backend")


# -- DashScope -----------------------------------------------------------------------------------


@pytest.fixture
def native(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashscope, "base_http_api_url", f"{root}/api/v1")


@pytest.mark.usefixtures("native")
def test_dashscope(er: Gateway) -> None:
    made = dashscope.TextEmbedding.call(
        model="text-embedding-v4", input=TEXTS, text_type="query", dimension=16, api_key=er.key
    )
    assert made.status_code == 200, made
    rows = made.output["embeddings"]
    assert [row["text_index"] for row in rows] == [0, 1, 2]
    assert_close([r["embedding"] for r in rows], _short(vectors(er, TEXTS, "query"), 16))
    assert made.usage["total_tokens"] > 0 and made.request_id
    ranked = dashscope.TextReRank.call(
        model="rerank",
        query="q",
        documents=TEXTS,
        top_n=2,
        return_documents=True,
        instruct="Find it",
        api_key=er.key,
    )
    assert ranked.status_code == 200 and len(ranked.output.results) == 2
    assert_ranked(ranked.output.results, scores(er, "q", TEXTS, instruction="Find it"))
    first = ranked.output.results[0]
    assert first["document"]["text"] == TEXTS[first.index]


@pytest.mark.usefixtures("native")
def test_dashscope_says_what_went_wrong(er: Gateway) -> None:
    def embed(**more: Any) -> tuple[int, str]:
        said = dashscope.TextEmbedding.call(
            **{"model": "embed", "input": "x", "api_key": er.key, **more}
        )
        assert said.message and said.request_id
        return said.status_code, said.code

    assert embed(api_key="wrong") == (401, "InvalidApiKey")
    assert embed(model="nope") == (404, "ModelNotFound")
    assert embed(dimension=0) == (400, "InvalidParameter")
    assert embed(output_type="sparse") == (400, "InvalidParameter")


# -- Ollama --------------------------------------------------------------------------------------


def test_ollama(er: Gateway, root: str) -> None:
    client = ollama.Client(host=root, headers={"authorization": f"Bearer {er.key}"})
    made = client.embed(model="embed:latest", input=TEXTS, dimensions=16)
    assert_close(made.embeddings, _short(vectors(er, TEXTS), 16))
    assert made.total_duration and made.prompt_eval_count
    query = client.embed(model="embed:query", input="q")
    assert_close(query.embeddings, vectors(er, ["q"], "query"))
    assert_close(client.embeddings(model="embed", prompt="q").embedding, vectors(er, ["q"])[0])
    assert [m.model for m in client.list().models] == ["embed", "bi", "rerank", "dead"]
    assert er.ask("GET", "/api/version").json["version"]
    shown = client.show("text-embedding-v4:latest")
    assert shown.capabilities == ["embedding"] and shown.modelinfo
    assert shown.modelinfo["qwen3.context_length"] == 512
    assert shown.modelinfo["qwen3.embedding_length"] == DIMENSIONS
    assert next(m.context_length for m in client.ps().models) == 512
    assert_close(
        client.embed(model="embed", input=LONG).embeddings,
        vectors(er, [LONG], over_length="cut"),
    )


def test_ollama_raises_its_own(er: Gateway, root: str) -> None:
    client = ollama.Client(host=root, headers={"authorization": f"Bearer {er.key}"})
    with pytest.raises(ollama.ResponseError, match=r"^there is no model") as missing:
        client.embed(model="nope", input="x")
    assert missing.value.status_code == 404
    with pytest.raises(ollama.ResponseError, match=r"^there is no model") as missing:
        client.show("nope")
    assert missing.value.status_code == 404
    with pytest.raises(ollama.ResponseError, match="512"):
        client.embed(model="embed", input=LONG, truncate=False)
    with pytest.raises(ollama.ResponseError, match=r"^no API key"):
        ollama.Client(host=root).embed(model="embed", input="x")
    with pytest.raises(ollama.ResponseError, match=r"^there is nothing at /api/chat; .*/api/embed"):
        client.chat(model="embed", messages=[])


# -- vLLM's own and llama.cpp, which have no SDK ---------------------------------------------------


def test_vllm_score_and_pooling(er: Gateway) -> None:
    want = scores(er, "q", TEXTS)
    for path, body in (
        ("/score", {"text_1": "q", "text_2": TEXTS}),
        ("/v1/score", {"queries": ["q"], "documents": TEXTS}),
        ("/score", {"data_1": ["q"] * 3, "data_2": TEXTS}),
        ("/score", {"queries": "q", "items": TEXTS}),
    ):
        data = er.ask("POST", path, {"model": "rerank", **body}).json["data"]
        assert [row["index"] for row in data] == [0, 1, 2]
        assert [row["score"] for row in data] == pytest.approx(want, abs=1e-6)
    pairs = {"model": "rerank", "text_1": ["a", "b"], "text_2": ["c", "d"]}
    data = er.ask("POST", "/score", pairs).json["data"]
    crossed = [scores(er, "a", ["c"])[0], scores(er, "b", ["d"])[0]]
    assert [row["score"] for row in data] == pytest.approx(crossed, abs=1e-6)
    data = er.ask("POST", "/score", {**pairs, "model": "bi"}).json["data"]
    left, right = vectors(er, ["a", "b"], "query"), vectors(er, ["c", "d"])
    assert [r["score"] for r in data] == pytest.approx((left * right).sum(axis=1), abs=1e-6)
    pooled = er.ask("POST", "/pooling", {"model": "embed", "input": TEXTS}).json["data"]
    assert_close([row["data"] for row in pooled], vectors(er, TEXTS))
    wrong = er.ask("POST", "/score", {"text_1": ["a", "b"], "text_2": TEXTS})
    assert (wrong.status, wrong.json["error"]["code"]) == (400, 400)


def test_vllm_pooling_in_bytes(er: Gateway) -> None:
    want = vectors(er, TEXTS)
    body = {"model": "embed", "input": TEXTS, "encoding_format": "bytes"}
    reply = er.ask("POST", "/pooling", body)
    assert reply.headers["content-type"] == "application/octet-stream"
    for item in json.loads(reply.headers["metadata"])["data"]:
        row = np.frombuffer(reply.body[item["start"] : item["end"]], "<f4")
        assert_close(row, want[item["index"]])
    bare = er.ask("POST", "/pooling", {**body, "encoding_format": "bytes_only"})
    assert bare.body == reply.body and "metadata" not in bare.headers
    assert er.ask("GET", "/version").json["version"]


def test_llama_cpp_and_infinity(er: Gateway) -> None:
    want = scores(er, "q", TEXTS)
    body = {"model": "rerank", "query": "q", "documents": TEXTS}
    for path in ("/reranking", "/v1/reranking", "/rerank/"):
        rows = er.ask("POST", path, body).json["results"]
        assert {r["index"]: r["relevance_score"] for r in rows} == pytest.approx(
            dict(enumerate(want)), abs=1e-6
        )
    raw = er.ask("POST", "/rerank", {**body, "raw_scores": True}).json["results"]
    top = max(want)
    assert raw[0]["relevance_score"] == pytest.approx(np.log(top / (1 - top)), abs=1e-3)


def test_tokens_as_three_dialects_ask_for_them(er: Gateway, only_embed: str) -> None:
    """Tokens of these models are bytes; 256 stands behind each text."""
    (tei,) = er.ask("POST", "/tokenize", {"inputs": "a三"}, key=only_embed).json
    assert [t["id"] for t in tei] == [97, *"三".encode(), 256]
    assert tei[0] == {"id": 97, "text": "a", "special": False, "start": 0, "stop": 1}
    assert [(t["start"], t["stop"]) for t in tei[1:4]] == [(1, 2)] * 3
    assert tei[4] == {
        "id": 256,
        "text": "<|endoftext|>",
        "special": True,
        "start": None,
        "stop": None,
    }
    query = er.ask(
        "POST", "/tokenize", {"inputs": ["a"], "prompt_name": "query", "model": "embed"}
    ).json[0]
    assert len(query) > 50
    vllm = er.ask("POST", "/tokenize", {"model": "embed", "prompt": "ab"}).json
    assert vllm == {"count": 3, "max_model_len": 512, "tokens": [97, 98, 256], "token_strs": None}
    found = er.ask("POST", "/v1/tokenize", {"model": "embed", "text": "ab"}).json
    assert (found["tokens"], found["token_strings"]) == ([97, 98], ["a", "b"])
    long = er.ask("POST", "/tokenize", {"inputs": "x" * 65537})
    assert long.status == 400 and "65536" in long.json["error"]


# -- all of them ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/embed", "/v2/embed", "/v1/v2/embed/"])
def test_every_cohere_path(er: Gateway, path: str) -> None:
    body = {"model": "embed", "texts": ["x"], "input_type": "search_document"}
    assert er.ask("POST", path, body).json["texts"] == ["x"]
    assert er.ask("OPTIONS", path, key=None).headers["allow"] == "POST, OPTIONS"


def test_a_cut_is_said_in_a_header_and_counted(er: Gateway, only_embed: str) -> None:
    def counted() -> float:
        text = er.ask("GET", "/metrics").body.decode()
        line = next((t for t in text.splitlines() if t.startswith(CUT)), "0")
        return float(line.split()[-1])

    before = counted()
    reply = er.ask(
        "POST", "/embed", {"inputs": [LONG, "x", LONG], "truncate": True}, key=only_embed
    )
    assert reply.headers["x-er-texts-cut"] == "2"
    assert "x-er-texts-cut" not in er.ask("POST", "/embed", {"inputs": "x"}, key=only_embed).headers
    until = time.monotonic() + 5
    while counted() < before + 2 and time.monotonic() < until:
        time.sleep(0.1)  # counts come twice a second
    assert counted() >= before + 2


@pytest.mark.parametrize(
    ("path", "body", "name"),
    [
        ("/v1/embeddings", {"input": LONG}, "input"),
        ("/v1/embeddings", {"input": "x", "dimensions": 99}, "dimensions"),
        ("/v1/embeddings", {"input": "x", "output_dimension": 99}, "output_dimension"),
        ("/v2/embed", {"texts": ["x", LONG], "truncate": "NONE"}, "texts"),
        ("/v2/embed", {"texts": ["x"], "output_dimension": 99}, "output_dimension"),
        ("/embed", {"inputs": LONG}, "inputs"),
        ("/embed", {"inputs": [[1, 2]]}, "inputs"),
        ("/similarity", {"inputs": {"source_sentence": "x", "sentences": [LONG]}}, "inputs"),
        ("/api/embed", {"input": LONG, "truncate": False}, "input"),
        ("/pooling", {"input": LONG}, "input"),
        (
            "/api/v1/services/embeddings/text-embedding/text-embedding",
            {"input": {"texts": ["x"]}, "parameters": {"dimension": 99}},
            "dimension",
        ),
    ],
)
def test_a_refusal_names_the_field_as_the_client_does(
    er: Gateway, path: str, body: dict[str, Any], name: str
) -> None:
    """Also one that is found out only with the model at hand."""
    reply = er.ask("POST", path, {"model": "embed", **body})
    assert reply.status == 400 and said(reply.json).startswith(f"{name} ")


@pytest.fixture(scope="module")
def spent(er: Gateway) -> str:
    """A key that has asked all that it may."""
    path = er.state / "er_api_keys.json"
    made = keys.create(path, name="slow", now=datetime.now(UTC), rate_limit="1/hour")
    assert er.embed(key=made.secret).status == 200
    return str(made.secret)


def test_wait_times_are_said_in_every_dialect(er: Gateway, spent: str) -> None:
    body: dict[str, Any] = {"model": "embed", "input": "x", "inputs": "x", "prompt": "x"}
    for path in ("/api/embed", "/api/embeddings", "/pooling", "/v1/embeddings", "/", "/embed"):
        reply = er.ask("POST", path, body, key=spent)
        assert reply.status == 429 and int(reply.headers["retry-after"]) > 1
        assert reply.headers["x-ratelimit-remaining-requests"] == "0"
        assert "may ask 1/hour" in json.dumps(reply.json)


def calls(root: str, key: str, model: str) -> dict[str, Any]:
    """One embedding by each SDK that tells kinds of failure apart."""
    new = cohere.ClientV2(api_key=key, base_url=root)
    plain = openai.OpenAI(base_url=f"{root}/v1", api_key=key, max_retries=0)
    voyager = voyageai.Client(api_key=key, base_url=f"{root}/v1")
    return {
        "cohere": lambda: new.embed(
            model=model,
            texts=["x"],
            input_type="search_query",
            request_options={"max_retries": 0},
        ),
        "openai": lambda: plain.embeddings.create(model=model, input="x"),
        "voyage": lambda: voyager.embed(["x"], model=model),
    }


def test_a_spent_limit_is_each_sdks_own_exception(root: str, spent: str) -> None:
    call = calls(root, spent, "embed")
    with pytest.raises(cohere.TooManyRequestsError):
        call["cohere"]()
    with pytest.raises(openai.RateLimitError):
        call["openai"]()
    with pytest.raises(voyageai.error.RateLimitError):
        call["voyage"]()
    # Whoever may retry does not wait an hour for it.
    with pytest.raises(openai.RateLimitError):
        openai.OpenAI(base_url=f"{root}/v1", api_key=spent).embeddings.create(
            model="embed", input="x"
        )


def test_no_replica_is_each_sdks_own_exception(er: Gateway, root: str) -> None:
    call = calls(root, er.key, "dead")
    with pytest.raises(cohere.ServiceUnavailableError):
        call["cohere"]()
    with pytest.raises(openai.InternalServerError):
        call["openai"]()
    with pytest.raises(voyageai.error.ServiceUnavailableError):
        call["voyage"]()


def test_sdks_try_again_and_succeed(er: Gateway, root: str) -> None:
    """A refusal that passes is not seen by who retries."""
    path = er.state / "er_api_keys.json"
    made = keys.create(path, name="brisk", now=datetime.now(UTC), rate_limit="2/second")
    client = openai.OpenAI(base_url=f"{root}/v1", api_key=made.secret)
    new = cohere.ClientV2(api_key=made.secret, base_url=root)
    for _ in range(4):
        client.embeddings.create(model="embed", input="x")
        new.embed(model="embed", texts=["x"], input_type="search_query")
    until = time.monotonic() + 5
    seen: list[int] = []
    while seen.count(200) < 8 and time.monotonic() < until:  # records come a moment later
        seen = [r["STATUS"] for r in er.audit() if r["KEY_ID"] == made.record.id]
    assert seen.count(200) == 8 and seen.count(429) >= 1


# -- whatever is sent ----------------------------------------------------------------------------

PATHS = sorted(dialects.POSTS)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
BODY: dict[str, Any] = {
    "model": "embed",
    "input": ["a", "b"],
    "inputs": ["a"],
    "texts": ["a"],
    "prompt": "a",
    "query": "q",
    "text_1": "q",
    "text_2": ["a"],
}
FIELDS = sorted(
    {*BODY, "documents", "parameters", "truncate", "truncation", "dimensions", "top_n", "top_k"}
    | {"max_tokens", "max_tokens_per_doc", "truncate_prompt_tokens", "output_dimension", "text"}
    | {"embedding_types", "output_dtype", "embedding_type", "encoding_format", "return_documents"}
    | {"raw_scores", "instruction", "input_type", "prompt_name", "queries", "truncation_direction"}
)
NEAR = st.sampled_from([0, 1, -1, 2, 2**31, 2**63, "a", "", ["a"], [[1]], True, "int8", "START"])


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from(PATHS),
    st.sets(st.sampled_from(sorted(BODY)), max_size=6),
    st.dictionaries(st.sampled_from(FIELDS), NEAR | VALUES, max_size=3),
    st.sampled_from(["embed", "rerank", "bi", "dead", ""]),
)
def test_no_request_makes_a_500(
    er: Gateway, path: str, gone: set[str], more: dict[str, Any], model: str
) -> None:
    """And every refusal says in words what to do."""
    body = {**{k: v for k, v in BODY.items() if k not in gone}, "model": model, **more}
    reply = er.ask("POST", path, json.dumps(body).encode(errors="replace"))
    assert reply.status in (200, 400, 404, 424, 503), reply
    assert reply.headers["x-request-id"]
    if reply.status != 200:
        assert len(said(reply.json)) > 20


def said(tree: dict[str, Any]) -> str:
    """The message of an error in any dialect."""
    found = tree.get("message") or tree["error"]
    return str(found["message"] if isinstance(found, dict) else found)
