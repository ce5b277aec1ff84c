"""/openapi.json and /docs: complete, made of what reads the bodies, true of a running gateway."""

from __future__ import annotations

import base64
import hashlib
import importlib
import json
import os
import pkgutil
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from client_gateway import new_key
from er import dialects, leaving, openapi
from er.config.structs import Gateway as Settings
from er.dialects.json_body import Shape
from er.gateway import (
    OPEN,
    batches,
    batches_described,
    described,
    feedback,
    feedback_described,
    options,
)
from er.keys import bounds as bounds_of_keys
from er.openapi import bounds
from er.openapi.operations import OPERATIONS, Operation
from running import Gateway, Reply, gateway

LIMITS = {name: getattr(Settings(), name) for name in described.LIMITS}
MORE = (*batches_described.OPERATIONS, *feedback_described.OPERATIONS)
ALL = (*OPERATIONS, *MORE)
DOCUMENT: dict[str, Any] = json.loads(openapi.document("embed", "bi", MORE, **LIMITS))
SCHEMAS: dict[str, dict[str, Any]] = DOCUMENT["components"]["schemas"]


STIRRING = ("validating", "in_progress", "finalizing", "cancelling")
ROUTED = {
    **dialects.POSTS,
    **dialects.SHOWS,
    **{f"/v1{p}": r for p, r in dialects.VERSIONED.items()},
}
BODIES = [body.shape.example.encode() for operation in OPERATIONS for body in operation.bodies]


def shapes() -> list[Shape[Any]]:
    """Everything that reads a body in some dialect."""
    found: list[Shape[Any]] = [batches.SHAPE, feedback.SHAPE]
    for module in pkgutil.iter_modules(dialects.__path__, "er.dialects."):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, Shape) and value not in found:
                found.append(value)
    return found


@cache
def validator(schema: str) -> Any:
    """For a schema as JSON, with the document's others beside it."""
    components = DOCUMENT["components"]
    return jsonschema_rs.validator_for({**json.loads(schema), "components": components})


def valid(schema: dict[str, Any], value: Any) -> bool:
    return bool(validator(json.dumps(schema)).is_valid(value))


# -- complete --------------------------------------------------------------------------------------


def test_every_address_is_there() -> None:
    """Each that a dialect has, found by the same function that routes; and the gateway's own."""
    posts, gets = set(), set()
    for operation in OPERATIONS:
        path = operation.path
        if operation.method == "post":
            route = dialects.find("POST", path)
            assert isinstance(route, dialects.Route)
            posts.add(path if path in ROUTED else path.removeprefix("/v1"))
            readers = [body.dialect for body in operation.bodies if body.dialect is not None]
            assert route.dialect is (readers or [route.dialect])[0]
            for reader in readers[1:]:
                assert any(dialects.choose(route.dialect, body) is reader for body in BODIES)
        else:
            gets.add(path.removeprefix("/v1"))
    assert posts == set(ROUTED)
    scoped = {path.removeprefix("/v1") for path in options.SCOPED}
    own = {*OPEN, *described.PATHS, *scoped, *options.ALIVE - {""}, "/"}
    assert gets == {*dialects.GETS, f"{dialects.MODELS}{{model}}", *own}
    asked = {(op.method.upper(), op.path) for op in batches_described.OPERATIONS}
    wanted = set()
    for (kind, named, what), methods in batches.METHODS.items():
        path = f"/v1/{kind}" + (f"/{{{kind[:4].removesuffix('s')}}}" if named else "")
        path = path.replace("{batc}", "{batch}") + (f"/{what}" if what else "")
        wanted |= {(method, path) for method in methods}
    assert asked == wanted


def test_every_shape_and_every_field_is_there_in_words() -> None:
    assert shapes(), "no shape was found"
    told = [body.shape for operation in ALL for body in operation.bodies]
    for shape in shapes():
        assert shape in told, shape.struct
        name = openapi.requests.ref(shape)["$ref"].rsplit("/", 1)[-1]
        fields = set(shape.struct.__struct_fields__)
        assert set(SCHEMAS[name]["properties"]) == fields
    for name, schema in SCHEMAS.items():
        if "." in name:  # of a request
            for field, said in schema["properties"].items():
                assert said["description"], f"{name}.{field}"


def test_nothing_is_said_of_fields_that_are_not_there() -> None:
    whole = {f"{n}.{f}" for n, s in SCHEMAS.items() if "." in n for f in s["properties"]}
    names = {name.rsplit(".", 1)[-1] for name in whole}
    for key in (*bounds.FIELDS, *bounds.SAYS):
        assert key in (whole if "." in key else names), key
    assert set(bounds.NEEDS) <= set(SCHEMAS)


def test_the_document_is_one() -> None:
    """Every reference leads somewhere, ids are there once, each operation has its tag."""
    text = json.dumps(DOCUMENT)
    for ref in set(re.findall(r'"\$ref": "#/([^"]+)"', text)):
        at: Any = DOCUMENT
        for step in ref.split("/"):
            at = at[step]
    ids = [op["operationId"] for path in DOCUMENT["paths"].values() for op in path.values()]
    assert len(set(ids)) == len(ids) == len(ALL)
    tags = {tag["name"] for tag in DOCUMENT["tags"]}
    assert {op["tags"][0] for path in DOCUMENT["paths"].values() for op in path.values()} == tags


def test_examples_are_what_the_document_says() -> None:
    """Requests and answers, these as the dialects write them, against their own schemas."""
    seen = 0
    for methods in DOCUMENT["paths"].values():
        for operation in methods.values():
            for part in (operation.get("requestBody"), *operation["responses"].values()):
                if part is None:
                    continue
                if "$ref" in part:
                    part = DOCUMENT["components"]["responses"][part["$ref"].rsplit("/", 1)[-1]]
                for content in part.get("content", {}).values():
                    shown = [e["value"] for e in content.get("examples", {}).values()]
                    shown += [content["example"]] if "example" in content else []
                    for example in shown:
                        seen += 1
                        assert valid(content["schema"], example), (operation["summary"], example)
    assert seen > 100


def test_a_worker_does_not_load_it_before_it_is_asked_for() -> None:
    code = "import sys, er.worker; print([m for m in sys.modules if m.startswith('er.openapi')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# -- served ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    # Schemathesis' requests come from an address each (tests/schemathesis_hooks.py).
    with gateway(tmp_path_factory.mktemp("openapi"), trusted_proxies=["127.0.0.1"]) as found:
        found.key = new_key(found, scopes=bounds_of_keys.SCOPES).secret  # every page is open to it
        yield found


def test_both_are_served_without_a_key(running: Gateway) -> None:
    answer = running.ask("GET", "/openapi.json", key=None)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json == DOCUMENT
    assert running.ask("HEAD", "/openapi.json", key=None).body == b""
    assert running.ask("GET", "/openapi.json/", key=None).body == answer.body
    wrong = running.ask("POST", "/docs", {}, key=None)
    assert (wrong.status, wrong.headers["allow"]) == (405, "GET, HEAD")


def test_what_an_address_allows_is_what_it_has(running: Gateway) -> None:
    """Where GET and POST mean different things, and where only GET does."""
    for path, allowed in (("/", "GET, HEAD, POST"), ("/ping", "GET, HEAD")):
        refused = running.ask("TRACE", path)
        assert (refused.status, refused.headers["allow"]) == (405, allowed)
        asked = running.ask("OPTIONS", path, key=None)
        assert (asked.status, asked.headers["allow"]) == (204, f"{allowed}, OPTIONS")


def test_the_page_runs_nothing_but_what_it_brings(running: Gateway) -> None:
    answer = running.ask("GET", "/docs", key=None)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none';") and "unsafe" not in policy
    for kind in (b"script", b"style"):
        (inline,) = re.findall(b"<%b>(.*?)</%b>" % (kind, kind), answer.body, re.S)
        digest = base64.b64encode(hashlib.sha256(inline).digest()).decode()
        assert f"{kind.decode()}-src 'sha256-{digest}'" in policy
    assert not re.search(rb"https?:|src=|@import|url\(|innerHTML| on\w+=|localStorage", answer.body)
    assert b"sk-er-k" not in answer.body


def test_the_page_shows_and_sends_everything(running: Gateway, tmp_path: Path) -> None:
    """Its script, run by node: every operation and field is shown, every trial is sent rightly."""
    for path in described.PATHS:
        (tmp_path / path[1:]).write_bytes(running.ask("GET", path, key=None).body)
    script = Path(__file__).with_name("docs_page.mjs")
    command = ["node", str(script), str(tmp_path / "docs"), str(tmp_path / "openapi.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    names = {f for name, schema in SCHEMAS.items() if "." in name for f in schema["properties"]}
    for word in (*DOCUMENT["paths"], *names, *SCHEMAS, "429", "503"):
        assert word in shown["text"], word
    assert shown["unlabelled"] == 0
    (_, *trials) = shown["sent"]  # the document itself is the first
    assert len(trials) == len(ALL)
    for url, said in trials:
        path = url.removeprefix("/behind/a/proxy").replace("/models/embed", "/models/{model}")
        path = re.sub(r"/(file|batch)-unknown", r"/{\1}", path)
        assert said["method"].lower() in DOCUMENT["paths"][path]
        assert said["headers"]["authorization"] == "Bearer sk-er-test"
        operation = DOCUMENT["paths"][path][said["method"].lower()]
        content = operation.get("requestBody", {}).get("content", {})
        if "multipart/form-data" in content:
            assert said["body"] == ["purpose", "file"]
        elif content:
            assert valid(content["application/json"]["schema"], json.loads(said["body"]))
        else:
            assert "body" not in said


def test_they_can_be_turned_off(tmp_path: Path) -> None:
    with gateway(tmp_path, docs=False) as shut:
        for path in described.PATHS:
            answer = shut.ask("GET", path, key=None)
            assert (answer.status, answer.code) == (404, "not_found")
        assert shut.ask("GET", "/livez", key=None).status == 200


def test_every_example_works(running: Gateway) -> None:
    """Each request of the document, sent as it stands there, is answered as the document says."""
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            content = (
                operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            )
            bodies = [example["value"] for example in content.get("examples", {}).values()]
            for body in bodies or [content.get("example")]:
                said = running.ask(method.upper(), path.replace("{model}", "embed"), body)
                if operation["tags"] in (["Batches"], ["Feedback"]):
                    continue  # whose files, whose requests have to be there first
                wanted = 200 if "200" in operation["responses"] else 424
                assert said.status == wanted, (path, said)
                part = operation["responses"][str(wanted)]
                if "content" in part:
                    media = said.headers["content-type"].partition(";")[0]
                    schema = part["content"][media]["schema"]
                    assert media != "application/json" or valid(schema, said.json), (path, said)


# -- refusals --------------------------------------------------------------------------------------


def described_as(running: Gateway, operation: Operation, said: Reply) -> None:
    """The status is one of the operation's; headers and body are as it says."""
    part = DOCUMENT["paths"][operation.path][operation.method]["responses"][str(said.status)]
    if "$ref" in part:
        part = DOCUMENT["components"]["responses"][part["$ref"].rsplit("/", 1)[-1]]
    for name, header in part["headers"].items():
        if "$ref" in header:
            header = DOCUMENT["components"]["headers"][name]
        assert name in said.headers or not header.get("required"), (operation.path, name)
        if name in said.headers:
            value: Any = said.headers[name]
            whole = header["schema"].get("type") == "integer"
            assert valid(header["schema"], int(value) if whole else value), (name, value)
    assert said.headers["content-type"] == "application/json"
    assert valid(part["content"]["application/json"]["schema"], said.json), said


def examples_of(operation: Operation) -> list[Any]:
    content = DOCUMENT["paths"][operation.path]["post"]["requestBody"]["content"]
    content = content["application/json"]
    return [example["value"] for example in content.get("examples", {}).values()] or [
        content["example"]
    ]


def refused(running: Gateway, status: int, *, engine: bool = False, **more: Any) -> None:
    """Every POST that says that it may be refused so is; with `engine` those that need none not."""
    change: Callable[[Any], Any] = more.pop("change", lambda body: body)
    mark, given, seen = more.pop("mark", ""), more.pop("headers", {}), Counter[int]()
    for operation in OPERATIONS:
        if operation.method != "post" or (engine and operation.path.endswith("/tokenize")):
            continue
        if str(status) in DOCUMENT["paths"][operation.path]["post"]["responses"]:
            for body in examples_of(operation):
                # From an address each: many wrong keys from one are answered later and later.
                headers = {**given, "x-forwarded-for": f"10.1.0.{seen.total()}"}
                path = operation.path + mark
                said = running.ask("POST", path, change(body), headers=headers, **more)
                seen[said.status] += 1
                described_as(running, operation, said)
    # Bodies are not read where there is nothing for them; an engine that hangs is found to be down.
    besides = {400: 424, 504: 503}.get(status)
    assert seen[status] and set(seen) <= {status, besides} and seen.total() > 15, seen


def test_refusals_are_as_described(running: Gateway) -> None:
    """Each status of each address that can be had from a gateway that is well."""
    refused(running, 401, key=None)
    refused(running, 401, key="sk-er-nobody")
    refused(running, 400, change=lambda _: b'{"model": ')
    refused(running, 400, change=lambda body: {**body, "model": 5})
    refused(running, 404, change=lambda body: {**body, "model": "nobody"})
    refused(running, 415, headers={"content-encoding": "gzip"})
    refused(running, 413, headers={"content-length": str(1 << 40)})
    refused(running, 414, mark="?" + "a" * 9000)
    refused(running, 431, headers={"x": "y" * 40_000})
    other = new_key(running, scopes=["admin-read"])
    refused(running, 403, key=other.secret)
    other = new_key(running, models=["something-else"])
    assert running.embed(key=other.secret).status == 403
    slow = new_key(running, rate_limit="1/hour")
    assert running.embed(key=slow.secret).status == 200
    refused(running, 429, key=slow.secret)
    for operation in OPERATIONS:
        if operation.method == "get" and not operation.open:
            said = running.ask("GET", operation.path.replace("{model}", "embed"), key=None)
            assert said.status == 401
            described_as(running, operation, said)


def test_refusals_of_a_gateway_whose_engine_is_gone_are_as_described(tmp_path: Path) -> None:
    with gateway(tmp_path, timeout="0.3s") as slow:
        slow.engines[0].fault("hang")
        refused(slow, 504, engine=True)
        (slow.runtime / leaving.DRAINING).touch()
        said = slow.ask("GET", "/readyz", key=None)
        assert said.json["status"] == "leaving"
        described_as(slow, {o.path: o for o in OPERATIONS}["/readyz"], said)
        (slow.runtime / leaving.DRAINING).unlink()
        assert running_down(slow) == (503, 503)
        refused(slow, 503, engine=True)


def running_down(slow: Gateway) -> tuple[int, int]:
    """The engine is killed; what /health and /readyz then say, as described."""
    slow.engines[0].kill()
    until = time.monotonic() + 20
    while (said := slow.ask("GET", "/readyz", key=None)).status != 503:
        slow.embed()
        assert time.monotonic() < until
    pages = {operation.path: operation for operation in OPERATIONS}
    described_as(slow, pages["/readyz"], said)
    health = slow.ask("GET", "/health", key=None)
    described_as(slow, pages["/health"], health)
    return health.status, said.status


# -- batches ---------------------------------------------------------------------------------------


def test_files_and_batches_are_as_described(running: Gateway) -> None:
    """Each of their addresses, asked as it should be and for what is not there."""
    line = b'{"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": {"input": "x"}}'
    form = b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--x\r\n'
    form += b'Content-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n'
    form += line + b"\r\n--x--\r\n"
    ids: dict[str, str] = {}
    # All others want the file.
    for operation in sorted(batches_described.OPERATIONS, key=lambda op: op.id == "deleteFile"):
        method, path = (
            operation.method.upper(),
            operation.path.format(**{"file": "", "batch": "", **ids}),
        )
        if operation.id == "deleteFile":
            until = time.monotonic() + 20
            while running.ask("GET", f"/v1/batches/{ids['batch']}").json["status"] in STIRRING:
                assert time.monotonic() < until
                time.sleep(0.05)
        wish = {"endpoint": "/v1/embeddings", "completion_window": "24h"}
        body: Any = {**wish, "input_file_id": ids.get("file")} if operation.bodies else None
        headers = None
        if operation.form:
            body, headers = form, {"content-type": "multipart/form-data; boundary=x"}
        said = running.ask(method, path, body, headers=headers)
        over = operation.id == "cancelBatch" and said.status == 400  # before it could be cancelled
        assert said.status == 200 or over, (operation.id, said)
        if operation.id == "getFileContent":
            assert (said.headers["content-type"], said.body) == (operation.media, line)
            continue
        described_as(running, operation, said)
        if operation.method == "post" and "{" not in operation.path:
            ids["file" if operation.form else "batch"] = said.json["id"]
        if "{" in operation.path:
            gone = running.ask(method, re.sub(r"{\w+}", "nothing", operation.path))
            assert gone.status == 404
            described_as(running, operation, gone)


# -- schemathesis ----------------------------------------------------------------------------------


def schemathesis(running: Gateway, folder: Path, seed: int, examples: int) -> None:
    """All its checks on all addresses: requests as the document has them, and wrong ones."""
    until = time.monotonic() + 20
    while running.ask("GET", "/health", key=None).status != 200:
        assert time.monotonic() < until, "the stand-in engine was not found to be well"
        time.sleep(0.05)
    tests = Path(__file__).parent
    command = [str(Path(sys.executable).with_name("schemathesis")), "run"]
    command += [f"http://127.0.0.1:{running.port}/openapi.json", "--no-color"]
    command += ["--header", f"Authorization: Bearer {running.key}", "--continue-on-failure"]
    command += ["--phases", "examples,coverage,fuzzing", "--max-examples", str(examples)]
    command += ["--seed", str(seed), "--request-timeout", "20", "--warnings", "off"]
    environment = {
        **os.environ,
        "SCHEMATHESIS_HOOKS": "schemathesis_hooks",
        "PYTHONPATH": f"{tests}:{os.environ.get('PYTHONPATH', '')}",
        "HYPOTHESIS_STORAGE_DIRECTORY": str(folder / "hypothesis"),
    }
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-8000:]
    tried = {(record["METHOD"].lower(), record["PATH"]) for record in running.audit()}
    for operation in ALL:
        assert "{" in operation.path or (operation.method, operation.path) in tried, operation
    mishaps = [record for record in running.audit() if record["STATUS"] == 500]
    assert not mishaps and running.text().count("went wrong inside") == 0
    (line,) = re.findall(r"(\d+) generated", done.stdout)
    assert int(line) > 2000, "hardly anything was tried"


@pytest.mark.timeout(300)
def test_schemathesis_finds_the_document_true(running: Gateway, tmp_path: Path) -> None:
    schemathesis(running, tmp_path, seed=1, examples=8)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(2, 5))
def test_schemathesis_finds_the_document_true_at_length(
    running: Gateway, tmp_path: Path, seed: int
) -> None:
    schemathesis(running, tmp_path, seed=seed, examples=60)


def test_feedback_is_as_described(running: Gateway) -> None:
    """As it should be, and refused for itself; what the schema refuses, ER does."""
    (operation,) = feedback_described.OPERATIONS
    schema = {"$ref": "#/components/schemas/Feedback.Wish"}
    asked = {"model": "bi", "query": "q", "documents": ["a", "b"]}
    request = running.ask("POST", "/v1/rerank", asked).headers["x-request-id"]
    good = ({"document": 1}, {"rating": 0.5}, {"rating": "up", "comment": "yes"}, {"document": 0})
    for more in good:
        said = running.ask("POST", operation.path, {"request_id": request, **more})
        assert said.status == 200 and valid(schema, {"request_id": request, **more})
        described_as(running, operation, said)
    wrong = ({}, {"rating": 2}, {"rating": "so"}, {"document": -1}, {"comment": "only"})
    for more in (*wrong, {"rating": None}, {"rating": 1, "comment": "x" * 2001}):
        said = running.ask("POST", operation.path, {"request_id": request, **more})
        assert said.status == 400 and not valid(schema, {"request_id": request, **more}), more
        described_as(running, operation, said)
    unknown = {"request_id": "req-0", "rating": 1}
    for body, key, status in ((unknown, "", 404), (unknown, None, 401), (unknown, "sk-er-no", 401)):
        said = running.ask("POST", operation.path, body, key=key)
        assert said.status == status
        described_as(running, operation, said)
