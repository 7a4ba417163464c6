"""Demo traffic: customers who order, cancel and return.

It also simulates the supplier, who restocks low products a little too late. Low and sold-out products can then be seen.
Failures do not stop the traffic.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid5

import httpx

from services.domain.calls import RetryPolicy
from services.sandbox.inventory_service.catalogue import CATALOGUE, NAMESPACE, Product
from services.sandbox.settings import TrafficSettings, run_process

log = logging.getLogger(__name__)

HIGH_PRIORITY = 0.08
CANCELLED = 0.05
RETURNED = 0.03
DECLINED = 0.02
RESTOCKED_PER_LOOK = 0.1
"""Probability that a low product is restocked at one check of the supplier."""

CUSTOMERS = 400
CHANNELS = ("web", "web", "app", "app", "marketplace", "store")
MAX_UNDER_WAY = 32
ATTEMPTS_PER_ORDER = 3
LOOK_SECONDS = 5.0
"""Seconds between two checks of the supplier, at up to one order per second."""

RATE_SECONDS = 2.0
"""Seconds between two reads of the requested rate."""

BACKOFF = RetryPolicy(attempts=2**31, base_delay_seconds=0.5, max_delay_seconds=15.0)


@dataclass(frozen=True, slots=True)
class Visit:
    """The plan of one customer."""

    key: str
    """The Idempotency-Key of the order."""
    body: dict[str, Any]
    cancels_after_seconds: float | None
    returns_after_seconds: float | None


def plan_visit(random_source: random.Random, catalogue: Sequence[Product] = CATALOGUE) -> Visit:
    """A random visit: one to three lines, rarely urgent, sometimes cancelled."""
    products = _basket(random_source, catalogue, random_source.choices((1, 2, 3), (60, 28, 12))[0])
    bought = [(product, random_source.choices((1, 2, 3, 4), (66, 22, 8, 4))[0]) for product in products]
    metadata: dict[str, Any] = {
        "channel": random_source.choice(CHANNELS),
        "totalAmount": round(sum(product.price * quantity for product, quantity in bought), 2),
        "currency": "EUR",
    }
    if random_source.random() < DECLINED:
        metadata["sandboxPayment"] = "decline"
    change_of_mind = random_source.random()
    return Visit(
        key=str(UUID(int=random_source.getrandbits(128), version=4)),
        body={
            "userId": str(uuid5(NAMESPACE, f"customer {random_source.randrange(CUSTOMERS)}")),
            "customerPriority": "high" if random_source.random() < HIGH_PRIORITY else "standard",
            "items": [
                {"productId": product.product_id, "variantId": product.variant_id, "quantity": quantity}
                for product, quantity in bought
            ],
            "metadata": metadata,
        },
        cancels_after_seconds=random_source.uniform(2, 40) if change_of_mind < CANCELLED else None,
        returns_after_seconds=(
            random_source.uniform(5, 60) if CANCELLED <= change_of_mind < CANCELLED + RETURNED else None
        ),
    )


def _basket(random_source: random.Random, catalogue: Sequence[Product], lines: int) -> list[Product]:
    """Different products; scarce ones are preferred, so that some run low within minutes."""
    weights = [1 + 200 / product.on_hand for product in catalogue]
    basket: dict[str, Product] = {}
    while len(basket) < lines:
        (product,) = random_source.choices(catalogue, weights)
        basket[product.variant_id] = product
    return list(basket.values())


def plan_delivery(random_source: random.Random, item: dict[str, Any]) -> int:
    """Quantity of a product that the supplier restocks at one check, mostly 0."""
    threshold = max(1, int(item["lowStockThreshold"]))
    if item["available"] > threshold or random_source.random() >= RESTOCKED_PER_LOOK:
        return 0
    return random_source.randint(6 * threshold, 10 * threshold)


class Traffic:
    """Customers and a supplier at a mean rate of orders per second, until run() is cancelled."""

    def __init__(
        self,
        api: httpx.AsyncClient,
        inventory: httpx.AsyncClient,
        *,
        orders_per_second: float,
        random_source: random.Random,
    ) -> None:
        self._api = api
        self._inventory = inventory
        self._own_rate = self._rate = orders_per_second
        self._changed = asyncio.Event()
        self._random = random_source
        self._under_way: set[asyncio.Task[None]] = set()
        self._unreachable = 0
        """Consecutive orders that did not reach the API."""

    async def run(self) -> None:
        """Place orders and restock until cancelled."""
        self._start(self._supply())
        self._start(self._follow_rate())
        try:
            while True:
                if not await self._gap():
                    continue
                if len(self._under_way) < MAX_UNDER_WAY:
                    self._start(self._visit(plan_visit(self._random)))
        finally:
            for task in self._under_way:
                task.cancel()
            await asyncio.gather(*self._under_way, return_exceptions=True)

    async def _gap(self) -> bool:
        """Wait for the next customer. Returns False if the rate has changed meanwhile."""
        self._changed.clear()
        try:
            async with asyncio.timeout(self._gap_seconds() if self._rate > 0 else None):
                await self._changed.wait()
        except TimeoutError:
            return True
        return False

    async def _follow_rate(self) -> None:
        """Follow the requested rate of the Inventory Service, or the configured one."""
        while True:
            await asyncio.sleep(RATE_SECONDS)
            await _surviving(self._look_at_the_switch())

    async def _look_at_the_switch(self) -> None:
        reply = (await self._inventory.get("/api/v1/sandbox/traffic")).raise_for_status()
        asked = reply.json()["data"]["ordersPerSecond"]
        rate = self._own_rate if asked is None else float(asked)
        if rate != self._rate:
            self._rate = rate
            self._changed.set()

    def _gap_seconds(self) -> float:
        usual = min(self._random.expovariate(self._rate), 10 / self._rate)
        return usual + (BACKOFF.delay_seconds(self._unreachable, self._random.random) or 0 if self._unreachable else 0)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(_surviving(work))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _visit(self, visit: Visit) -> None:
        order_id = await self._order(visit)
        if order_id is None:
            return
        if visit.cancels_after_seconds is not None:
            await asyncio.sleep(visit.cancels_after_seconds)
            await self._api.post(f"/api/v1/orders/{order_id}/cancel", json={"reason": "CUSTOMER_CANCELLED"})
        if visit.returns_after_seconds is not None:
            await asyncio.sleep(visit.returns_after_seconds)
            await self._return_one(order_id, visit)

    async def _order(self, visit: Visit) -> str | None:
        """Place the order; a retry after a missing answer has the same key. Returns the order's id, or None."""
        for attempt in range(1, ATTEMPTS_PER_ORDER + 1):
            try:
                reply = await self._api.post("/api/v1/orders", json=visit.body, headers={"Idempotency-Key": visit.key})
            except httpx.TransportError as error:
                self._unreachable += 1
                log.info("sandbox_order_unanswered", extra={"attempt": attempt, "reason": repr(error)})
                await asyncio.sleep(BACKOFF.delay_seconds(attempt, self._random.random) or 0)
                continue
            self._unreachable = 0
            return str(reply.json()["data"]["orderId"]) if reply.is_success else None
        return None

    async def _return_one(self, order_id: str, visit: Visit) -> None:
        order = (await self._api.get(f"/api/v1/orders/{order_id}")).json()["data"]
        if order["status"] != "CONFIRMED":
            return
        one = visit.body["items"][0] | {"quantity": 1}
        body = {"items": [one], "reason": "CHANGED_MIND", "restockable": self._random.random() < 0.8}
        await self._api.post(f"/api/v1/orders/{order_id}/return", json=body)

    async def _supply(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS / max(1.0, self._rate))
            await _surviving(self._look_after_shelves())

    async def _look_after_shelves(self) -> None:
        reply = (await self._inventory.get("/api/v1/inventory/stock")).raise_for_status()
        for item in reply.json()["data"]["items"]:
            brought = plan_delivery(self._random, item)
            if brought:
                await self._inventory.post("/api/v1/inventory/stock/adjust", json=_delivery(item, brought))


def _delivery(item: dict[str, Any], brought: int) -> dict[str, Any]:
    key = {"productId": item["productId"], "variantId": item["variantId"]}
    return key | {"delta": brought, "reason": "supplier delivery"}


async def _surviving(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except Exception as error:  # noqa: BLE001 - boundary: one customer's trouble is not the shop's end
        log.info("sandbox_traffic_failed", extra={"reason": repr(error)})


async def drive(settings: TrafficSettings, stop: asyncio.Event) -> None:
    """Run the traffic until ``stop`` is set."""
    token = settings.api_token.get_secret_value() if settings.api_token else None
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(_client(settings.api_url, headers))
        inventory = await stack.enter_async_context(_client(settings.inventory_url, {}))
        source = random.Random()  # noqa: S311 - demo traffic
        traffic = Traffic(api, inventory, orders_per_second=settings.traffic, random_source=source)
        running = asyncio.create_task(traffic.run())
        await stop.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def _client(base_url: str, headers: dict[str, str]) -> httpx.AsyncClient:
    # The sandbox runs on this machine, so proxies from the environment do not apply.
    return httpx.AsyncClient(base_url=base_url, headers=headers, timeout=15.0, trust_env=False)


if __name__ == "__main__":
    run_process(TrafficSettings, drive)
