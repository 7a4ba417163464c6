"""The demo's customers and its supplier: realistic mixes, and nothing that stops them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import httpx
import orjson

from services.sandbox.inventory_service.catalogue import CATALOGUE
from services.sandbox.traffic import Traffic, Visit, plan_delivery, plan_visit

SKUS = {(product.product_id, product.variant_id) for product in CATALOGUE}


def visits(count: int) -> list[Visit]:
    source = random.Random(7)
    return [plan_visit(source) for _ in range(count)]


def share(chosen: list[Visit], of: Callable[[Visit], Any]) -> float:
    return sum(bool(of(visit)) for visit in chosen) / len(chosen)


def test_the_catalogue_is_the_same_everywhere_and_holds_the_seeds_products() -> None:
    assert len(CATALOGUE) == len(SKUS) == 24
    assert {
        ("0e8dddc7-9ebf-41f3-b08a-5a3f91f1c3c0", "7c9e6679-7425-40de-944b-e07fc1f90ae7"),
        ("9e3a3ca9-4c41-4c3c-8e82-3b323d9a3e23", "4f6a9b7c-0e2d-4f37-9a3c-2e9a4e3b5c1d"),
    } <= SKUS
    backpack = CATALOGUE[2]
    assert (backpack.name, backpack.product_id) == ("Canvas backpack, olive", "2b66978a-882e-5bbf-bd0b-63968983fcaf")


def test_visits_come_in_realistic_mixes() -> None:
    many = visits(4000)
    assert 0.06 < share(many, lambda visit: visit.body["customerPriority"] == "high") < 0.10
    assert 0.035 < share(many, lambda visit: visit.cancels_after_seconds) < 0.065
    assert 0.02 < share(many, lambda visit: visit.returns_after_seconds) < 0.04
    assert 0.01 < share(many, lambda visit: "sandboxPayment" in visit.body["metadata"]) < 0.03
    assert not any(visit.cancels_after_seconds and visit.returns_after_seconds for visit in many)
    assert len({visit.key for visit in many}) == len(many)


def test_every_visit_buys_one_to_three_lines_of_the_catalogue() -> None:
    for visit in visits(300):
        items = visit.body["items"]
        assert 1 <= len(items) <= 3
        assert {(item["productId"], item["variantId"]) for item in items} <= SKUS
        assert visit.body["metadata"]["currency"] == "EUR"
        assert visit.body["metadata"]["totalAmount"] > 0


def test_the_supplier_comes_late_and_only_to_low_shelves() -> None:
    source = random.Random(7)
    low, full = {"available": 2, "lowStockThreshold": 4}, {"available": 5, "lowStockThreshold": 4}
    brought = [plan_delivery(source, low) for _ in range(1000)]
    assert 0.05 < sum(map(bool, brought)) / 1000 < 0.15
    assert all(amount == 0 or 24 <= amount <= 40 for amount in brought)
    assert not any(plan_delivery(source, full) for _ in range(100))


class Api:
    """Answers as the Holdfast API would, after failing the first few times."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.keys: list[str] = []
        self.served = asyncio.Event()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if self.failures:
            self.failures -= 1
            raise httpx.ConnectError("down", request=request)
        self.keys.append(request.headers["Idempotency-Key"])
        assert orjson.loads(request.content)["items"]
        if len(self.keys) >= 3:
            self.served.set()
        if len(self.keys) == 1:
            return httpx.Response(500, content=b"not json")
        return httpx.Response(201, json={"success": True, "data": {"orderId": f"o-{len(self.keys)}"}})


async def test_the_traffic_keeps_to_the_rate_of_the_switch_and_falls_back_to_its_own() -> None:
    asked: list[float | None] = [None]

    def inventory(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"data": {"ordersPerSecond": asked[0]}})

    async with httpx.AsyncClient(transport=httpx.MockTransport(inventory), base_url="http://inventory") as client:
        traffic = Traffic(client, client, orders_per_second=1.0, random_source=random.Random(7))
        waiting = asyncio.create_task(traffic._gap())
        await asyncio.sleep(0)
        asked[0] = 0.0
        await traffic._look_at_the_switch()
        assert await waiting is False
        asked[0] = 50.0
        await traffic._look_at_the_switch()
        assert traffic._gap_seconds() <= 10 / 50
        asked[0] = None
        await traffic._look_at_the_switch()
        assert traffic._rate == 1.0


async def test_traffic_goes_on_after_errors_and_ends_when_cancelled() -> None:
    api = Api(failures=1)
    async with (
        httpx.AsyncClient(transport=httpx.MockTransport(api), base_url="http://api") as orders,
        httpx.AsyncClient(transport=httpx.MockTransport(api), base_url="http://inventory") as inventory,
    ):
        traffic = Traffic(orders, inventory, orders_per_second=100.0, random_source=random.Random(7))
        running = asyncio.create_task(traffic.run())
        async with asyncio.timeout(10):
            await api.served.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert running.cancelled()
    assert len(set(api.keys)) == len(api.keys)
    assert len(asyncio.all_tasks()) == 1
