"""Spans of requests that are over, made and sent with OpenTelemetry's SDK.

The only module that imports the SDK, which takes some 15 MB: it is itself imported where [tracing]
is set. A request has its parts as durations; their places are reckoned from its end backwards, in
the order in which they are done: tokenise, queue, engine, encode.
"""

from __future__ import annotations

import logging
import os
import platform
import random
from collections.abc import Mapping, Sequence
from typing import Any

import requests
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
)

from er import __version__
from er.traces.seen import Traced

PATH = "/v1/traces"
TIMEOUT_S = 10.0  # for a collector to take what is sent, retries included
ANSWER_MAX = 64 << 10  # bytes
SAID = 300  # characters of what the exporter says
LOGGERS = ("opentelemetry.exporter.otlp.proto.http.trace_exporter", "opentelemetry.sdk")
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE", "QUERY"}
SAMPLED = TraceFlags(TraceFlags.SAMPLED)
OPERATIONS = {"embed": "embeddings", "score": "rerank"}
Value = str | int


class _Heard(logging.Handler):
    """Keeps what the exporter says, which would fill the journal while a collector is down."""

    said = ""

    def emit(self, record: logging.LogRecord) -> None:
        # The first one says why; those after it, that it tries again and gives up.
        self.said = self.said or record.getMessage()[:SAID]


class _Session(requests.Session):
    """Reads no more of an answer than a collector sends: another server's may have no end."""

    def request(self, *args: Any, **more: Any) -> requests.Response:
        response = super().request(*args, **{**more, "stream": True})
        if len(response.raw.read(ANSWER_MAX)) >= ANSWER_MAX:
            response.close()
        return response


class Exporter:
    """Makes spans and sends them. Not for several threads at once, but for `stop`."""

    def __init__(self, endpoint: str, worker: int, tasks: Mapping[str, str]) -> None:
        """To the collector at `endpoint`; `tasks`: each configured model's."""
        self._tasks = tasks
        self._heard = _Heard()
        for name in LOGGERS:
            logger = logging.getLogger(name)
            logger.propagate = False
            logger.addHandler(self._heard)
        self._sender = OTLPSpanExporter(
            endpoint=endpoint + PATH, timeout=TIMEOUT_S, session=_Session()
        )
        names: dict[str, Value] = {
            "service.version": __version__,
            "service.instance.id": f"{platform.node()}-w{worker}",
            "process.pid": os.getpid(),
        }
        if "OTEL_SERVICE_NAME" not in os.environ:
            names["service.name"] = "er"
        self._resource = Resource.create(names)
        self._scope = InstrumentationScope("er", __version__)
        self._random = random.Random()

    def send(self, traced: Sequence[Traced], offset_ns: int) -> str:
        """Send the spans of all; "" or why the collector did not take them. Blocks.

        `offset_ns`: Unix time less the monotonic clock's.
        """
        self._heard.said = ""
        spans = [span for one in traced for span in self.spans(one, offset_ns)]
        if self._sender.export(spans) is SpanExportResult.SUCCESS:
            return ""
        return self._heard.said or "no answer"

    def stop(self) -> None:
        """Give up what is being sent, from any thread."""
        self._sender.shutdown()  # type: ignore[no-untyped-call]

    def _span_id(self) -> int:
        return self._random.getrandbits(64) or 1

    def spans(self, one: Traced, offset_ns: int) -> list[ReadableSpan]:
        """The span of the request and those of its parts."""
        end = one.began + one.total_ns + offset_ns
        start = end - one.total_ns
        state = _state(one.context.state)
        trace_id = one.context.trace_id
        root = SpanContext(trace_id, self._span_id(), False, SAMPLED, state)
        parent = None
        if one.context.parent_id:
            parent = SpanContext(trace_id, one.context.parent_id, True, SAMPLED, state)
        found = [
            ReadableSpan(
                _name(one),
                root,
                parent,
                self._resource,
                self._attributes(one),
                kind=SpanKind.SERVER,
                status=Status(StatusCode.ERROR if one.status >= 500 else StatusCode.UNSET),
                start_time=start,
                end_time=end,
                instrumentation_scope=self._scope,
            )
        ]
        for name, took, attributes in reversed(_parts(one)):
            begins = max(start, end - took)
            known = one.engine_span if name == "engine" else 0
            found.append(
                ReadableSpan(
                    name,
                    SpanContext(trace_id, known or self._span_id(), False, SAMPLED, state),
                    root,
                    self._resource,
                    attributes,
                    kind=SpanKind.CLIENT if name == "engine" else SpanKind.INTERNAL,
                    start_time=begins,
                    end_time=end,
                    instrumentation_scope=self._scope,
                )
            )
            end = begins
        return found

    def _attributes(self, one: Traced) -> dict[str, Value]:
        """What the request's span says; names as OpenTelemetry's conventions have them."""
        known = one.method in METHODS
        found: dict[str, Value] = {
            "http.request.method": one.method if known else "_OTHER",
            "url.path": one.path,
            "http.response.status_code": one.status,
            "er.request_id": one.id,
        }
        more: dict[str, Value] = {
            "http.route": one.route,
            "er.key": one.key,
            "er.dialect": one.dialect,
            "er.model": one.model,
            "er.code": one.code,
            "error.type": (one.code or str(one.status)) if one.status >= 500 else "",
        }
        found |= {name: value for name, value in more.items() if value}
        if one.items:
            found["er.items"] = one.items
        if one.cached:
            found["er.cache.known"] = one.cached
        operation = OPERATIONS.get(self._tasks.get(one.model, ""), "")
        if operation and one.tokens:
            found["gen_ai.operation.name"] = operation
            found["gen_ai.provider.name"] = "er"
            found["gen_ai.request.model"] = one.model
            found["gen_ai.usage.input_tokens"] = one.tokens
        return found


def _parts(one: Traced) -> list[tuple[str, int, dict[str, Value]]]:
    """Each part that took time: its name, nanoseconds, attributes; the first one first."""
    replica: dict[str, Value] = {"er.replica": one.replica} if one.replica else {}
    parts: list[tuple[str, int, dict[str, Value]]] = [
        ("tokenise", one.tokenise_ns, {}),
        ("queue", one.queue_ns, {}),
        ("engine", one.engine_ns, replica),
        ("encode", one.encode_ns, {}),
    ]
    return [part for part in parts if part[1] > 0]


def _name(one: Traced) -> str:
    """Of few different ones, whatever clients ask for."""
    if one.method not in METHODS:
        return "HTTP"
    return f"{one.method} {one.route}" if one.route else one.method


def _state(sent: bytes) -> TraceState | None:
    return TraceState.from_header([sent.decode("latin-1")]) if sent else None
