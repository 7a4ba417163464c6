"""A small OTLP/HTTP collector: it keeps the spans that it is sent, as the standard's own messages decode them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage


@dataclass(frozen=True)
class Span:
    """One finished span, ids in hexadecimal; ``parent_id`` is empty for the first one of a trace."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: str
    attributes: dict[str, Any]
    events: tuple[tuple[str, dict[str, Any]], ...]
    is_error: bool
    resource: dict[str, Any]


class Collector(ThreadingHTTPServer):
    """Answers on a free loopback port for as long as the block of ``collector()`` lasts."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self._lock = threading.Lock()
        self._spans: list[Span] = []
        self.paths: set[str] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def keep(self, path: str, body: bytes) -> None:
        found = _spans(ExportTraceServiceRequest.FromString(body))
        with self._lock:
            self.paths.add(path)
            self._spans += found

    def trace(self, trace_id: str) -> list[Span]:
        """The spans of one trace that have come so far."""
        with self._lock:
            return [span for span in self._spans if span.trace_id == trace_id]


@contextmanager
def collector() -> Iterator[Collector]:
    """A collector that is running."""
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Collector

    def do_POST(self) -> None:
        self.server.keep(self.path, self.rfile.read(int(self.headers["Content-Length"])))
        answer = ExportTraceServiceResponse().SerializeToString()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        return


def _spans(request: ExportTraceServiceRequest) -> list[Span]:
    return [
        Span(
            trace_id=span.trace_id.hex(),
            span_id=span.span_id.hex(),
            parent_id=span.parent_span_id.hex(),
            name=span.name,
            kind=SpanMessage.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
            attributes=_values(span.attributes),
            events=tuple((event.name, _values(event.attributes)) for event in span.events),
            is_error=span.status.code == span.status.STATUS_CODE_ERROR,
            resource=_values(resource.resource.attributes),
        )
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def _values(attributes: Any) -> dict[str, Any]:
    def value(pair: KeyValue) -> Any:
        return getattr(pair.value, pair.value.WhichOneof("value"))

    return {pair.key: value(pair) for pair in attributes}
