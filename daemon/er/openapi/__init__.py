"""The client API as an OpenAPI 3.1 document, made of the structs that read the bodies.

So it can't say another field than they read, and its examples are what the dialects themselves
write. Nothing here is imported before somebody asks for it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import orjson

from er import __version__, dialects
from er.openapi import examples, refusals, requests
from er.openapi.bounds import TEXT
from er.openapi.operations import OPERATIONS, TAGS, Body, Operation
from er.openapi.refusals import Schema
from er.openapi.vendors import schemas

ABOUT = """\
Embeddings and rerank in the shapes of many vendors: whatever client you have, point it here.

* `/v1` may stand before each path, once, twice or not at all, and a slash behind it;
  `/compatible-mode/v1` and `/compatible-api/v1` too. Each address is listed once here.
* The key: `Authorization: Bearer sk-er-…`, or `?api_key=sk-er-…`; of both the header counts.
* What each GET answers, HEAD answers without the body. Other methods are refused with 405 and
  `Allow`; OPTIONS is answered with 204 and `Allow`.
* The body is JSON in UTF-8, uncompressed; its Content-Type is not looked at. Unknown fields are
  ignored, `null` is the same as absent, and what says what is computed may stand there once only.
* A number that must be whole is written without a fraction: 5, not 5.0.
* Where an address takes several kinds of bodies, the fields that are sent decide, and the answer
  and every refusal have that client's shape.
* One request has at most {max_inputs} texts to embed or {max_documents} documents to rank, and
  {max_request_tokens} or {max_rerank_tokens} tokens in all.
* Errors say what to do. 429 and 503 carry `Retry-After`.
"""
KEYS: list[dict[str, list[str]]] = [{"bearer": []}, {"query": []}]
SECURITY_SCHEMES: Schema = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "`Authorization: Bearer sk-er-…`; made by `er keys create`.",
    },
    "query": {
        "type": "apiKey",
        "in": "query",
        "name": "api_key",
        "description": "The same key in the address, for clients that can't send headers.",
    },
}
REQUEST_ID: Schema = {
    "name": "x-request-id",
    "in": "header",
    "description": "Your own id, which the answer and the audit then have: up to 128 of A-Z, a-z, "
    "0-9, dot, dash and underscore. Any other is replaced.",
    "schema": {"type": "string"},
}


def _text(schema: Schema, says: str) -> Schema:
    return {"schema": schema, "description": says}


_WHOLE: Schema = {"type": "integer", "minimum": 0}
HEADERS: dict[str, Schema] = {
    "x-request-id": {
        "required": True,
        **_text({"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"}, "The request's id."),
    },
    "server-timing": {
        "required": True,
        **_text({"type": "string"}, "Milliseconds: queue, tokenise, engine, total."),
    },
    "openai-processing-ms": _text(_WHOLE, "Milliseconds in all."),
    "x-er-texts-cut": _text(
        {"type": "integer", "minimum": 1}, "How many texts were too long and were cut, if any."
    ),
    "x-er-model-fingerprint": _text(
        {"type": "string", "pattern": "^[^-]+-[^-]+-[^-]+$"},
        "What the model's answers are of: weights, recipe and number format.",
    ),
    "x-ratelimit-limit-requests": _text(_WHOLE, "Requests a period, for a key with a limit."),
    "x-ratelimit-remaining-requests": _text(_WHOLE, "How many of them are left."),
    "x-ratelimit-reset-requests": _text(
        {"type": "string"}, "When all of them are there again, as in 1m2.5s."
    ),
}
ALWAYS = ("x-request-id", "server-timing", "openai-processing-ms")


def _ref(kind: str, name: str) -> Schema:
    return {"$ref": f"#/components/{kind}/{name}"}


def _headers(operation: Operation) -> Schema:
    names = tuple(HEADERS) if operation.bodies else ALWAYS
    return {name: _ref("headers", name) for name in names}


def _content(media: str, schema: Schema, example: Any = None, several: Any = None) -> Schema:
    found: Schema = {"schema": schema}
    if several:
        found["examples"] = several
    elif example is not None:
        found["example"] = example
    return {media: found}


def _either(found: list[Schema]) -> Schema:
    return found[0] if len(found) == 1 else {"anyOf": found}


def _good(operation: Operation, answers: dict[Any, Schema], names: examples.Names) -> Schema:
    """The response 200."""
    said: Schema = {"description": "As asked for", "headers": _headers(operation)}
    if operation.bodies:
        schema = _either([answers[_key(body.answer)] for body in operation.bodies])
        several = {
            name: {"value": shown}
            for name, body in _named(operation.bodies)
            if (shown := examples.answer(body, names)) is not None
        }
        said["content"] = _content("application/json", schema, several=several)
        if operation.bytes:
            said["content"] |= _content("application/octet-stream", {"type": "string"})
    elif operation.answer is not None:
        shown = examples.page(operation, names)
        said["content"] = _content(operation.media, answers[_key(operation.answer)], shown)
    elif operation.media != "application/json":
        said["content"] = _content(operation.media, {"type": "string"})
    else:
        said["description"] = "Yes; there is no body"
    return said


def _named(bodies: tuple[Body, ...]) -> list[tuple[str, Body]]:
    """Each body with the name of its dialect."""
    return [(dialects.name(body.dialect) if body.dialect else "model", body) for body in bodies]


def _key(answer: Any) -> str:
    return repr(answer)


def _responses(
    operation: Operation, answers: dict[Any, Schema], names: examples.Names, parts: Schema
) -> Schema:
    """All responses; those that are refusals are put among `parts` and referred to."""
    found: Schema = {}
    if operation.bodies or operation.answer is not None or operation.method == "get":
        found["200"] = _good(operation, answers, names)
    if operation.down is not None:
        found["503"] = {
            "description": "No model answers",
            "headers": {**_headers(operation), "retry-after": refusals.RETRY_AFTER},
            "content": _content("application/json", answers[_key(operation.down)]),
        }
    for status, whose in refusals.of(operation):
        name = f"{status}.{'-'.join(refusals.NAMES[refuse] for refuse in whose)}"
        if name not in parts:
            parts[name] = refusals.response(status, whose)
        found[str(status)] = _ref("responses", name)
    return found


def _parameters(operation: Operation, names: examples.Names) -> list[Schema]:
    """What the address names and what may stand behind it."""
    found: list[Schema] = []
    for name in re.findall(r"{(\w+)}", operation.path):
        says, example = "The id, as it was given", f"{name}-unknown"
        if operation.named:
            says = "The name of a model, or one of its aliases"
            example = names.get("embed") or names.get("score") or "MODEL"
        place = {"name": name, "in": "path", "required": True, "description": says}
        found.append({**place, "schema": {"type": "string", "minLength": 1}, "example": example})
    for name, says, schema in operation.query:
        place = {"name": name, "in": "query", "description": says}
        found.append({**place, "schema": schema})
    return found


def _form(operation: Operation) -> Schema:
    """A form whose last part is a file."""
    *fields, (file, says) = operation.form
    properties: Schema = {name: {"const": value} for name, value in fields}
    properties[file] = {**TEXT, "format": "binary", "description": says}
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return _content("multipart/form-data", schema)


def _operation(
    operation: Operation, answers: dict[Any, Schema], names: examples.Names, parts: Schema
) -> Schema:
    said: Schema = {
        "tags": [operation.tag],
        "operationId": operation.id,
        "summary": operation.summary,
        "security": [] if operation.open else KEYS,
        "parameters": [_ref("parameters", "request-id")],
        "responses": _responses(operation, answers, names, parts),
    }
    if operation.text:
        said["description"] = operation.text
    said["parameters"] += _parameters(operation, names)
    if operation.bodies:
        schema = _either([requests.ref(body.shape) for body in operation.bodies])
        several = {
            name: {"value": examples.request(body, names)}
            for name, body in _named(operation.bodies)
        }
        content = _content("application/json", schema, several=several)
        said["requestBody"] = {"required": True, "content": content}
    elif operation.form:
        said["requestBody"] = {"required": True, "content": _form(operation)}
    elif operation.method == "post" and operation.answer is None:
        content = _content("application/json", {}, {"inputs": "a text"})
        said["requestBody"] = {"content": content}
    return said


def document(
    embed: str | None, score: str | None, more: Sequence[Operation] = (), **limits: int
) -> bytes:
    """The document as JSON; its examples ask for the models of these names, None where none is.

    `more` are operations that are declared elsewhere, `limits` those of one request by their names
    in er.toml.
    """
    operations = (*OPERATIONS, *more)
    names: examples.Names = {"embed": embed, "score": score}
    kinds = [body.answer for op in operations for body in op.bodies]
    kinds += [kind for op in operations for kind in (op.answer, op.down) if kind is not None]
    refs, parts = schemas([*kinds, *refusals.STRUCTS.values()])
    answers = {_key(kind): ref for kind, ref in zip(kinds, refs[: len(kinds)], strict=True)}
    responses: Schema = {}
    paths: dict[str, Schema] = {}
    for operation in operations:
        entry = paths.setdefault(operation.path, {})
        entry[operation.method] = _operation(operation, answers, names, responses)
        for body in operation.bodies:
            parts |= requests.schemas(body.shape)
    said: Schema = {
        "openapi": "3.1.0",
        "info": {
            "title": "ER: Embedding & Reranker",
            "version": __version__,
            "description": ABOUT.format_map(limits),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": parts,
            "responses": responses,
            "headers": HEADERS,
            "parameters": {"request-id": REQUEST_ID},
            "securitySchemes": SECURITY_SCHEMES,
        },
    }
    return orjson.dumps(said)
