"""What one request may ask: texts, documents and tokens in all, as er.toml sets them."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from er import model_files
from er.config import Gateway as Settings
from er.dialects import openai, vllm
from er.dialects import rerank as rerank_dialect
from er.gateway.bounds import Bounds
from er.job import Job, Refusal
from er.prompts import Prompter
from running import Gateway, Reply, gateway, model_folder

LEAST = 8192  # tokens: the lowest limit that er.toml takes
LONG = "x" * 511  # 512 tokens, as many as the model takes


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway whose requests must be small."""
    limits = {"max_inputs": 20, "max_documents": 20, "max_request_tokens": LEAST}
    with gateway(tmp_path_factory.mktemp("n"), max_rerank_tokens=LEAST, **limits) as running:
        yield running


def rerank(running: Gateway, documents: list[str], query: str = "q", **more: Any) -> Reply:
    body = {"model": "bi", "query": query, "documents": documents, **more}
    return running.ask("POST", "/v1/rerank", body)


def said(reply: Reply, code: str, *words: str) -> None:
    """It is that refusal, with those words in it, and was not taken for the engine's."""
    assert (reply.status, reply.code) == (400, code), reply
    assert all(word in reply.message for word in words), reply.message


@pytest.mark.parametrize(
    ("path", "field", "body"),
    [
        ("/v1/embeddings", "input", {"input": ["x"] * 21}),
        ("/v1/embeddings", "input", {"input": [[1]] * 21}),
        ("/embed", "inputs", {"inputs": ["x"] * 21}),
        ("/v2/embed", "texts", {"texts": ["x"] * 21, "input_type": "search_query"}),
        ("/api/embed", "input", {"input": ["x"] * 21}),
        ("/similarity", "inputs", {"inputs": {"source_sentence": "x", "sentences": ["x"] * 20}}),
        ("/v1/rerank", "documents", {"query": "q", "documents": ["x"] * 21}),
        ("/rerank", "documents", {"query": "q", "texts": ["x"] * 21}),
        ("/score", "documents", {"text_1": "q", "text_2": ["x"] * 21}),
    ],
)
def test_too_many_texts_are_refused(
    narrow: Gateway, path: str, field: str, body: dict[str, Any]
) -> None:
    """In each dialect's own shape, naming what was sent, the limit, and the setting."""
    reply = narrow.ask("POST", path, body)
    assert reply.status == 400
    key = "max_documents" if field == "documents" else "max_inputs"
    text = reply.body.decode()
    assert f"{field} has 21 items; at most 20 fit" in text and f"raise {key} in [gateway]" in text


def test_what_just_fits_is_answered(narrow: Gateway) -> None:
    """As many texts, and as many tokens, as there may be; one more of either is too many."""
    assert len(narrow.embed(["x"] * 20).json["data"]) == 20
    assert len(rerank(narrow, ["x"] * 20).json["results"]) == 20
    full = narrow.embed([LONG] * 16)
    assert full.status == 200 and full.json["usage"]["total_tokens"] == LEAST
    one_more = narrow.embed([LONG] * 16 + ["x"])
    said(one_more, "max_tokens_per_request", f"{LEAST + 2} tokens", f"at most {LEAST} fit")
    assert "raise max_request_tokens in [gateway] of er.toml" in one_more.message
    assert one_more.json["error"]["param"] == "input"
    narrow.wait_for(one_more.headers["x-request-id"])
    (record,) = [r for r in narrow.audit() if r["REQUEST_ID"] == one_more.headers["x-request-id"]]
    assert (record["CODE"], record["ITEMS"]) == ("max_tokens_per_request", 17)
    instruction = {"model": "embed", "input": ["x"] * 20, "instruction": "y" * 450}
    counted = narrow.ask("POST", "/v1/embeddings", instruction)
    said(counted, "max_tokens_per_request", "instructions included")


def test_a_text_that_is_cut_counts_as_cut(narrow: Gateway) -> None:
    """What is computed counts, not what was sent."""
    body = {"model": "embed", "input": ["x" * 4000] * 16, "truncate": True}
    reply = narrow.ask("POST", "/v1/embeddings", body)
    assert reply.status == 200 and reply.headers["x-er-texts-cut"] == "16"


def test_rerank_has_limits_of_its_own(narrow: Gateway) -> None:
    reply = rerank(narrow, [LONG] * 17)
    said(reply, "max_tokens_per_request", f"at most {LEAST} fit", "raise max_rerank_tokens")
    assert reply.json["error"]["param"] == "documents"


def test_clients_are_told_how_many(narrow: Gateway) -> None:
    """By TEI's /info, which its clients ask before they cut their work into requests."""
    assert narrow.ask("GET", "/info").json["max_client_batch_size"] == 20


# -- what is put before each text, and what of a document counts -----------------------------------


def test_what_stands_before_each_text_is_refused_before_it_fills_the_memory() -> None:
    """A body of 200 KB made gigabytes: a long prompt or instruction, and many short texts."""
    texts, long = ["x"] * 2000, "y" * 100_000
    body = orjson.dumps({"model": "m", "input": texts, "prompt": long})
    tracemalloc.start()
    with pytest.raises(Refusal, match=r"prompt has 100000 .* before each of 2000 texts") as refused:
        openai.read(body)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert refused.value.param == "prompt" and peak < 4 << 20
    bounds = Bounds(Settings())
    for made in (
        openai.read(orjson.dumps({"input": texts, "instruction": long})),
        rerank_dialect.read(orjson.dumps({"query": "q", "documents": texts, "instruct": long})),
        vllm.read_score(orjson.dumps({"text_1": texts, "text_2": texts, "instruction": long})),
    ):
        with pytest.raises(Refusal, match="instruction has 100000 characters and stands before"):
            bounds.check_items(made)
    one = openai.read(orjson.dumps({"input": "x", "prompt": long, "instruction": long}))
    bounds.check_items(one)
    assert one.texts == (long + "x",)


def test_a_document_is_never_more_than_it_was_sent_as() -> None:
    """However often rank_fields names a field of it, and however many they are."""
    body = {"query": "q", "documents": [{"a": "one", "b": "two"}], "rank_fields": ["b", "a"] * 900}
    assert rerank_dialect.read(orjson.dumps(body)).texts == ("two\none",)
    body["rank_fields"] = [str(i) for i in range(101)]
    with pytest.raises(Refusal, match="rank_fields has over 100 names"):
        rerank_dialect.read(orjson.dumps(body))


# -- a reranker's query, which is computed with each document --------------------------------------


def reranker(folder: Path) -> Prompter:
    files = model_files.read(model_folder(folder / "reranker", limit=8192))
    return Prompter(files, prompt="qwen3", max_tokens=8192, instruction=None, task="score")


def job(query: str, documents: int) -> Job:
    return Job(dialect="rerank", task="score", model="m", query=query, texts=("x",) * documents)


def test_a_thousand_documents_of_five_hundred_tokens_pass(tmp_path: Path) -> None:
    """And ten thousand, by the limits that hold where er.toml says nothing."""
    prompter, bounds = reranker(tmp_path), Bounds(Settings())
    one = prompter.score("a query of some words", ("x" * 500,), instruction=None).tokens
    assert one > 700  # bytes are tokens here: the prompt is far longer than in Qwen3's words
    for count in (1000, 10_000):
        bounds.check_items(job("q", count))
        bounds.check_query(job("a query of some words", count), prompter)
        bounds.check_tokens(job("q", count), count * one)
    with pytest.raises(Refusal, match="documents has 10001 items; at most 10000 fit"):
        bounds.check_items(job("q", 10_001))


def test_a_long_query_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    """7,000 tokens with each of 10,000 documents would be 70 million."""
    prompter, bounds = reranker(tmp_path), Bounds(Settings())
    tracemalloc.start()
    with pytest.raises(Refusal, match=r"at least 7[0-9]{7} tokens, the query and prompt of each"):
        bounds.check_query(job("x" * 7000, 10_000), prompter)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 << 20
