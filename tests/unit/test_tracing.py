"""Spans as they leave for a collector, and an end that no collector can hold up."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from yarl import URL

from services.base.context import current_traceparent, received, trace_id
from services.base.settings import Settings
from services.domain.calls import InventoryCall
from services.tracing.opentelemetry import OpenTelemetryTracer

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"
RESERVE_URL = URL("http://stock.example:8080/api/v1/inventory/reserve")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*Settings.model_fields, "otel_resource_attributes", "otel_traces_sampler", "otel_traces_sampler_arg"):
        monkeypatch.delenv(name.upper(), raising=False)


def tracer_to(exporter: SpanExporter, service_name: str | None = None) -> OpenTelemetryTracer:
    return OpenTelemetryTracer(service_name=service_name, version="1.2.3", instance="replica-1", exporter=exporter)


class Traced:
    """A tracer and, after its end, what it exported."""

    def __init__(self, **options: Any) -> None:
        self._exporter = InMemorySpanExporter()
        self.tracer = tracer_to(self._exporter, **options)

    async def spans(self) -> list[ReadableSpan]:
        await self.tracer.close()
        return list(self._exporter.get_finished_spans())

    async def span(self) -> ReadableSpan:
        (span,) = await self.spans()
        return span


@pytest.fixture
async def traced() -> AsyncIterator[Traced]:
    made = Traced()
    yield made
    await made.tracer.close()


def ids(span: ReadableSpan) -> tuple[str, str | None]:
    """Trace and parent."""
    context = span.get_span_context()
    return f"{context.trace_id:032x}", f"{span.parent.span_id:016x}" if span.parent else None


async def test_a_request_goes_on_with_the_callers_trace(traced: Traced) -> None:
    with traced.tracer.request("POST", "/api/v1/orders/{orderId}/cancel", "/api/v1/orders/o-1/cancel", PARENT) as done:
        within = current_traceparent()
        done(409)
    span = await traced.span()
    assert (span.name, span.kind) == ("POST /api/v1/orders/{orderId}/cancel", SpanKind.SERVER)
    assert ids(span) == (TRACE, SPAN)
    assert span.attributes == {
        "http.request.method": "POST",
        "http.route": "/api/v1/orders/{orderId}/cancel",
        "url.path": "/api/v1/orders/o-1/cancel",
        "url.scheme": "http",
        "http.response.status_code": 409,
    }
    # A refusal is the caller's mistake and no error of ours.
    assert span.status.is_unset
    assert within == received(within)
    assert within is not None
    assert trace_id(within) == TRACE
    assert SPAN not in within
    assert current_traceparent() is None


async def test_a_request_without_a_trace_begins_one(traced: Traced) -> None:
    with traced.tracer.request("GET", "/api/v1/orders", "/api/v1/orders", None) as done:
        done(503)
    span = await traced.span()
    assert ids(span)[1] is None
    assert span.attributes is not None
    assert (span.attributes["error.type"], span.status.is_ok, span.status.is_unset) == ("503", False, False)


async def test_what_is_raised_is_on_the_span_and_is_raised(traced: Traced) -> None:
    with (
        pytest.raises(LookupError, match="no such order"),
        traced.tracer.request("GET", "/api/v1/orders", "/api/v1/orders", None),
    ):
        raise LookupError("no such order")
    span = await traced.span()
    assert span.attributes is not None
    assert (span.attributes["error.type"], span.status.description) == ("LookupError", "no such order")
    assert current_traceparent() is None


async def test_a_trace_that_its_caller_does_not_sample_is_not_exported_and_goes_on_unsampled(traced: Traced) -> None:
    with traced.tracer.request("POST", "/api/v1/orders", "/api/v1/orders", f"00-{TRACE}-{SPAN}-00"):
        within = current_traceparent()
    assert within is not None
    assert (trace_id(within), within[-2:]) == (TRACE, "00")
    assert await traced.spans() == []


@pytest.mark.parametrize(
    ("end", "expected", "is_error"),
    [
        (("success", 200, None), {"holdfast.outcome": "success", "http.response.status_code": 200}, False),
        (
            ("rejected", 409, "too few"),
            {"holdfast.outcome": "rejected", "http.response.status_code": 409, "error.type": "409"},
            True,
        ),
        (
            ("invalid", 200, "unreadable"),
            {"holdfast.outcome": "invalid", "http.response.status_code": 200, "error.type": "invalid"},
            True,
        ),
        (("timeout", None, "no reply"), {"holdfast.outcome": "timeout", "error.type": "timeout"}, True),
    ],
)
async def test_an_attempt_shows_what_became_of_it(
    traced: Traced, end: tuple[Any, ...], expected: dict[str, Any], is_error: bool
) -> None:
    call = traced.tracer.attempt(
        InventoryCall.RESERVE, "POST", RESERVE_URL.with_user("us").with_password("secret"), PARENT
    )
    call.end(*end)
    span = await traced.span()
    assert (span.name, span.kind, ids(span)) == ("POST reserve", SpanKind.CLIENT, (TRACE, SPAN))
    assert span.attributes == {
        "http.request.method": "POST",
        "server.address": "stock.example",
        "server.port": 8080,
        "url.full": str(RESERVE_URL),
        "holdfast.operation": "reserve",
        **expected,
    }
    assert span.status.is_unset is not is_error
    assert call.traceparent == f"00-{TRACE}-{span.get_span_context().span_id:016x}-01"


async def test_events_are_told_of_in_the_words_of_messaging(traced: Traced) -> None:
    sent = traced.tracer.publishing("order.created", "e-1", "o-1", PARENT)
    sent.end("published")
    with traced.tracer.handling("inventory.confirmed", 7, "o-1", sent.traceparent):
        pass
    producer, consumer = await traced.spans()
    assert (producer.name, producer.kind, ids(producer)) == ("publish order.created", SpanKind.PRODUCER, (TRACE, SPAN))
    assert (consumer.name, consumer.kind) == ("process inventory.confirmed", SpanKind.CONSUMER)
    assert ids(consumer) == (TRACE, f"{producer.get_span_context().span_id:016x}")
    assert producer.attributes == {
        "messaging.system": "nats",
        "messaging.operation.name": "publish",
        "messaging.operation.type": "send",
        "messaging.destination.name": "order.created",
        "messaging.message.conversation_id": "o-1",
        "messaging.message.id": "e-1",
        "holdfast.order.id": "o-1",
        "holdfast.outcome": "published",
    }
    assert consumer.attributes is not None
    assert consumer.attributes["holdfast.stream_sequence"] == 7


async def test_transitions_and_short_circuits_are_events_of_the_present_span(traced: Traced) -> None:
    traced.tracer.became("o-1", ["PLACED"])
    traced.tracer.short_circuited("reserve", "outside of any span nobody is told")
    with traced.tracer.step("move order on", "o-1", PARENT):
        traced.tracer.became("o-1", ["RESERVING", "PAYING"])
        traced.tracer.short_circuited("reserve", "open for 3 s")
    span = await traced.span()
    assert (span.name, span.kind) == ("move order on", SpanKind.INTERNAL)
    assert [(event.name, dict(event.attributes or {})) for event in span.events] == [
        ("order.status", {"holdfast.order.status": "RESERVING"}),
        ("order.status", {"holdfast.order.status": "PAYING"}),
        ("breaker.short_circuited", {"holdfast.operation": "reserve", "holdfast.reason": "open for 3 s"}),
    ]


@pytest.mark.parametrize(
    ("given", "attributes", "name"),
    [
        (None, None, "holdfast"),
        ("shop", None, "shop"),
        (None, "service.name=from-attributes,team=a", "from-attributes"),
        ("shop", "service.name=from-attributes", "shop"),
    ],
)
async def test_the_service_is_named_as_the_standard_requires_and_holdfast_without_a_name(
    monkeypatch: pytest.MonkeyPatch, given: str | None, attributes: str | None, name: str
) -> None:
    if attributes:
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", attributes)
    traced = Traced(service_name=given)
    with traced.tracer.step("step", "o-1", None):
        pass
    found = (await traced.span()).resource.attributes
    assert (found["service.name"], found["service.version"], found["service.instance.id"]) == (
        name,
        "1.2.3",
        "replica-1",
    )


async def test_the_standard_sampler_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
    traced = Traced()
    for parent in (None, PARENT):
        with traced.tracer.step("step", "o-1", parent):
            pass
    assert ids(await traced.span()) == (TRACE, SPAN)


class Stuck(SpanExporter):
    """Its collector takes the spans and does not answer until it is let go."""

    def __init__(self) -> None:
        self.begun, self.let_go = threading.Event(), threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.begun.set()
        self.let_go.wait()
        return SpanExportResult.SUCCESS


@pytest.mark.timeout(10)
async def test_the_end_does_not_wait_for_a_collector_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.tracing.opentelemetry.FLUSH_SECONDS", 0.05)
    exporter = Stuck()
    tracer = tracer_to(exporter)
    with tracer.step("step", "o-1", None):
        pass
    try:
        await tracer.close()
        assert exporter.begun.is_set()
        assert not exporter.let_go.is_set()
    finally:
        exporter.let_go.set()


class Dead(SpanExporter):
    """Its collector is away; it would try again until it is shut down."""

    def __init__(self) -> None:
        self.failed, self.is_shut_down = threading.Event(), threading.Event()
        self.exports_after_shutdown = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if self.failed.is_set():
            self.exports_after_shutdown += self.is_shut_down.is_set()
            self.is_shut_down.wait()
        self.failed.set()
        return SpanExportResult.FAILURE

    def shutdown(self) -> None:
        self.is_shut_down.set()


@pytest.mark.timeout(10)
async def test_a_collector_that_is_away_is_given_up_before_the_end_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    # Waiting for the flush first would be seen: it could not end.
    monkeypatch.setattr("services.tracing.opentelemetry.FLUSH_SECONDS", 20.0)
    exporter = Dead()
    tracer = tracer_to(exporter)
    with tracer.step("step", "o-1", None):
        pass
    exporter.failed.wait()
    with tracer.step("step", "o-1", None):
        pass
    await tracer.close()
    assert exporter.is_shut_down.is_set()
    assert exporter.exports_after_shutdown == 0


async def test_what_is_made_after_the_end_is_dropped(traced: Traced) -> None:
    await traced.tracer.close()
    with traced.tracer.step("late", "o-1", None):
        pass
    assert await traced.spans() == []
