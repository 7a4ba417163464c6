"""A shop with customers, and the places at which its alerts can be seen."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import httpx

from services.sandbox.inventory_service.catalogue import CATALOGUE
from tests.alerting.prometheus import Server, alertmanager, prometheus
from tests.alerting.receiver import Pager
from tests.chaos.stack import HEADLESS, ROOT, LiveStack, live_stack, until

SHORT = {
    "ALERT_WINDOW": "10000",
    "ALERT_QUEUE_DEPTH": "3",
    "ALERT_AVAILABILITY_LATENCY": "100",
    "ALERT_HEARTBEAT_INTERVAL": "2000",
    # Orders that nobody confirms stay as they are for the whole test.
    "CONFIRMATION_TIMEOUT": "300000",
}
WELL = {"outage": False, "latencyMs": 0, "errorRate": 0.0, "silentConfirmations": False, "credentialsExpired": False}
PATIENCE_SECONDS = 60.0
RESERVED_ORDERS = 4


class Shop:
    """A shop whose customers go on ordering, whatever they are answered."""

    def __init__(self, stack: LiveStack, client: httpx.AsyncClient) -> None:
        self._stack = stack
        self._client = client

    async def order(self, priority: str) -> httpx.Response:
        product = CATALOGUE[0]
        item = {"productId": product.product_id, "variantId": product.variant_id, "quantity": 1}
        return await self._client.post(
            "/api/v1/orders", json={"userId": str(uuid4()), "customerPriority": priority, "items": [item]}
        )

    async def go_on_ordering(self, pause_seconds: float) -> None:
        for number in range(10_000):
            await self.order("high" if number % 2 else "standard")
            await asyncio.sleep(pause_seconds)

    async def reserved_orders(self) -> list[str]:
        """Orders that hold stock and are never confirmed."""
        await self.faults(silentConfirmations=True)
        answers = [await self.order("standard") for _ in range(RESERVED_ORDERS)]
        return [answer.raise_for_status().json()["data"]["orderId"] for answer in answers]

    async def cancel(self, order_id: str) -> None:
        (await self._client.post(f"/api/v1/orders/{order_id}/cancel", json={"reason": "TEST"})).raise_for_status()

    async def faults(self, **changes: Any) -> None:
        url = f"{self._stack.inventory_url()}/api/v1/sandbox/faults"
        (await self._client.put(url, json=WELL | changes)).raise_for_status()

    async def get(self, path: str) -> Any:
        return (await self._client.get(path)).raise_for_status().json()["data"]

    async def firing(self) -> set[str]:
        return {item["name"] for item in (await self.get("/api/v1/alerts?state=firing"))["items"]}

    async def is_firing(self, server: Server, name: str) -> bool:
        """Whether both the service and Prometheus say so right now."""
        return name in await self.firing() and name in await server.firing()

    async def history(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in (await self.get("/api/v1/alerts/history"))["items"] if event["kind"] == kind]

    async def became(self, kind: str, source: str) -> set[str]:
        return {event["name"] for event in await self.history(kind) if event["source"] == source}

    async def has_fired(self, name: str) -> bool:
        return name in await self.became("FIRING", "worker")


class Alerting(NamedTuple):
    """A running shop whose alerts go to both webhooks: ours and, by Prometheus, that of Alertmanager."""

    stack: LiveStack
    shop: Shop
    client: httpx.AsyncClient
    prometheus: Server


@asynccontextmanager
async def alerting(folder: Path, ours: Pager, theirs: Pager) -> AsyncIterator[Alerting]:
    async with (
        live_stack(folder, HEADLESS, **SHORT, ALERT_WEBHOOK_URL=ours.url) as stack,
        alertmanager(folder, theirs.url) as manager,
        prometheus(folder, stack.api_url, await rule_file(), [manager.url, stack.api_url]) as server,
        httpx.AsyncClient(base_url=stack.api_url, timeout=30.0, trust_env=False) as client,
    ):
        yield Alerting(stack, Shop(stack, client), client, server)


@asynccontextmanager
async def ordering(shop: Shop, pause_seconds: float = 0.1) -> AsyncIterator[None]:
    customers = asyncio.ensure_future(shop.go_on_ordering(pause_seconds))
    try:
        yield
    finally:
        customers.cancel()
        await asyncio.gather(customers, return_exceptions=True)


async def rule_file() -> str:
    """What the command prints under the settings of these tests."""
    command = (sys.executable, "-m", "services", "alerts", "--prometheus")
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=SHORT, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    return output.decode()


class Everywhere:
    """The places at which alerts with these names can be seen."""

    def __init__(self, names: set[str], shop: Shop, prometheus: Server, ours: Pager, theirs: Pager) -> None:
        self._names = names
        self._shop, self._prometheus, self._ours, self._theirs = shop, prometheus, ours, theirs

    async def have_fired(self) -> dict[str, set[str]]:
        """Per place, the alerts that have not fired there so far."""
        return self._missing(
            {
                "console": await self._shop.became("FIRING", "worker"),
                "received": await self._shop.became("FIRING", "prometheus"),
                "prometheus": await self._prometheus.have_fired(),
                "our webhook": self._ours.names("firing"),
                "webhook of Alertmanager": self._theirs.names("firing"),
            }
        )

    async def have_ended(self) -> dict[str, set[str]]:
        """Per place, the alerts that have not ended there, or fire again."""
        firing_here, firing_there = await self._shop.firing(), await self._prometheus.firing()
        return self._missing(
            {
                "console": await self._shop.became("RESOLVED", "worker") - firing_here,
                "received": await self._shop.became("RESOLVED", "prometheus") - firing_here,
                "prometheus": self._names - firing_there,
                "our webhook": self._ours.names("resolved"),
                "webhook of Alertmanager": self._theirs.names("resolved"),
            }
        )

    def _missing(self, seen: dict[str, set[str]]) -> dict[str, set[str]]:
        return {place: self._names - names for place, names in seen.items() if self._names - names}


async def nothing_missing(look: Callable[[], Awaitable[dict[str, set[str]]]], explain: Callable[[], str]) -> None:
    missing: dict[str, set[str]] = {}

    async def everywhere() -> bool:
        nonlocal missing
        missing = await look()
        return not missing

    await until(everywhere, PATIENCE_SECONDS, lambda: f"{missing}\n{explain()}")
