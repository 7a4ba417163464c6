"""An Inventory Service that refuses us, or takes fewer calls, says nothing of the orders."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from services.clients.inventory.http import HTTPInventoryGateway
from services.domain.orders import events
from services.http_server.envelope import answer
from services.sandbox.inventory_service.faults import in_another_form
from tests.support.orders_harness import OrdersHarness

ORDER = "f47ac10b-58cc-4372-a567-0e02b2c3d479"
REFUSALS = [401, 403, 404, 405, 407, 421, 425]


class Service:
    """Has everything; refuses every call while it is told to."""

    def __init__(self, shop: OrdersHarness) -> None:
        self.shop = shop
        self.refusing: int | None = None
        self.writes_otherwise = False
        self.released: list[str] = []
        self.retry_after_seconds = 2

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if self.refusing is not None:
            return httpx.Response(self.refusing, text="no", headers={"Retry-After": str(self.retry_after_seconds)})
        body = json.loads(request.content)
        response = answer(getattr(self, request.url.path.rpartition("/")[2].replace("-", "_"))(body), self.shop.clock())
        if self.writes_otherwise:
            response = in_another_form(response)
        return httpx.Response(200, content=bytes(response.body))

    def check_availability(self, body: dict[str, Any]) -> dict[str, Any]:
        more = {"available": True, "availableQuantity": 9}
        items = [item | more | {"requestedQuantity": item["quantity"]} for item in body["items"]]
        return {"available": True, "items": items}

    def reserve(self, body: dict[str, Any]) -> dict[str, Any]:
        return {
            "reservationId": ORDER.replace("f", "a"),
            "orderId": body["orderId"],
            "items": [item | {"reserved": True} for item in body["items"]],
            "expiresAt": events.timestamp(self.shop.clock() + timedelta(seconds=body["expiresIn"])),
        }

    def release(self, body: dict[str, Any]) -> dict[str, Any]:
        self.released.append(body["orderId"])
        return {}


@pytest.fixture
def shop(sqlite_url: str) -> Iterator[OrdersHarness]:
    harness = OrdersHarness(sqlite_url, resilient=True)
    yield harness
    harness.close()


@pytest.fixture
def service(shop: OrdersHarness) -> Service:
    service = Service(shop)
    shop.inventory = HTTPInventoryGateway(  # type: ignore[assignment]
        httpx.MockTransport(service),
        "http://inventory.test",
        timeout_seconds=3,
        reservation_ttl_seconds=1800,
        clock=shop.clock,
    )
    shop.start()
    return service


@pytest.mark.parametrize("status", REFUSALS)
async def test_no_order_ends_for_good_because_we_were_refused(shop: OrdersHarness, service: Service, status: int):
    service.refusing = status
    for number in range(10):
        refused = await shop.place(order_id=f"s-{number}")
        assert refused.failure is not None
        assert (refused.failure["code"], refused.failure["retryable"]) == ("INVENTORY_UNAVAILABLE", True)
        await shop.place_high(order_id=f"h-{number}")
    urgent = [order for order in await shop.all_orders() if order.is_high_priority]
    assert {order.status for order in urgent} == {"PENDING_INVENTORY"}
    assert await shop.open_reasons("h-0") == ["AVAILABILITY_UNVERIFIED", "PENDING_INVENTORY"]
    assert shop.breakers.checker.effective_state == "open"
    calls = [entry for entry in await shop.timeline("h-0") if entry.kind == "call"]
    assert [(call.details["operation"], call.details["outcome"], call.details["status"]) for call in calls] == [
        ("check_availability", "refused_us", status),
        ("reserve", "refused_us", status),
    ]

    service.refusing = None
    for breaker in shop.breakers:
        breaker.close()
    shop.clock.advance(600)
    while await shop.sweep():
        pass
    assert {(await shop.order(order.order_id)).status for order in urgent} == {"PLACED"}


@pytest.mark.parametrize("status", [401, 403, 405, 407, 421, 425])
async def test_a_release_that_was_refused_to_us_stays_to_be_done(shop: OrdersHarness, service: Service, status: int):
    service.refusing = status
    await shop.place_high(order_id="o-2")
    await shop.cancel("o-2")
    shop.clock.advance(60)
    await shop.releases.run_due()
    job = await shop.release("o-2")
    assert job is not None
    assert (job.state, service.released) == ("PENDING", [])
    assert str(status) in (job.last_error or "")
    service.refusing = None
    shop.clock.advance(600)
    await shop.releases.run_due()
    assert service.released == ["o-2"]


async def test_waiting_for_a_busy_service_uses_up_no_attempt(shop: OrdersHarness, service: Service):
    service.refusing = 429
    # Longer than a call waits: the clock of the test stands, and a shorter time would never be over.
    service.retry_after_seconds = 60
    order = await shop.place_high(order_id="o-1")
    assert (order.status, order.attempts) == ("PENDING_INVENTORY", 1)
    await shop.cancel("o-1")
    await shop.releases.run_due()
    job = await shop.release("o-1")
    assert job is not None
    assert (job.state, job.attempts) == ("PENDING", 0)


async def test_an_order_is_confirmed_whatever_the_form_of_the_answers(shop: OrdersHarness, service: Service):
    service.writes_otherwise = True
    order = await shop.place(order_id=ORDER)
    assert (order.status, order.reservation_id) == ("PLACED", ORDER.replace("f", "a").upper())
    await shop.deliver(events.CONFIRMED, order, reservationId=ORDER.replace("f", "a"))
    assert (await shop.order(ORDER)).status == "CONFIRMED"
    assert {breaker.effective_state for breaker in shop.breakers} == {"closed"}
