"""Every refusal in every dialect: its body as clients read it, what their SDKs raise and retry."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import cohere
import cohere.core.api_error
import dashscope
import huggingface_hub
import huggingface_hub.errors
import ollama
import openai
import pytest
import voyageai
import voyageai.error

from client_gateway import new_key, spent_key
from er import dialects
from er.dialects import Route
from er.job import Refusal
from fakes import EngineProcess, free_port
from running import DIMENSIONS, Gateway

FOLDER = Path(__file__).parent / "golden" / "refusals"
GOLDEN = {file.stem: json.loads(file.read_text()) for file in sorted(FOLDER.glob("*.json"))}
SAY = "do so and so"
# Each status that ER answers with, by what it is for.
SAID = {
    "400 invalid_json": Refusal(400, "invalid_json", SAY),
    "400 invalid_request": Refusal(400, "invalid_request", SAY, param="dimensions"),
    "400 input_too_long": Refusal(400, "input_too_long", SAY, param="input"),
    "401 invalid_api_key": Refusal(401, "invalid_api_key", SAY),
    "403 key_not_permitted": Refusal(403, "key_not_permitted", SAY, param="model"),
    "404 model_not_found": Refusal(404, "model_not_found", SAY, param="model"),
    "405 method_not_allowed": Refusal(405, "method_not_allowed", SAY),
    "408 request_timeout": Refusal(408, "request_timeout", SAY),
    "413 body_too_large": Refusal(413, "body_too_large", SAY),
    "415 unsupported_encoding": Refusal(415, "unsupported_encoding", SAY),
    "424 wrong_model_type": Refusal(424, "wrong_model_type", SAY),
    "429 rate_limit_exceeded": Refusal(429, "rate_limit_exceeded", SAY, retry_after_s=2),
    "500 internal_error": Refusal(500, "internal_error", SAY),
    "503 no_healthy_replica": Refusal(503, "no_healthy_replica", SAY, retry_after_s=2),
    "503 overloaded": Refusal(503, "overloaded", SAY, retry_after_s=2),
    "504 timeout": Refusal(504, "timeout", SAY),
}


def refuse(path: str) -> Callable[[Refusal, str], bytes]:
    found = dialects.find("POST", path)
    assert isinstance(found, Route)
    return found.dialect.refuse


@pytest.mark.parametrize("name", GOLDEN)
def test_a_refusal_has_its_dialects_shape(name: str) -> None:
    case = GOLDEN[name]
    for path in case["paths"]:
        write = refuse(path)
        got = {kind: json.loads(write(said, "req-1")) for kind, said in SAID.items()}
        assert got == case["refusals"], path


def test_every_address_has_its_golden_refusals() -> None:
    covered = {path for case in GOLDEN.values() for path in case["paths"]}
    assert covered == {*dialects.POSTS, *("/v1" + path for path in dialects.VERSIONED)}


# -- a running gateway ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def er(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with EngineProcess(dim=DIMENSIONS) as engine:
        folder = tmp_path_factory.mktemp("refusals")
        running = Gateway(folder, [engine], max_body="2KiB")
        running.models.append({"name": "dead", "task": "embed", "path": str(folder / "model")})
        nowhere = f"http://127.0.0.1:{free_port()}"
        running.replicas.append({"name": "d0", "model": "dead", "url": nowhere})
        try:
            yield running.start()
        finally:
            running.kill()


@pytest.fixture(scope="module")
def others(er: Gateway) -> dict[str, str]:
    """A key that may use no model here, and one that has asked all that it may."""
    return {"403": str(new_key(er, models=["gone"]).secret), "429": spent_key(er)}


BODIES: dict[str, dict[str, Any]] = {
    "cohere-v2": {"model": "embed", "texts": ["a"]},
    "dashscope": {"model": "embed", "input": {"texts": ["a"]}},
    "ollama": {"model": "embed", "input": "a"},
    "tei": {"model": "embed", "inputs": "a"},
    "union": {"model": "embed", "input": "a"},
    "vllm": {"model": "embed", "input": "a"},
}
ASKED = {
    "cohere-v2": "/v2/embed",
    "dashscope": "/api/v1/services/embeddings/text-embedding/text-embedding",
    "ollama": "/api/embed",
    "tei": "/embed",
    "union": "/v1/embeddings",
    "vllm": "/pooling",
}


@pytest.mark.parametrize("name", GOLDEN)
def test_refusals_of_a_running_gateway(er: Gateway, others: dict[str, str], name: str) -> None:
    """As golden as those above, but for their messages; with the headers that clients wait by."""
    path, body = ASKED[name], BODIES[name]
    replies = {
        "400 invalid_json": er.ask("POST", path, b"{"),
        "401 invalid_api_key": er.ask("POST", path, body, key="wrong"),
        "403 key_not_permitted": er.ask("POST", path, body, key=others["403"]),
        "404 model_not_found": er.ask("POST", path, {**body, "model": "nope"}),
        "405 method_not_allowed": er.ask("PUT", path, body),
        "413 body_too_large": er.ask("POST", path, {**body, "x": "x" * 4096}),
        "415 unsupported_encoding": er.ask("POST", path, body, headers={"content-encoding": "br"}),
        "429 rate_limit_exceeded": er.ask("POST", path, body, key=others["429"]),
        "503 no_healthy_replica": er.ask("POST", path, {**body, "model": "dead"}),
    }
    for kind, reply in replies.items():
        assert reply.status == int(kind[:3]), (kind, reply)
        message = _message(reply.json)
        assert len(message) > 15
        want = json.dumps(GOLDEN[name]["refusals"][kind]).replace(
            json.dumps(SAY), json.dumps(message)
        )
        assert json.loads(want.replace("req-1", reply.headers["x-request-id"])) == reply.json
    for kind in ("503 no_healthy_replica", "429 rate_limit_exceeded"):
        waits = replies[kind].headers
        assert int(waits["retry-after"]) >= 1 and int(waits["retry-after-ms"]) > 0
    assert (waits["x-ratelimit-limit-requests"], waits["x-ratelimit-remaining-requests"]) == (
        "1",
        "0",
    )


def _message(tree: dict[str, Any]) -> str:
    found = tree.get("message") or tree["error"]
    return str(found["message"] if isinstance(found, dict) else found)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/embeddings", "/embeddings", "/v1/v1/embeddings", "/v1/embeddings/", "/v1/embeddings//",
        "//v1/embeddings", "/v1//embeddings", "/api/v1/embeddings", "/v1/embeddings?version=1",
        "/compatible-mode/v1/embeddings", "/v1/compatible-mode/v1/embeddings",
    ],
)  # fmt: skip
def test_addresses_that_base_urls_make_lead_there_at_once(er: Gateway, path: str) -> None:
    """Without a redirect: clients follow one with a GET, or lose their key on it."""
    assert er.ask("POST", path, BODIES["union"]).json["data"][0]["embedding"]
    assert er.ask("HEAD", path).headers["allow"] == "POST"
    assert er.ask("OPTIONS", path, key=None).headers["allow"] == "POST, OPTIONS"


@pytest.mark.parametrize(
    ("path", "has"),
    [
        ("/api/chat", "/api/embed"),
        ("/api/v1/services/aigc/text-generation/generation", "text-rerank/text-rerank"),
        ("/v1/chat/completions", "/v1/embeddings"),
    ],
)
def test_where_nothing_is_what_there_is_instead_is_said(er: Gateway, path: str, has: str) -> None:
    reply = er.ask("POST", path, {})
    assert reply.status == 404 and has in _message(reply.json)


# -- what SDKs make of it ------------------------------------------------------------------------


class Stub(ThreadingHTTPServer):
    """Answers every request with one golden refusal, and counts them."""

    daemon_threads = True
    kind = ""
    asked = 0


class Handler(BaseHTTPRequestHandler):
    server: Stub

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.asked += 1
        found = dialects.find("POST", self.path)
        assert isinstance(found, Route)
        said = SAID[self.server.kind]
        body = found.dialect.refuse(said, "req-1")
        self.send_response(said.status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        if said.retry_after_s:
            self.send_header("retry-after", "1")
            self.send_header("retry-after-ms", "1")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def stub() -> Iterator[Stub]:
    with Stub(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def root(stub: Stub) -> str:
    return f"http://127.0.0.1:{stub.server_port}"


@cache
def openai_client(root: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{root}/v1", api_key="k")


@cache
def cohere_client(root: str) -> cohere.ClientV2:
    return cohere.ClientV2(api_key="k", base_url=root)


@cache
def ollama_client(root: str) -> ollama.Client:
    return ollama.Client(host=root)


def ask_openai(stub: Stub, retries: int = 0) -> Any:
    client = openai_client(root(stub)).with_options(max_retries=retries)
    return client.embeddings.create(model="m", input="x")


def ask_cohere(stub: Stub, retries: int = 0) -> Any:
    return cohere_client(root(stub)).embed(
        model="m",
        texts=["x"],
        input_type="search_query",
        request_options={"max_retries": retries},
    )


def ask_cohere_rerank(stub: Stub) -> Any:
    return cohere_client(root(stub)).rerank(
        model="m", query="q", documents=["x"], request_options={"max_retries": 0}
    )


def ask_voyage(stub: Stub) -> Any:
    return voyageai.Client(api_key="k", base_url=f"{root(stub)}/v1").embed(["x"], model="m")


def ask_ollama(stub: Stub) -> Any:
    return ollama_client(root(stub)).embed(model="m", input="x")


def ask_hugging_face(stub: Stub) -> Any:
    client = huggingface_hub.InferenceClient(model=f"{root(stub)}/embed", token="k")
    return client.feature_extraction("x")


CALLS: dict[str, Callable[[Stub], Any]] = {
    "openai": ask_openai,
    "cohere": ask_cohere,
    "cohere rerank": ask_cohere_rerank,
    "voyage": ask_voyage,
    "ollama": ask_ollama,
    "hugging face": ask_hugging_face,
}
COHERE: dict[int, Any] = {
    400: cohere.BadRequestError,
    401: cohere.UnauthorizedError,
    403: cohere.ForbiddenError,
    404: cohere.NotFoundError,
    429: cohere.TooManyRequestsError,
    500: cohere.InternalServerError,
    503: cohere.ServiceUnavailableError,
    504: cohere.GatewayTimeoutError,
}
RAISED: dict[str, dict[int, Any]] = {
    "openai": {
        400: openai.BadRequestError,
        401: openai.AuthenticationError,
        403: openai.PermissionDeniedError,
        404: openai.NotFoundError,
        429: openai.RateLimitError,
        500: openai.InternalServerError,
        503: openai.InternalServerError,
        504: openai.InternalServerError,
    },
    "cohere": COHERE,
    "cohere rerank": COHERE,
    "voyage": {
        400: voyageai.error.InvalidRequestError,
        401: voyageai.error.AuthenticationError,
        429: voyageai.error.RateLimitError,
        500: voyageai.error.ServerError,
        503: voyageai.error.ServiceUnavailableError,
        504: voyageai.error.ServiceUnavailableError,
    },
    "ollama": {},
    "hugging face": {},
}
ELSE: dict[str, Any] = {
    "openai": openai.APIStatusError,
    "cohere": cohere.core.api_error.ApiError,
    "cohere rerank": cohere.core.api_error.ApiError,
    "voyage": voyageai.error.APIError,
    "ollama": ollama.ResponseError,
    "hugging face": huggingface_hub.errors.HfHubHTTPError,
}


@pytest.mark.parametrize("sdk", CALLS)
def test_each_sdk_raises_its_own_class_for_each_status(stub: Stub, sdk: str) -> None:
    for kind, said in SAID.items():
        stub.kind = kind
        with pytest.raises(RAISED[sdk].get(said.status, ELSE[sdk])) as raised:
            CALLS[sdk](stub)
        error: Any = raised.value
        status = next(
            getattr(error, name)
            for name in ("status_code", "http_status", "response")
            if hasattr(error, name)
        )
        assert getattr(status, "status_code", status) == said.status, kind
        if sdk != "voyage" or said.status < 500:  # it has words of its own for these
            assert SAY in str(error), (kind, error)


def test_dashscope_reads_code_and_message(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """It raises nothing: what went wrong stands in its answer."""
    monkeypatch.setattr(dashscope, "base_http_api_url", f"{root(stub)}/api/v1")
    for kind, said in SAID.items():
        stub.kind = kind
        made = dashscope.TextEmbedding.call(model="m", input="x", api_key="k")
        want = GOLDEN["dashscope"]["refusals"][kind]
        assert made.status_code == said.status
        assert (made.code, made.message, made.request_id) == (want["code"], SAY, "req-1")


@pytest.mark.parametrize(
    ("kind", "again"),
    [
        ("400 invalid_request", False),
        ("401 invalid_api_key", False),
        ("404 model_not_found", False),
        ("413 body_too_large", False),
        ("429 rate_limit_exceeded", True),
        ("503 overloaded", True),
        ("503 no_healthy_replica", True),
    ],
)
def test_what_passes_is_asked_again_and_nothing_else(stub: Stub, kind: str, again: bool) -> None:
    stub.kind, stub.asked = kind, 0
    with pytest.raises(openai.APIStatusError):
        ask_openai(stub, retries=2)
    assert stub.asked == (3 if again else 1)


def test_cohere_waits_as_it_is_told(stub: Stub) -> None:
    stub.kind, stub.asked = "429 rate_limit_exceeded", 0
    with pytest.raises(cohere.TooManyRequestsError):
        ask_cohere(stub, retries=1)
    assert stub.asked == 2
