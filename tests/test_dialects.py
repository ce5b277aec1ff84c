"""Client bytes to a Job and back: recorded shapes of real clients, and bad input of every kind."""

from __future__ import annotations

import base64
import json
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from er import dialects
from er.dialects import Route, cohere, models, numbers, ollama, openai, pooling, rerank, tei, vllm
from er.dialects.models import ModelCard
from er.job import Answer, Job, Piece, Refusal

REQUESTS = ("cohere", "dashscope", "ollama", "openai", "rerank", "tei", "vllm")
GOLDEN = sorted(
    file for name in REQUESTS for file in (Path(__file__).parent / "golden" / name).glob("*.json")
)
UNCHECKED: dict[str, Any] = {"extra": {}, "texts_name": "input", "dimensions_name": "dimensions"}
SCORES = np.array([0.25, 0.9, 0.25, 0.5], np.float32)
VECTORS = np.array([[0.6, 0.8], [1.0, 0.0], [-0.28, 0.96]], np.float32)


def route(path: str, method: str = "POST") -> Route:
    found = dialects.find(method, path)
    assert isinstance(found, Route), found
    return found


def refusal(path: str, body: bytes | str | dict[str, Any]) -> Refusal:
    """The 400 that a body gets; it must also be writable."""
    if isinstance(body, dict):
        body = json.dumps(body)
    dialect = route(path).dialect
    with pytest.raises(Refusal) as refused:
        dialect.read(body.encode() if isinstance(body, str) else body)
    assert refused.value.status == 400
    assert json.loads(dialect.refuse(refused.value, "r1"))["detail"] == refused.value.message
    return refused.value


def answer(job: Job) -> Any:
    """What a client of `job` would read, from figures that are easy to know again."""
    made = Answer(
        id="req-1",
        model="Qwen3",
        tokens=42,
        created=1_790_000_000,
        vectors=VECTORS[: job.items] if job.task == "embed" else None,
        scores=SCORES[: job.items] if job.task == "score" else None,
    )
    dialect = openai if job.task == "embed" else rerank
    return json.loads(dialect.write(job, made))


# -- what clients send -------------------------------------------------------------------------


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_client_is_understood(path: Path) -> None:
    """Golden files hold the shapes of clients' requests and what they mean."""
    case = json.loads(path.read_text())
    body = json.dumps(case["body"]).encode()
    dialect = dialects.choose(route(case["path"]).dialect, body)
    job = dialect.read(body)
    assert job.dialect == path.parent.name == dialects.name(dialect)
    task = "embed" if job.dialect == "openai" else "score"
    want = msgspec.convert({"dialect": job.dialect, "task": task, **case["job"]}, Job)
    assert msgspec.structs.replace(job, **UNCHECKED) == want


@pytest.mark.parametrize("name", ["openai", "rerank"])
def test_unknown_fields_are_ignored(name: str) -> None:
    fields = {"input": "x", "query": "q", "documents": ["d"], "model": "m"}
    odd = {"kwargs": "{}", "priority": 5, "a.b": None, "": [[{}]], "stream": False}
    path = "/v1/embeddings" if name == "openai" else "/v1/rerank"
    read = route(path).dialect.read
    assert read(json.dumps(fields | odd).encode()) == read(json.dumps(fields).encode())


@pytest.mark.parametrize("word", ["true", "True", True])
def test_return_documents_as_a_word(word: Any) -> None:
    body = {"query": "q", "documents": ["d"], "return_documents": word}
    assert rerank.read(json.dumps(body).encode()).return_documents is True


@pytest.mark.parametrize("word", ["false", "FALSE", False, None, ""])
def test_no_return_documents_as_a_word(word: Any) -> None:
    body = {"query": "q", "documents": ["d"], "return_documents": word}
    assert rerank.read(json.dumps(body).encode()).return_documents is False


def test_control_characters_and_emoji_arrive_whole() -> None:
    text = "a\x00b\u2028👩\u200d👧 <|im_end|> \\ \" '"
    assert openai.read(json.dumps({"input": text}).encode()).texts == (text,)
    assert openai.read(json.dumps({"input": text}, ensure_ascii=False).encode()).texts == (text,)


# -- what clients read -------------------------------------------------------------------------


def job(path: str, **fields: Any) -> Job:
    return route(path).dialect.read(json.dumps(fields).encode())


def test_embeddings_as_floats() -> None:
    body = answer(job("/v1/embeddings", input=["a", "b", "c"], model="m"))
    assert body == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [0.6, 0.8]},
            {"object": "embedding", "index": 1, "embedding": [1.0, 0.0]},
            {"object": "embedding", "index": 2, "embedding": [-0.28, 0.96]},
        ],
        "model": "Qwen3",
        "usage": {"prompt_tokens": 42, "total_tokens": 42},
    }


def test_embeddings_as_base64_as_openai_python_decodes_them() -> None:
    body = answer(job("/v1/embeddings", input=["a", "b"], encoding_format="base64"))
    for item, row in zip(body["data"], VECTORS, strict=False):
        raw = base64.b64decode(item["embedding"], validate=True)
        assert struct.unpack("<2f", raw) == tuple(row)


def test_one_rerank_answer_for_all() -> None:
    body = answer(job("/v1/rerank", query="q", documents=["a", "b", "c", "d"]))
    results = [
        {"index": 1, "relevance_score": 0.9},
        {"index": 3, "relevance_score": 0.5},
        {"index": 0, "relevance_score": 0.25},
        {"index": 2, "relevance_score": 0.25},
    ]
    assert body == {
        "id": "req-1",
        "object": "list",
        "model": "Qwen3",
        "results": results,
        "data": results,
        "usage": {"prompt_tokens": 42, "total_tokens": 42},
        "meta": {
            "api_version": {"version": "2"},
            "billed_units": {"search_units": 1, "input_tokens": 42},
            "tokens": {"input_tokens": 42, "output_tokens": 0},
        },
    }


def test_top_n_cuts_and_more_than_all_is_all() -> None:
    for top_n, want in ((2, [1, 3]), (0, [1, 3, 0, 2]), (99, [1, 3, 0, 2])):
        body = answer(job("/v1/rerank", query="q", documents=["a", "b", "c", "d"], top_n=top_n))
        assert [item["index"] for item in body["results"]] == want
        assert [item["index"] for item in body["data"]] == want


def test_documents_as_litellm_and_dify_read_them() -> None:
    """`results` holds objects; Voyage's readers, known by top_k, need bare texts in `data`."""
    asked = {"query": "q", "documents": ["a", 'b"\n', "c"], "return_documents": True}
    body = answer(job("/rerank", **asked))
    assert [item["document"] for item in body["results"]] == [
        {"text": 'b"\n'},
        {"text": "a"},
        {"text": "c"},
    ]
    assert all("document" not in item for item in body["data"])
    body = answer(job("/rerank", **asked, top_k=2))
    assert [item["document"] for item in body["data"]] == ['b"\n', "a"]
    assert [item["document"]["text"] for item in body["results"]] == ['b"\n', "a"]


def test_objects_come_back_whole_as_cohere_does() -> None:
    documents = [{"text": "a", "id": 7, "deep": {"x": [1, None]}}, "b", {"text": "c"}]
    asked = job("/v1/rerank", query="q", documents=documents, return_documents=True)
    body = answer(asked)
    assert [item["document"] for item in body["results"]] == [
        {"text": "b"},
        documents[0],
        documents[2],
    ]
    quiet = answer(job("/v1/rerank", query="q", documents=documents))
    assert all("document" not in item for item in quiet["results"])


def test_objects_as_deep_as_can_be_read_can_be_written() -> None:
    """Large bodies are read in a thread, where the stack has more room than where answers are."""
    with ThreadPoolExecutor(1) as thread:
        for depth in range(900, 1000, 3):
            deep = "[" * depth + "]" * depth
            asked = f'"query":"q","return_documents":true,"documents":[{{"text":"d","x":{deep}}}]'
            for fields in ("", ',"rank_fields":["x"]'):
                reading = thread.submit(rerank.read, f"{{{asked}{fields}}}".encode())
                if isinstance(reading.exception(), Refusal):
                    assert "nested too deeply" in str(reading.exception())
                    continue
                made = Answer(id="i", model="m", tokens=1, created=1, scores=SCORES[:1])
                assert deep.encode() in rerank.write(reading.result(), made)


def test_search_units_are_hundreds_begun() -> None:
    for count, units in ((100, 1), (101, 2)):
        asked = job("/v1/rerank", query="q", documents=["x"] * count)
        scores = np.full(count, 0.5, np.float32)
        made = Answer(id="i", model="m", tokens=1, created=1, scores=scores)
        body = json.loads(rerank.write(asked, made))
        assert body["meta"]["billed_units"]["search_units"] == units
        assert len(body["results"]) == count


def test_names_are_escaped() -> None:
    made = Answer(id='i"', model='m"\n', tokens=1, created=1, scores=SCORES[:1], vectors=VECTORS)
    body = json.loads(rerank.write(job("/rerank", query="q", documents=["d"]), made))
    assert (body["id"], body["model"]) == ('i"', 'm"\n')
    assert json.loads(openai.write(job("/embeddings", input="x"), made))["model"] == 'm"\n'


def test_models_as_their_clients_read_them() -> None:
    cards = [
        ModelCard(id="E", task="embed", created=5, max_model_len=8192, dimensions=64),
        ModelCard(id="org/R", task="score", created=5, max_model_len=4096),
    ]
    body = json.loads(models.models(cards))
    assert body["object"] == "list" and body["models"] == body["data"]
    assert body["data"][0] == json.loads(models.model(cards[0]))
    assert body["data"][1] == {
        "id": "org/R",
        "object": "model",
        "created": 5,
        "owned_by": "er",
        "task": "score",
        "aliases": [],
        "root": "org/R",
        "max_model_len": 4096,
        "model_type": "rerank",
        "max_tokens": 4096,
        "capabilities": ["rerank"],
        "name": "org/R",
        "endpoints": ["rerank"],
        "finetuned": False,
        "context_length": 4096,
    }
    first = body["data"][0]
    assert (first["model_type"], first["endpoints"], first["dimensions"]) == (
        "embedding",
        ["embed"],
        64,
    )
    assert first["query_id"] == "E:query"


def test_one_model_as_ollamas_clients_read_it() -> None:
    card = ModelCard(id="E", task="embed", created=5, max_model_len=8192, dimensions=64)
    shown = json.loads(ollama.show(card))
    assert shown["capabilities"] == ["embedding"]
    assert shown["model_info"]["qwen3.context_length"] == 8192
    assert shown["model_info"]["qwen3.embedding_length"] == 64
    (runs,) = json.loads(ollama.running([card]))["models"]
    assert (runs["name"], runs["context_length"]) == ("E", 8192)
    assert ollama.read_show(b'{"model": "E:query:latest"}') == "E"
    assert ollama.read_show(b'{"name": "E", "verbose": true}') == "E"
    with pytest.raises(Refusal, match="model is missing"):
        ollama.read_show(b'{"model": ""}')


def test_how_a_model_pools_is_told_as_its_clients_name_it() -> None:
    card = ModelCard(id="B", task="embed", created=5, max_model_len=512, pooling="CLS")
    assert json.loads(tei.info([card]))["model_type"] == {"embedding": {"pooling": "cls"}}
    shown = json.loads(ollama.show(card))
    assert shown["details"]["family"] == shown["model_info"]["general.architecture"] == "bert"
    assert shown["model_info"]["bert.context_length"] == 512


# -- paths -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/v1/rerank", "/rerank", "/v2/rerank", "/v1/v2/rerank", "/v1/v1/rerank", "/v1/reranking",
        "/reranking", "/reranks", "/compatible-api/v1/reranks", "/v1/rerank/", "//v1/rerank",
        "/v1//rerank", "/api/v1/rerank", "/v1/rerank//",
    ],
)  # fmt: skip
def test_rerank_paths(path: str) -> None:
    found = route(path)
    assert (found.dialect.read, found.name) == (rerank.read, "rerank")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/embeddings", "/embeddings", "/v1/v1/embeddings/", "/compatible-mode/v1/embeddings",
        "/api/v1/embeddings", "/v1/api/v1/embeddings", "//embeddings",
    ],
)  # fmt: skip
def test_embeddings_paths(path: str) -> None:
    assert route(path)[:3] == (openai, "embeddings", "")


@pytest.mark.parametrize(
    ("path", "name", "model"),
    [
        ("/v1/models", "models", ""),
        ("/models/", "models", ""),
        ("/v1/models/Qwen3", "model", "Qwen3"),
        ("/v1/models/a%2Fb", "model", "a/b"),
        ("/v1/models/a/b", "model", "a/b"),
    ],
)
def test_models_paths(path: str, name: str, model: str) -> None:
    for method in ("GET", "HEAD"):
        assert route(path, method)[:3] == (openai, name, model)


@pytest.mark.parametrize(
    "path", ["", "/v1", "/v1/", "/v1/chat/completions", "/v2/embeddings", "/modelsx"]
)
def test_an_unknown_path_is_404(path: str) -> None:
    found = dialects.find("POST", path)
    assert isinstance(found, Refusal)
    assert (found.status, found.code, found.type) == (404, "not_found", "not_found_error")
    assert path in found.message and "/v1/embeddings" in found.message


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("GET", "/v1/embeddings", "POST"), ("PUT", "/rerank", "POST"), ("POST", "/v1/models", "GET")],
)
def test_a_wrong_method_is_405(method: str, path: str, allowed: str) -> None:
    found = dialects.find(method, path)
    assert isinstance(found, Refusal)
    assert (found.status, found.code) == (405, "method_not_allowed")
    assert found.headers["allow"].startswith(allowed)


@settings(deadline=None)  # machines are slow at times
@given(st.text(max_size=40))
def test_no_path_surprises(path: str) -> None:
    found = dialects.find("POST", path)
    if isinstance(found, Refusal):
        json.loads(dialects.refuse(found, "r"))


def test_a_path_of_prefixes_takes_no_time() -> None:
    assert isinstance(dialects.find("POST", "/v1" * 20_000 + "x"), Refusal)


# -- refusals ----------------------------------------------------------------------------------


def test_the_error_body_has_all_readers_parts() -> None:
    said = Refusal(429, "rate_limit_exceeded", "too \ud800many", param="model")
    error = {
        "message": "too ?many",
        "type": "rate_limit_error",
        "param": "model",
        "code": "rate_limit_exceeded",
    }
    want = {"error": error, "message": "too ?many", "detail": "too ?many"}
    for refuse in (openai.refuse, rerank.refuse, dialects.refuse):
        assert json.loads(refuse(said, "r1")) == want


DEEP = "[" * 200_000 + "]" * 200_000
NOT_JSON: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "no body"),
    "blank": (b" \n", "no body"),
    "form": (b"input=a&model=b", "not JSON: invalid character at byte 0"),
    "cut": (b'{"input": "a', "ends too early"),
    "trailing": (b'{"input": "a"} x', "not JSON: trailing characters at byte"),
    "single quotes": (b"{'input': 'a'}", "object keys must be strings"),
    "NaN": (b'{"input": "a", "x": NaN}', "not JSON"),
    "list": (b"[1]", "must be a JSON object such as"),
    "text": (b'"a"', "it is a text"),
    "null": (b"null", "it is null"),
    "latin-1": (b'{"input": "\xe9"}', "not UTF-8"),
    "encoded surrogate": (b'{"input": "\xed\xa0\x80"}', "not UTF-8"),
    "utf-16": ('{"input": "a"}'.encode("utf-16"), "not JSON"),
    "half pair": (b'{"input": "\\ud83d x"}', r"\ud83d"),
    "half pair unknown": (b'{"input": "a", "x": "\\uDC00"}', r"\udc00"),
    "deep": (b'{"input": "a", "x": %b}' % DEEP.encode(), "nested too deeply"),
    "control": (b'{"input": "a\nb"}', "not JSON: invalid character"),
}


@pytest.mark.parametrize("name", NOT_JSON)
def test_what_is_not_json(name: str) -> None:
    body, said = NOT_JSON[name]
    for path in ("/v1/embeddings", "/v1/rerank"):
        if path == "/v1/rerank":
            body = body.replace(b'"input"', b'"documents": ["d"], "query"')
        found = refusal(path, body)
        assert found.code == "invalid_json" and said in found.message
        assert "msgspec" not in found.message and len(found.message) < 300


HUGE = int("9" * 400)
BAD_EMBEDDINGS: list[tuple[str | dict[str, Any], str, str]] = [
    ({}, "input", "input is missing; input must be a text, a list"),
    ({"model": "m"}, "input", "is missing"),
    ({"input": None}, "input", "input is null"),
    ({"input": 1}, "input", "input is a number; input must be a text, a list of texts"),
    ({"input": {"text": "a"}}, "input", "input is an object"),
    ({"input": True}, "input", "input is true or false"),
    ({"input": ""}, "input", "input is empty"),
    ({"input": []}, "input", "empty list"),
    ({"input": ["a", ""]}, "input", "input[1] is empty"),
    ({"input": [[]]}, "input", "input[0] is empty"),
    ({"input": ["a", None]}, "input", "input[1] is null"),
    ({"input": ["a", 1]}, "input", "mixes"),
    ({"input": [[1], "a"]}, "input", "mixes"),
    ({"input": [1.5]}, "input", "input[0] is a number with a fraction"),
    ({"input": [True]}, "input", "input[0] is true or false"),
    ({"input": [[1, "a"]]}, "input", "input[0][1] is a text"),
    ({"input": [-1]}, "input", "input[0] is out of range"),
    ({"input": [[HUGE]]}, "input", "input[0][0] is out of range"),
    ('{"input": "a", "input": "b"}', "input", "more than once"),
    ('{"input": "a", "model": "b", "model": null}', "model", "more than once"),
    (f'{{"input": {DEEP}}}', "input", "input[0][0] is a list"),
    ({"input": "a", "model": 3}, "model", "model is a number; model must be the name"),
    ({"input": "a", "encoding_format": "int8"}, "encoding_format", '"float" or "base64"'),
    ({"input": "a", "encoding_format": 1}, "encoding_format", '"float" or "base64"'),
    ({"input": "a", "dimensions": -5}, "dimensions", "at least 0"),
    ({"input": "a", "output_dimension": -1}, "output_dimension", "at least 0"),
    ({"input": "a", "dimensions": 1.5}, "dimensions", "a whole number"),
    ({"input": "a", "dimensions": "256"}, "dimensions", "dimensions is a text"),
    ('{"input": "a", "dimensions": 1e400}', "dimensions", "out of range"),
    ('{"input": "a", "dimensions": %s}' % ("9" * 9000), "dimensions", "out of range"),
    ({"input": "a", "input_type": "image"}, "input_type", "search_query"),
    ({"input": "a", "prompt_name": "s2p"}, "prompt_name", "query, document"),
    ({"input": "a", "task": 1}, "task", "task is a number"),
    ({"input": "a", "late_chunking": True}, "late_chunking", "does not do"),
    ({"input": "a", "return_multivector": "true"}, "return_multivector", "does not do"),
    ({"input": "a", "normalized": False}, "normalized", "length 1"),
    ({"input": "a", "embed_dtype": "float16"}, "embed_dtype", "/pooling"),
    ({"input": "a", "endianness": "big"}, "endianness", "/pooling"),
    ({"input": "http://x/y.png", "modality": "image"}, "modality", "read nothing else"),
    ({"input": [{"image": "http://x/y.png"}]}, "input", "input[0] holds an image"),
    (
        {"input": "a", "truncate_prompt_tokens": 5, "truncation_side": "middle"},
        "truncation_side",
        "left or right",
    ),
]
D = ["d"]
BAD_RERANK: list[tuple[str | dict[str, Any], str, str]] = [
    ({"documents": D}, "query", "query is missing"),
    ({"query": "q"}, "documents", "documents is missing; documents must be a list of texts"),
    ({"query": "", "documents": D}, "query", "query is empty"),
    ({"query": ["q"], "documents": D}, "query", "query is a list"),
    ({"query": "q", "documents": None}, "documents", "documents is null"),
    ({"query": "q", "documents": []}, "documents", "empty list"),
    ({"query": "q", "documents": [1]}, "documents", "documents[0] is a number"),
    ({"query": "q", "documents": ["a", None]}, "documents", "documents[1] is null"),
    ({"query": "q", "documents": {"content": []}}, "documents", "an empty list as its content"),
    ({"query": "q", "documents": {"x": 1}}, "documents", "documents[0] has no field text"),
    ({"query": "q", "documents": 5}, "documents", "documents is a number"),
    ({"query": {"content": [7]}, "documents": D}, "query", "query has a part that is no text"),
    (
        {"query": "q", "documents": ["a", {"content": [{"type": "image_url", "image_url": {}}]}]},
        "documents",
        "documents[1] holds an image",
    ),
    ({"query": {"image": "x"}, "documents": D}, "query", "query holds an image"),
    ({"query": "q", "documents": D, "truncate_prompt_tokens": 0}, "truncate_prompt_tokens", "-1"),
    ({"query": "q", "documents": D, "max_tokens_per_doc": -1}, "max_tokens_per_doc", "at least 0"),
    ({"query": "q", "documents": ["a", {"x": 1}]}, "documents", "documents[1] has no field text"),
    ({"query": "q", "documents": [{"text": 5}]}, "documents", "text that is no text"),
    ({"query": "q", "documents": [{"a": 1}], "rank_fields": ["b"]}, "documents", "rank_fields b"),
    ({"query": "q", "documents": D, "rank_fields": "b"}, "rank_fields", "a list of the names"),
    (f'{{"query": "q", "documents": ["d"], "query": "r", "x": {"1" * 5000}}}', "query", "once"),
    ({"query": "q", "documents": D, "top_n": -1}, "top_n", "top_n is below 0"),
    ({"query": "q", "documents": D, "top_k": -1}, "top_k", "top_k is below 0"),
    ({"query": "q", "documents": D, "top_n": "3"}, "top_n", "top_n is a text"),
    ({"query": "q", "documents": D, "return_documents": 1}, "return_documents", "is a number"),
    ({"query": "q", "documents": D, "return_documents": "yes"}, "return_documents", "'yes'"),
    ({"query": "q", "documents": D, "instruct": {}}, "instruct", "instruct is an object"),
    (f'{{"query": "q", "documents": [{{"x": {DEEP}}}]}}', "", "nested too deeply"),
    ('{"query": "a", "query": "b", "documents": ["d"]}', "query", "more than once"),
    ('{"query": "a", "documents": ["d"], "documents": []}', "documents", "more than once"),
]
BAD = [("/v1/embeddings", *case) for case in BAD_EMBEDDINGS]
BAD += [("/v1/rerank", *case) for case in BAD_RERANK]


@pytest.mark.parametrize(
    ("path", "body", "param", "said"), BAD, ids=[f"{c[0][4:]} {c[3][:40]}" for c in BAD]
)
def test_bad_fields_are_named(path: str, body: Any, param: str, said: str) -> None:
    found = refusal(path, body)
    assert said in found.message and (found.param or "") == param
    assert "Expected" not in found.message and "$" not in found.message
    assert len(found.message) < 300


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        (
            "/v2/embed",
            {"inputs": [{"content": [{"type": "image_url"}]}]},
            "inputs[0] holds an image",
        ),
        ("/v2/embed", {"images": ["data:..."]}, "images must be left out"),
        ("/score", {"text_1": "a", "text_2": "b", "chat_template_kwargs": {"instruct": 7}}, "text"),
        ("/pooling", {"input": "a", "encoding_format": "int8"}, "bytes_only"),
        ("/pooling", {"input": "a", "embed_dtype": "fp8_e4m3"}, "float32, float16, bfloat16"),
        ("/pooling", {"input": "a", "add_special_tokens": False}, "special tokens"),
        ("/pooling", {"input": ["a"] * 65, "encoding_format": "bytes"}, "bytes_only"),
        ("/score", {"text_1": "q", "text_2": [{"content": [{"type": "video"}]}]}, "holds a video"),
        (
            "/api/v1/services/embeddings/text-embedding/text-embedding",
            {"input": {"texts": ["a"]}, "parameters": {"output_type": "dense&sparse"}},
            "no sparse vectors",
        ),
    ],
)
def test_what_no_model_here_does_is_refused_in_words(
    path: str, body: dict[str, Any], said: str
) -> None:
    """A client that asks for one kind of answer and gets another would never know."""
    with pytest.raises(Refusal) as refused:
        route(path).dialect.read(json.dumps(body).encode())
    assert refused.value.status == 400 and said in refused.value.message


def test_classifying_is_for_another_kind_of_model() -> None:
    with pytest.raises(Refusal, match="no model here classifies") as refused:
        route("/classify").dialect.read(b'{"input": "a"}')
    assert refused.value.status == 424


TWICE = {
    "/v1/embeddings": '{"input": "a", "input": "b"}',
    "/v1/rerank": '{"query": "q", "documents": ["a"], "documents": ["b"]}',
    "/v2/embed": '{"model": "m", "texts": ["a"], "model": "n"}',
    "/embed": '{"inputs": "a", "inputs": "b"}',
    "/api/embed": '{"input": "a", "input": ["b"]}',
    "/api/embeddings": '{"prompt": "a", "prompt": "b"}',
    "/pooling": '{"input": "a", "input": "b"}',
    "/similarity": '{"inputs": {"source_sentence": "a", "sentences": ["b"], "sentences": ["c"]}}',
    "/api/v1/services/embeddings/text-embedding/text-embedding": (
        '{"input": {"texts": ["a"], "texts": ["b"]}}'
    ),
    "/api/v1/services/rerank/text-rerank/text-rerank": (
        '{"input": {"query": "q", "documents": [{"query": 1}], "query": "r"}}'
    ),
}


@pytest.mark.parametrize("path", TWICE)
def test_a_field_twice_is_refused_in_every_dialect(path: str) -> None:
    body = TWICE[path].encode()
    with pytest.raises(Refusal, match="stands in the body more than once"):
        dialects.choose(route(path).dialect, body).read(body)


@pytest.mark.parametrize(
    ("path", "body", "param", "said"),
    [
        ("/score", {"text_1": "a", "text_2": "b", "queries": "a"}, "text_1", "queries and text_1"),
        ("/score", {"text_1": "a", "text_2": "b", "data_2": []}, "data_2", "text_2 and data_2"),
        ("/v2/embed", {"texts": ["a"], "inputs": [{}]}, "inputs", "texts and inputs mean"),
    ],
)
def test_two_names_for_one_thing_are_refused(path: str, body: Any, param: str, said: str) -> None:
    """Which of the two is meant?"""
    with pytest.raises(Refusal, match=said) as refused:
        route(path).dialect.read(json.dumps(body).encode())
    assert (refused.value.status, refused.value.param) == (400, param)


def test_the_side_that_is_cut_counts_for_every_way_to_ask_for_a_cut() -> None:
    for fields in ({"truncate": True}, {"truncation": True}, {"truncate_prompt_tokens": 5}):
        body = {"input": "a", "truncation_side": "left", **fields}
        assert openai.read(json.dumps(body).encode()).cut_start is True
    assert refusal("/v1/embeddings", {"input": "a", "truncation_side": "up"}).param == (
        "truncation_side"
    )


def test_a_field_twice_inside_a_document_is_no_matter() -> None:
    body = '{"query":"q","documents":[{"text":"a","query":1,"model":2},{"text":"\\"query\\""}]}'
    assert rerank.read(body.encode()).texts == ("a", '"query"')
    assert rerank.read(b'{"query":"query","documents":["documents","query"]}').items == 2


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
# A good body for each address; what is changed in it gives bodies that are nearly good.
GOOD: dict[str, dict[str, Any]] = {
    path: json.loads(file.read_text())["body"]
    for file in GOLDEN
    if (path := json.loads(file.read_text())["path"]) in dialects.POSTS
}
GOOD |= {"/embeddings": {"input": "a"}, "/rerank": {"query": "q", "documents": ["d"]}}
ALL = st.sampled_from(sorted(GOOD))
ALL_NAMES = (
    {name for body in GOOD.values() for name in body}
    | {name for module in (cohere, ollama, openai, rerank) for name in module.FIELDS}
    | {*tei.EMBED_FIELDS, *tei.RERANK_FIELDS, *vllm.SCORE_FIELDS, *pooling.FIELDS}
)
NAMES = st.sampled_from(sorted(ALL_NAMES))


REPEATED = {"/reranks", "/reranking", "/v2/rerank", "/api/rerank"}  # /rerank by other names


def test_each_address_has_a_good_body() -> None:
    unread = (tei.OTHER, vllm.CLASSIFY)
    other = {path for path, found in dialects.POSTS.items() if found.dialect in unread}
    assert set(GOOD) | other | REPEATED == set(dialects.POSTS)


def _read(path: str, body: dict[str, Any]) -> Job | str:
    """The Job of a body, or why it is refused."""
    text = json.dumps(body).encode()
    try:
        return dialects.choose(route(path).dialect, text).read(text)
    except Refusal as refused:
        return refused.message


def _deeper(body: dict[str, Any], name: str, value: Any) -> list[dict[str, Any]]:
    """`body` with one more field, at its top or inside, wherever there is none of that name."""
    inner = [key for key, held in body.items() if isinstance(held, dict) and name not in held]
    return [
        *([] if name in body else [{**body, name: value}]),
        *({**body, key: {**body[key], name: value}} for key in inner),
    ]


@pytest.mark.parametrize("path", sorted(GOOD))
def test_null_is_absent_and_what_is_unknown_is_ignored(path: str) -> None:
    good = GOOD[path]
    want = _read(path, good)
    assert isinstance(want, Job)
    for name in {*ALL_NAMES, "kwargs", "priority", "user", "a.b", ""}:
        # These say whose the body is, or where a text of another name stands.
        if name in ("texts", "documents", "inputs", "prompt", "messages", "text"):
            continue
        for body in _deeper(good, name, None):
            assert _read(path, body) == want, (name, body)
    for body in _deeper(good, "nobody_knows_this", [{"x": [1]}]):
        assert _read(path, body) == want


FLAGS = """add_special_tokens late_chunking normalize normalized raw_scores return_documents
return_multivector return_text return_token_strs truncate truncation use_activation activation"""


@pytest.mark.parametrize("path", sorted(GOOD))
def test_booleans_may_be_words(path: str) -> None:
    for name in FLAGS.split():
        for value, word in ((True, "true"), (False, "false")):
            asked = zip(*(_deeper(GOOD[path], name, v) for v in (value, word)), strict=True)
            for plain, worded in asked:
                assert _read(path, worded) == _read(path, plain), worded


@settings(deadline=None)  # machines are slow at times
@given(ALL, st.dictionaries(NAMES, VALUES, max_size=3), st.sets(NAMES, max_size=1))
def test_any_json_gives_a_job_or_a_clear_400(
    path: str, fields: dict[str, Any], gone: set[str]
) -> None:
    body = {k: v for k, v in {**GOOD[path], **fields}.items() if k not in gone}
    _job_or_400(path, json.dumps(body).encode(errors="replace"))


@settings(deadline=None)  # machines are slow at times
@given(
    ALL,
    st.sampled_from(["input", "parameters", "inputs"]),
    st.dictionaries(
        st.sampled_from(
            [
                "texts",
                "query",
                "documents",
                "text_type",
                "dimension",
                "top_n",
                "truncate",
                "output_type",
                "instruct",
                "source_sentence",
                "sentences",
                "return_documents",
            ]
        ),
        VALUES,
        max_size=2,
    ),
)
def test_any_json_one_level_down(path: str, name: str, fields: dict[str, Any]) -> None:
    inner = GOOD[path].get(name)
    changed = {**inner, **fields} if isinstance(inner, dict) else fields
    _job_or_400(path, json.dumps({**GOOD[path], name: changed}).encode(errors="replace"))


@settings(deadline=None)  # machines are slow at times
@given(st.binary(max_size=60), ALL)
def test_any_bytes_give_a_job_or_a_clear_400(body: bytes, path: str) -> None:
    _job_or_400(path, body)
    _job_or_400(path, b'{"input": "' + body + b'", "query": "q", "documents": ["d"]}')


def _job_or_400(path: str, body: bytes) -> None:
    """A Job whose answer can be written, or a refusal that names a field and says what to do."""
    dialect = dialects.choose(route(path).dialect, body)
    try:
        made = dialect.read(body)
    except Refusal as refused:
        assert refused.status == 400 and len(refused.message) > 20
        assert refused.code == "invalid_json" or refused.param
        if refused.param:
            assert refused.param in refused.message or "more than once" in refused.message
        json.loads(dialect.refuse(refused, "r"))
        return
    assert made.items >= 1 and len(made.queries) in (0, made.items)
    count = made.items
    vectors = np.tile(VECTORS[:1], (count, 1)) if made.task == "embed" else None
    scores = np.full(count, 0.5, np.float32) if made.task == "score" else None
    whole = Answer(
        id="i",
        model="m",
        tokens=1,
        created=1,
        vectors=vectors,
        scores=scores,
        pieces=[[Piece(1, "a", start=0, stop=1)]] * count,
    )
    json.loads(dialect.write(made, whole))


# -- bytes of vLLM's -----------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["native", "little", "big"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_pooling_in_bytes_as_vllms_clients_read_them(dtype: str, end: str) -> None:
    asked = {"input": ["a", "b", "c"], "embed_dtype": dtype, "endianness": end}
    made = Answer(id="i", model="三", tokens=3, created=1, vectors=VECTORS)

    def floats(raw: bytes) -> Any:
        order = ">" if end == "big" else "<"
        if dtype == "bfloat16":
            upper = np.frombuffer(raw, order + "u2").astype(np.uint32) << 16
            return upper.view(np.float32)
        return np.frombuffer(raw, order + ("f4" if dtype == "float32" else "f2"))

    near = 0 if dtype == "float32" else 2**-8
    for encoding in ("bytes", "bytes_only"):
        read = job("/pooling", **asked, encoding_format=encoding)
        whole = pooling.write(read, made)
        assert np.abs(floats(whole).reshape(3, 2) - VECTORS).max() <= near
        dress = pooling.dress(read, made)
        assert dress.kind == b"application/octet-stream"
        told = dict(dress.headers).get(b"metadata")
        assert (told is None) == (encoding == "bytes_only")
        for item in json.loads(told)["data"] if told else ():
            row = floats(whole[item["start"] : item["end"]])
            assert np.abs(row - VECTORS[item["index"]]).max() <= near
            assert item["shape"] == [2] and item["endianness"] == end
    body = json.loads(pooling.write(job("/pooling", **asked, encoding_format="base64"), made))
    for row, item in zip(VECTORS, body["data"], strict=True):
        assert np.abs(floats(base64.b64decode(item["data"])) - row).max() <= near


def test_a_bfloat16_is_rounded_to_even() -> None:
    exact = np.array([[0x3F800000, 0x3F808000, 0x3F818000, 0x3F808001]], np.uint32)
    made = numbers.as_vllm(exact.view(np.float32), "bfloat16", False)
    assert made.tolist() == [[0x3F80, 0x3F80, 0x3F82, 0x3F81]]


# -- numbers -----------------------------------------------------------------------------------


def test_bytes_keep_the_order_of_products() -> None:
    """One scale for all: what is closer as floats is not farther as int8, beyond its steps."""
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((64, 1024)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    steps = numbers.small(rows, "int8").astype(np.int64)
    assert steps.min() >= -127 and steps.max() <= 127
    products = steps @ steps.T / (127 / (8 / 32)) ** 2
    assert np.abs(products - rows @ rows.T).max() < 3e-3
    assert np.array_equal(numbers.small(rows, "uint8").astype(np.int64), steps + 128)


def test_bits_are_filled_up_to_bytes() -> None:
    rows = np.array([[1, -1, 1, 0, 0, 0, 0, 0, 0.5]], np.float32)
    assert numbers.small(rows, "ubinary").tolist() == [[0b10100000, 0b10000000]]
    assert numbers.small(rows, "binary").tolist() == [[32, 0]]
    assert json.loads(numbers.rows_json(rows, "binary", False)[0]) == [32, 0]
    assert numbers.rows_json(rows, "ubinary", True) == [b'"oIA="']


def test_logits_are_never_infinite() -> None:
    found = numbers.logits(np.array([0, 0.5, 1], np.float32))
    assert found[1] == 0 and np.isfinite(found).all() and found[0] == -found[2] < -16


# -- addresses that serve several ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "name"),
    [
        ("/rerank", {"query": "q", "texts": ["d"]}, "tei"),
        ("/rerank", {"query": "q", "documents": ["d"], "texts": ["d"]}, "rerank"),
        ("/rerank", {"query": "q", "documents": ["texts", '"texts":']}, "rerank"),
        ("/rerank", {"query": "q"}, "rerank"),
        ("/embed", {"inputs": "a"}, "tei"),
        ("/v1/embed", {"inputs": "a"}, "tei"),
        ("/embed", {"inputs": ['"texts": [{'], "x": [{}]}, "tei"),
        ("/embed", {}, "tei"),
        ("/v1/embed", {}, "cohere"),
        ("/", {"texts": ["a"]}, "cohere"),
        ("/tokenize", {}, "tei"),
        ("/v1/tokenize", {}, "cohere"),
        ("/v1/tokenize", {"inputs": "a"}, "tei"),
        ("/v2/rerank", {"query": "q", "texts": ["d"]}, "tei"),
        ("/v2/rerank", {"query": "q", "documents": ["d"]}, "rerank"),
        ("/embed", {"inputs": ["a"], "model": "m"}, "tei"),
        ("/embed", {"inputs": [{"content": "a"}], "model": "m"}, "cohere"),
        ("/embed", {"texts": ["inputs"], "model": "m"}, "cohere"),
        ("/v1/embed", {"texts": ["a"], "inputs": "a"}, "cohere"),
        ("/v2/embed", {"inputs": "a"}, "cohere"),
        ("/tokenize", {"inputs": "a"}, "tei"),
        ("/tokenize", {"inputs": ["text", "prompt"]}, "tei"),
        ("/v1/tokenize", {"model": "m", "prompt": "a"}, "vllm"),
        ("/tokenize", {"messages": []}, "vllm"),
        ("/v1/tokenize", {"model": "m", "text": "a"}, "cohere"),
    ],
)
def test_the_body_decides(path: str, body: dict[str, Any], name: str) -> None:
    for text in (json.dumps(body), json.dumps(body, indent=1).replace('":', '" :')):
        chosen = dialects.choose(route(path).dialect, text.encode())
        assert dialects.name(chosen) == name


@pytest.mark.parametrize(
    ("path", "keys"),
    [
        ("/api/chat", {"error"}),
        ("/api/v1/services/x", {"code", "message", "request_id"}),
        ("/info", {"error", "error_type"}),
        ("/score", {"error"}),
        ("/v1/nothing", {"error", "message", "detail"}),
    ],
)
def test_what_leads_nowhere_is_refused_in_the_shape_of_its_address(
    path: str, keys: set[str]
) -> None:
    found = dialects.find("PUT", path)
    assert isinstance(found, Refusal)
    assert set(json.loads(dialects.refuse_at(path)(found, "r"))) == keys


@pytest.mark.parametrize("text", ["Beijing", "\ud83d", "x" * 9])
def test_error_bodies_can_always_be_written(text: str) -> None:
    for found in {id(r.dialect): r.dialect for r in dialects.POSTS.values()}.values():
        json.loads(found.refuse(Refusal(503, "overloaded", text, retry_after_s=1), "r"))
