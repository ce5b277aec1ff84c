"""The admin API: FastAPI on the unix socket, for root and group er. Each change is in the audit."""

from __future__ import annotations

import asyncio
import html
import time
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
from fastapi import Body, Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from er import __version__, days, exposition, keys, usage
from er.admin import callers, satisfaction
from er.admin.certificate import may
from er.admin.key_use import KeyUse
from er.admin.metrics_door import MetricsDoor
from er.admin.observer import Observer, known_keys
from er.admin.reload import ReloadError, reload
from er.config import State, directory
from er.history import SPANS
from er.journal import Audit
from er.moments import expiry, past, span_s
from er.recent import SPANS as RECENT_SPANS
from er.small_file import DAMAGED
from er.tls import Credentials, TlsError
from er.usage import others, report

By = Literal["operator", "launcher"]  # who asks here; a host drains by itself
GRACE = "24h"
KEY_STATUS = {
    "not_found": 404,
    "exists": 409,
    "invalid": 400,
    "damaged": 500,
    "disk": 507,
    "away": 503,
    "unsure": 504,
}


class Trouble(Exception):  # noqa: N818 - what the API answers, not an accident
    """An answer that says no; `field` names what was wrong of what was asked for."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        findings: list[str] | None = None,
        field: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.findings, self.field = status, code, findings, field


class _Fields(BaseModel):
    model_config = ConfigDict(extra="forbid")


class KeyFields(_Fields):
    """What can be said of a key. Left out = as it is; null = the default of er.toml, or none."""

    name: str | None = Field(None, description="its name, unique among those in force")
    expires: str | None = Field(None, description='"30d", "2027-01-31", RFC 3339, or null')
    rate_limit: str | None = Field(None, description='"1000/minute", "off", or null')
    models: list[str] | None = Field(None, description="the models it may ask for; null = all")
    scopes: list[str] | None = Field(
        None, description="of inference, metrics, admin-read; null = the first two"
    )
    team: str | None = Field(None, description="whose it is, for lists and usage")
    concurrency: int | None = Field(None, description="requests at once; null = any number")
    token_limit: str | None = Field(None, description='"1000000/minute", or null')
    quota: str | None = Field(None, description='"50M tokens/month", or null')
    networks: list[str] | None = Field(
        None, description='where it may ask from, as "10.0.0.0/8"; null = anywhere'
    )
    weight: int | None = Field(None, description="its share beside other keys; null = 1")


class Grace(_Fields):
    """How long the old secret stays valid."""

    grace: str = Field(GRACE, description='"24h", "10m", or "0"')


class Desk:
    """What the endpoints work with."""

    def __init__(
        self, observer: Observer, audit: Audit, door: MetricsDoor, generation: int, parent: int
    ) -> None:
        self.observer, self.audit, self.door = observer, audit, door
        self.generation, self.parent = generation, parent
        self.use = KeyUse(observer.config.gateway.rate_limit)
        self.reloading = asyncio.Lock()

    def record(self, request: Request, action: str, target: str) -> None:
        """Put a change into the audit, with the uid that asked for it."""
        host = request.client.host if request.client else ""
        uid = host.removeprefix("uid:") or "unknown"
        self.audit.put({"ACTION": action, "TARGET": target, "UID": uid, "METHOD": request.method})
        self.observer.outdated()


def build(desk: Desk) -> FastAPI:
    """The application. It holds nothing itself: all state is `desk`'s and in files."""
    app = FastAPI(
        title="ER admin API",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        dependencies=[Depends(_check_caller)],
    )
    _refusals(app)
    _reading(app, desk)
    _keys(app, desk)
    _changes(app, desk)
    satisfaction.add(app, Trouble, desk.observer.config.state)
    return app


def _check_caller(request: Request) -> None:
    """Raises Trouble 403."""
    host = request.client.host if request.client else ""
    if told := callers.why_not(request.method, request.url.path, host):
        raise Trouble(403, "not_allowed", told)


def _reading(app: FastAPI, desk: Desk) -> None:
    @app.get("/status", summary="Verdict, gateway, models and replicas, GPUs, traffic, machine")
    async def status() -> JSONResponse:
        return JSONResponse(await desk.observer.status())

    @app.get("/history", summary="The figures of the last 5 minutes, hour or day, for the console")
    async def history(
        seconds: Annotated[int, Query(description="300, 3600 or 86400")] = 300,
    ) -> JSONResponse:
        _known_span(seconds, SPANS)
        return JSONResponse(await asyncio.to_thread(desk.observer.history.answer, seconds))

    @app.get("/traffic", summary="The last minutes by model, dialect and key; slowest and failed")
    async def traffic(
        seconds: Annotated[int, Query(description="60 or 300")] = 60,
    ) -> JSONResponse:
        _known_span(seconds, RECENT_SPANS)
        return JSONResponse(await asyncio.to_thread(desk.observer.traffic, seconds))

    @app.get("/usage", summary="Requests, texts and tokens by key, team, model, hour, day, month")
    async def used(
        by: Annotated[str, Query(description='"key,model", of what `er usage --by` takes')] = "key",
        since: Annotated[str, Query(description='"7d", "2026-11-01" or a moment')] = "30d",
    ) -> JSONResponse:
        try:
            names, begin = report.by_of(by), past(since, _now())
        except ValueError as error:
            raise Trouble(400, "invalid_request", str(error)) from None
        asked = report.Asked(names, begin.timestamp(), time.time())
        return JSONResponse(await asyncio.to_thread(_used, desk.observer.config.state, asked))

    @app.get("/metrics", summary="Metrics in Prometheus' text format, or OpenMetrics by Accept")
    async def metrics_text(request: Request) -> Response:
        openmetrics = exposition.wants_openmetrics(request.headers.get("accept", ""))
        kind = exposition.content_type(openmetrics)
        return Response(await desk.door.text(openmetrics), media_type=kind)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(page(app.openapi()))


def _used(state: State | None, asked: report.Asked) -> dict[str, Any]:
    theirs, missing = days.told(state, "usage", asked.since, asked.until)
    where = usage.folder(directory("state"))
    found = report.answer(where, asked, known_keys(), others.rows(theirs))
    found["damaged"] += missing
    return found


def _known_span(seconds: int, spans: Collection[int]) -> None:
    known = ", ".join(map(str, spans))
    if seconds not in spans:
        raise Trouble(400, "invalid_request", f"seconds: {seconds} is not one of {known}")


def _keys(app: FastAPI, desk: Desk) -> None:
    where = keys.where(desk.observer.config)

    @app.get("/keys", summary="All keys, without secrets, and what each uses of its limit now")
    async def list_keys() -> dict[str, Any]:
        found = await asyncio.to_thread(desk.use.listed, keys.path())
        return {"keys": found, "state": desk.observer.shared_state()}

    @app.post("/keys", status_code=201, summary="Make a key; the answer alone has its secret")
    async def create(request: Request, fields: KeyFields) -> dict[str, Any]:
        values = _values(fields, full=True)
        made = await asyncio.to_thread(keys.create, where, now=_now(), **values)
        desk.record(request, "keys.create", made.record.id)
        return dict(made.shown())

    @app.post("/keys/{ref}/rotate", summary="A new secret; the old one stays valid for a grace")
    async def rotate(
        request: Request, ref: str, grace: Annotated[Grace | None, Body()] = None
    ) -> dict[str, Any]:
        try:
            seconds = span_s(grace.grace if grace else GRACE)
        except ValueError as error:
            raise Trouble(400, "invalid_request", f"grace: {error}", field="grace") from None
        made = await asyncio.to_thread(keys.rotate, where, ref, grace_s=seconds, now=_now())
        desk.record(request, "keys.rotate", made.record.id)
        until = keys.shown(made.record)["previous_valid_until"]
        return {**made.shown(), "previous_valid_until": until}

    @app.patch("/keys/{ref}", summary="Change what is said of a key; what is left out stays")
    async def change(request: Request, ref: str, fields: KeyFields) -> dict[str, Any]:
        values = _values(fields, full=False)
        record = await asyncio.to_thread(keys.change, where, ref, now=_now(), **values)
        desk.record(request, "keys.set", record.id)
        return dict(keys.shown(record))

    @app.delete("/keys/{ref}", summary="Revoke: refused from the next request on, for ever")
    async def revoke(request: Request, ref: str) -> dict[str, Any]:
        record = await asyncio.to_thread(keys.revoke, where, ref, now=_now())
        desk.record(request, "keys.revoke", record.id)
        return dict(keys.shown(record))


def _changes(app: FastAPI, desk: Desk) -> None:
    def turn(request: Request, name: str, by: By, on: bool) -> dict[str, Any]:
        ledger, known = desk.observer.ledger, desk.observer.config.replica(name)
        if known is None:
            there = ", ".join(r.name for r in desk.observer.config.replicas) or "none"
            raise Trouble(404, "not_found", f"no replica {name!r}; there are: {there}")
        ledger.drain(name, by, on, time.time())
        desk.record(request, f"replicas.{'drain' if on else 'resume'}", name)
        row = ledger.verdict(name)
        return {
            "name": name,
            "state": row.state,
            "drained_by": row.drained_by[0] if row.drained_by else None,
            "in_flight_tokens": ledger.tokens_in_flight(name),
        }

    @app.post("/replicas/{name}/drain", summary="Give it nothing new; what it has, it finishes")
    async def drain(request: Request, name: str, by: By = "operator") -> dict[str, Any]:
        return turn(request, name, by, True)

    @app.post("/replicas/{name}/resume", summary="Lift a drain")
    async def resume(request: Request, name: str, by: By = "operator") -> dict[str, Any]:
        return turn(request, name, by, False)

    @app.post("/tls", summary="New credentials of HTTPS, from `er tls renew`; only for root")
    async def exchange(request: Request) -> dict[str, Any]:
        certificate = desk.observer.certificate
        if certificate is None:
            raise Trouble(409, "no_tls", "what runs has no [gateway.tls]; sudo er apply")
        if not may(request.client.host if request.client else ""):
            raise Trouble(403, "not_allowed", "only root exchanges credentials: sudo er tls renew")
        try:
            given = msgspec.json.decode(await request.body(), type=Credentials)
            changed = await asyncio.to_thread(certificate.exchange, given)
        except DAMAGED:  # its words could hold some of the key
            raise Trouble(400, "invalid_request", "these are no credentials") from None
        except (TlsError, OSError) as error:
            desk.record(request, "tls.refused", "credentials")
            raise Trouble(409, "not_taken_up", f"the old ones stay: {error}") from None
        row = certificate.row()
        if changed:
            desk.record(request, "tls.exchange", str(row["fingerprint"]))
        return {"changed": changed, **row}

    @app.post("/reload", summary="Take up what needs no unit restarted; waits until it is in force")
    async def take_up(request: Request) -> dict[str, Any]:
        if desk.reloading.locked():
            raise Trouble(409, "busy", "another reload is under way; wait for its end")
        async with desk.reloading:
            try:
                done = await reload(desk.observer.config, desk.generation, desk.parent)
            except ReloadError as error:
                desk.record(request, "reload.failed", str(desk.observer.config.source))
                raise Trouble(409, "not_reloaded", str(error), error.findings) from None
        desk.generation = done.generation
        desk.record(request, "reload", f"generation {done.generation}")
        return dict(msgspec.to_builtins(done))


def _refusals(app: FastAPI) -> None:
    """One shape for everything that says no: {"error": {"message", "code"}}, and what helps."""

    def body(status: int, code: str, message: str, **more: Any) -> Response:
        known = {name: value for name, value in more.items() if value}
        return JSONResponse({"error": {"message": message, "code": code, **known}}, status)

    @app.exception_handler(Trouble)
    async def trouble(_: Request, error: Trouble) -> Response:
        more = {"findings": error.findings, "field": error.field}
        return body(error.status, error.code, str(error), **more)

    @app.exception_handler(keys.KeysError)
    async def key_trouble(_: Request, error: keys.KeysError) -> Response:
        return body(KEY_STATUS.get(error.code, 400), error.code, str(error), field=error.field)

    @app.exception_handler(RequestValidationError)
    async def shape(_: Request, error: RequestValidationError) -> Response:
        told = [f"{'.'.join(str(p) for p in e['loc'][1:])}: {e['msg']}" for e in error.errors()]
        words = "; ".join(t.removeprefix(": ") for t in told)
        field = next(
            (at for e in error.errors() for at in e["loc"][1:2] if isinstance(at, str)), None
        )
        return body(400, "invalid_request", words, field=field)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "refused")
        text = f"{request.method} {request.url.path}: {error.detail}; GET /docs lists what is here"
        return body(error.status_code, code, text)


def _now() -> datetime:
    return datetime.now(UTC)


def _values(fields: KeyFields, full: bool) -> dict[str, Any]:
    """The fields as keys.py takes them; those left out are left out when not `full`."""
    values = fields.model_dump(exclude_unset=not full)
    if (full or "name" in values) and not (values.get("name") or "").strip():
        told = 'name: a key needs one, as in {"name": "web"}'
        raise Trouble(400, "invalid_request", told, field="name")
    if "expires" in values:
        try:
            values["expires"] = expiry(values["expires"], _now())
        except ValueError as error:
            told = f"expires: {error}"
            raise Trouble(400, "invalid_request", told, field="expires") from None
    return values


def page(spec: dict[str, Any]) -> str:
    """The API as one plain page: nothing is loaded from elsewhere, so it reads offline."""
    rows = []
    for path, methods in spec.get("paths", {}).items():
        for method, operation in methods.items():
            fields = [p["name"] for p in operation.get("parameters", [])]
            content = operation.get("requestBody", {}).get("content", {})
            body = "".join(_body_fields(c.get("schema", {}), spec) for c in content.values())
            rows.append(
                f"<tr><td><code>{method.upper()} {html.escape(path)}</code></td>"
                f"<td>{html.escape(operation.get('summary', ''))}</td>"
                f"<td>{html.escape(', '.join(fields))} {body}</td></tr>"
            )
    return (
        f"<!doctype html><meta charset=utf-8><title>{html.escape(spec['info']['title'])}</title>"
        "<style>body{font:15px sans-serif;margin:2em}td{padding:.3em 1em;vertical-align:top}"
        "tr:nth-child(odd){background:#8882}</style>"
        f"<h1>{html.escape(spec['info']['title'])} {html.escape(spec['info']['version'])}</h1>"
        "<p>On the unix socket alone, for example: <code>curl --unix-socket /run/er/admin.sock "
        "http://er/status</code>. Machine-readable: <code>/openapi.json</code>.</p>"
        f"<table>{''.join(rows)}</table>"
    )


def _body_fields(schema: dict[str, Any], spec: dict[str, Any]) -> str:
    refs = [schema.get("$ref", ""), *(s.get("$ref", "") for s in schema.get("anyOf", []))]
    parts = []
    for ref in filter(None, refs):
        named = spec["components"]["schemas"][ref.rsplit("/", 1)[1]]
        for field, what in named.get("properties", {}).items():
            text = html.escape(what.get("description", ""))
            parts.append(f"<code>{html.escape(field)}</code> {text}<br>")
    return "".join(parts)
