"""Right answers from real vLLM: equal to transformers, through curl-like calls and real SDKs."""

from __future__ import annotations

import base64
import json
from typing import Any

import cohere
import numpy as np
import openai
import pytest
from conftest import Installed
from machine import CACHE, GATEWAY, get, post

pytestmark = [
    pytest.mark.machine,
    pytest.mark.vllm,
    pytest.mark.timeout(1200),
    pytest.mark.usefixtures("uncached"),
]
EMBED, RERANK = "Qwen3-Embedding-0.6B", "Qwen3-Reranker-0.6B"
CLOSE = 1e-5


@pytest.fixture(scope="module")
def reference() -> Any:
    """What transformers says in float32; made by tests/lab/models. Within the limit, none empty."""
    found = json.loads((CACHE / "reference.json").read_text(encoding="utf-8"))
    for kind in ("embeddings", "scores"):
        found[kind] = [r for r in found[kind] if not r["cut"] and r.get("text") != ""]
        assert len(found[kind]) >= 8
    return found


def asked(row: dict[str, Any]) -> str:
    if row["instruction"] is None:
        return str(row["text"])
    return f"Instruct: {row['instruction']}\nQuery:{row['text']}"


def test_embeddings_one_at_a_time(er: Installed, reference: Any) -> None:
    for row in reference["embeddings"]:
        status, answer, _ = post("/v1/embeddings", {"model": EMBED, "input": asked(row)}, er.key)
        assert status == 200, answer
        assert answer["usage"]["prompt_tokens"] == len(row["ids"]), row["name"]
        got = np.array(answer["data"][0]["embedding"])
        assert np.abs(got - row["embedding"]).max() < CLOSE, row["name"]


def test_embeddings_in_one_request(er: Installed, reference: Any) -> None:
    rows = reference["embeddings"] * 3
    body = {"model": EMBED, "input": [asked(r) for r in rows], "encoding_format": "base64"}
    status, answer, _ = post("/v1/embeddings", body, er.key)
    assert status == 200
    for row, item in zip(rows, answer["data"], strict=True):
        got = np.frombuffer(base64.b64decode(item["embedding"]), "<f4")
        assert np.abs(got - row["embedding"]).max() < CLOSE, row["name"]


def test_dimensions_are_cut_and_renormalised(er: Installed, reference: Any) -> None:
    row = reference["embeddings"][0]
    body = {"model": EMBED, "input": asked(row), "dimensions": 32}
    _, answer, _ = post("/v1/embeddings", body, er.key)
    wanted = np.array(row["embedding"][:32])
    got = np.array(answer["data"][0]["embedding"])
    assert np.abs(got - wanted / np.linalg.norm(wanted)).max() < CLOSE


def test_scores(er: Installed, reference: Any) -> None:
    for row in reference["scores"]:
        body = {"model": RERANK, "query": row["query"], "documents": [row["document"]]}
        if row["instruction"] is not None:
            body["instruction"] = row["instruction"]
        status, answer, _ = post("/v1/rerank", body, er.key)
        assert status == 200, answer
        assert abs(answer["results"][0]["relevance_score"] - row["score"]) < CLOSE, row["name"]


def test_scores_of_many_documents_are_sorted_and_indexed(er: Installed, reference: Any) -> None:
    query = reference["scores"][0]["query"]
    rows = [r for r in reference["scores"] if r["query"] == query and r["instruction"] is None]
    documents = [r["document"] for r in rows] * 20
    body = {"model": RERANK, "query": query, "documents": documents}
    _, answer, _ = post("/v1/rerank", body, er.key)
    results = answer["results"]
    assert len(results) == len(documents)
    scores = [r["relevance_score"] for r in results]
    assert scores == sorted(scores, reverse=True)
    wanted = {r["document"]: r["score"] for r in rows}
    for result in results:
        score = wanted[documents[result["index"]]]
        assert abs(result["relevance_score"] - score) < CLOSE


def test_control_text_stays_text(er: Installed) -> None:
    """`<|im_end|>` in a document is longer than one token and changes nothing around it."""
    lengths = []
    for text in ("a", "a<|im_end|>", "a<|endoftext|>"):
        _, answer, _ = post("/v1/embeddings", {"model": EMBED, "input": text}, er.key)
        lengths.append(answer["usage"]["prompt_tokens"])
    assert lengths[0] == 2
    assert min(lengths[1:]) > 5


def test_openai_sdk(er: Installed, reference: Any) -> None:
    client = openai.OpenAI(base_url=GATEWAY + "/v1", api_key=er.key)
    row = reference["embeddings"][0]
    answer = client.embeddings.create(model=EMBED, input=[asked(row), "another"])
    assert np.abs(np.array(answer.data[0].embedding) - row["embedding"]).max() < CLOSE
    assert [m.id for m in client.models.list()] == [EMBED, RERANK]
    assert client.models.retrieve(EMBED).id == EMBED
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="nope", input="x")
    with pytest.raises(openai.BadRequestError):
        client.embeddings.create(model=EMBED, input="")
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=GATEWAY + "/v1", api_key="wrong").models.list()


def test_cohere_sdk(er: Installed, reference: Any) -> None:
    row = reference["scores"][0]
    client = cohere.ClientV2(api_key=er.key, base_url=GATEWAY)
    answer = client.rerank(model=RERANK, query=row["query"], documents=[row["document"], "x"])
    by_index = {r.index: r.relevance_score for r in answer.results}
    assert abs(by_index[0] - row["score"]) < CLOSE
    with pytest.raises(cohere.errors.UnauthorizedError):
        cohere.ClientV2(api_key="wrong", base_url=GATEWAY).rerank(
            model=RERANK, query="q", documents=["d"]
        )


STRANGER = """
import json, sys, urllib.error, urllib.request
port, routes, wrong = sys.argv[1], json.loads(sys.argv[2]), []
for method, path in routes:
    for header in ({}, {"x-er-secret": "x" * 43}, {"authorization": "Bearer x"}):
        ask = urllib.request.Request(f"http://127.0.0.1:{port}{path}", b"{}", header, method=method)
        try:
            status = urllib.request.urlopen(ask, timeout=10).status
        except urllib.error.HTTPError as error:
            status = error.code
        if status != (200 if path == "/health" else 401):
            wrong.append((method, path, header, status))
print(json.dumps(wrong))
"""


def test_the_engines_answer_the_gateway_alone(er: Installed) -> None:
    """Whatever path vLLM serves, and some that it does not, is shut to other users."""
    secret = er.machine.run("cat", "/run/er/engine.secret").stdout
    assert er.machine.run("cat", "/run/er/engine.secret", user="joe", check=False).returncode != 0
    for port, own in ((8000, "/v1/embeddings"), (8001, "/v1/rerank")):
        asked = ["curl", "-sf", "-H", f"x-er-secret: {secret}"]
        page = er.machine.json(*asked, f"http://127.0.0.1:{port}/openapi.json")
        routes = [(m.upper(), path) for path, ways in page["paths"].items() for m in ways]
        assert ("POST", own) in routes and ("POST", "/pooling") in routes and len(routes) > 10
        routes += [("GET", p) for p in ("/metrics", "/docs", "/openapi.json", "/", "//health")]
        routes += [("POST", "/er/pooling"), ("DELETE", "/none"), ("OPTIONS", own)]
        stranger = ["/usr/bin/python3", "-c", STRANGER, str(port), json.dumps(routes)]
        assert json.loads(er.machine.run(*stranger, user="joe").stdout) == []


def test_key_in_the_query(er: Installed) -> None:
    body = {"model": EMBED, "input": "x"}
    assert post(f"/v1/embeddings?api_key={er.key}", body, None)[0] == 200
    assert post("/v1/embeddings?api_key=wrong", body, None)[0] == 401
    assert get("/v1/models")[0] == 401
    assert er.key not in er.machine.journal("-b")


def test_the_unix_socket_needs_no_key(er: Installed) -> None:
    body = json.dumps({"model": EMBED, "input": "x"})
    result = er.machine.run(
        *["curl", "-s", "--unix-socket", "/run/er/gateway.sock", "-d", body],
        *["-H", "content-type: application/json", "http://er/v1/embeddings"],
    )
    assert json.loads(result.stdout)["object"] == "list"


def test_audit_has_a_record_for_each(er: Installed) -> None:
    _, _, headers = post("/v1/embeddings", {"model": EMBED, "input": "audit me"}, er.key)
    _, _, refused = post("/v1/embeddings", {"model": EMBED, "input": ""}, er.key)
    for found, status in ((headers, "200"), (refused, "400")):
        text = er.machine.run(
            *["journalctl", "--namespace=er-audit", "-o", "json", "--no-pager"],
            f"REQUEST_ID={found['x-request-id']}",
        ).stdout
        records = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
        assert len(records) == 1, text
        assert records[0]["STATUS"] == status
        assert records[0]["KEY_ID"] == er.key.split("-")[2]
        assert records[0]["PATH"] == "/v1/embeddings"


def test_er_audit_reads_the_true_journal(er: Installed) -> None:
    """By key, status and time; and what of changes; `er doctor` says how many days fit."""
    _, _, refused = post("/v1/embeddings", {"model": EMBED, "input": ""}, er.key)
    mine = ["er", "audit", "--key", er.key.split("-")[2], "--since", "10m", "--json"]
    text = er.machine.run(*mine, "--status", "400").stdout
    records = [json.loads(line) for line in text.splitlines()]
    assert {record["STATUS"] for record in records} == {"400"}, text
    assert refused["x-request-id"] in {record["REQUEST_ID"] for record in records}, text
    rows = er.machine.run(*mine[:-1]).stdout
    assert "/v1/embeddings" in rows and " 200 " in rows, rows
    made = er.machine.json("er", "keys", "create", "--name", "audited", "--json")
    er.machine.run("er", "keys", "revoke", made["id"])
    changes = er.machine.run("er", "audit", "--since", "10m", "-n", "20").stdout
    assert made["id"] in changes, changes
    assert made["secret"] not in er.machine.run("er", "audit", "--since", "10m", "--json").stdout
    assert "records a day" in er.machine.run("er", "doctor", check=False).stdout
