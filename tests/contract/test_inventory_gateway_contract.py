"""What every InventoryGateway does, whichever way it reaches the service."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import orjson
import pytest

from services.base.settings import Settings
from services.clients.inventory.http import HTTPInventoryGateway
from services.clients.inventory.port import InventoryGateway
from services.clients.inventory.resilient import ResilientInventory, inventory_breakers
from services.domain.calls import INVENTORY_CALLS, REJECTED, SUCCESS, Attempt
from services.domain.errors import InsufficientInventory, ReservationFailed
from services.domain.orders.model import Line
from tests.support.attempts import noted

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class StockedService:
    """Five of one product, answering as the seed's Inventory Service does."""

    def __init__(self) -> None:
        self.holds: dict[str, list[dict[str, Any]]] = {}

    @property
    def left(self) -> int:
        return 5 - sum(item["quantity"] for items in self.holds.values() for item in items)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        operation = request.url.path.rpartition("/")[2].replace("-", "_")
        status, data = getattr(self, operation)(orjson.loads(request.content))
        return httpx.Response(status, json={"success": status < 400, "data" if status < 400 else "error": data})

    def check_availability(self, body: dict[str, Any]) -> tuple[int, Any]:
        items = [self.line(item) for item in body["items"]]
        return 200, {"available": all(item["available"] for item in items), "items": items}

    def reserve(self, body: dict[str, Any]) -> tuple[int, Any]:
        held = self.holds.get(body["orderId"])
        if held is not None and held != body["items"]:
            return 422, {"code": "RESERVATION_FAILED", "message": "other lines"}
        short = [line for line in map(self.line, body["items"]) if held is None and not line["available"]]
        if short:
            return 409, {"code": "INSUFFICIENT_INVENTORY", "details": {"items": short}}
        self.holds[body["orderId"]] = body["items"]
        return 201, {
            "reservationId": f"r-{body['orderId']}",
            "orderId": body["orderId"],
            "items": [{**item, "reserved": True} for item in body["items"]],
            "expiresAt": (NOW + timedelta(seconds=body["expiresIn"])).isoformat(),
        }

    def release(self, body: dict[str, Any]) -> tuple[int, Any]:
        return (200, {}) if self.holds.pop(body["orderId"], None) else (404, {"code": "UNKNOWN"})

    def line(self, item: dict[str, Any]) -> dict[str, Any]:
        enough = self.left >= item["quantity"]
        numbers = {"requestedQuantity": item["quantity"], "availableQuantity": self.left}
        return {"productId": item["productId"], "variantId": item["variantId"], "available": enough, **numbers}


def over_http() -> InventoryGateway:
    return HTTPInventoryGateway(
        httpx.MockTransport(StockedService()),
        "http://inventory.test",
        timeout_seconds=3,
        reservation_ttl_seconds=1800,
        clock=lambda: NOW,
    )


def resilient() -> InventoryGateway:
    settings = Settings()
    breakers = inventory_breakers(settings, clock=lambda: NOW)
    return ResilientInventory(over_http(), breakers, settings.immediate_retry, clock=lambda: NOW)


@pytest.fixture(params=[over_http, resilient])
def gateway(request: pytest.FixtureRequest) -> InventoryGateway:
    build: Callable[[], InventoryGateway] = request.param
    return build()


@pytest.fixture
def attempts() -> list[Attempt]:
    return []


def lines(quantity: int) -> tuple[Line, ...]:
    return (Line("p", "v", quantity),)


async def test_a_check_shows_what_is_available_and_reserves_nothing(gateway, attempts):
    answers = [await noted(gateway.check_availability(lines(n)), attempts) for n in (5, 6, 5)]
    assert [answer.available for answer in answers] == [True, False, True]


async def test_a_reservation_is_the_same_when_it_is_repeated(gateway, attempts):
    first = await noted(gateway.reserve("o", lines(4), "u"), attempts)
    assert first.expires_at == NOW + timedelta(seconds=1800)
    assert await noted(gateway.reserve("o", lines(4), "u"), attempts) == first


async def test_too_little_stock_is_refused_with_the_short_lines(gateway, attempts):
    with pytest.raises(InsufficientInventory) as caught:
        await noted(gateway.reserve("o", lines(6), "u"), attempts)
    short = {"productId": "p", "variantId": "v", "requestedQuantity": 6, "availableQuantity": 5}
    assert caught.value.details["items"] == [short]
    assert [attempt.outcome for attempt in attempts] == [REJECTED]


async def test_other_lines_for_the_same_order_are_refused(gateway, attempts):
    await noted(gateway.reserve("o", lines(1), "u"), attempts)
    with pytest.raises(ReservationFailed):
        await noted(gateway.reserve("o", lines(2), "u"), attempts)


async def test_a_release_gives_back_once_and_may_be_repeated(gateway, attempts):
    await noted(gateway.reserve("o", lines(5), "u"), attempts)
    assert [await noted(gateway.release("o"), attempts), await noted(gateway.release("o"), attempts)] == [True, False]
    assert (await noted(gateway.check_availability(lines(5)), attempts)).available is True


async def test_each_call_leaves_one_attempt(gateway, attempts):
    await noted(gateway.check_availability(lines(1)), attempts)
    await noted(gateway.reserve("o", lines(1), "u"), attempts)
    await noted(gateway.release("o"), attempts)
    assert [(attempt.call, attempt.outcome) for attempt in attempts] == [(name, SUCCESS) for name in INVENTORY_CALLS]
