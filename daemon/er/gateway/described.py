"""The pages that describe the API, /openapi.json and /docs; what makes them is imported late."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib.resources import files

from er.config import Config
from er.gateway.exchange import Response

OPENAPI, DOCS = "/openapi.json", "/docs"
PATHS = frozenset((OPENAPI, DOCS))
HTML = b"text/html; charset=utf-8"
LIMITS = ("max_inputs", "max_documents", "max_request_tokens", "max_rerank_tokens")
INLINE = re.compile(rb"<(script|style)>(.*?)</\1>", re.S)


def page(path: str, settings: Config) -> Response:
    """One of PATHS; the document's examples ask for the first model of each task."""
    if path == DOCS:
        text, policy = _docs()
        headers = [
            (b"content-security-policy", policy),
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
        ]
        return Response(200, text, HTML, headers)
    names = {model.task: model.name for model in reversed(settings.models)}
    limits = tuple((name, getattr(settings.gateway, name)) for name in LIMITS)
    return Response(200, _document(names.get("embed"), names.get("score"), limits))


@cache
def _document(embed: str | None, score: str | None, limits: tuple[tuple[str, int], ...]) -> bytes:
    from er import openapi
    from er.gateway import batches_described, feedback_described

    more = (*batches_described.OPERATIONS, *feedback_described.OPERATIONS)
    return openapi.document(embed, score, more, **dict(limits))


@cache
def _docs() -> tuple[bytes, bytes]:
    """The page, and a policy under which nothing runs or is fetched but what it brings itself."""
    text = (files("er.gateway") / "docs.html").read_bytes()
    hashes = {
        kind: base64.b64encode(hashlib.sha256(inline).digest())
        for kind, inline in INLINE.findall(text)
    }
    policy = (
        b"default-src 'none'; script-src 'sha256-%b'; style-src 'sha256-%b'; connect-src 'self'; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        b"require-trusted-types-for 'script'"
    )
    return text, policy % (hashes[b"script"], hashes[b"style"])
