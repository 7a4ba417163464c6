"""Attempts of calls within a trace: the header on the wire, and a span that ends with each attempt's outcome."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any, cast

import httpx
import pytest

from services.base.context import continuing
from services.clients.inventory.http import HTTPInventoryGateway
from services.clients.payments import HTTPPaymentGateway
from services.domain.calls import Attempt
from services.domain.errors import ApiError
from tests.support.attempts import noted

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
OWN = f"00-{TRACE}-b7ad6b7169203331-01"
NOW = datetime(2026, 11, 1, tzinfo=UTC)


class Recording:
    """A tracer of attempts whose spans all have one traceparent."""

    traceparent = OWN

    def __init__(self) -> None:
        self.begun: list[tuple[str, str, str, str]] = []
        self.ended: list[tuple[Any, ...]] = []

    def attempt(self, operation: str, method: str, url: Any, parent: str) -> Recording:
        self.begun.append((operation, method, str(url), parent))
        return self

    def end(self, outcome: str, status: int | None = None, error: str | None = None) -> None:
        self.ended.append((outcome, status, error))


class Wire:
    """Answers like a release that was carried out, or as told; keeps the traceparents that came."""

    def __init__(self) -> None:
        self.status = 200
        self.error: Exception | None = None
        self.traceparents: list[str | None] = []

    async def answer(self, request: httpx.Request) -> httpx.Response:
        self.traceparents.append(request.headers.get("traceparent"))
        if self.error is not None:
            raise self.error
        error = {"error": {"code": "NOT_FOUND"}} if self.status == 404 else {}
        return httpx.Response(self.status, json={"success": self.status != 404, "data": {}, **error})


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def tracer() -> Recording:
    return Recording()


def inventory(wire: Wire, tracer: Recording | None = None) -> HTTPInventoryGateway:
    return HTTPInventoryGateway(
        httpx.MockTransport(wire.answer),
        "http://stock.test",
        timeout_seconds=3.0,
        reservation_ttl_seconds=1800,
        clock=lambda: NOW,
        tracer=cast("Any", tracer),
    )


async def release(wire: Wire, tracer: Recording | None = None) -> list[Attempt]:
    attempts: list[Attempt] = []
    try:
        await noted(inventory(wire, tracer).release("o-1"), attempts)
    except ApiError:
        assert attempts[-1].outcome != "success"
    return attempts


async def test_a_trace_is_passed_on_without_a_tracer_and_only_where_there_is_one(wire: Wire) -> None:
    gateway = inventory(wire)
    with continuing(PARENT):
        await gateway.release("o-1")
    # Headers are kept for all requests: one request's trace must not stick to the next.
    await gateway.release("o-1")
    assert wire.traceparents == [PARENT, None]


async def test_each_attempt_has_a_span_whose_traceparent_is_sent(wire: Wire, tracer: Recording) -> None:
    with continuing(PARENT):
        await release(wire, tracer)
    assert tracer.begun == [("release", "POST", "http://stock.test/api/v1/inventory/release", PARENT)]
    assert wire.traceparents == [OWN]
    assert tracer.ended == [("success", 200, None)]


async def test_calls_outside_of_any_trace_have_no_span(wire: Wire, tracer: Recording) -> None:
    await release(wire, tracer)
    assert (tracer.begun, wire.traceparents) == ([], [None])


@pytest.mark.parametrize(
    ("status", "error", "outcome"),
    [
        (422, None, "rejected"),
        (503, None, "unavailable"),
        (200, httpx.ReadTimeout("slow"), "timeout"),
        (200, httpx.ConnectError("away"), "unavailable"),
    ],
)
async def test_a_failed_attempt_has_on_its_span_what_it_has_on_the_timeline(
    wire: Wire, tracer: Recording, status: int, error: Exception | None, outcome: str
) -> None:
    wire.status, wire.error = status, error
    with continuing(PARENT):
        (attempt,) = await release(wire, tracer)
    assert attempt.outcome == outcome
    assert tracer.ended == [(outcome, attempt.details.get("status"), attempt.details["error"])]


async def test_an_attempt_that_nobody_waits_for_any_more_ends_its_span(wire: Wire, tracer: Recording) -> None:
    wire.error = asyncio.CancelledError()
    attempts: list[Attempt] = []
    with continuing(PARENT), pytest.raises(asyncio.CancelledError):
        await noted(inventory(wire, tracer).release("o-1"), attempts)
    assert attempts == []
    assert tracer.ended == [("cancelled", None, None)]


async def test_payments_are_traced_alike(wire: Wire, tracer: Recording) -> None:
    gateway = HTTPPaymentGateway(
        httpx.MockTransport(wire.answer),
        "http://pay.test",
        timeout_seconds=3.0,
        clock=lambda: NOW,
        tracer=cast("Any", tracer),
    )
    wire.status = 404
    with continuing(PARENT):
        await gateway.find("o-1")
    assert tracer.begun == [("find_payment", "GET", "http://pay.test/api/v1/payments/o-1", PARENT)]
    assert (wire.traceparents, tracer.ended) == ([OWN], [("success", 404, None)])
