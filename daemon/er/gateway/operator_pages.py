"""The admin API's pages for keys with the scope admin-read, passed on, read only; and /metrics.

The admin socket is for root and group er. A key that may read these pages can change nothing.
"""

from __future__ import annotations

import asyncio
import http.client
import socket
from urllib.parse import parse_qs, urlencode

from er import exposition
from er.config import directory
from er.gateway.exchange import Response
from er.job import Refusal
from er.keys import Identity

# Addresses of the gateway, and the admin API's.
PAGES = {"/v1/er/status": "/status", "/v1/er/keys": "/keys", "/v1/er/traffic": "/traffic"}
PATIENCE_S = 10.0
AGAIN_S = 5.0


class _Admin(http.client.HTTPConnection):
    """The admin process, by its unix socket."""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(directory("runtime") / "admin.sock"))


async def page(path: str, query: bytes) -> Response:
    """The answer at one of PAGES. Raises Refusal 503 while the admin process does not answer."""
    asked = {k: v for k, v in parse_qs(query.decode("latin-1")).items() if k == "seconds"}
    try:
        status, body = await asyncio.to_thread(_ask, PAGES[path], urlencode(asked, doseq=True))
    except (OSError, http.client.HTTPException):
        told = f"{path} can't be read now: ER's admin process does not answer; try again"
        raise Refusal(503, "unavailable", told, retry_after_s=AGAIN_S) from None
    return Response(status, body)


async def figures(accept: bytes, who: Identity) -> Response:
    """All metrics, in the format that a client with this Accept wants.

    Keys and request ids of others are for those alone who may read the operator's pages.
    """
    openmetrics = exposition.wants_openmetrics(accept.decode("latin-1"))
    whole = "admin-read" in who.scopes
    text = await asyncio.to_thread(exposition.render, openmetrics, whole)
    return Response(200, text, exposition.content_type(openmetrics).encode())


def _ask(path: str, query: str) -> tuple[int, bytes]:
    connection = _Admin("er", timeout=PATIENCE_S)
    try:
        connection.request("GET", f"{path}?{query}" if query else path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
