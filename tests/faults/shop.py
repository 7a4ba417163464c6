"""The order use cases before the real reference Inventory Service, and what that service says of stock and holds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import httpx

from services.base.settings import Settings
from services.clients.http.transport import AiohttpTransport
from services.clients.inventory.http import HTTPInventoryGateway
from services.clients.inventory.port import InventoryGateway
from services.clients.inventory.resilient import ResilientInventory, inventory_breakers
from services.domain.calls import RetryPolicy
from services.domain.orders.model import Line
from services.sandbox.inventory_service.catalogue import CATALOGUE
from tests.faults.processes import Service
from tests.support.orders_harness import OrdersHarness

TIMEOUT_SECONDS = 0.25
ATTEMPTS = 2
MUG = Line(CATALOGUE[4].product_id, CATALOGUE[4].variant_id, 2)


class Shop(OrdersHarness):
    """The order use cases over a given gateway, with the breakers and immediate retries of the product."""

    def __init__(self, url: str, gateway: InventoryGateway) -> None:
        self._given = gateway
        super().__init__(url)
        self.clock.now = datetime.now(UTC)

    def _gateway(self) -> InventoryGateway:
        return ResilientInventory(
            self._given,
            inventory_breakers(Settings(breaker_volume_threshold=100), clock=self.clock),
            RetryPolicy(ATTEMPTS, 0.01, 0.02),
            self.clock,
        )

    async def drain(self) -> None:
        """Let time pass until nothing is due but confirmations, which nobody gives here."""
        while (due := await self._soonest()) is not None:
            self.clock.now = max(self.clock.now, due)
            while await self.releases.run_due() or await self.sweep():
                pass

    async def _soonest(self) -> datetime | None:
        open_orders = [order for order in await self.all_orders() if order.status != "PLACED"]
        jobs = [await self.release(order.order_id) for order in open_orders]
        waiting = [order.due_at for order in open_orders] + [job.next_attempt_at for job in jobs if job]
        return min(filter(None, waiting), default=None)


def gateway_at(
    port: int, transport: AiohttpTransport, timeout_seconds: float = TIMEOUT_SECONDS
) -> HTTPInventoryGateway:
    return HTTPInventoryGateway(
        transport,
        f"http://127.0.0.1:{port}",
        timeout_seconds=timeout_seconds,
        reservation_ttl_seconds=1800,
        clock=lambda: datetime.now(UTC),
    )


def states(inventory: Service, order_id: str) -> list[str]:
    """The states of all reservations that the service ever made for the order."""
    reply = inventory.client.get(f"/api/v1/inventory/reservations/{order_id}")
    if reply.status_code == 404:
        return []
    return [reservation["state"] for reservation in reply.raise_for_status().json()["data"]["reservations"]]


def shelf(inventory: Service, line: Line) -> dict[str, Any]:
    items = inventory.client.get("/api/v1/inventory/stock").raise_for_status().json()["data"]["items"]
    (item,) = [item for item in items if (item["productId"], item["variantId"]) == line.sku]
    return dict(item)


def place(service: Service, order_id: str) -> httpx.Response:
    """Place an order of two mugs at a running worker."""
    body = {"orderId": order_id, "userId": "user-1", "items": [MUG.wire()]}
    return service.client.post("/api/v1/orders", json=body)


def readiness(service: Service) -> tuple[int, bool]:
    """The status of /readyz, and whether the worker's database is available."""
    reply = service.client.get("/readyz")
    return reply.status_code, reply.json()["database"]


def all_confirmed(service: Service, order_ids: list[str]) -> bool:
    replies = [service.client.get(f"/api/v1/orders/{order_id}") for order_id in order_ids]
    return all(reply.is_success and reply.json()["data"]["status"] == "CONFIRMED" for reply in replies)
