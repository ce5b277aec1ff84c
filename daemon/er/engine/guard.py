"""Lets nobody into vLLM but who knows the secret: users of the machine can reach its port too.

Runs inside vLLM's API process as the outermost ASGI middleware; the launcher copies this one file
beside the logging configuration, and it has nothing of ER. /health alone is open: it says whether
the engine lives, and computes nothing. The secret is in the file that ENGINE_SECRET_FILE names.
"""

from __future__ import annotations

import hmac
import json
import os
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

HEADER = b"x-er-secret"
OPEN = "/health"
ASK = "this vLLM answers ER's gateway alone; ask the gateway"

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Guard:
    """The middleware."""

    def __init__(self, app: Callable[[Message, Receive, Send], Awaitable[None]]) -> None:
        """Raises OSError, which ends vLLM's start, when there is no secret to ask for."""
        self._app = app
        self._secret = Path(os.environ["ENGINE_SECRET_FILE"]).read_bytes()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass on what may pass; 401 for the rest."""
        kind = scope["type"]
        if kind == "lifespan" or (kind == "http" and scope["path"] == OPEN) or self._known(scope):
            await self._app(scope, receive, send)
        elif kind == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            body = json.dumps({"error": {"message": ASK, "code": 401}}).encode()
            headers = [(b"content-type", b"application/json")]
            headers.append((b"content-length", str(len(body)).encode()))
            await send({"type": "http.response.start", "status": 401, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    def _known(self, scope: Message) -> bool:
        given = [value for name, value in scope["headers"] if name == HEADER]
        return len(given) == 1 and hmac.compare_digest(given[0], self._secret)
