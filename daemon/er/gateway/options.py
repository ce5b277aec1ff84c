"""OPTIONS: what may be asked at an address; and the gateway's own addresses, of no dialect."""

from __future__ import annotations

from er import dialects
from er.gateway import feedback
from er.gateway.batches import methods_at
from er.gateway.cors import Cors
from er.gateway.exchange import Head, Response
from er.gateway.operator_pages import PAGES
from er.keys.bounds import Scope

OPEN = frozenset(("/health", "/livez", "/readyz"))
PING = "/ping"
ALIVE = {"", PING}  # where the clients of Ollama, TEI and vLLM look whether somebody is there
METRICS = "/metrics"
GET = ("GET", "HEAD")
# The gateway's own that ask for a key, and for what scope of it.
SCOPED: dict[str, Scope] = {METRICS: "metrics", **dict.fromkeys(PAGES, "admin-read")}
STATUS = 204
ALL = "*"  # the address that means the server, not a page of it


def answer(head: Head, cors: Cors | None, pages: frozenset[str]) -> Response | None:
    """The answer to OPTIONS, which needs no key. None: nothing is at that address.

    `pages` are the gateway's own that ask for no key.
    """
    if cors is not None and (said := cors.preflight(head)) is not None:
        # Whatever the address: a page can read the 404 that follows, but no refused preflight.
        return Response(STATUS, b"", headers=said)
    methods = allowed(head.path, pages)
    if not methods:
        return None
    return Response(STATUS, b"", headers=[(b"allow", f"{methods}, OPTIONS".encode())])


def allowed(path: str, pages: frozenset[str]) -> str:
    """The methods that an address takes, as an Allow header has them; "" where nothing is."""
    plain = path.rstrip("/")
    found: list[str] = list(methods_at(path))
    if plain in pages | ALIVE | SCOPED.keys() | {ALL} or _has("GET", path):
        found += GET
    if plain == ALL or _has("POST", path) or feedback.place_at("POST", path):
        found.append("POST")
    return ", ".join(found)


def _has(method: str, path: str) -> bool:
    return isinstance(dialects.find(method, path), dialects.Route)
