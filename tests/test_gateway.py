"""The gateway as clients meet it: real processes, two workers, engines that can misbehave."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import http.client
import json
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

from engine import expected
from er import config, journal, keys, model_files, prompters
from er.batches import Store
from er.cache import Cache
from er.dialects import openai
from er.gateway import Gateway as Room
from er.gateway import exchange
from er.gateway import served as served_room
from er.gateway.batches import Shelf
from er.gateway.bounded import Bounded
from er.gateway.durations import go_duration
from er.gateway.exchange import Gone, Request
from er.gateway.served import Served, check_right
from er.gateway.tally import Tally
from er.gateway.work import Workshop
from er.job import Answer, Job, Refusal
from er.keys import Keys
from er.ledger import Ledger
from er.limits import Limits
from er.prompts import Prompter
from er.usage.meter import Meter
from fakes import EngineProcess, until
from running import DIMENSIONS, Gateway, Reply, gateway, model_folder

ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
    504: "server_error",
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One gateway of two workers for all tests that leave it as it was."""
    with gateway(tmp_path_factory.mktemp("gw"), workers=2, max_body="64KiB") as running:
        yield running


def new_key(running: Gateway, name: str, **more: Any) -> keys.Created:
    path = running.state / "er_api_keys.json"
    return keys.create(path, name=name, now=datetime.now(UTC), **more)


def assert_refused(reply: Reply, status: int, code: str) -> None:
    """The one error body, whole, and the headers that every answer has."""
    assert (reply.status, reply.code) == (status, code), reply
    tree = reply.json
    assert tree["message"] == tree["detail"] == tree["error"]["message"]
    assert len(tree["message"]) > 15
    assert tree["error"]["type"] == ERROR_TYPES[status]
    assert set(tree["error"]) == {"message", "type", "param", "code"}
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-request-id"]
    assert "total;dur=" in reply.headers["server-timing"]
    if status in (429, 503):
        assert int(reply.headers["retry-after"]) >= 1
        assert float(reply.headers["retry-after-ms"]) > 0


# -- right answers -----------------------------------------------------------------------------


def prompter(running: Gateway) -> Prompter:
    files = model_files.read(running.folder / "model")
    return Prompter(files, prompt="qwen3", max_tokens=512, instruction=None, task="embed")


def test_vectors_are_those_of_the_texts_in_their_order(shared: Gateway) -> None:
    """In both encodings, and cut to the dimensions asked for."""
    texts = ["one", "two <|im_end|>", "三"]
    sequences = prompter(shared).embed(
        texts, kind="document", instruction=None, over_length="refuse"
    )
    right = np.stack([expected(ids, DIMENSIONS) for ids in sequences.sequences])
    reply = shared.embed(texts)
    assert reply.status == 200
    got = np.array([row["embedding"] for row in reply.json["data"]], dtype=np.float32)
    assert np.allclose(got, right, atol=1e-6)
    assert reply.json["usage"]["prompt_tokens"] == sequences.tokens
    assert reply.json["model"] == "embed"
    cut = shared.embed(texts, dimensions=8, encoding_format="base64").json
    rows = [np.frombuffer(base64.b64decode(r["embedding"]), "<f4") for r in cut["data"]]
    short = right[:, :8] / np.linalg.norm(right[:, :8], axis=1, keepdims=True)
    assert np.allclose(np.stack(rows), short, atol=1e-6)


def test_via_scores_by_the_cosine_of_the_other_models_vectors(shared: Gateway) -> None:
    """The query as a query, the documents as documents."""
    tool = prompter(shared)
    documents = ["a", "b", "c"]
    query = tool.embed(["q"], kind="query", instruction=None, over_length="refuse").sequences
    rest = tool.embed(documents, kind="document", instruction=None, over_length="cut").sequences
    vector = expected(query[0], DIMENSIONS)
    right = {i: float(expected(ids, DIMENSIONS) @ vector) for i, ids in enumerate(rest)}
    body = {"model": "bi", "query": "q", "documents": documents, "return_documents": True}
    reply = shared.ask("POST", "/v1/rerank", body)
    assert reply.status == 200
    results = reply.json["results"]
    assert [r["index"] for r in results] == sorted(right, key=lambda i: -right[i])
    for row in results:
        assert row["relevance_score"] == pytest.approx(right[row["index"]], abs=1e-6)
        assert row["document"]["text"] == documents[row["index"]]


def test_a_request_too_large_to_be_tokenised_at_once_is_right_too(shared: Gateway) -> None:
    """It goes by way of a thread."""
    texts = [f"text {i} " + "x" * 100 for i in range(300)]
    reply = shared.embed(texts)
    assert reply.status == 200
    assert len(reply.json["data"]) == 300
    ids = prompter(shared).embed(
        texts[299:], kind="document", instruction=None, over_length="refuse"
    )
    assert np.allclose(
        reply.json["data"][299]["embedding"], expected(ids.sequences[0], DIMENSIONS), atol=1e-6
    )


# -- the order of checks -----------------------------------------------------------------------


def test_each_check_comes_before_all_later_ones(shared: Gateway) -> None:
    """A request that is wrong in every way from one check on is told of the first."""
    narrow = new_key(shared, "narrow", models=["other"], rate_limit="1/hour")
    used = new_key(shared, "used", rate_limit="1/hour")
    assert shared.embed(key=used.secret).status == 200
    huge = b"{" * 70_000
    long_text = {"model": "embed", "input": "x" * 2000}
    wrong = "sk-er-kaaaaaaaa-" + "x" * 43
    cases: list[tuple[str, Any, str | None, int, str]] = [
        ("/nothing", huge, None, 404, "not_found"),
        ("/v1/embeddings", huge, None, 401, "invalid_api_key"),
        ("/v1/embeddings", huge, wrong, 401, "invalid_api_key"),
        ("/v1/embeddings", huge, narrow.secret, 413, "body_too_large"),
        ("/v1/embeddings", b"{", narrow.secret, 400, "invalid_json"),
        ("/v1/embeddings", {"model": "?", "input": 7}, narrow.secret, 400, "invalid_request"),
        ("/v1/embeddings", {"model": "?", "input": "x"}, narrow.secret, 404, "model_not_found"),
        ("/v1/embeddings", long_text, narrow.secret, 403, "key_not_permitted"),
        ("/v1/embeddings", long_text, used.secret, 400, "input_too_long"),
        (
            "/v1/embeddings",
            {"model": "embed", "input": "x"},
            used.secret,
            429,
            "rate_limit_exceeded",
        ),
    ]
    for path, body, secret, status, code in cases:
        assert_refused(shared.ask("POST", path, body, key=secret), status, code)


def test_a_wrong_method_is_said_before_the_key_is_looked_at(shared: Gateway) -> None:
    """With what is allowed."""
    for method, path, allow in (
        ("GET", "/v1/embeddings", "POST"),
        ("DELETE", "/v1/models", "GET, HEAD"),
        ("POST", "/health", "GET, HEAD"),
    ):
        reply = shared.ask(method, path, key=None)
        assert_refused(reply, 405, "method_not_allowed")
        assert reply.headers["allow"] == allow
    options = shared.ask("OPTIONS", "/v1/embeddings", key=None)
    assert (options.status, options.headers["allow"], options.body) == (204, "POST, OPTIONS", b"")
    head = shared.ask("HEAD", "/v1/models")
    assert (head.status, head.body) == (200, b"")
    assert int(head.headers["content-length"]) > 50


def test_length_is_refused_by_name_with_both_numbers(shared: Gateway) -> None:
    """Which item, its tokens, the limit."""
    reply = shared.embed(["fine", "x" * 600])
    assert_refused(reply, 400, "input_too_long")
    assert re.search(r"input 1 .*60\d.*512", reply.message)
    query = {"model": "bi", "query": "x" * 600, "documents": ["a"]}
    assert_refused(shared.ask("POST", "/v1/rerank", query), 400, "input_too_long")
    document = {"model": "bi", "query": "q", "documents": ["x" * 600]}
    assert shared.ask("POST", "/v1/rerank", document).status == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe",
        {"model": "embed"},
        {"model": "embed", "input": ""},
        {"model": "embed", "input": []},
        {"model": "embed", "input": [""]},
        {"model": "embed", "input": {"a": 1}},
        {"model": 5, "input": "x"},
        {"model": "embed", "input": "x", "dimensions": -1},
        {"model": "embed", "input": "x", "dimensions": 65},
        {"model": "embed", "input": "x", "dimensions": "many"},
        {"model": "embed", "input": "x", "encoding_format": "morse"},
        {"model": "embed", "input": [1, 2]},
        {"model": "bi", "input": "x"},
        b'{"model": "embed", "input": ' + b"[" * 5000,
    ],
    ids=str,
)
def test_bad_bodies_are_400_and_say_why(shared: Gateway, body: Any) -> None:
    """Never a 422, never a 500."""
    reply = shared.ask("POST", "/v1/embeddings", body)
    assert reply.status == 400, reply
    assert_refused(reply, 400, str(reply.code))


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", None),
        (b"{", None),
        (b"[]", None),
        ({}, "query"),
        ({"model": "bi", "query": "q"}, "documents"),
        ({"model": "bi", "documents": ["a"]}, "query"),
        ({"model": "bi", "query": "", "documents": ["a"]}, "query"),
        ({"model": "bi", "query": "q", "documents": []}, "documents"),
        ({"model": "bi", "query": "q", "documents": 5}, "documents"),
        ({"model": "bi", "query": "q", "documents": [5]}, "documents"),
        ({"model": "bi", "query": "q", "documents": [{"title": "a"}]}, "documents"),
        ({"model": "bi", "query": ["q"], "documents": ["a"]}, "query"),
        ({"model": "bi", "query": "q", "documents": ["a"], "top_n": "two"}, "top_n"),
        ({"model": "bi", "query": "q", "documents": ["a"], "top_n": -1}, "top_n"),
        ({"model": 5, "query": "q", "documents": ["a"]}, "model"),
        ({"model": "embed", "query": "q", "documents": ["a"]}, "model"),
    ],
    ids=str,
)
def test_bad_rerank_bodies_are_400_and_name_the_field(
    shared: Gateway, body: Any, param: str | None
) -> None:
    reply = shared.ask("POST", "/v1/rerank", body)
    assert_refused(reply, 400, "invalid_json" if param is None else "invalid_request")
    assert reply.json["error"]["param"] == param
    unknown = {"model": "none", "query": "q", "documents": ["a"]}
    assert_refused(shared.ask("POST", "/v1/rerank", unknown), 404, "model_not_found")


# -- keys --------------------------------------------------------------------------------------


def test_both_ways_of_giving_a_key(shared: Gateway) -> None:
    """The header counts where both are given; secrets are in no log."""
    extra = new_key(shared, "query")
    path = f"/v1/models?api_key={extra.secret}"
    assert shared.ask("GET", path, key=None).status == 200
    assert shared.ask("GET", path, key="sk-er-kaaaaaaaa-wrong").status == 401
    assert shared.ask("GET", "/v1/models?api_key=wrong").status == 200
    lower = {"authorization": f"bearer {extra.secret}"}
    assert shared.ask("GET", "/v1/models", key=None, headers=lower).status == 200
    for header in ("Basic eDp5", "Bearer", "", extra.secret):
        reply = shared.ask("GET", path, key=None, headers={"authorization": header})
        assert_refused(reply, 401, "invalid_api_key")
        assert reply.headers["www-authenticate"] == "Bearer"
    assert extra.secret not in shared.text()
    assert shared.text().count("sk-er-k") == 1  # the first key, shown once


def test_a_key_is_taken_up_and_ended_without_a_restart(shared: Gateway) -> None:
    """Created, restricted, revoked: each with the next request, on every worker."""
    path = shared.state / "er_api_keys.json"
    created = new_key(shared, "brief")
    assert {shared.embed(key=created.secret).status for _ in range(6)} == {200}
    keys.change(path, "brief", now=datetime.now(UTC), models=["bi/encoder"])
    refused = shared.embed(key=created.secret)
    assert_refused(refused, 403, "key_not_permitted")
    assert f"er keys set {created.record.id} --models" in refused.message
    body = {"model": "bi", "query": "q", "documents": ["a"]}
    assert shared.ask("POST", "/v1/rerank", body, key=created.secret).status == 200
    listed = shared.ask("GET", "/v1/models", key=created.secret).json["data"]
    assert [row["id"] for row in listed] == ["bi"]
    keys.revoke(path, "brief", now=datetime.now(UTC))
    statuses = [shared.embed(key=created.secret) for _ in range(6)]
    assert {reply.status for reply in statuses} == {401}
    assert "revoked" in statuses[0].message


def test_a_damaged_key_file_locks_nobody_out(shared: Gateway) -> None:
    """The last good one stays in force, on both workers, and the journal shouts once."""
    path = shared.state / "er_api_keys.json"
    good = path.read_bytes()
    path.write_text("{")
    assert {shared.embed().status for _ in range(8)} == {200}
    shared.wait_for("stays in force")
    path.write_bytes(good)
    assert {shared.embed().status for _ in range(8)} == {200}
    assert shared.text().count("stays in force") == 1


# -- size --------------------------------------------------------------------------------------


def raw(running: Gateway, data: bytes, patience: float = 5.0) -> bytes:
    """What the gateway answers to `data`, before anything more is sent."""
    with socket.create_connection(("127.0.0.1", running.port), timeout=patience) as link:
        link.sendall(data)
        got = b""
        with contextlib.suppress(TimeoutError):
            while not (b"\r\n\r\n" in got and got.endswith(b"}")) and (part := link.recv(65536)):
                got += part
        return got


def test_a_body_too_large_is_refused_before_it_is_sent(shared: Gateway) -> None:
    """Declared or chunked; both sizes are named; no 100 Continue asks for it."""
    head = f"POST /v1/embeddings HTTP/1.1\r\nHost: er\r\nAuthorization: Bearer {shared.key}\r\n"
    declared = head + "Content-Length: 40000000\r\nExpect: 100-continue\r\n\r\n"
    answer = raw(shared, declared.encode())
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"40000000 bytes (38.1 MiB)" in answer
    assert b"65536 bytes (64.0 KiB)" in answer
    assert b"connection: close" in answer.lower()
    chunk = b"8000\r\n" + b"x" * 0x8000 + b"\r\n"
    chunked = (head + "Transfer-Encoding: chunked\r\n\r\n").encode()
    answer = raw(shared, chunked + chunk * 3)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"65536 bytes" in answer


def test_a_compressed_body_is_refused_as_such(shared: Gateway) -> None:
    """Not as bad JSON; and the connection goes on."""
    link = shared.connection()
    packed = gzip.compress(b'{"model": "embed", "input": "x"}')
    coded = {"content-encoding": "gzip"}
    reply = shared.ask("POST", "/v1/embeddings", packed, headers=coded, connection=link)
    assert_refused(reply, 415, "unsupported_encoding")
    assert reply.headers["accept-encoding"] == "identity"
    plain = {"content-encoding": "identity"}
    assert shared.embed(headers=plain, connection=link).status == 200
    link.close()


def test_the_refusal_of_a_huge_body_reaches_a_client_that_goes_on_sending(
    shared: Gateway,
) -> None:
    """Python's own client, which reads only when all is sent."""
    reply = shared.ask("POST", "/v1/embeddings", b"x" * 3_000_000)
    assert_refused(reply, 413, "body_too_large")


async def test_a_body_that_stops_coming_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nor one that comes in drops for longer than a request may take."""
    monkeypatch.setattr(exchange, "STALL_S", 1.0)
    scope = {
        "method": "POST",
        "raw_path": b"/v1/embeddings",
        "query_string": b"",
        "headers": [(b"content-length", b"1000")],
        "client": ("::ffff:10.0.0.1", 1),
    }

    async def drops() -> dict[str, Any]:
        await asyncio.sleep(0.05)
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def nothing() -> dict[str, Any]:
        await asyncio.sleep(5)
        return {}

    late, stopped = "within the timeout of 0.3 s", "body stopped after 0"
    for receive, within_s, why in ((drops, 0.3, late), (nothing, 30.0, stopped)):
        request = Request.asgi(scope, receive)
        assert request.client == "10.0.0.1"
        with pytest.raises(Refusal) as refused:
            await request.body(2000, within_s=within_s)
        assert (refused.value.status, refused.value.code) == (408, "request_timeout")
        assert why in refused.value.message

    async def gone() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    with pytest.raises(Gone):
        await Request.asgi(scope, gone).body(2000, within_s=1)


async def test_a_model_folder_that_comes_later_is_taken_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Looked for again and again; the reason is logged once."""
    monkeypatch.setattr(served_room, "AGAIN_S", 0.05)
    text = f'[[model]]\nname = "m"\ntask = "embed"\npath = "{tmp_path / "m"}"\n'
    served = Served(config.parse(text, tmp_path / "er.toml"))
    loaded: list[str] = []
    loading = asyncio.ensure_future(served.load(loaded.append))
    await asyncio.sleep(0.3)
    with pytest.raises(Refusal, match="no such folder"):
        served.prompter(served.config.models[0])
    model_folder(tmp_path / "m")
    await asyncio.wait_for(loading, 5)
    assert loaded == ["m"]
    assert served.dimensions == {"m": DIMENSIONS}
    assert served.prompter(served.config.models[0]).dimensions == DIMENSIONS
    assert capfd.readouterr().out.count("model m is not served") == 1


async def test_a_folder_that_nobody_expected_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is said, and tried again; the next model is read all the same."""
    read = prompters.prompter

    def broken(model: config.Model) -> Prompter:
        if model.name == "odd":
            raise RecursionError("a tokenizer.json like no other")
        return read(model)

    monkeypatch.setattr(prompters, "prompter", broken)
    folder = model_folder(tmp_path / "m")
    texts = [f'[[model]]\nname = "{n}"\ntask = "embed"\npath = "{folder}"\n' for n in ("odd", "m")]
    served = Served(config.parse("\n".join(texts), tmp_path / "er.toml"))
    loaded: list[str] = []
    await served.load_once(loaded.append)
    assert loaded == ["m"]
    assert "odd" in served.missing
    assert (
        "unexpected RecursionError while reading the files of model odd" in capfd.readouterr().out
    )


async def test_a_slow_model_folder_does_not_keep_back_what_is_known_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Served without its dimensions, a model's right answers would count as wrong ones."""
    release = threading.Event()
    read = prompters.prompter

    def slow(model: config.Model) -> Prompter:
        if model.name == "slow":
            release.wait(10)
        return read(model)

    monkeypatch.setattr(prompters, "prompter", slow)
    folder = model_folder(tmp_path / "m")
    texts = [f'[[model]]\nname = "{n}"\ntask = "embed"\npath = "{folder}"\n' for n in ("m", "slow")]
    served = Served(config.parse("\n".join(texts), tmp_path / "er.toml"))
    loaded: list[str] = []
    loading = asyncio.ensure_future(served.load(loaded.append))
    try:
        await until(lambda: "m" in served.prompters)
        assert loaded == ["m"]
    finally:
        release.set()
        await loading


class _Slow:
    """A dialect whose bodies take long."""

    def read(self, body: bytes) -> Job:
        time.sleep(0.3)
        return openai.read(body)

    def write(self, job: Job, answer: Answer) -> bytes:
        time.sleep(0.3)
        return openai.write(job, answer)

    refuse = staticmethod(openai.refuse)


async def test_large_bodies_do_not_stop_the_others(tmp_path: Path) -> None:
    """Read and written in threads; and the deadline holds for that too."""
    text = f'[[model]]\nname = "m"\ntask = "embed"\npath = "{tmp_path}"\n'
    shop = Workshop(Served(config.parse(text, tmp_path / "er.toml")), None, None)  # type: ignore[arg-type]
    body = json.dumps({"input": "x" * 100_000}).encode()
    later, who = time.monotonic_ns() + 20 * 10**9, keys.local(0)
    longest = 0.0

    async def beat() -> None:
        nonlocal longest
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.01)
            longest = max(longest, time.monotonic() - began)

    beating = asyncio.ensure_future(beat())
    job = await shop.read(_Slow(), body, later, who)
    vectors = np.ones((40, 1024), np.float32)
    answer = Answer(id="r", model="m", tokens=1, created=1, vectors=vectors)
    assert len(json.loads(await shop.write(_Slow(), job, answer, later, who))["data"]) == 40
    beating.cancel()
    assert longest < 0.25
    with pytest.raises(Refusal) as caught:
        await shop.read(_Slow(), body, time.monotonic_ns() + 10**8, who)
    assert caught.value.status == 504
    shop.close()


# -- rate --------------------------------------------------------------------------------------


def test_the_hundredth_passes_and_the_next_is_429(shared: Gateway) -> None:
    """Exactly, over two workers and eight clients at once; and the answer says what to do."""
    created = new_key(shared, "hundred", rate_limit="100/minute")

    def client(_: int) -> list[Reply]:
        link = shared.connection()
        found = [shared.embed(key=created.secret, connection=link) for _ in range(15)]
        link.close()
        return found

    with ThreadPoolExecutor(8) as pool:
        replies = [reply for found in pool.map(client, range(8)) for reply in found]
    assert sorted(r.status for r in replies) == [200] * 100 + [429] * 20
    remaining = sorted(int(r.headers["x-ratelimit-remaining-requests"]) for r in replies)
    assert remaining == [0] * 20 + list(range(100))
    assert {r.headers["x-ratelimit-limit-requests"] for r in replies} == {"100"}
    refused = next(r for r in replies if r.status == 429)
    assert_refused(refused, 429, "rate_limit_exceeded")
    assert f"er keys set {created.record.id} --rate-limit 1000/minute" in refused.message
    assert 50 <= int(refused.headers["retry-after"]) <= 60
    assert float(refused.headers["retry-after-ms"]) <= 60_000
    assert re.fullmatch(r"(1m)?[\d.]+s", refused.headers["x-ratelimit-reset-requests"])
    for path in ("/v1/models", "/v1/models/embed", "/metrics"):
        reply = shared.ask("GET", path, key=created.secret)
        assert reply.status == 200
        assert "x-ratelimit-limit-requests" not in reply.headers


def test_retry_after_is_the_truth(shared: Gateway) -> None:
    """Just before it is refused again, just after it passes."""
    created = new_key(shared, "second", rate_limit="2/second")
    for _ in range(2):
        replies = [shared.embed(key=created.secret) for _ in range(3)]
        assert [r.status for r in replies][-1] == 429
        wait = float(replies[-1].headers["retry-after-ms"]) / 1000
        assert 0 < wait <= 1
        time.sleep(wait)
        assert shared.embed(key=created.secret).status == 200
        time.sleep(1)


def test_durations_are_written_as_go_writes_them() -> None:
    """As OpenAI's clients read x-ratelimit-reset-requests."""
    given = (0, 0.12, 0.1201, 1, 59.2, 60, 360, 3723.5)
    said = [b"0s", b"120ms", b"121ms", b"1s", b"59.2s", b"1m0s", b"6m0s", b"1h2m3.5s"]
    assert [go_duration(seconds) for seconds in given] == said


# -- capacity, deadline, replicas -------------------------------------------------------------


def test_over_max_concurrency_is_503_over_all_workers(tmp_path: Path) -> None:
    """Counted exactly; given back to the rate; free again when the others are done or gone."""
    settings = {"workers": 2, "max_concurrency": 3, "rate_limit": "11/minute"}
    with gateway(tmp_path, **settings) as running:
        running.engines[0].fault("slow", ms=1000)
        with ThreadPoolExecutor(6) as pool:
            replies = list(pool.map(lambda _: running.embed(), range(6)))
        assert sorted(r.status for r in replies) == [200] * 3 + [503] * 3
        refused = next(r for r in replies if r.status == 503)
        assert_refused(refused, 503, "overloaded")
        assert "max_concurrency" in refused.message
        leave_three(running)
        running.engines[0].fault("none")
        after = [running.embed() for _ in range(6)]
        assert [r.status for r in after] == [200] * 5 + [429]


def leave_three(running: Gateway) -> None:
    """Three clients that fill the gateway and hang up: their places get free at once."""
    running.engines[0].fault("slow", ms=8000)
    body = json.dumps({"model": "embed", "input": "x"})
    head = {"authorization": f"Bearer {running.key}", "x-request-id": "left"}
    links = [running.connection() for _ in range(3)]
    for link in links:
        link.request("POST", "/v1/embeddings", body, head)
    time.sleep(0.4)
    assert running.embed().code == "overloaded"
    for link in links:
        link.close()
    running.wait_for('"REQUEST_ID":"left"', count=3)
    records = [r for r in running.audit() if r["REQUEST_ID"] == "left"]
    assert {(r["STATUS"], r["CODE"]) for r in records} == {(499, "client_closed")}
    ledger = Ledger.open(running.runtime / "ledger", ["e0"])
    assert ledger.in_flight() == 0
    ledger.close()


def test_the_deadline_is_504_and_no_replica_is_503_at_once(tmp_path: Path) -> None:
    """A 503 costs nothing of the rate; a hang-up ends the work."""
    with gateway(tmp_path, timeout="1s", rate_limit="4/minute") as running:
        running.engines[0].fault("hang", 1)
        began = time.monotonic()
        late = running.embed(headers={"x-request-id": "late"})
        assert_refused(late, 504, "timeout")
        running.wait_for('"REQUEST_ID":"late"')
        record = next(r for r in running.audit() if r["REQUEST_ID"] == "late")
        assert record["REPLICA"] == "e0" and record["ENGINE_MS"] > 900
        assert 0.9 < time.monotonic() - began < 3
        running.engines[0].kill()
        for _ in range(6):
            began = time.monotonic()
            reply = running.embed()
            assert_refused(reply, 503, "no_healthy_replica")
            assert time.monotonic() - began < 0.9
        assert reply.headers["x-ratelimit-remaining-requests"] == "3"
        health = running.ask("GET", "/health", key=None)
        assert (health.status, health.json["status"]) == (503, "down")
        (replica,) = health.json["models"][0]["replicas"]
        assert replica["name"] == "e0"
        assert replica["state"] == "down"
        assert replica["reason"]
        ready = running.ask("GET", "/readyz", key=None)
        assert ready.status == 503
        assert running.ask("GET", "/livez", key=None).status == 200


def test_what_is_out_does_not_stop_the_rest(tmp_path: Path) -> None:
    """One replica of two, and a model whose files are missing: /health and answers say why."""
    with contextlib.ExitStack() as stack:
        engines = [stack.enter_context(EngineProcess(dim=DIMENSIONS)) for _ in range(2)]
        running = Gateway(tmp_path, engines)
        stack.callback(running.kill)
        gone = str(tmp_path / "gone")
        running.models.append({"name": "later", "task": "embed", "path": gone})
        running.replicas.append({"name": "l", "model": "later", "url": "http://127.0.0.1:1"})
        running.start()
        engines[1].kill()
        assert {running.embed(f"t{i}").status for i in range(20)} == {200}
        health = running.ask("GET", "/health", key=None)
        assert (health.status, health.json["status"]) == (200, "degraded")
        by_name = {m["name"]: m for m in health.json["models"]}
        states = {r["name"]: r["state"] for r in by_name["embed"]["replicas"]}
        assert states == {"e0": "up", "e1": "down"}
        assert running.ask("GET", "/readyz", key=None).status == 200
        reply = running.ask("POST", "/v1/embeddings", {"model": "later", "input": "x"})
        assert_refused(reply, 503, "no_healthy_replica")
        assert gone in reply.message
        assert gone in by_name["later"]["reason"]
        assert "model later is not served" in running.text()


# -- headers, audit, local socket, pages -------------------------------------------------------


def test_request_ids_are_the_clients_own_when_sane(shared: Gateway) -> None:
    """Anything else is replaced, never echoed."""
    for sent, kept in (("abc-1.2_X", True), ("a" * 128, True), ("a" * 129, False), ("a b", False)):
        reply = shared.embed(headers={"x-request-id": sent})
        assert (reply.headers["x-request-id"] == sent) is kept
    reply = shared.embed()
    timing = r"queue;dur=[\d.]+, tokenise;dur=[\d.]+, engine;dur=[\d.]+, total;dur=[\d.]+"
    assert re.fullmatch(timing, reply.headers["server-timing"])
    assert reply.headers["openai-processing-ms"].isdigit()


def test_every_request_leaves_one_record(shared: Gateway) -> None:
    """Good and refused, with the contract's fields and no secret."""
    shared.embed(["a", "b"], headers={"x-request-id": "record-good"})
    wrong = "sk-er-kaaaaaaaa-" + "y" * 43
    path = f"/v1/embeddings?api_key={wrong}"
    shared.ask("POST", path, {}, key=None, headers={"x-request-id": "record-bad"})
    for name in ("record-good", "record-bad"):  # of two workers, each with a writer of its own
        shared.wait_for(f'"REQUEST_ID":"{name}"')
    found = {r["REQUEST_ID"]: r for r in shared.audit()}
    good, bad = found["record-good"], found["record-bad"]
    fields = (
        "REQUEST_ID KEY_ID CLIENT METHOD PATH DIALECT MODEL REPLICA STATUS CODE ITEMS TOKENS "
        "QUEUE_MS ENGINE_MS TOTAL_MS"
    )
    assert list(good) == fields.split()
    assert good["KEY_ID"] == shared.key.split("-")[2]
    assert (good["CLIENT"], good["METHOD"]) == ("127.0.0.1", "POST")
    assert (good["DIALECT"], good["MODEL"], good["REPLICA"]) == ("openai", "embed", "e0")
    assert (good["STATUS"], good["CODE"], good["ITEMS"], good["TOKENS"]) == (200, "", 2, 4)
    assert 0 < good["ENGINE_MS"] <= good["TOTAL_MS"]
    assert (bad["STATUS"], bad["CODE"], bad["KEY_ID"]) == (401, "invalid_api_key", "")
    assert bad["PATH"] == "/v1/embeddings"
    assert wrong not in shared.text()


def test_a_key_in_a_wrong_place_is_not_written_down(shared: Gateway) -> None:
    """Not in the path, the model's name or the request's id."""
    wrong = "sk-er-kaaaaaaaa-" + "x" * 43
    shared.ask("GET", f"/v1/models/{wrong}", headers={"x-request-id": "misplaced-1"})
    body = {"model": wrong, "input": "a"}
    shared.ask("POST", "/v1/embeddings", body, headers={"x-request-id": "misplaced-2"})
    reply = shared.embed(headers={"x-request-id": wrong})
    assert reply.headers["x-request-id"] != wrong
    for name in ("misplaced-1", "misplaced-2", reply.headers["x-request-id"]):
        shared.wait_for(f'"REQUEST_ID":"{name}"')
    assert "xxxxxxxx" not in shared.text()


def test_a_record_holds_no_line_breaks_or_commands_of_a_client(shared: Gateway) -> None:
    """The journal shows a message with such as a blob, or a second line as a record of its own."""
    name = "a\x1b[2J\nreq-1 local 127.0.0.1 \u202e三"
    for number, ask in enumerate(
        (
            lambda sent: shared.ask(
                "POST", "/v1/embeddings", {"model": name, "input": "x"}, headers=sent
            ),
            lambda sent: shared.ask("GET", f"/v1/models/{quote(name)}", headers=sent),
        )
    ):
        reply = ask({"x-request-id": f"breaks-{number}"})
        assert_refused(reply, 404, "model_not_found")
        shared.wait_for(f'"REQUEST_ID":"breaks-{number}"')
        record = next(r for r in shared.audit() if r["REQUEST_ID"] == f"breaks-{number}")
        assert record["MODEL"] == "a\ufffd[2J\ufffdreq-1 local 127.0.0.1 \ufffd三"


def test_what_is_no_request_leaves_a_record_too(shared: Gateway) -> None:
    """With the id that its answer had."""
    answer = raw(shared, b"hello\r\n\r\n")
    found = re.search(rb"x-request-id: (\S+)", answer)
    assert found
    shared.wait_for(found[1].decode())
    record = next(r for r in shared.audit() if r["REQUEST_ID"] == found[1].decode())
    assert (record["STATUS"], record["CODE"]) == (400, "invalid_request")
    assert (record["CLIENT"], record["METHOD"], record["PATH"]) == ("127.0.0.1", "", "")


class _Local(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self._path))


def test_the_local_socket_needs_no_key_and_knows_its_caller(shared: Gateway) -> None:
    """Nor has it a rate; its mode keeps strangers out."""
    path = shared.runtime / "gateway.sock"
    link = _Local(path)
    reply = shared.ask(
        "POST",
        "/v1/embeddings",
        {"model": "embed", "input": "x"},
        key=None,
        headers={"x-request-id": "local-1"},
        connection=link,
    )
    link.close()
    assert reply.status == 200
    assert "x-ratelimit-limit-requests" not in reply.headers
    shared.wait_for('"REQUEST_ID":"local-1"')
    record = next(r for r in shared.audit() if r["REQUEST_ID"] == "local-1")
    assert (record["KEY_ID"], record["CLIENT"], record["UID"]) == (
        "local",
        f"uid:{os.getuid()}",
        os.getuid(),
    )
    assert path.stat().st_mode & 0o777 == 0o660


def test_models_are_listed_and_found_by_any_name(shared: Gateway) -> None:
    """A slash in a name comes percent-encoded from the openai SDK, or as it is."""
    listed = shared.ask("GET", "/v1/models").json
    assert [row["id"] for row in listed["data"]] == ["embed", "bi"]
    for path in ("/v1/models/bi%2Fencoder", "/v1/models/bi/encoder", "/models/bi"):
        reply = shared.ask("GET", path)
        assert (reply.status, reply.json["id"]) == (200, "bi")
    assert reply.json["model_type"] == "rerank"
    assert_refused(shared.ask("GET", "/v1/models/none"), 404, "model_not_found")
    assert_refused(shared.ask("GET", "/v1/models", key=None), 401, "invalid_api_key")
    assert shared.ask("GET", "/v1/models/embed:query").json["id"] == "embed"


def test_xinferences_clients_learn_that_a_key_is_wanted(shared: Gateway) -> None:
    """They ask without one, and send theirs only after this answer; a 404 would keep it back."""
    for path in ("/v1/cluster/auth", "/cluster/auth/"):
        reply = shared.ask("GET", path, key=None)
        assert (reply.status, reply.json) == (200, {"auth": True})
    wrong = shared.ask("POST", "/v1/cluster/auth", {}, key=None)
    assert_refused(wrong, 405, "method_not_allowed")


def test_a_refusal_names_only_the_models_that_the_key_may_use(shared: Gateway) -> None:
    """Whichever way a model was not found; a request that names none means the one allowed."""
    secret = new_key(shared, "bi-only", models=["bi/encoder"]).secret
    nobody = new_key(shared, "no-model", models=["gone"]).secret
    texts = {"input": "x"}
    pairs = {"query": "q", "documents": ["a"]}
    for used, there in ((secret, "bi"), (nobody, "none")):
        for reply, status in (
            (shared.ask("GET", "/v1/models/nope", key=used), 404),
            (shared.ask("POST", "/v1/embeddings", {"model": "nope", **texts}, key=used), 404),
            (shared.ask("POST", "/v1/rerank", {"model": "nope", **pairs}, key=used), 404),
            (shared.ask("POST", "/v1/rerank", {"model": "embed", **pairs}, key=used), 400),
        ):
            assert reply.status == status
            assert reply.message.endswith(f"there are: {there}")
    assert_refused(
        shared.ask("POST", "/v1/embeddings", texts, key=secret), 403, "key_not_permitted"
    )


async def test_a_request_without_a_model_means_the_one_that_its_key_may_use(
    tmp_path: Path,
) -> None:
    """Else the one there is; a choice is left to the client."""
    text = "".join(
        f'[[model]]\nname = "{n}"\ntask = "embed"\npath = "{tmp_path}"\n' for n in ("a", "b")
    )
    served = Served(config.parse(text, tmp_path / "er.toml"))

    def who(*models: str) -> keys.Identity:
        allowed = frozenset(models) or None
        return keys.Identity(id="k", name="n", rate_limit=None, models=allowed)

    assert served.find("", "embed", who("b", "z")).name == "b"
    with pytest.raises(Refusal, match=r"there are: a, b$") as refused:
        served.find("", "embed", who())
    assert refused.value.status == 400
    with pytest.raises(Refusal, match="may not use a; it may use: z") as refused:
        check_right(who("z"), served.find("", "embed", who("z")))
    assert refused.value.status == 403
    with pytest.raises(Refusal, match=r"there are: none$"):  # no model ranks
        served.find("", "score", who())


def test_health_needs_no_key_and_metrics_does(shared: Gateway) -> None:
    """`ok` once the replica answers; counts of both workers in one text."""
    assert shared.embed().status == 200
    health = shared.ask("GET", "/health", key=None)
    assert (health.status, health.json["status"]) == (200, "ok")
    assert_refused(shared.ask("GET", "/metrics", key=None), 401, "invalid_api_key")
    assert_refused(shared.ask("GET", "/v1/nothing", key=None), 404, "not_found")
    text = shared.ask("GET", "/metrics").body.decode()
    assert 'er_requests_total{dialect="openai",model="embed",status="200"}' in text
    assert 'er_requests_total{dialect="-",model="-",status="404"}' in text
    for name in ("er_sequences_total", "er_tokens_total", "er_request_seconds_bucket"):
        assert name in text


async def test_what_nobody_expected_is_500_with_the_request_id(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One traceback in the journal; the client learns where to look and nothing else."""
    model_folder(tmp_path / "m")
    text = f'[[model]]\nname = "m"\ntask = "embed"\npath = "{tmp_path / "m"}"\n'
    served = Served(config.parse(text, tmp_path / "er.toml"))
    ledger = Ledger.open(tmp_path / "ledger", [])
    ledger.claim(0)

    class Broken:
        async def run(self, *_: Any, **__: Any) -> Any:
            raise KeyError("sk-er-kaaaaaaaa-" + "z" * 43)

    await served.load_once(lambda name: None)
    audit = journal.Audit()
    limits = Limits.open(tmp_path / "limits")
    room = Room(
        served=served,
        keys=Keys(tmp_path / "er_api_keys.json"),
        limits=limits,
        bounded=Bounded(limits, Meter(tmp_path / "usage").months),
        ledger=ledger,
        tally=Tally(ledger, limits),
        workshop=Workshop(served, Broken(), Cache(served.config, tmp_path / "c", tmp_path)),
        audit=audit,
        shelf=Shelf(Store(tmp_path / "b", quota=0, keep_s=60), served.config.batches),
    )
    sent: list[dict[str, Any]] = []
    scope = {
        "type": "http",
        "method": "POST",
        "raw_path": b"/v1/embeddings",
        "query_string": b"",
        "headers": [(b"x-request-id", b"r-1"), (b"content-length", b"30")],
        "client": ("uid:7", 1),
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b'{"input": "x"}', "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await room(scope, receive, send)
    audit.close()
    assert sent[0]["status"] == 500
    body = json.loads(sent[1]["body"])
    assert body["error"]["code"] == "internal_error"
    assert "r-1" in body["message"]
    assert "KeyError" not in body["message"]
    out = capfd.readouterr().out
    assert "unexpected KeyError while answering POST /v1/embeddings (request r-1)" in out
    assert "zzzz" not in out
    assert ledger.in_flight() == 0
