"""Ask the admin API over its unix socket, and steer by it: status, history, keys, drains."""

from __future__ import annotations

import asyncio
import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from er_console.graded import Quality
from er_console.language import heard, noted, say
from er_console.reading import (
    read_key,
    read_past,
    read_recent,
    read_status,
    text,
)
from er_console.sources.counted import wrong_calls
from er_console.sources.graded import read_canary, read_feedback
from er_console.sources.http import START, exchange, unreachable
from er_console.state import Key, Missing, Outcome, Past, Recent, Status

TIMEOUT_S = 3.0
CHANGE_TIMEOUT_S = 15.0  # to give up on a change is to not know whether it was made
GATEWAY_LOG = "journalctl -u er-gateway"
# What a gateway does not have that answers 404 there.
OLDER = {
    "/history": noted("the gateway is older than this console and keeps no history"),
    "/traffic": noted("the gateway is older than this console and keeps no single requests"),
    "/quality": noted("the gateway is older than this console and has no canary"),
    "/feedback": noted("the gateway is older than this console and takes no feedback"),
}
SYSTEMD_UNITS = Path("/run/systemd/units")


class Admin:
    """The admin API at a socket. Every method raises Missing with reason and remedy."""

    def __init__(
        self,
        socket: Path,
        *,
        by_systemd: bool,
        timeout_s: float = TIMEOUT_S,
        change_timeout_s: float = CHANGE_TIMEOUT_S,
    ) -> None:
        self.socket = socket
        self.by_systemd = by_systemd
        self.held_by_systemd = by_systemd  # until it is known that the socket unit is not active
        self.timeout_s = timeout_s
        self.change_timeout_s = change_timeout_s

    async def status(self) -> Status:
        """GET /status, typed."""
        return read_status(_object(await self._ask("GET", "/status")))

    async def keys(self) -> tuple[Key, ...]:
        """GET /keys."""
        found = _object(await self._ask("GET", "/keys")).get("keys")
        if not isinstance(found, list):
            raise _nonsense()
        return tuple(read_key(item) for item in found if isinstance(item, dict))

    async def history(self, seconds: int) -> Past:
        """GET /history, typed."""
        return read_past(_object(await self._ask("GET", f"/history?seconds={seconds}")))

    async def recent(self, seconds: int) -> Recent:
        """GET /traffic, typed."""
        return read_recent(_object(await self._ask("GET", f"/traffic?seconds={seconds}")))

    async def create_key(self, options: Mapping[str, Any]) -> tuple[Key, str]:
        """POST /keys."""
        return _with_secret(await self._ask("POST", "/keys", options))

    async def rotate_key(self, key_id: str, grace: str) -> tuple[Key, str]:
        """POST /keys/ID/rotate."""
        path = f"/keys/{quote(key_id, safe='')}/rotate"
        return _with_secret(await self._ask("POST", path, {"grace": grace}))

    async def change_key(self, key_id: str, fields: Mapping[str, Any]) -> Key:
        """PATCH /keys/ID."""
        path = f"/keys/{quote(key_id, safe='')}"
        return read_key(_object(await self._ask("PATCH", path, fields)))

    async def revoke_key(self, key_id: str) -> None:
        """DELETE /keys/ID."""
        await self._ask("DELETE", f"/keys/{quote(key_id, safe='')}")

    async def drain(self, replica: str, on: bool) -> Outcome:
        """POST /replicas/NAME/drain or /resume."""
        verb = "drain" if on else "resume"
        await self._ask("POST", f"/replicas/{quote(replica, safe='')}/{verb}")
        if on:
            return Outcome(True, say("{replica} gets no new requests", replica=replica))
        return Outcome(True, say("{replica} takes requests again", replica=replica))

    async def quality(self) -> Quality:
        """GET /quality and GET /feedback, and the wrong answers that GET /metrics counts."""
        canary = await self._if_there("/quality")
        feedback = await self._if_there("/feedback")
        status, content = await self._call("GET", "/metrics")
        known = status == 200
        return Quality(
            None if canary is None else read_canary(canary),
            None if feedback is None else read_feedback(feedback),
            wrong_calls(content.decode(errors="replace")) if known else None,
        )

    async def _if_there(self, path: str) -> dict[str, Any] | None:
        """What it tells there; None from a gateway that has no such thing."""
        try:
            return _object(await self._ask("GET", path))
        except Missing as missing:
            if missing.kind != "older":
                raise
            return None

    async def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """The answer's JSON, None for an empty one."""
        status, content = await self._call(method, path, body)
        try:
            found = json.loads(content) if content else None
        except (ValueError, RecursionError):
            raise _nonsense() from None
        older = OLDER.get(path.partition("?")[0])
        if status == 404 and older is not None:
            raise Missing("older", say(older), say("Upgrade ER: sudo ./install.sh"))
        if status >= 400:
            raise Missing("wrong", _message(found, status), about=_field(found))
        return found

    async def _call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> tuple[int, bytes]:
        """Status and body of the answer."""
        self.look_before_connecting()
        limit_s = self.timeout_s if method == "GET" else self.change_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                content = None if body is None else json.dumps(body).encode()
                status, _, answer = await exchange(str(self.socket), method, path, content)
        except TimeoutError:
            reason = say("the admin API did not answer within {n} s", n=f"{limit_s:.0f}")
            look = GATEWAY_LOG
            if method != "GET":
                look = say("It may have been done all the same: look again, then {look}", look=look)
            raise Missing("late", reason, look) from None
        except OSError as error:
            if method != "GET" and error.errno in (errno.ECONNRESET, errno.EPIPE):
                raise _cut_off() from None
            raise self._unreachable(error) from None
        except (ValueError, EOFError):
            raise (_nonsense() if method == "GET" else _cut_off()) from None
        return status, answer

    def look_before_connecting(self) -> None:
        """Leave alone a socket that systemd holds for a stopped gateway: a call would start it."""
        if not self.held_by_systemd:
            return
        if not os.path.lexists(SYSTEMD_UNITS / "invocation:er-gateway.service"):
            raise Missing("stopped", say("the gateway is stopped"), START)

    def _unreachable(self, error: OSError) -> Missing:
        where = str(self.socket)
        known = unreachable(where, error, by_systemd=self.by_systemd)
        if known is not None:
            return known
        broke = os.strerror(error.errno or errno.EIO)
        reason = say("the connection to {where} broke: {error}", where=where, error=broke)
        return Missing("wrong", reason, GATEWAY_LOG)


def _object(found: Any) -> dict[str, Any]:
    """An answer that has to be a JSON object."""
    if not isinstance(found, dict):
        raise _nonsense()
    return found


def _with_secret(found: Any) -> tuple[Key, str]:
    secret = found.get("secret") if isinstance(found, dict) else None
    if not isinstance(secret, str) or not secret:
        raise _nonsense()
    return read_key(found), secret


def _nonsense() -> Missing:
    return Missing("wrong", say("the admin API's answer can't be read"), GATEWAY_LOG)


def _cut_off() -> Missing:
    """A change that was sent and not answered."""
    reason = say("the gateway went away before it answered")
    return Missing("late", reason, say("It may have been done all the same: look again"))


def _field(found: Any) -> str:
    """The field that the error is about, "" where it names none."""
    error = found.get("error") if isinstance(found, dict) else None
    return text(error.get("field")) if isinstance(error, dict) else ""


def _message(found: Any, status: int) -> str:
    """The error's own words: {"error": {"message"}}, or FastAPI's {"detail"}."""
    if isinstance(found, dict):
        error = found.get("error")
        if isinstance(error, dict) and text(error.get("message")):
            return heard(text(error["message"]))
        detail = found.get("detail")
        if detail:
            return heard(text(detail)) or text(json.dumps(detail))
    return say("the admin API answered {status}", status=status)
