"""The running sandbox seen from a collector: one order is one trace, across HTTP and NATS, whatever delays it."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from services.sandbox.inventory_service.catalogue import CATALOGUE
from tests.chaos.faults import misbehaving
from tests.chaos.stack import HEADLESS, STOP_SECONDS, live_stack, until
from tests.tracing.collector import Span, collector

pytestmark = pytest.mark.slow

SOON_SECONDS = 60.0
CALLER = "00f067aa0ba902b7"
PRODUCT = CATALOGUE[0]


def exporting_to(url: str) -> dict[str, str]:
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_BSP_SCHEDULE_DELAY": "100"}


@asynccontextmanager
async def api_at(url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=url, timeout=15.0, trust_env=False) as client:
        yield client


async def order(api: httpx.AsyncClient, trace_id: str | None = None, priority: str = "standard") -> httpx.Response:
    item = {"productId": PRODUCT.product_id, "variantId": PRODUCT.variant_id, "quantity": 1}
    headers = {"traceparent": f"00-{trace_id}-{CALLER}-01"} if trace_id else {}
    body = {"userId": str(uuid4()), "customerPriority": priority, "items": [item]}
    return await api.post("/api/v1/orders", json=body, headers=headers)


async def confirmed(api: httpx.AsyncClient, order_id: str) -> None:
    async def is_confirmed() -> bool:
        return (await api.get(f"/api/v1/orders/{order_id}")).json()["data"]["status"] == "CONFIRMED"

    await until(is_confirmed, SOON_SECONDS, lambda: f"order {order_id}")


async def timeline(api: httpx.AsyncClient, order_id: str) -> list[dict[str, Any]]:
    return (await api.get(f"/api/v1/orders/{order_id}/timeline")).json()["data"]["items"]


def named(spans: list[Span], name: str) -> Span:
    (span,) = (span for span in spans if span.name == name)
    return span


async def test_one_order_is_one_trace_from_the_caller_to_the_confirmation(tmp_path: Path) -> None:
    trace_id = uuid4().hex
    with collector() as traces:
        async with (
            live_stack(tmp_path, HEADLESS, **exporting_to(traces.url)) as stack,
            api_at(stack.api_url) as api,
        ):
            placed = await order(api, trace_id)
            assert placed.status_code == 201, placed.text
            order_id = placed.json()["data"]["orderId"]
            await confirmed(api, order_id)
            received = (await timeline(api, order_id))[0]
            assert (received["title"], received["details"]["traceId"]) == ("Order received", trace_id)
            # Whatever was not sent yet is sent at the end.
            await stack.stop()
        spans = traces.trace(trace_id)
        assert traces.paths == {"/v1/traces"}

    request = named(spans, "POST /api/v1/orders")
    assert (request.kind, request.parent_id) == ("SERVER", CALLER)
    assert request.attributes["http.response.status_code"] == 201
    assert request.attributes["holdfast.order.id"] == order_id
    assert [attributes["holdfast.order.status"] for name, attributes in request.events if name == "order.status"] == [
        "RECEIVED",
        "RESERVING",
        "PAYING",
        "PLACED",
    ]
    for name in ("POST check_availability", "POST reserve", "POST capture"):
        call = named(spans, name)
        assert (call.kind, call.parent_id) == ("CLIENT", request.span_id)
        assert call.attributes["holdfast.outcome"] == "success"
        assert call.attributes["http.response.status_code"] == 200
        assert not call.is_error
    asked = named(spans, "publish inventory.confirm_requested")
    told = named(spans, "publish order.created")
    for event in (asked, told):
        assert (event.kind, event.parent_id) == ("PRODUCER", request.span_id)
        assert event.attributes["messaging.message.conversation_id"] == order_id
    # The Inventory Service makes no spans, but its answer goes on with the trace of the question.
    answer = named(spans, "process inventory.confirmed")
    assert (answer.kind, answer.parent_id) == ("CONSUMER", asked.span_id)
    assert ("order.status", {"holdfast.order.status": "CONFIRMED"}) in answer.events
    assert len(spans) == 7, [span.name for span in spans]
    assert {span.resource["service.name"] for span in spans} == {"holdfast"}


async def test_a_delayed_retry_goes_on_with_the_trace_of_its_order(tmp_path: Path) -> None:
    trace_id = uuid4().hex
    with collector() as traces:
        async with (
            live_stack(tmp_path, HEADLESS, **exporting_to(traces.url), BREAKER_VOLUME_THRESHOLD="2") as stack,
            api_at(stack.api_url) as api,
        ):
            async with misbehaving(stack, outage=True):
                waiting = await order(api, trace_id, priority="high")
                assert waiting.status_code == 202, waiting.text
            order_id = waiting.json()["data"]["orderId"]
            await confirmed(api, order_id)
            await stack.stop()
        spans = traces.trace(trace_id)

    request = named(spans, "POST /api/v1/orders")
    tried = [span for span in spans if span.name == "POST check_availability"]
    assert [(span.parent_id, span.is_error, span.attributes["error.type"]) for span in tried] == [
        (request.span_id, True, "503"),
        (request.span_id, True, "503"),
    ]
    retry = next(
        span
        for span in spans
        if span.name == "move order on" and any(other.parent_id == span.span_id for other in spans)
    )
    assert retry.parent_id == request.span_id
    (held,) = (span for span in spans if span.name == "POST reserve" and not span.is_error)
    (paid,) = (span for span in spans if span.name == "POST capture")
    assert held.parent_id == paid.parent_id
    assert held.parent_id in {span.span_id for span in spans if span.name == "move order on"}
    asked = named(spans, "publish inventory.confirm_requested")
    assert asked.parent_id == held.parent_id
    assert named(spans, "process inventory.confirmed").parent_id == asked.span_id


async def test_a_dead_collector_affects_no_order_and_does_not_delay_the_end(tmp_path: Path) -> None:
    with socket.socket() as taken:
        # Bound and not listening: connections are refused for as long as the test lasts.
        taken.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{taken.getsockname()[1]}"
        async with live_stack(tmp_path, HEADLESS, **exporting_to(dead)) as stack, api_at(stack.api_url) as api:
            for _ in range(5):
                placed = await order(api)
                assert placed.status_code == 201, placed.text
                await confirmed(api, placed.json()["data"]["orderId"])
            await until(lambda: "trace_exporter" in stack.logs(), SOON_SECONDS, stack.logs)
            assert await stack.stop() < STOP_SECONDS
            assert not stack.processes()


async def test_a_collector_that_never_answers_does_not_delay_the_end(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(SOON_SECONDS)
        hanging = f"http://127.0.0.1:{silent.getsockname()[1]}"
        async with live_stack(tmp_path, HEADLESS, **exporting_to(hanging)) as stack, api_at(stack.api_url) as api:
            placed = await order(api)
            await confirmed(api, placed.json()["data"]["orderId"])
            # The exporter has begun and waits for an answer.
            connection, _ = silent.accept()
            with connection:
                assert await stack.stop() < STOP_SECONDS
            assert not stack.processes()
