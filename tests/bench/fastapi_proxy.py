"""A proxy as most are written, with FastAPI and httpx: uvicorn fastapi_proxy:app, UPSTREAM set."""

import contextlib
import os
from collections.abc import AsyncIterator

import httpx
from fastapi import FastAPI, Request, Response


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One client for all requests, as its manual advises."""
    limits = httpx.Limits(max_connections=256, max_keepalive_connections=256)
    async with httpx.AsyncClient(base_url=os.environ["UPSTREAM"], limits=limits) as client:
        app.state.client = client
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/v1/embeddings")
async def embeddings(request: Request) -> Response:
    """The engine's answer, passed on."""
    answer = await request.app.state.client.post(
        "/v1/embeddings",
        content=await request.body(),
        headers={"content-type": "application/json"},
    )
    kind = answer.headers.get("content-type")
    return Response(answer.content, answer.status_code, media_type=kind)
