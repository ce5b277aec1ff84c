"""The requests of applications, as recorded in tests/golden/apps, against a running gateway.

Each is sent as it stands there, read as that application reads it (app_readers), and compared with
what the engine computes for its texts. Also what the application shows of a refusal, and that its
page of `er help` says what the record says.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import connected
from app_readers import BY_INDEX, READERS, SHOWN
from client_gateway import new_key, spent_key
from client_rows import KEY, Client, here
from engine import expected, expected_score
from er import model_files
from er.cli import __main__ as cli
from er.prompts import Prompter
from fakes import EngineProcess, free_port
from running import DIMENSIONS, Gateway, Reply, model_folder

GOLDEN = Path(__file__).parent / "golden/apps"
EMBED, RERANK = "Qwen3-Embedding-0.6B", "Qwen3-Reranker-0.6B"
LONG = "word " * 300  # over the 512 and the 1,024 tokens of the models here, a byte each
DEAD = {"texts": "dead", "ranks": "dead-rerank"}  # models without a living replica
# How applications write their JSON.
WRITES: dict[str, dict[str, Any]] = {
    "escaped": {},
    "utf-8": {"ensure_ascii": False, "separators": (",", ":")},
    "indented": {"ensure_ascii": False, "indent": 2},
}
# What is refused: the status, and a word of what must be shown.
REFUSED = {
    "key": (401, "API key"),
    "model": (404, "nope"),
    "length": (400, "tokens"),
    "rate": (429, "er keys set"),
    "replica": (503, "No replica"),
}


class Recorded(NamedTuple):
    """One way of an application to ask: a plugin, a provider, a channel; its row in the READMEs."""

    application: str
    name: str
    page: str
    data: dict[str, Any]
    row: Client | None

    def form(self, er: Gateway, key: str) -> dict[str, str]:
        """What its user fills in, for this gateway."""
        root, fields = f"http://127.0.0.1:{er.port}", self.data["fields"]
        if self.row is not None:
            return {label: self.row.field(label, root, key) for label in fields}
        return {label: here(value, root, key) for label, value in fields.items()}

    def words(self) -> list[str]:
        """What its requests prove, in the words of the READMEs' table."""
        sides = {request.get("side") for request in self.data["requests"]}
        ranks = any("ranks" in request for request in self.data["requests"])
        words = {"embeddings": "document" in sides, "queries": "query" in sides, "rerank": ranks}
        return [word for word, proven in words.items() if proven]


def recorded() -> Iterator[Recorded]:
    """All of them."""
    for path in sorted(GOLDEN.glob("*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        for name, data in found["clients"].items():
            data = {"source": found["source"], **data}
            page, row = found["page"], None
            if "row" in data:
                version, fields = data["version"], data["fields"]
                row = Client(data["row"], recorded=version, fields=fields, page=page)
            yield Recorded(found["application"], name, page, data, row)


ALL = list(recorded())
ROWS = [who for who in ALL if who.row is not None]


@pytest.fixture(scope="module")
def er(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with an embedding model and a reranker, under the names that the records have."""
    folder = tmp_path_factory.mktemp("apps")
    with (
        EngineProcess(dim=DIMENSIONS) as embed,
        EngineProcess(task="classify", dim=DIMENSIONS) as score,
    ):
        running = Gateway(folder, [embed])
        running.models[0]["aliases"] = [EMBED, "jina-embeddings-v3", "jina-embeddings-v4"]
        path = str(model_folder(folder / "reranker", limit=1024))
        running.models[1] = {"name": "rerank", "task": "score", "path": path, "aliases": [RERANK]}
        running.models += [
            {"name": DEAD["texts"], "task": "embed", "path": str(folder / "model")},
            {"name": DEAD["ranks"], "task": "score", "path": path},
        ]
        nowhere = f"http://127.0.0.1:{free_port()}"
        running.replicas += [
            {"name": "r0", "model": "rerank", "url": score.address},
            {"name": "d0", "model": DEAD["texts"], "url": nowhere},
            {"name": "d1", "model": DEAD["ranks"], "url": nowhere},
        ]
        try:
            running.start()
            yield running
        finally:
            running.kill()


@pytest.fixture(scope="module")
def narrow(er: Gateway) -> dict[str, str]:
    """A key for each model alone."""
    return {name: str(new_key(er, models=[name]).secret) for name in ("embed", "rerank")}


@pytest.fixture(scope="module")
def spent(er: Gateway) -> str:
    """A key that has asked all that it may for an hour."""
    return spent_key(er)


def ask(er: Gateway, who: Recorded, request: dict[str, Any], key: str, body: Any) -> Reply:
    """Send one request as the application would, with this key and this body."""
    form = who.form(er, key)
    base = form[request.get("base", who.data["base"])]
    method, path = request["line"].replace("BASE", base).split()
    path = path.removeprefix(f"http://127.0.0.1:{er.port}")
    secret = next((form[label] for label, v in who.data["fields"].items() if v == KEY), key)
    headers = request.get("headers", who.data["headers"])
    sent = {name: value.replace("KEY", secret) for name, value in headers.items()}
    text = None if body is None else json.dumps(body, **WRITES[who.data["writes"]]).encode()
    return er.ask(method, path, text, key=None, headers=sent)


def texts_of(items: str | list[Any]) -> list[str]:
    """The texts, bare or in objects."""
    given = [items] if isinstance(items, str) else items
    return [item["text"] if isinstance(item, dict) else item for item in given]


def vectors(er: Gateway, texts: list[str], side: Any) -> Any:
    """What the engine computes for these texts, shape (n, 64)."""
    files = model_files.read(er.folder / "model")
    tool = Prompter(files, prompt="qwen3", max_tokens=512, instruction=None, task="embed")
    made = tool.embed(texts, kind=side, instruction=None, over_length="refuse")
    return np.stack([expected(ids, DIMENSIONS) for ids in made.sequences])


def scores(er: Gateway, query: str, texts: list[str]) -> list[float]:
    """What the engine computes for these documents."""
    files = model_files.read(er.folder / "reranker")
    tool = Prompter(files, prompt="qwen3", max_tokens=1024, instruction=None, task="score")
    return [expected_score(ids) for ids in tool.score(query, texts, instruction=None).sequences]


def check(er: Gateway, request: dict[str, Any], reply: Reply) -> None:
    """The answer, read as the application reads it, is right."""
    body = request["body"]
    found = READERS[request["read"]](reply, body)
    if "texts" in request:
        texts = request.get("bare") or texts_of(body[request["texts"]])  # without the prompt
        want = vectors(er, texts, request["side"])
        got = np.array(found, np.float32)
        assert got.shape == want.shape and np.abs(got - want).max() < 1e-6
    elif "ranks" in request:
        query, documents = (body[field] for field in request["ranks"])
        right = scores(er, query, texts_of(documents))
        assert len(found) == min(body.get("top_n") or len(right), len(right))
        assert [s for _, s in found] == pytest.approx([right[i] for i, _ in found], abs=1e-6)
        if request["read"] not in BY_INDEX:
            assert found == sorted(found, key=lambda pair: -pair[1])
            best = sorted(right, reverse=True)[: len(found)]
            assert [s for _, s in found] == pytest.approx(best, abs=1e-6)
    else:
        assert found == request["want"]


@pytest.mark.parametrize("who", ALL, ids=lambda who: f"{who.page}: {who.name}")
def test_each_request_gets_the_right_answer(
    er: Gateway, narrow: dict[str, str], who: Recorded
) -> None:
    """In the order of the record, which is that of the application: saving, indexing, asking."""
    for request in who.data["requests"]:
        key = narrow[request["key_for"]] if "key_for" in request else er.key
        reply = ask(er, who, request, key, request["body"])
        try:
            check(er, request, reply)
        except Exception as error:
            raise AssertionError(
                f"{request['what']}: {reply.status} {reply.body[:300]!r}"
            ) from error


@pytest.mark.parametrize(
    "who", [w for w in ALL if w.data["refused"]], ids=lambda who: f"{who.page}: {who.name}"
)
def test_each_shows_what_is_wrong(
    er: Gateway, narrow: dict[str, str], spent: str, who: Recorded
) -> None:
    """Each kind of refusal, said where the application looks."""
    for request in who.data["requests"]:
        kind = next((kind for kind in DEAD if kind in request), None)
        if kind is None:
            continue
        good, body = narrow.get(request.get("key_for", ""), er.key), request["body"]
        wrong = {
            "key": ("sk-wrong", body),
            "model": (good, {**body, "model": "nope"}),
            "length": (good, too_long(request)),
            "rate": (spent, {**body, "model": "embed" if kind == "texts" else "rerank"}),
            "replica": (good, {**body, "model": DEAD[kind]}),
        }
        for what in who.data["refused"]:
            status, word = REFUSED[what]
            reply = ask(er, who, request, *wrong[what])
            assert reply.status == status, (request["what"], what, reply)
            shown = SHOWN[who.data["shows"]](reply)
            assert (str(status) if who.data["shows"] == "status" else word) in shown


def too_long(request: dict[str, Any]) -> dict[str, Any]:
    """The body with a text, or a query, that is over the limit."""
    body = copy.deepcopy(request["body"])
    if "texts" in request:
        body[request["texts"]] = LONG if isinstance(body[request["texts"]], str) else [LONG]
    else:
        body[request["ranks"][0]] = LONG
    assert isinstance(body, dict)
    return body


def test_who_asks_by_open_webui_is_written_nowhere(er: Gateway) -> None:
    """Its headers about the user are in neither the log nor the audit."""
    who = next(w for w in ALL if w.page == "open-webui")
    (request,) = (r for r in who.data["requests"] if "X-OpenWebUI-User-Email" in str(r))
    reply = ask(er, who, request, er.key, request["body"])
    er.wait_for(reply.headers["x-request-id"])
    assert "a@example.org" not in er.text() and "A Name" not in er.text()


@pytest.mark.parametrize("who", ALL, ids=lambda who: f"{who.page}: {who.name}")
def test_each_record_is_whole_and_its_page_says_the_same(who: Recorded) -> None:
    """Where it was read, how, and the addresses that the page tells its user."""
    data = who.data
    assert len(data["source"]["commit"]) == 40 and data["source"]["repository"].count("/") == 1
    assert data["read"] and data["version"] and data["seen"] and data["shows"] in SHOWN
    assert {request["read"] for request in data["requests"]} <= set(READERS)
    page = cli.pages()[who.page]
    refused = [request["read"] == "refused" for request in data["requests"]]
    if not all(refused):
        assert data["fields"][data["base"]] in page


# -- what `er connect` prints --------------------------------------------------------------------

# The field of the record -> where that stands in the text: a form's row and column, a variable.
PRINTED: dict[str, dict[str, Any]] = {
    "Dify, OpenAI-API-compatible": {"API Base URL": ("API Base URL", 0), "API Key": ("API Key", 1)},
    "RAGFlow, OpenAI-API-Compatible": {"Base url": ("Base url", 1), "API-Key": ("API-Key", 0)},
    "FastGPT": {
        "Custom request URL of an embedding model": ("custom request URL", 0),
        "Custom request URL of a reranker": ("custom request URL", 1),
        "Custom request key": ("custom request key", 0),
    },
    "Open WebUI": {},  # its fields are the variables themselves
}


@pytest.mark.parametrize("row", PRINTED)
def test_each_form_as_er_connect_prints_it(er: Gateway, row: str) -> None:
    """Filled in from the text and with its models' names, the recorded requests are answered."""
    (who,) = (w for w in ROWS if w.row is not None and w.row.name == row)
    text = connected.printed(er, who.page, "--model", "embed", "--model", "rerank")
    found: dict[str, str] = {}
    if row == "Open WebUI":
        names = connected.variables(text)
        for label in who.data["fields"]:
            (found[label],) = {names[name] for name in label.split(", ")}
        assert names["RAG_EMBEDDING_MODEL"] == "embed"
        assert names["RAG_RERANKING_MODEL"] == "rerank"
    else:
        form = connected.form(text)
        found = {label: form[name][c] for label, (name, c) in PRINTED[row].items()}
        models = next(v for k, v in form.items() if k.lower() in ("model name", "model"))
        assert models == ["embed", "rerank"]
    root = f"http://127.0.0.1:{er.port}"
    for label, value in who.data["fields"].items():
        assert found[label] == here(value, root, KEY), label
    filled = {label: value.replace(KEY, er.key) for label, value in found.items()}
    printed = who._replace(data={**who.data, "fields": filled}, row=None)
    for request in who.data["requests"]:
        body = request["body"]
        name = "embed" if "texts" in request else "rerank"
        named = {**body, "model": name} if body and "model" in body else body
        check(er, request, ask(er, printed, request, er.key, named))


for _who in ROWS:
    assert _who.row is not None
    _who.row.proves(*_who.words())(test_each_request_gets_the_right_answer)
    _who.row.proves("errors")(test_each_shows_what_is_wrong)
