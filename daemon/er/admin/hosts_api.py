"""GET /hosts and what an operator says of one, on the admin API: for every host at once."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, TypeVar

from fastapi import FastAPI, Request

from er.admin.api import Desk, Trouble
from er.admin.hosts import Hosts
from er.shared_state import Away

T = TypeVar("T")


def add(app: FastAPI, desk: Desk, hosts: Hosts) -> None:
    """Put the addresses on the API. A machine without [state] has none of them."""

    async def turn(request: Request, host: str, on: bool) -> dict[str, Any]:
        _known(hosts, host)
        await _done(hosts.drain(host, on))
        desk.record(request, f"hosts.{'drain' if on else 'undrain'}", host)
        return {"host": host, "drained": on}

    @app.get("/hosts", summary="Every host that shares this one's [state], with its replicas")
    async def listed() -> dict[str, Any]:
        return {"hosts": hosts.rows(), "shared_state": hosts.shared()}

    @app.post("/hosts/{host}/drain", summary="Nothing new is sent there, whoever it comes to")
    async def drain(request: Request, host: str) -> dict[str, Any]:
        return await turn(request, host, True)

    @app.post("/hosts/{host}/undrain", summary="Lift that")
    async def undrain(request: Request, host: str) -> dict[str, Any]:
        return await turn(request, host, False)

    @app.post("/hosts/{host}/forget", summary="A silent host will not come back")
    async def forget(request: Request, host: str) -> dict[str, Any]:
        _known(hosts, host)
        found = await _done(hosts.forget(host))
        if not found:
            told = f"host {host} is announced at present; stop its gateway first"
            raise Trouble(409, "not_silent", told)
        desk.record(request, "hosts.forget", host)
        return {"host": host, "ids": found}

    @app.post("/hosts-secret/rotate", summary="A new secret by which the hosts know each other")
    async def rotate(request: Request) -> dict[str, Any]:
        if not await _done(hosts.rotate()):
            told = "the hosts' secret was changed a moment ago; again in 5 s"
            raise Trouble(409, "too_soon", told)
        desk.record(request, "hosts.rotate", "members' secret")
        return {"changed": True}


def _known(hosts: Hosts, host: str) -> None:
    """Raises Trouble where there is no host of that name."""
    if host not in hosts.names():
        there = ", ".join(hosts.names())
        raise Trouble(404, "not_found", f"no host {host!r}; there are: {there}")


async def _done(what: Awaitable[T]) -> T:
    try:
        return await what
    except Away as error:
        raise Trouble(503, "state_away", f"nothing was changed: {error.text}") from None
