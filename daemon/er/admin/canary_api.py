"""GET /quality and what an operator asks of the canary, on the admin API."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse

from er.admin.api import Desk, Trouble
from er.admin.canary import Canary
from er.admin.canary_papers import Papers
from er.admin.canary_told import answer

NAMED = Query(description="a replica; left out: all that answer")


def add(app: FastAPI, desk: Desk, canary: Canary, papers: Papers) -> None:
    """Put the addresses on the API."""
    config = desk.observer.config

    def named(replica: str | None) -> list[str]:
        """The replicas that can be asked now. Raises Trouble."""
        subject = canary.subjects.get(replica or "")
        if replica is not None and subject is None:
            there = ", ".join(canary.subjects) or "none"
            raise Trouble(404, "not_found", f"no replica {replica!r}; there are: {there}")
        wanted = [subject] if subject is not None else list(canary.subjects.values())
        ready = [s.replica.name for s in wanted if canary.up(s)]
        if not ready:
            which = f"replica {replica} does not answer" if replica else "no replica answers"
            raise Trouble(409, "not_up", f"{which}, so it can't be asked; er status says why")
        return ready

    @app.get("/quality", summary="How good each replica's answers are, and how far they drifted")
    async def quality() -> JSONResponse:
        return JSONResponse(await asyncio.to_thread(answer, config, canary, papers))

    @app.post("/quality/run", status_code=202, summary="Put the canary's questions now")
    async def run(request: Request, replica: Annotated[str | None, NAMED] = None) -> dict[str, Any]:
        names = named(replica)
        canary.request(names)
        desk.record(request, "quality.run", replica or "all")
        return {"started": names}

    @app.post("/quality/accept", status_code=202, summary="What it answers now is the reference")
    async def accept(
        request: Request, replica: Annotated[str, Query(description="a replica")]
    ) -> dict[str, Any]:
        names = named(replica)
        canary.request(names, accept=True)
        desk.record(request, "quality.accept", replica)
        return {"started": names}
