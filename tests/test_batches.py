"""The batch API on a running gateway: OpenAI's SDK, kills at random, full quotas, foreign keys."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import openai
import pytest

from fakes import EngineProcess
from running import DIMENSIONS, Gateway, Reply
from test_full_disk import fill, on_a_small_disk

URL, RERANK = "/v1/embeddings", "/v1/rerank"
ENDED = ("completed", "failed", "expired", "cancelled")


@contextlib.contextmanager
def started(
    folder: Path, *, step_ms: float = 0, engines: int = 1, batches: dict[str, Any] | None = None
) -> Iterator[Gateway]:
    """A gateway of two workers; an engine's call takes `step_ms`."""
    with contextlib.ExitStack() as stack:
        env = {"ENGINE_STEP_MS": str(step_ms)}
        found = [
            stack.enter_context(EngineProcess(dim=DIMENSIONS, env=env)) for _ in range(engines)
        ]
        running = Gateway(folder, found, workers=2)
        running.batches = batches or {}
        if step_ms:
            running.models[0]["batch_tokens"] = 1024  # so a call of a batch has some 30 lines
        stack.callback(running.kill)
        running.start()
        running.wait_for("answers right", count=engines)
        yield running


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One that answers at once."""
    with started(tmp_path_factory.mktemp("quick"), batches={"max_file": "2MiB"}) as running:
        yield running


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One whose engine needs its time, so that something can happen meanwhile."""
    with started(tmp_path_factory.mktemp("slow"), step_ms=60) as running:
        yield running


def sdk(running: Gateway, key: str | None = None) -> openai.OpenAI:
    url = f"http://127.0.0.1:{running.port}/v1"
    return openai.OpenAI(base_url=url, api_key=key or running.key, max_retries=0)


def new_key(running: Gateway, *options: str) -> tuple[str, str]:
    """(id, secret) of another key."""
    name = f"n{time.time_ns()}"
    made = er(running, "keys", "create", "--name", name, *options, "--json")
    tree = json.loads(made)
    return tree["id"], tree["secret"]


def er(running: Gateway, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "er.cli", *words],
        env=running.environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def body(number: int, **more: Any) -> dict[str, Any]:
    return {"model": "embed", "input": f"text number {number}", "dimensions": 8, **more}


def request(custom_id: str, wanted: dict[str, Any], url: str = URL) -> bytes:
    line = {"custom_id": custom_id, "method": "POST", "url": url, "body": wanted}
    return json.dumps(line).encode() + b"\n"


def numbered(count: int) -> bytes:
    return b"".join(request(str(i), body(i)) for i in range(count))


def begin(client: openai.OpenAI, data: bytes, url: str = URL, window: str = "24h") -> str:
    file = client.files.create(file=("in.jsonl", data), purpose="batch")
    batch = client.batches.create(
        input_file_id=file.id,
        endpoint=url,  # type: ignore[arg-type]
        completion_window=window,  # type: ignore[arg-type]
    )
    assert batch.status == "validating"
    return batch.id


def ended(client: openai.OpenAI, batch_id: str, timeout_s: float = 40) -> Any:
    """The batch once it is over."""
    until = time.monotonic() + timeout_s
    while True:
        with contextlib.suppress(openai.APIConnectionError):
            batch = client.batches.retrieve(batch_id)
            if batch.status in ENDED:
                return batch
        assert time.monotonic() < until, batch
        time.sleep(0.1)


def results(client: openai.OpenAI, file_id: str | None) -> dict[str, Any]:
    """custom_id -> its line; none stands there twice."""
    if file_id is None:
        return {}
    found: dict[str, Any] = {}
    for text in client.files.content(file_id).text.splitlines():
        line = json.loads(text)
        assert line["custom_id"] not in found
        found[line["custom_id"]] = line
    return found


def done_so_far(client: openai.OpenAI, batch_id: str) -> int:
    counts = client.batches.retrieve(batch_id).request_counts
    assert counts is not None
    return counts.completed


def wait_until_begun(client: openai.OpenAI, batch_id: str, lines: int = 1) -> None:
    until = time.monotonic() + 20
    while done_so_far(client, batch_id) < lines:
        assert time.monotonic() < until
        time.sleep(0.05)


def vectors(running: Gateway, count: int) -> list[list[float]]:
    """What `numbered(count)`'s lines are answered as requests."""
    texts = [f"text number {i}" for i in range(count)]
    answer = running.embed(texts, dimensions=8)
    assert answer.status == 200
    return [item["embedding"] for item in answer.json["data"]]


def check_vectors(found: dict[str, Any], wanted: Sequence[list[float]]) -> None:
    """Every line's own numbers, and no line without."""
    assert set(found) == {str(i) for i in range(len(wanted))}
    for name, line in found.items():
        assert line["response"]["body"]["data"][0]["embedding"] == wanted[int(name)]


# -- the SDK ---------------------------------------------------------------------------------------


def test_files_as_openai_s_sdk_has_them(quick: Gateway) -> None:
    _, secret = new_key(quick)
    client, data = sdk(quick, secret), numbered(3)
    made = [client.files.create(file=(f"{i}.jsonl", data), purpose="batch") for i in range(3)]
    first = made[0]
    assert (first.object, first.bytes, first.filename) == ("file", len(data), "0.jsonl")
    assert (first.purpose, first.status) == ("batch", "processed")
    assert first.expires_at is not None and first.expires_at - first.created_at == 30 * 86400
    assert client.files.retrieve(first.id) == first
    assert client.files.content(first.id).read() == data
    ids = [file.id for file in made]
    assert [file.id for file in client.files.list(order="asc")] == ids
    assert [file.id for file in client.files.list(limit=2, order="desc")] == ids[::-1]  # two pages
    assert [file.id for file in client.files.list(purpose="assistants")] == []
    page = client.files.list(limit=1, after=ids[1], order="asc")
    assert [file.id for file in page.data] == ids[2:] and not page.has_more
    head = quick.ask("HEAD", f"/v1/files/{first.id}/content", key=secret)
    assert (head.status, head.headers["content-length"], head.body) == (200, str(len(data)), b"")
    gone = client.files.delete(first.id)
    assert (gone.id, gone.deleted) == (first.id, True)
    with pytest.raises(openai.NotFoundError, match="there is no file"):
        client.files.content(first.id)


def test_a_batch_is_answered_as_its_requests_are(quick: Gateway) -> None:
    """Byte for byte: aliases, instructions, dimensions, base64, and refusals in the other file."""
    wanted: dict[str, dict[str, Any]] = {
        "plain": {"model": "embed", "input": "a text"},
        "many": {"model": "embed", "input": ["one", "two", "three"], "dimensions": 16},
        "query": {"model": "embed:query", "input": "what?", "encoding_format": "base64"},
        "task": {"model": "embed", "input": "what?", "instruction": "Find it", "dimensions": 4},
        "int8": {"model": "embed", "input": "bytes", "output_dtype": "int8"},
        "large": {"model": "embed", "input": ["word " * 80] * 300, "dimensions": 4},
        "too long": {"model": "embed", "input": "x" * 3000},
        "unknown": {"model": "nobody", "input": "x"},
        "no input": {"model": "embed"},
        "many too many": {"model": "embed", "input": ["x"] * 2049},
        "ids": {"model": "embed", "input": [1, 2, 3]},
        "scores": {"model": "bi", "input": "x"},
    }
    client = sdk(quick)
    batch_id = begin(client, b"".join(request(name, w) for name, w in wanted.items()))
    batch = ended(client, batch_id)
    assert batch.status == "completed" and batch.errors is None
    good, bad = results(client, batch.output_file_id), results(client, batch.error_file_id)
    counts = batch.request_counts
    assert (
        (counts.total, counts.completed, counts.failed) == (12, len(good), len(bad)) == (12, 6, 6)
    )
    raw = client.files.content(batch.output_file_id).read()
    for name, sent in wanted.items():
        answer = quick.ask("POST", URL, sent)
        line = (good if answer.status == 200 else bad)[name]
        assert line["response"]["status_code"] == answer.status, name
        assert line["response"]["body"] == answer.json and line["error"] is None
        assert line["response"]["request_id"].startswith("req-")
        if answer.status == 200:
            assert b'"body":' + answer.body + b'},"error":null}\n' in raw, name
    moments = (batch.created_at, batch.in_progress_at, batch.finalizing_at, batch.completed_at)
    assert list(moments) == sorted(moments)
    assert batch.expires_at - batch.created_at == 86400
    output = client.files.retrieve(batch.output_file_id)
    assert output.purpose == "batch_output" and output.filename == f"{batch_id}_output.jsonl"
    with pytest.raises(openai.BadRequestError, match="nothing left to cancel"):
        client.batches.cancel(batch_id)


def test_rerank_lines(quick: Gateway) -> None:
    """Cohere's, Jina's and TEI's bodies alike, as at the address itself."""
    wanted = [
        {"model": "bi", "query": "q", "documents": ["a", "b", "c"], "top_n": 2},
        {"model": "bi/encoder", "query": "q", "documents": [{"text": "a"}], "top_n": 1},
        {"query": "q", "documents": ["a", "b"], "return_documents": True},
        {"query": "q", "texts": ["a", "b"]},
        {"query": "q"},
    ]
    client = sdk(quick)
    lines = b"".join(request(str(i), sent, RERANK) for i, sent in enumerate(wanted))
    batch = ended(client, begin(client, lines, RERANK))
    found = results(client, batch.output_file_id) | results(client, batch.error_file_id)
    assert len(found) == 5 and batch.request_counts.failed == 1
    for i, sent in enumerate(wanted):
        answer, said = quick.ask("POST", RERANK, sent), found[str(i)]["response"]
        assert said["status_code"] == answer.status
        body = said["body"]
        if isinstance(body, dict) and "id" in body:
            assert body["id"] == said["request_id"]
            body["id"] = answer.json["id"]
        assert body == answer.json


def test_batches_are_listed(quick: Gateway) -> None:
    client = sdk(quick, new_key(quick)[1])
    file = client.files.create(file=("a", numbered(1)), purpose="batch")
    made = [
        client.batches.create(
            input_file_id=file.id,
            endpoint=URL,
            completion_window="24h",
            metadata={"number": str(i)},
        ).id
        for i in range(3)
    ]
    found = list(client.batches.list(limit=2))  # two pages
    assert [batch.id for batch in found] == made[::-1]
    assert [batch.metadata for batch in found] == [{"number": str(i)} for i in (2, 1, 0)]
    for batch_id in made:
        assert ended(client, batch_id).status == "completed"


def test_wrong_lines_are_told_with_their_numbers_and_nothing_is_computed(quick: Gateway) -> None:
    client = sdk(quick)
    data = request("a", body(1)) + b"\nnot json\n" + request("a", body(2))
    data += request("b", body(3), "/v1/chat/completions")
    batch = ended(client, begin(client, data))
    assert batch.status == "failed" and batch.output_file_id is None
    assert [(e.line, e.code) for e in batch.errors.data] == [
        (3, "invalid_json_line"),
        (4, "duplicate_custom_id"),
        (5, "mismatched_url"),
    ]
    assert batch.request_counts.completed == 0 and batch.failed_at is not None


def test_a_request_over_gateway_sock_has_batches_of_its_own(quick: Gateway) -> None:
    def ask(method: str, path: str, sent: Any = None) -> Reply:
        link = quick.connection()
        link.sock = socket.socket(socket.AF_UNIX)
        link.sock.connect(str(quick.runtime / "gateway.sock"))
        return quick.ask(method, path, sent, key=None, connection=link)

    head, form = multipart(numbered(5))
    link = quick.connection()
    link.sock = socket.socket(socket.AF_UNIX)
    link.sock.connect(str(quick.runtime / "gateway.sock"))
    file = quick.ask("POST", "/v1/files", form, key=None, headers=head, connection=link)
    wish = {"input_file_id": file.json["id"], "endpoint": URL, "completion_window": "1h"}
    batch = ask("POST", "/v1/batches", wish).json
    until = time.monotonic() + 20
    while batch["status"] not in ENDED and time.monotonic() < until:
        time.sleep(0.1)
        batch = ask("GET", f"/v1/batches/{batch['id']}").json
    assert batch["status"] == "completed" and batch["request_counts"]["completed"] == 5
    assert quick.ask("GET", f"/v1/batches/{batch['id']}").status == 404  # not the first key's


# -- who and what is refused -----------------------------------------------------------------------


def multipart(
    data: bytes, purpose: str | None = "batch", name: str = "file"
) -> tuple[dict[str, str], bytes]:
    """The headers and the body of a form."""
    parts = b""
    if purpose is not None:
        parts += b'--B\r\nContent-Disposition: form-data; name="purpose"\r\n\r\n'
        parts += purpose.encode() + b"\r\n"
    parts += b'--B\r\nContent-Disposition: form-data; name="%b"; filename="a"\r\n' % name.encode()
    parts += b"Content-Type: application/octet-stream\r\n\r\n" + data + b"\r\n--B--\r\n"
    return {"content-type": "multipart/form-data; boundary=B"}, parts


FORM, LINE = "multipart/form-data; boundary=B", numbered(1)
FIELDS = b"".join(
    b'--B\r\nContent-Disposition: form-data; name="f%d"\r\n\r\n\r\n' % i for i in range(100)
)


@pytest.mark.parametrize(
    ("kind", "sent", "status", "said"),
    [
        ("application/json", b"{}", 400, "a file is sent as multipart/form-data"),
        ("multipart/form-data", b"--B", 400, "a file is sent as multipart/form-data"),
        (FORM, b"nothing of the kind", 400, "no multipart/form-data as it should be"),
        (FORM, multipart(LINE)[1][:-20], 400, "ends too early"),
        (FORM, multipart(LINE, None)[1], 400, "purpose is missing"),
        (FORM, multipart(LINE, "fine-tune")[1], 400, "purpose is 'fine-tune'"),
        (FORM, multipart(LINE, name="data")[1], 400, "file is missing"),
        (FORM, multipart(b"")[1], 400, "the file is empty"),
        (FORM, multipart(LINE)[1][:-5] + b"\r\n" + multipart(LINE, None)[1], 400, "twice"),
        (FORM, FIELDS + multipart(LINE)[1], 400, "more than 64 fields"),
        (FORM, multipart(LINE)[1] + b"x" * (3 << 20), 413, "raise max_file in [batches]"),
        (FORM, multipart(b"x" * (2 << 20) + b"x")[1], 413, "raise max_file in [batches]"),
        (FORM, multipart(b"x" * (3 << 20))[1], 413, "raise max_file in [batches]"),
        ("multipart/form-data; boundary=" + "B" * 500, b"--B", 400, "no multipart/form-data"),
    ],
)
@pytest.mark.parametrize("chunked", [False, True])
def test_bad_uploads(
    quick: Gateway, kind: str, sent: bytes, status: int, said: str, chunked: bool
) -> None:
    """Refused in words, and nothing of them stays."""
    link = quick.connection()
    headers = {"authorization": f"Bearer {quick.key}", "content-type": kind}
    try:
        if chunked:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                pieces = (sent[i : i + 50_000] for i in range(0, len(sent), 50_000))
                link.request("POST", "/v1/files", pieces, headers, encode_chunked=True)
        else:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                link.request("POST", "/v1/files", sent, headers)
        answer = link.getresponse()
        told = json.loads(answer.read())
    finally:
        link.close()
    assert answer.status == status and said in told["message"], told
    assert not list(quick.state.glob("batches/*/*.part"))


WISH = {"input_file_id": "file-" + "0" * 24, "endpoint": URL, "completion_window": "24h"}


@pytest.mark.parametrize(
    ("method", "path", "sent", "status", "said"),
    [
        ("POST", "/v1/batches", WISH, 404, "there is no file"),
        ("POST", "/v1/batches", {**WISH, "endpoint": "/v1/chat"}, 400, "must be one of"),
        ("POST", "/v1/batches", {**WISH, "completion_window": "31d"}, 400, "at most 30d"),
        ("POST", "/v1/batches", {**WISH, "completion_window": "soon"}, 400, "at most 30d"),
        ("POST", "/v1/batches", {**WISH, "metadata": {"a": 1}}, 400, "metadata"),
        ("POST", "/v1/batches", {**WISH, "metadata": {"a": "x" * 513}}, 400, "metadata"),
        ("POST", "/v1/batches", {"endpoint": URL}, 400, "input_file_id is missing"),
        ("POST", "/v1/batches", b"{", 400, "not JSON"),
        ("POST", "/v1/batches", b"x" * (300 << 10), 413, "requests stand in the file"),
        ("GET", "/v1/batches?limit=0", None, 400, "from 1 to 100"),
        ("GET", "/v1/files?limit=x", None, 400, "from 1 to 10000"),
        ("GET", "/v1/files?order=up", None, 400, '"asc" or "desc"'),
        ("GET", "/v1/batches?order=", None, 400, '"asc" or "desc"'),
        ("GET", "/v1/files/nothing", None, 404, "there is no file 'nothing'"),
        ("GET", "/v1/files/..%2F..%2Fer_api_keys", None, 404, "there is no file"),
        ("GET", "/v1/batches/batch_x", None, 404, "there is no batch"),
        ("POST", "/v1/batches/batch_x/cancel", None, 404, "there is no batch"),
        ("PUT", "/v1/files", None, 405, "use GET or POST"),
        ("DELETE", "/v1/batches/batch_x", None, 405, "use GET"),
        ("GET", "/v1/batches/batch_x/cancel", None, 405, "use POST"),
        ("GET", "/v1/files/a/b/c", None, 404, "there is nothing at"),
        ("GET", "/v1/batches/a/content", None, 404, "there is nothing at"),
    ],
)
def test_what_is_asked_wrongly(
    quick: Gateway, method: str, path: str, sent: Any, status: int, said: str
) -> None:
    answer = quick.ask(method, path, sent)
    assert answer.status == status and said in answer.message, answer.body


def test_the_key_is_asked_for_first(quick: Gateway) -> None:
    head, form = multipart(b"x" * (3 << 20))
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        assert quick.ask("POST", "/v1/files", form, key=None, headers=head).status == 401
    for method, path in (("GET", "/v1/files"), ("POST", "/v1/batches"), ("GET", "/v1/batches/x")):
        assert quick.ask(method, path, key=None).code == "invalid_api_key"
    assert (
        quick.ask("OPTIONS", "/v1/files", key=None).headers["allow"] == "GET, HEAD, POST, OPTIONS"
    )


def test_another_key_s_files_and_batches_are_not_there(quick: Gateway) -> None:
    client, other = sdk(quick), sdk(quick, new_key(quick)[1])
    file = client.files.create(file=("a", numbered(2)), purpose="batch")
    batch = ended(client, begin(client, numbered(2)))
    for ask in (
        lambda: other.files.retrieve(file.id),
        lambda: other.files.content(file.id),
        lambda: other.files.delete(file.id),
        lambda: other.files.content(batch.output_file_id),
        lambda: other.batches.retrieve(batch.id),
        lambda: other.batches.cancel(batch.id),
        lambda: other.batches.create(input_file_id=file.id, endpoint=URL, completion_window="24h"),
    ):
        with pytest.raises(openai.NotFoundError):
            ask()
    assert list(other.files.list()) == [] and list(other.batches.list()) == []
    with pytest.raises(openai.BadRequestError, match="results, not requests"):
        client.batches.create(
            input_file_id=batch.output_file_id, endpoint=URL, completion_window="24h"
        )


def test_lines_cost_nothing_of_the_key_s_rate(quick: Gateway) -> None:
    """The upload and the batch count as two requests, its lines as none."""
    client = sdk(quick, new_key(quick, "--rate-limit", "3/minute")[1])
    assert ended(client, begin(client, numbered(40))).request_counts.completed == 40
    client.embeddings.create(model="embed", input="x")
    with pytest.raises(openai.RateLimitError):
        client.files.create(file=("a", numbered(1)), purpose="batch")


def test_each_request_is_in_the_audit_and_lines_are_not(quick: Gateway) -> None:
    key, secret = new_key(quick)
    client = sdk(quick, secret)
    batch_id = begin(client, numbered(30))
    ended(client, batch_id)
    quick.wait_for(f"batch {batch_id} of {key} is ")
    records = [r for r in quick.audit() if r.get("KEY_ID") == key]
    asked = [(r["METHOD"], r["PATH"], r["STATUS"], r["DIALECT"]) for r in records]
    assert asked[:2] == [
        ("POST", "/v1/files", 200, "openai"),
        ("POST", "/v1/batches", 200, "openai"),
    ]
    assert {entry[1] for entry in asked[2:]} == {f"/v1/batches/{batch_id}"}
    said = [text for text in quick.text().splitlines() if batch_id in text and text[0] != "{"]
    assert len(said) == 2 and "begins: 30 lines" in said[0]
    assert "is completed: 30 lines, 30 answered, 0 failed" in said[1]
    assert "text number" not in quick.text()


def test_metrics_tell_of_batches(quick: Gateway) -> None:
    client = sdk(quick)
    data = numbered(20) + request("bad", {"model": "embed"})
    ended(client, begin(client, data))
    time.sleep(0.6)
    text = quick.ask("GET", "/metrics").body.decode()
    values = {
        k: float(v) for k, _, v in (x.rpartition(" ") for x in text.splitlines() if x[0] != "#")
    }
    assert values['er_batch_lines_total{outcome="ok"}'] >= 20
    assert values['er_batch_lines_total{outcome="failed"}'] >= 1
    assert values['er_batches_ended_total{status="completed"}'] >= 1
    assert 'er_batches{status="in_progress"}' in values
    assert 'er_spare_sequences{model="embed"}' in values


def test_a_large_file_is_never_in_memory(tmp_path: Path) -> None:
    """Up, down, and as a batch whose lines are refused: no worker grows by half of it."""
    with started(tmp_path, engines=1) as running:
        client = sdk(running)
        data = b"".join(
            request(str(i), {"model": "nobody", "input": "y" * 60_000}) for i in range(1000)
        )
        assert len(data) > 60e6
        workers = running.children("er.worker")
        batch = ended(client, begin(client, data))
        assert batch.request_counts.failed == 1000
        got = client.files.content(batch.input_file_id)
        assert got.read() == data
        for pid in workers:
            status = Path(f"/proc/{pid}/status").read_text()
            peak_kb = int(status.split("VmHWM:")[1].split()[0])
            assert peak_kb < 180_000, status


# -- ends ------------------------------------------------------------------------------------------


def test_cancelling_is_soon_and_keeps_what_is_done(slow: Gateway) -> None:
    client = sdk(slow)
    batch_id = begin(client, numbered(4000))
    wait_until_begun(client, batch_id)
    with pytest.raises(openai.BadRequestError, match="still reads this file"):
        client.files.delete(client.batches.retrieve(batch_id).input_file_id)
    assert "batches  1 not over; files of batches take " in er(slow, "status")
    asked = time.monotonic()
    assert client.batches.cancel(batch_id).status == "cancelling"
    batch = ended(client, batch_id)
    assert time.monotonic() - asked < 5
    assert batch.status == "cancelled" and batch.cancelling_at <= batch.cancelled_at
    found = results(client, batch.output_file_id)
    assert 0 < len(found) == batch.request_counts.completed < 4000
    assert client.batches.cancel(batch_id).status == "cancelled"
    assert client.files.delete(batch.input_file_id).deleted


def test_one_cancelled_before_it_was_begun_is_cancelled(quick: Gateway) -> None:
    """Whether its runner has found it by then or not."""
    client = sdk(quick)
    for _ in range(3):
        batch_id = begin(client, numbered(1))
        assert client.batches.cancel(batch_id).status == "cancelling"
        assert ended(client, batch_id).status in ("cancelled", "completed")


def test_a_window_that_ends_leaves_what_is_done(slow: Gateway) -> None:
    client = sdk(slow)
    batch = ended(client, begin(client, numbered(4000), window="3s"))
    assert batch.status == "expired" and batch.expired_at >= batch.expires_at
    good, bad = results(client, batch.output_file_id), results(client, batch.error_file_id)
    assert good and len(good) + len(bad) == 4000 and not good.keys() & bad.keys()
    assert {line["error"]["code"] for line in bad.values()} == {"batch_expired"}
    assert batch.request_counts.failed == len(bad)


def test_a_key_that_is_revoked_ends_its_batches(slow: Gateway) -> None:
    key, secret = new_key(slow)
    client = sdk(slow, secret)
    batch_id = begin(client, numbered(4000))
    wait_until_begun(client, batch_id)
    er(slow, "keys", "revoke", key)
    slow.wait_for(f"batch {batch_id} of {key} is failed (key {key} was revoked")
    record = json.loads((slow.state / "batches" / key / f"{batch_id}.json").read_text())
    assert record["status"] == "failed" and record["output_file_id"]
    with pytest.raises(openai.AuthenticationError):
        client.batches.retrieve(batch_id)


def test_a_key_that_loses_the_model_ends_its_batches(slow: Gateway) -> None:
    key, secret = new_key(slow)
    client = sdk(slow, secret)
    batch_id = begin(client, numbered(4000))
    wait_until_begun(client, batch_id)
    er(slow, "keys", "set", key, "--models", "bi")
    batch = ended(client, batch_id)
    assert batch.status == "failed"
    assert f"key {key}" in batch.errors.data[0].message
    assert "may not use embed" in batch.errors.data[0].message
    good, bad = results(client, batch.output_file_id), results(client, batch.error_file_id)
    assert good and len(good) + len(bad) == 4000


def test_without_a_replica_it_waits_and_goes_on(slow: Gateway) -> None:
    """No line fails for that."""
    client = sdk(slow)
    batch_id = begin(client, numbered(1000))
    wait_until_begun(client, batch_id)
    slow.engines[0].kill()
    try:
        time.sleep(1.5)
        assert slow.embed().code == "no_healthy_replica"
        assert client.batches.retrieve(batch_id).status == "in_progress"
    finally:
        slow.engines[0].start()
    batch = ended(client, batch_id)
    assert (batch.status, batch.request_counts.completed) == ("completed", 1000)
    check_vectors(results(client, batch.output_file_id), vectors(slow, 1000))


# -- kills -----------------------------------------------------------------------------------------


def holder(running: Gateway) -> int | None:
    """The worker that runs the batches: only it keeps the lock's file open."""
    lock = str(running.state / "batches/lock")
    for pid in running.children("er.worker"):
        with contextlib.suppress(OSError):
            if any(str(fd.readlink()) == lock for fd in Path(f"/proc/{pid}/fd").iterdir()):
                return pid
    return None


def test_a_worker_that_is_killed_is_followed_by_another(slow: Gateway) -> None:
    client = sdk(slow)
    batch_id = begin(client, numbered(1500))
    for _ in range(3):
        before = done_so_far(client, batch_id)
        wait_until_begun(client, batch_id, before + 1)
        first = holder(slow)
        assert first is not None
        os.kill(first, signal.SIGKILL)
        until = time.monotonic() + 6  # half a second where nothing else runs
        while holder(slow) in (None, first):
            assert time.monotonic() < until
            time.sleep(0.02)
    batch = ended(client, batch_id)
    assert (batch.status, batch.request_counts.completed) == ("completed", 1500)
    check_vectors(results(client, batch.output_file_id), vectors(slow, 1500))
    slow.wait_for(f"batch {batch_id} of", count=3)
    assert "goes on: " in slow.text()


def test_a_reload_in_the_middle(slow: Gateway) -> None:
    """The old workers let go of the batch, the new ones go on with it."""
    client = sdk(slow)
    batch_id = begin(client, numbered(1200))
    wait_until_begun(client, batch_id)
    before = {*slow.children("er.worker"), None}
    slow.engines[0].fault("slow", ms=1000)  # so that it is not over before they are there
    assert slow.process is not None
    slow.process.send_signal(signal.SIGHUP)
    until = time.monotonic() + 40
    while holder(slow) in before:
        assert time.monotonic() < until
        time.sleep(0.05)
    slow.engines[0].fault("none")
    batch = ended(client, batch_id)
    assert (batch.status, batch.request_counts.completed) == ("completed", 1200)
    assert f"batch {batch_id} of {slow.key[6:15]} goes on: " in slow.text()
    check_vectors(results(client, batch.output_file_id), vectors(slow, 1200))


def test_the_whole_gateway_killed_at_random(tmp_path: Path) -> None:
    """kill -9 of everything, again and again: every line once, with its own numbers."""
    chance = random.Random(5)
    with started(tmp_path, step_ms=60) as running:
        client = sdk(running)
        data = numbered(1200) + b"".join(request(f"bad {i}", {"model": "embed"}) for i in range(50))
        batch_id = begin(client, data)
        kills = 0
        while client.batches.retrieve(batch_id).status not in ENDED and kills < 3:
            time.sleep(chance.uniform(0.1, 1.0))
            running.kill()
            running.start()
            kills += 1
        batch = ended(client, batch_id)
        assert kills >= 3
        counts = batch.request_counts
        assert (batch.status, counts.completed, counts.failed) == ("completed", 1200, 50)
        check_vectors(results(client, batch.output_file_id), vectors(running, 1200))
        assert len(results(client, batch.error_file_id)) == 50
        left = {path.suffix for path in (running.state / "batches").glob("k*/*")}
        assert left == {"", ".json"}, left


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(6))
def test_kills_of_every_kind_at_random(tmp_path: Path, seed: int) -> None:
    """Workers, all of it, reloads, stops, the engine: three batches, no line lost or doubled."""
    chance = random.Random(seed)
    with started(tmp_path, step_ms=60) as running:
        ids = [begin(sdk(running), numbered(2048)) for _ in range(3)]
        client = sdk(running).with_options(max_retries=5)  # who is killed may be the one asked
        count = 0
        while any(client.batches.retrieve(name).status not in ENDED for name in ids):
            time.sleep(chance.uniform(0.05, 2.0))
            assert running.process is not None
            kind = chance.choice(("worker", "worker", "all", "reload", "stop", "engine"))
            count += 1
            if kind == "worker":
                for pid in running.children("er.worker")[: chance.choice((1, 2))]:
                    os.kill(pid, signal.SIGKILL)
            elif kind == "reload":
                running.process.send_signal(signal.SIGHUP)
            elif kind == "engine":
                running.engines[0].kill()
                time.sleep(chance.uniform(0, 1.0))
                running.engines[0].start()
            else:
                running.kill() if kind == "all" else running.stop()
                running.start()
            running.wait_for("answers at")
            until = time.monotonic() + 30
            while time.monotonic() < until:
                with contextlib.suppress(OSError, http.client.HTTPException):
                    if running.ask("GET", "/livez").status == 200:
                        break
                time.sleep(0.05)
        wanted = None
        for name in ids:
            batch = ended(client, name)
            counts = batch.request_counts
            assert (batch.status, counts.completed, counts.failed) == ("completed", 2048, 0)
            wanted = wanted or vectors(running, 2048)
            check_vectors(results(client, batch.output_file_id), wanted)
        print(f"seed {seed}: {count} kills")


# -- room ------------------------------------------------------------------------------------------


def test_a_full_quota_refuses_and_makes_a_batch_wait(tmp_path: Path) -> None:
    """What to delete is said; a batch goes on when that is done, and the journal says so once."""
    with started(tmp_path, batches={"quota": "1MiB"}) as running:
        client = sdk(running)
        rest = client.files.create(file=("rest", b"x" * 600_000), purpose="batch")
        batch_id = begin(client, numbered(600).replace(b'"dimensions": 8', b'"dimensions": 64'))
        running.wait_for("batches wait for room: they take ", timeout=20)
        with pytest.raises(openai.APIStatusError, match="DELETE /v1/files/ID removes one") as no:
            client.files.create(file=("more", b"x" * 600_000), purpose="batch")
        assert (no.value.status_code, no.value.code) == (413, "storage_full")
        name = running.key.split("-")[2]
        assert f"those of key {name} (" in no.value.message
        assert "three quarters of what others leave" in no.value.message
        other = sdk(running, new_key(running)[1])  # for whom some is left
        other.files.create(file=("more", b"x" * 50_000), purpose="batch")
        time.sleep(2.5)
        assert client.batches.retrieve(batch_id).status == "in_progress"
        assert running.text().count("batches wait for room") == 1
        client.files.delete(rest.id)
        batch = ended(client, batch_id)
        assert (batch.status, batch.request_counts.completed) == ("completed", 600)
        assert running.text().count("batches go on: there is room again") == 1
        found = results(client, batch.output_file_id)
        assert len(found) == 600


@pytest.mark.slow
def test_a_full_disk_in_the_middle_makes_it_wait(tmp_path: Path) -> None:
    """Nothing is lost, no line is half there; uploads are refused with what to do."""
    with EngineProcess(dim=DIMENSIONS, env={"ENGINE_STEP_MS": "40"}) as engine:
        running = Gateway(tmp_path, [engine], workers=2)
        running.write_config()
        command = [sys.executable, "-m", "er.supervisor", "--config", str(running.config)]
        try:
            with running.log.open("ab") as log:
                running.process = subprocess.Popen(
                    on_a_small_disk(running.state, "16m", command),
                    env=running.environment(),
                    stdout=log,
                    stderr=log,
                )
            running.wait_for("answers right")
            running.key = running.secrets()[-1]
            client = sdk(running)
            batch_id = begin(client, numbered(1200))
            wait_until_begun(client, batch_id)
            filler = fill(running.process.pid, running.state)
            running.wait_for("batches wait for room: No space left on device; make room in")
            with pytest.raises(openai.APIStatusError, match="no room for it") as no:
                client.files.create(file=("more", b"x" * 100_000), purpose="batch")
            assert (no.value.status_code, no.value.code) == (413, "storage_full")
            time.sleep(2)
            assert client.batches.retrieve(batch_id).status == "in_progress"
            assert running.embed().status == 200
            filler.unlink()
            batch = ended(client, batch_id)
            assert (batch.status, batch.request_counts.completed) == ("completed", 1200)
            check_vectors(results(client, batch.output_file_id), vectors(running, 1200))
            assert running.text().count("batches wait for room") == 1
            assert running.text().count("batches go on") == 1
            assert not running.mishaps()
        finally:
            running.kill()
