"""Dialects at a running gateway, beside what their SDKs show (test_clients_*.py)."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import client_gateway
from client_gateway import LONG, TEXTS, assert_close, new_key, scores, vectors
from er import dialects
from running import Gateway

CUT = 'er_texts_cut_total{model="embed"}'


@pytest.fixture(scope="module")
def er(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with client_gateway.running(tmp_path_factory.mktemp("clients")) as gateway:
        yield gateway


# -- Hugging Face's TEI --------------------------------------------------------------------------


def narrow(er: Gateway, model: str) -> str:
    """A key for one model: TEI's requests can't name one of several."""
    return str(new_key(er, models=[model]).secret)


@pytest.fixture(scope="module")
def only_embed(er: Gateway) -> str:
    return narrow(er, "embed")


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
    return client_gateway.spent_key(er)


def test_wait_times_are_said_in_every_dialect(er: Gateway, spent: str) -> None:
    body: dict[str, Any] = {"model": "embed", "input": "x", "inputs": "x", "prompt": "x"}
    for path in ("/api/embed", "/api/embeddings", "/pooling", "/v1/embeddings", "/", "/embed"):
        reply = er.ask("POST", path, body, key=spent)
        assert reply.status == 429 and int(reply.headers["retry-after"]) > 1
        assert reply.headers["x-ratelimit-remaining-requests"] == "0"
        assert "may ask 1/hour" in json.dumps(reply.json)


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
