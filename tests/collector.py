"""A collector of OpenTelemetry's for tests: takes OTLP over HTTP, and keeps the spans."""

from __future__ import annotations

import contextlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Collector:
    """`with Collector() as collector`: listens on a port of its own, or on `port`."""

    def __init__(self, port: int = 0) -> None:
        self.status, self.hangs, self.endless = 200, threading.Event(), False
        self.bodies: list[bytes] = []
        self.paths: list[str] = []
        self.requests: list[ExportTraceServiceRequest] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                while collector.hangs.is_set() and not collector.closed:
                    time.sleep(0.02)
                if collector.status == 200:
                    collector.bodies.append(body)
                    collector.paths.append(self.path)
                    collector.requests.append(ExportTraceServiceRequest.FromString(body))
                self.send_response(collector.status)
                if collector.endless:
                    self.end_headers()
                    with contextlib.suppress(OSError):
                        while not collector.closed:
                            self.wfile.write(bytes(1 << 16))
                    return
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.closed = False
        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> Collector:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def spans(self) -> list[Span]:
        """All that were taken."""
        return [
            span
            for request in list(self.requests)
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def wait_for(self, count: int, timeout_s: float = 10.0) -> list[Span]:
        """The spans, once there are so many."""
        until = time.monotonic() + timeout_s
        while len(found := self.spans()) < count:
            assert time.monotonic() < until, f"{len(found)} spans: {[s.name for s in found]}"
            time.sleep(0.02)
        return found


def attributes(span: Any) -> dict[str, Any]:
    """What a span, or a resource, says: texts and whole numbers."""
    return {one.key: one.value.string_value or one.value.int_value for one in span.attributes}
