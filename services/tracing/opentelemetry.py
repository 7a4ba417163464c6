"""Spans of OpenTelemetry, exported by OTLP over HTTP. Only this module imports OpenTelemetry.

It is imported only when tracing is on. Names and attributes follow the semantic conventions for HTTP and
messaging; attributes outside of the conventions begin with ``holdfast.``. The SDK reads endpoint, headers,
sampler, resource attributes and batch sizes from its standard variables. See docs/adr/0011.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)
from opentelemetry.util.types import AttributeValue
from requests import Session
from yarl import URL

from services.base.addresses import requests_session
from services.base.context import continuing
from services.tracing.port import Answered

FLUSH_SECONDS = 1.0
"""How long the end of the process waits for the collector; not at all when the collector does not answer."""

SERVER_ERROR = 500
CLIENT_ERROR = 400

_present: ContextVar[Span | None] = ContextVar("span", default=None)


class OpenTelemetryTracer:
    """The Tracer of a worker; one per process, because it owns the exporting thread."""

    def __init__(
        self,
        *,
        service_name: str | None,
        version: str,
        instance: str,
        exporter: SpanExporter | None = None,
        session: Session | None = None,
    ) -> None:
        """``service_name`` None uses that of OTEL_RESOURCE_ATTRIBUTES, else ``holdfast``.

        ``session``: the HTTP session for requests to the collector.
        """
        self._exporter = _Watched(exporter or OTLPSpanExporter(session=session or requests_session()))
        self._provider = TracerProvider(
            resource=_resource(service_name, version, instance),
            # close() bounds the end of the process instead; the exit hook of the SDK waits half a minute.
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("holdfast", version)

    @contextmanager
    def request(self, method: str, route: str, path: str, parent: str | None) -> Iterator[Answered]:
        attributes: dict[str, AttributeValue] = {
            "http.request.method": method,
            "http.route": route,
            "url.path": path,
            "url.scheme": "http",
        }
        with self._within(f"{method} {route}", SpanKind.SERVER, parent, attributes) as span:

            def answered(status: int) -> None:
                span.set_attribute("http.response.status_code", status)
                if status >= SERVER_ERROR:
                    _fail(span, str(status))

            yield answered

    def attempt(self, operation: str, method: str, url: URL, parent: str) -> _Call:
        attributes: dict[str, AttributeValue] = {
            "http.request.method": method,
            "server.address": url.host or "",
            "server.port": url.port or 0,
            "url.full": str(url.with_user(None)),
            "holdfast.operation": operation,
        }
        return _Call(self._start(f"{method} {operation}", SpanKind.CLIENT, parent, attributes))

    def publishing(self, subject: str, event_id: str, order_id: str, parent: str | None) -> _Call:
        attributes = _messaging("publish", "send", subject, order_id) | {"messaging.message.id": event_id}
        return _Call(self._start(f"publish {subject}", SpanKind.PRODUCER, parent, attributes))

    @contextmanager
    def handling(self, subject: str, stream_seq: int, order_id: str | None, parent: str | None) -> Iterator[None]:
        attributes = _messaging("process", "process", subject, order_id)
        attributes["holdfast.stream_sequence"] = stream_seq
        with self._within(f"process {subject}", SpanKind.CONSUMER, parent, attributes):
            yield

    @contextmanager
    def step(self, name: str, order_id: str, parent: str | None) -> Iterator[None]:
        with self._within(name, SpanKind.INTERNAL, parent, {"holdfast.order.id": order_id}):
            yield

    def became(self, order_id: str, statuses: Sequence[str]) -> None:
        span = _present.get()
        if span is None:
            return
        span.set_attribute("holdfast.order.id", order_id)
        for status in statuses:
            span.add_event("order.status", {"holdfast.order.status": status})

    def short_circuited(self, operation: str, reason: str) -> None:
        span = _present.get()
        if span is not None:
            span.add_event("breaker.short_circuited", {"holdfast.operation": operation, "holdfast.reason": reason})

    async def close(self) -> None:
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        if self._exporter.is_failing:
            self._exporter.shutdown()
        # The SDK's own limit is half a minute. Daemon threads end with the process, even while they wait.
        flush = threading.Thread(target=self._provider.shutdown, name="tracing-flush", daemon=True)
        flush.start()
        flush.join(FLUSH_SECONDS)
        self._exporter.shutdown()

    def _start(self, name: str, kind: SpanKind, parent: str | None, attributes: dict[str, AttributeValue]) -> Span:
        return self._tracer.start_span(name, context=_context(parent), kind=kind, attributes=attributes)

    @contextmanager
    def _within(
        self, name: str, kind: SpanKind, parent: str | None, attributes: dict[str, AttributeValue]
    ) -> Iterator[Span]:
        span = self._start(name, kind, parent, attributes)
        token = _present.set(span)
        try:
            with continuing(_traceparent(span)):
                yield span
        except BaseException as error:
            _fail(span, type(error).__name__, str(error))
            raise
        finally:
            _present.reset(token)
            span.end()


class _Call:
    """A CallSpan around a span of the SDK."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self.traceparent = _traceparent(span)

    def end(self, outcome: str, status: int | None = None, error: str | None = None) -> None:
        self._span.set_attribute("holdfast.outcome", outcome)
        if status is not None:
            self._span.set_attribute("http.response.status_code", status)
        if error is not None:
            is_refusal = status is not None and status >= CLIENT_ERROR
            _fail(self._span, str(status) if is_refusal else outcome, error)
        self._span.end()


class _Watched(SpanExporter):
    """An exporter that stores whether its collector answers, and is shut down once."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._is_shut_down = False
        self.is_failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if self._is_shut_down:
            return SpanExportResult.FAILURE
        result = self._exporter.export(spans)
        self.is_failing = result is not SpanExportResult.SUCCESS
        return result

    def shutdown(self) -> None:
        if not self._is_shut_down:
            self._is_shut_down = True
            self._exporter.shutdown()


def _resource(service_name: str | None, version: str, instance: str) -> Resource:
    given = {"service.version": version, "service.instance.id": instance}
    resource = Resource.create(given | ({"service.name": service_name} if service_name else {}))
    # The default of the SDK when neither variable names the service.
    if str(resource.attributes.get("service.name", "")).startswith("unknown_service"):
        return resource.merge(Resource({"service.name": "holdfast"}))
    return resource


def _context(parent: str | None) -> Context:
    if parent is None:
        return Context()
    _, trace, span, flags = parent.split("-")
    remote = SpanContext(int(trace, 16), int(span, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))
    return set_span_in_context(NonRecordingSpan(remote), Context())


def _traceparent(span: Span) -> str:
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def _messaging(name: str, kind: str, subject: str, order_id: str | None) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {
        "messaging.system": "nats",
        "messaging.operation.name": name,
        "messaging.operation.type": kind,
        "messaging.destination.name": subject,
    }
    if order_id is not None:
        attributes |= {"messaging.message.conversation_id": order_id, "holdfast.order.id": order_id}
    return attributes


def _fail(span: Span, kind: str, reason: str | None = None) -> None:
    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR, reason))
