"""Send a trial request through gateway.sock, which takes no key from root and group er.

A request of an operator's is a client's request: it waits in the queue, and may be refused, as
any other.
"""

from __future__ import annotations

import asyncio
import errno
import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from er_console.language import say
from er_console.reading import number, objects, text, whole
from er_console.sources.admin import Admin
from er_console.sources.http import exchange, unreachable
from er_console.state import Missing
from er_console.trial import Answered, Asked, Offered, Ranked, in_short, timing

TIMEOUT_S = 120.0  # a busy gateway may keep a request in its queue for long
LIST_TIMEOUT_S = 3.0


class Trial(Protocol):
    """Where trial requests go. Raises Missing when they can't be sent at all."""

    @property
    def socket(self) -> str:
        """The socket's path, for the curl line."""

    async def models(self) -> tuple[Offered, ...]:
        """What can be asked for."""

    async def ask(self, asked: Asked) -> Answered:
        """Send it; a refusal is an answer too."""


class Door:
    """gateway.sock. `admin` knows whether systemd holds the sockets of a stopped gateway."""

    def __init__(self, socket: Path, admin: Admin, *, timeout_s: float = TIMEOUT_S) -> None:
        self.socket = str(socket)
        self._admin = admin
        self._timeout_s = timeout_s

    async def models(self) -> tuple[Offered, ...]:
        """GET /v1/models."""
        status, _, content = await self._send("GET", "/v1/models", None, LIST_TIMEOUT_S)
        found = _json(content)
        if status != 200:
            raise Missing("wrong", f"{status}: {_refusal(found)[1]}", "journalctl -u er-gateway")
        rows = objects(_member(found, "data"))
        offered = [
            Offered(text(row.get("id")), text(row.get("task")), whole(row.get("dimensions")) or 0)
            for row in rows
        ]
        return tuple(model for model in offered if model.name and model.task in ("embed", "score"))

    async def ask(self, asked: Asked) -> Answered:
        """POST it; `took_ms` is from before the connection to the last byte."""
        began = time.monotonic()
        body = json.dumps(asked.body()).encode()
        status, headers, content = await self._send("POST", asked.path, body, self._timeout_s)
        took_ms = 1000 * (time.monotonic() - began)
        parts = timing(headers.get("server-timing", ""))
        request_id = text(headers.get("x-request-id"))
        found = _json(content)
        if status != 200:
            code, message = _refusal(found)
            after = text(headers.get("retry-after"))
            return Answered(
                status, took_ms, parts, request_id, code=code, message=message, retry_after=after
            )
        usage = found.get("usage") if isinstance(found, dict) else None
        tokens = whole(usage.get("prompt_tokens")) if isinstance(usage, dict) else None
        tokens = whole(_int(headers.get("x-compute-tokens"))) if asked.tei else tokens
        if asked.task == "score":
            rows = objects(_member(found, "results"))
            ranked = tuple(_ranked(row, len(asked.texts)) for row in rows)
            return Answered(status, took_ms, parts, request_id, ranked=ranked, tokens=tokens)
        listed = isinstance(found, list)
        given = found if listed else [row.get("embedding") for row in objects(found.get("data"))]
        vectors = [_vector(numbers) for numbers in given]
        # A thousand long vectors are a second of arithmetic: not in the loop that draws.
        short = await asyncio.to_thread(in_short, vectors)
        return Answered(status, took_ms, parts, request_id, vectors=short, tokens=tokens)

    async def _send(
        self, method: str, path: str, body: bytes | None, limit_s: float
    ) -> tuple[int, Mapping[str, str], bytes]:
        self._admin.look_before_connecting()
        try:
            async with asyncio.timeout(limit_s):
                return await exchange(self.socket, method, path, body)
        except TimeoutError:
            reason = say("the gateway did not answer within {limit} s", limit=f"{limit_s:.0f}")
            raise Missing("late", reason, "journalctl -u er-gateway") from None
        except OSError as error:
            raise self._unreachable(error) from None
        except (ValueError, EOFError):
            raise _nonsense() from None

    def _unreachable(self, error: OSError) -> Missing:
        known = unreachable(self.socket, error, by_systemd=self._admin.by_systemd)
        return known or Missing("wrong", f"{self.socket}: {os.strerror(error.errno or errno.EIO)}")


def _json(content: bytes) -> Any:
    """The answer: an object, or a list in TEI's dialect. Raises Missing when it is neither."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        raise _nonsense() from None
    if not isinstance(found, dict | list):
        raise _nonsense()
    return found


def _member(found: Any, name: str) -> Any:
    """The list that an answer holds under a name, or is."""
    return found.get(name) if isinstance(found, dict) else found


def _int(value: str | None) -> int | None:
    return int(value) if value and value.isascii() and value.isdigit() else None


def _nonsense() -> Missing:
    reason = say("the gateway's answer can't be read")
    return Missing("wrong", reason, "journalctl -u er-gateway")


def _refusal(found: Any) -> tuple[str, str]:
    """Code and message of an error, in any dialect that is sent here."""
    if not isinstance(found, dict):
        raise _nonsense()
    error = found.get("error")
    if isinstance(error, str):
        return text(found.get("error_type")) or "error", text(error)
    if not isinstance(error, dict):
        return "error", text(found.get("message")) or text(json.dumps(found))
    return text(error.get("code")) or "error", text(error.get("message"))


def _vector(vector: Any) -> list[float]:
    if not isinstance(vector, list) or not vector:
        raise _nonsense()
    return [math.nan if (x := number(value)) is None else x for value in vector]


def _ranked(row: Mapping[str, Any], documents: int) -> Ranked:
    index = whole(row.get("index"))
    score = number(row.get("score" if "score" in row else "relevance_score"))
    if index is None or score is None or not 0 <= index < documents:
        raise _nonsense()
    return Ranked(index, score)
