"""A caller's trace: passed on as it came while nobody traces us, gone on with in a span where somebody does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import httpx
import pytest

from services.api.app import create_app
from services.api.auth import Authenticator
from services.base.context import continuing
from tests.support.api import Api

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
OWN = f"00-{TRACE}-b7ad6b7169203331-01"


class Recording:
    """A tracer whose spans all have one traceparent."""

    def __init__(self) -> None:
        self.requests: list[tuple[Any, ...]] = []
        self.statuses: list[int] = []

    @contextmanager
    def request(self, *facts: Any) -> Iterator[Callable[[int], None]]:
        self.requests.append(facts)
        with continuing(OWN):
            yield self.statuses.append


@pytest.fixture
def tracer() -> Recording:
    return Recording()


@pytest.fixture
async def traced(api: Api, tracer: Recording) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the same service, traced."""
    app = create_app(api.app_service, Authenticator([]), "1.2.3", cast("Any", tracer))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://holdfast.test") as client:
        yield client


async def received_in(api: Api, order_id: str) -> tuple[str | None, Any]:
    """The traceparent of the order, and what its timeline says."""
    timeline = await api.data(f"/api/v1/orders/{order_id}/timeline")
    return (await api.shop.order(order_id)).traceparent, timeline["items"][0]["details"].get("traceId")


@pytest.mark.parametrize(
    ("header", "kept"),
    [(PARENT, PARENT), ("nonsense", None), (f"00-{'0' * 32}-00f067aa0ba902b7-01", None), ("", None)],
)
async def test_while_tracing_is_off_a_callers_trace_is_passed_on_as_it_came(
    api: Api, order_body: Callable[..., Any], header: str, kept: str | None
) -> None:
    placed = await api.post("/api/v1/orders", order_body(), traceparent=header)
    assert placed.status_code == 201
    order_id = placed.json()["data"]["orderId"]
    assert await received_in(api, order_id) == (kept, TRACE if kept else None)


async def test_a_request_without_a_trace_does_not_inherit_that_of_an_earlier_one(
    api: Api, order_body: Callable[..., Any]
) -> None:
    with continuing(PARENT):
        placed = await api.post("/api/v1/orders", order_body())
    assert await received_in(api, placed.json()["data"]["orderId"]) == (None, None)


async def test_with_a_traceparent_the_order_belongs_to_the_span_of_its_request(
    api: Api, traced: httpx.AsyncClient, tracer: Recording, order_body: Callable[..., Any]
) -> None:
    placed = await traced.post("/api/v1/orders", json=order_body(), headers={"traceparent": PARENT})
    order_id = placed.json()["data"]["orderId"]
    assert await received_in(api, order_id) == (OWN, TRACE)
    await traced.get(f"/api/v1/orders/{order_id}", headers={"traceparent": "nonsense"})
    await traced.get("/api/v1/orders/none")
    assert tracer.requests == [
        ("POST", "/api/v1/orders", "/api/v1/orders", PARENT),
        ("GET", "/api/v1/orders/{orderId}", f"/api/v1/orders/{order_id}", None),
        ("GET", "/api/v1/orders/{orderId}", "/api/v1/orders/none", None),
    ]
    assert tracer.statuses == [201, 200, 404]


async def test_scrapes_and_health_checks_are_not_traced(traced: httpx.AsyncClient, tracer: Recording) -> None:
    for path in ("/metrics", "/healthz", "/readyz", "/api/v1/openapi.json"):
        assert (await traced.get(path)).is_success
    assert tracer.requests == []
