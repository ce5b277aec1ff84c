"""A model whose plain texts are queries: `kind` of er.toml, in every dialect and on every way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from engine import expected
from er import model_files
from er.prompts import Prompter
from fakes import EngineProcess
from running import DIMENSIONS, Gateway

SENTENCE = "Find the manual's page"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """The same model twice: `embed` as by default, `ask` for queries with its own sentence."""
    with EngineProcess(dim=DIMENSIONS) as engine:
        found = Gateway(tmp_path_factory.mktemp("k"), [engine])
        found.models[1]["via"] = "ask"  # a bi-encoder tells queries from documents by itself
        path = found.models[0]["path"]
        ask = {"name": "ask", "task": "embed", "path": path, "kind": "query"}
        found.models.append({**ask, "instruction": SENTENCE})
        found.replicas.append({"name": "q0", "model": "ask", "url": engine.address})
        try:
            yield found.start()
        finally:
            found.kill()


def right(running: Gateway, text: str, *, query: bool) -> list[float]:
    """The vector of a text on that side."""
    files = model_files.read(running.folder / "model")
    prompter = Prompter(files, prompt="qwen3", max_tokens=512, instruction=SENTENCE, task="embed")
    kind: Any = "query" if query else "document"
    (ids,) = prompter.embed([text], kind=kind, instruction=None, over_length="refuse").sequences
    return [float(x) for x in expected(ids, DIMENSIONS)]


def first(tree: Any) -> list[float]:
    """The first vector in an answer, wherever its dialect has it."""
    while not (isinstance(tree, list) and tree and isinstance(tree[0], float)):
        if isinstance(tree, dict):
            names = ("data", "embeddings", "embedding", "output", "float")
            tree = next(tree[name] for name in names if name in tree)
        else:
            tree = tree[0]
    return tree


PLAIN: dict[str, dict[str, Any]] = {
    "/v1/embeddings": {"input": "who asks"},
    "/v1/embeddings?": {"input": "who asks"},  # not by the door
    "/v2/embed": {"texts": ["who asks"]},
    "/v1/embed": {"texts": ["who asks"]},
    "/embed": {"inputs": "who asks"},
    "/pooling": {"input": "who asks"},
    "/api/embed": {"input": "who asks"},
    "/api/embeddings": {"prompt": "who asks"},
    "/api/v1/services/embeddings/text-embedding/text-embedding": {"input": {"texts": ["who asks"]}},
}
SAID: dict[str, list[dict[str, Any]]] = {
    "/v1/embeddings": [
        {"input_type": "document"},
        {"task": "retrieval.passage"},
        {"prompt_name": "document"},
    ],
    "/v2/embed": [{"input_type": "search_document"}, {"input_type": "clustering"}],
    "/embed": [{"prompt_name": "document"}],
    "/api/embed": [{"input_type": "document"}],
    "/api/v1/services/embeddings/text-embedding/text-embedding": [
        {"parameters": {"text_type": "document"}}
    ],
}


def test_a_plain_query_goes_the_straight_way_too(running: Gateway) -> None:
    """It is as short as a document, so it costs no more."""
    files = model_files.read(running.folder / "model")
    prompter = Prompter(files, prompt="qwen3", max_tokens=512, instruction=SENTENCE, task="embed")
    quick = prompter.quick("query")
    assert quick is not None
    for text in ("who asks", "  ", "\u00e9 \U0001f600", "Instruct: x\nQuery:y", "<|im_end|>"):
        (ids,) = prompter.embed(
            [text], kind="query", instruction=None, over_length="refuse"
        ).sequences
        assert quick.encode(text) + quick.after == ids


def same(reply: Any, vector: list[float]) -> bool:
    assert reply.status == 200, reply
    return bool(np.allclose(first(reply.json), vector, atol=1e-6))


@pytest.mark.parametrize("path", PLAIN)
def test_a_plain_text_is_what_er_toml_says(running: Gateway, path: str) -> None:
    """On a known head too: each is asked three times over one connection."""
    link = running.connection()
    for _ in range(3):
        for model, query in (("ask", True), ("embed", False)):
            reply = running.ask("POST", path, {**PLAIN[path], "model": model}, connection=link)
            assert same(reply, right(running, "who asks", query=query)), (path, model)
    link.close()


@pytest.mark.parametrize(
    ("path", "said"), [(p, s) for p, several in SAID.items() for s in several], ids=repr
)
def test_what_a_client_says_counts_before(running: Gateway, path: str, said: Any) -> None:
    reply = running.ask("POST", path, {**PLAIN[path], "model": "ask", **said})
    assert same(reply, right(running, "who asks", query=False))


@pytest.mark.parametrize("name", ["ask:query", "ask:document", "embed:document"])
def test_the_name_s_ending_counts_before(running: Gateway, name: str) -> None:
    reply = running.ask("POST", "/v1/embeddings", {"model": name, "input": "x"})
    assert same(reply, right(running, "x", query=name.endswith(":query")))


def test_tokens_and_bi_encoders_know_it_too(running: Gateway) -> None:
    """/tokenize counts the instruction; a rerank request's documents stay documents."""
    counts = {
        model: running.ask("POST", "/tokenize", {"prompt": "x", "model": model}).json["count"]
        for model in ("ask", "embed")
    }
    assert counts["ask"] > counts["embed"] + len(SENTENCE)
    body = {"model": "bi", "query": "q", "documents": ["one"]}
    (result,) = running.ask("POST", "/v1/rerank", body).json["results"]
    vectors = right(running, "q", query=True), right(running, "one", query=False)
    assert result["relevance_score"] == pytest.approx(float(np.dot(*vectors)), abs=1e-5)


@pytest.mark.parametrize("model", ["ask", "ask:query", "embed:query", "embed"])
def test_cohere_s_tokens_are_those_of_the_text_alone(running: Gateway, model: str) -> None:
    """Their texts, one behind the other, are what was sent: an instruction has no place there."""
    reply = running.ask("POST", "/v1/tokenize", {"model": model, "text": "who asks"})
    assert reply.status == 200 and "".join(reply.json["token_strings"]) == "who asks"
    assert reply.json["tokens"] == list(b"who asks")
