"""Every refusal of the API for the OpenAPI document: its status, what it means, its shape."""

from __future__ import annotations

from typing import Any

import orjson

from er import dialects
from er.dialects import Refuse, cohere, dashscope, ollama, tei, vllm
from er.job import Refusal
from er.openapi import answers, vendors
from er.openapi.operations import Operation

Schema = dict[str, Any]

NAMES: dict[Refuse, str] = {
    dialects.refuse: "ER",
    cohere.refuse_v2: "Cohere",
    tei.refuse: "TEI",
    vllm.refuse: "vLLM",
    ollama.refuse: "Ollama",
    dashscope.refuse: "DashScope",
}
STRUCTS: dict[Refuse, Any] = {
    dialects.refuse: answers.Error,
    cohere.refuse_v2: vendors.CohereError,
    tei.refuse: vendors.TeiError,
    vllm.refuse: vendors.VllmError,
    ollama.refuse: vendors.OllamaError,
    dashscope.refuse: vendors.DashError,
}
# What each status is about, and an example: its code and message.
SAYS: dict[int, tuple[str, str, str]] = {
    400: (
        "The body, one of its fields or the request as HTTP is wrong; the message says which",
        "invalid_request",
        "input is missing; input must be a text, a list of texts, a list of token ids or a list "
        "of lists of token ids",
    ),
    401: ("No key, or one that opens nothing", "invalid_api_key", "no API key; send it as …"),
    403: (
        "The key may not use this model, do this, or ask from this address",
        "key_not_permitted",
        "key kab2cd3ef (web) may not use this model; it may use: …",
    ),
    404: (
        "There is no such model, or nothing of that name",
        "model_not_found",
        "there is no model 'x' here; there are: …",
    ),
    408: (
        "The request came too slowly",
        "request_timeout",
        "no whole request within 10 s",
    ),
    413: (
        "The body is over max_body",
        "body_too_large",
        "the body is 41943040 bytes (40MiB); this server takes at most 33554432 bytes (32MiB). …",
    ),
    414: ("The address is too long", "invalid_request", "the address is over 8192 bytes"),
    415: (
        "The body is compressed",
        "unsupported_encoding",
        "Content-Encoding is 'gzip'; send the body as plain JSON, uncompressed",
    ),
    424: (
        "This is for another kind of model than there is here",
        "wrong_model_type",
        "no model here is of the kind that this address is for; …",
    ),
    429: (
        "The key asked more often, or for more, than it may",
        "rate_limit_exceeded",
        "key kab2cd3ef (web) may ask 100/minute; the next request passes in 0.6 s. …",
    ),
    431: (
        "Address and headers are too large",
        "invalid_request",
        "the address and headers are over 32768 bytes",
    ),
    500: (
        "ER's own fault; its log has it by the request's id",
        "internal_error",
        "something went wrong inside the gateway; the operator finds it in the log under …",
    ),
    503: (
        "Too much at once, or no healthy replica",
        "overloaded",
        "500 requests are being worked on, as many as max_concurrency in er.toml allows; …",
    ),
    504: ("The deadline passed", "timeout", "no answer within the timeout; send fewer texts"),
}
HTTP = (400, 408, 414, 431)  # said in ER's shape where a request is not even read
KEYED = (401, 403, 500)
NAMED = (404,)
READ = (413, 415)  # of who sends a body
COMPUTED = (*NAMED, *READ, 429, 503, 504)
RETRY_AFTER: Schema = {
    "required": True,
    "description": "Whole seconds, never 0; exact for 429, the best estimate for 503.",
    "schema": {"type": "integer", "minimum": 1},
}
RETRY_AFTER_MS: Schema = {
    "required": True,
    "description": "The same in milliseconds.",
    "schema": {"type": "integer", "minimum": 1},
}
WWW_AUTHENTICATE: Schema = {"required": True, "schema": {"const": "Bearer"}}


def of(operation: Operation) -> list[tuple[int, tuple[Refuse, ...]]]:
    """The statuses that an operation refuses with, each with the shapes that it may have there."""
    own: list[Refuse]
    more: tuple[int, ...]
    readers = [body.dialect for body in operation.bodies if body.dialect is not None]
    if readers:
        own = list(dict.fromkeys(reader.refuse for reader in readers))
        more = (*KEYED, *COMPUTED)
    elif operation.method == "post":
        own, more = [operation.refuse], (*KEYED, *READ)
        more += NAMED if operation.bodies and not operation.more else ()
        more += () if operation.bodies or operation.answer is not None else (424,)
    else:
        own = [operation.refuse]
        more = () if operation.open else (*KEYED, 429)
        more += NAMED if operation.named else ()
    more += operation.more
    found = dict.fromkeys(more, own)
    for status in HTTP:
        found[status] = [dialects.refuse, *(refuse for refuse in own if refuse != dialects.refuse)]
    return sorted((status, tuple(whose)) for status, whose in found.items())


def response(status: int, whose: tuple[Refuse, ...]) -> Schema:
    """The response of that status, in one of the shapes `whose`."""
    about, code, message = SAYS[status]
    refusal = Refusal(status, code, message)
    refs = [{"$ref": f"#/components/schemas/{STRUCTS[refuse].__name__}"} for refuse in whose]
    shown = {NAMES[refuse]: {"value": orjson.loads(refuse(refusal, "req-1"))} for refuse in whose}
    headers: Schema = {
        name: {"$ref": f"#/components/headers/{name}"} for name in ("x-request-id", "server-timing")
    }
    if status in (429, 503):
        headers |= {"retry-after": RETRY_AFTER, "retry-after-ms": RETRY_AFTER_MS}
    if status == 401:
        headers["www-authenticate"] = WWW_AUTHENTICATE
    return {
        "description": about,
        "headers": headers,
        "content": {
            "application/json": {
                "schema": refs[0] if len(refs) == 1 else {"anyOf": refs},
                "examples": shown,
            }
        },
    }
