"""An Inventory Service that is away costs time and attention, no order and no stock.

Source: requirements 7.1 and 7.3.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import func, select

from services.sandbox import books as audit
from services.sandbox.inventory_service.catalogue import CATALOGUE
from state.tables import outbox
from tests.chaos.faults import frozen, misbehaving
from tests.chaos.stack import HEADLESS, REACTION_SECONDS, LiveStack, live_stack, until
from tests.support.nats_server import NatsServer

pytestmark = pytest.mark.slow

VOLUME_THRESHOLD = 5
DRAIN_SECONDS = 30.0


class Shop:
    """The API as a client of it sees it."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def order(self, priority: str = "standard") -> httpx.Response:
        product = CATALOGUE[0]
        item = {"productId": product.product_id, "variantId": product.variant_id, "quantity": 1}
        return await self._client.post(
            "/api/v1/orders", json={"userId": str(uuid4()), "customerPriority": priority, "items": [item]}
        )

    async def get(self, path: str) -> Any:
        return (await self._client.get(path)).raise_for_status().json()["data"]

    async def status(self, order_id: str) -> str:
        return (await self.get(f"/api/v1/orders/{order_id}"))["status"]

    async def open_reviews(self, order_id: str) -> set[str]:
        return {case["reason"] for case in (await self.get("/api/v1/reviews"))["items"] if case["orderId"] == order_id}

    async def breakers(self) -> dict[str, str]:
        return {it["name"]: it["state"] for it in (await self.get("/api/v1/breakers"))["items"]}

    async def metric(self, line: str) -> float:
        """The value of one time series; fails when it is not there."""
        text = (await self._client.get("/metrics")).text
        (value,) = (row.rpartition(" ")[2] for row in text.splitlines() if row.rpartition(" ")[0] == line)
        return float(value)

    async def is_open(self, breaker: str) -> bool:
        """Whether API and metrics agree that the breaker is open."""
        series = f'inventory_circuit_breaker_state{{breaker="{breaker}",state="open"}}'
        return (await self.breakers()).get(breaker) == "open" and await self.metric(series) == 1


@asynccontextmanager
async def shop_of(stack: LiveStack) -> AsyncIterator[Shop]:
    async with httpx.AsyncClient(base_url=stack.api_url, timeout=15.0, trust_env=False) as client:
        yield Shop(client)


def refusing(stack: LiveStack) -> AbstractAsyncContextManager[None]:
    """The Inventory Service answers 503 to everything."""
    return misbehaving(stack, outage=True)


def hanging(stack: LiveStack) -> AbstractAsyncContextManager[None]:
    """The Inventory Service takes connections and never answers."""
    return frozen(stack, "inventory")


@asynccontextmanager
async def gone(stack: LiveStack) -> AsyncIterator[None]:
    """The Inventory Service was killed, and is again whenever it is started."""
    await stack.signal("inventory", signal.SIGKILL)

    async def keep_down() -> None:
        while True:
            stack.kill_even_while_it_starts("inventory")
            await asyncio.sleep(0.05)

    keeping_down = asyncio.create_task(keep_down())
    yield
    keeping_down.cancel()
    await asyncio.wait({keeping_down})


@pytest.mark.parametrize(
    ("outage", "first_refusal"),
    [
        (refusing, (503, "INVENTORY_UNAVAILABLE")),
        (hanging, (408, "INVENTORY_TIMEOUT")),
        (gone, (503, "INVENTORY_UNAVAILABLE")),
    ],
    ids=["refusing", "hanging", "gone"],
)
async def test_an_inventory_outage_is_survived_and_drains_by_itself(
    tmp_path: Path, outage: Any, first_refusal: tuple[int, str]
) -> None:
    # A breaker that is tried rarely stays open for as long as the test looks at it.
    async with live_stack(tmp_path, HEADLESS, BREAKER_RESET_TIMEOUT="4000") as stack, shop_of(stack) as shop:
        assert (await shop.order()).status_code == 201
        await stack.at_rest(DRAIN_SECONDS)
        async with outage(stack):
            await refuses_standard_orders(shop, first_refusal)
            waiting = await keeps_urgent_orders(shop)
        await until(lambda: all_confirmed(shop, waiting), DRAIN_SECONDS, stack.logs)
        for order_id in waiting:
            assert "PENDING_INVENTORY" not in await shop.open_reviews(order_id)
        await until(lambda: sells_again(shop), DRAIN_SECONDS, stack.logs)
        await until(lambda: all_closed(shop), DRAIN_SECONDS, stack.logs)
        await stack.at_rest(DRAIN_SECONDS)
        with stack.books() as books:
            assert audit.compare(books) == []


async def refuses_standard_orders(shop: Shop, first_refusal: tuple[int, str]) -> None:
    """At first with what the service itself said, once the breaker is open at once and with its code."""
    assert_refused(await shop.order(), *first_refusal)
    for _ in range(VOLUME_THRESHOLD):
        if await shop.is_open("inventoryServiceChecker"):
            break
        assert (await shop.order()).status_code in (408, 503)
    await until(lambda: shop.is_open("inventoryServiceChecker"), REACTION_SECONDS)
    await until(lambda: refused_at_once(shop), REACTION_SECONDS)


async def refused_at_once(shop: Shop) -> bool:
    """Whether nothing was sent; one order in a while is the breaker's trial, and as slow as the outage."""
    reply = await shop.order()
    if reply.elapsed.total_seconds() >= 0.5 or reply.status_code == 408:
        return False
    assert_refused(reply, 503, "INVENTORY_UNAVAILABLE")
    return True


def assert_refused(reply: httpx.Response, status: int, code: str) -> None:
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)
    assert reply.json()["error"]["retryable"] is True
    assert int(reply.headers["Retry-After"]) >= 1


async def keeps_urgent_orders(shop: Shop) -> list[str]:
    """High-priority orders are accepted, wait and are shown to a person; nobody is charged meanwhile."""
    replies = await asyncio.gather(*(shop.order("high") for _ in range(VOLUME_THRESHOLD)))
    assert {reply.status_code for reply in replies} == {202}
    waiting = [reply.json()["data"] for reply in replies]
    for order in waiting:
        assert (order["status"], order["paymentStatus"]) == ("PENDING_INVENTORY", "NONE")
        assert await shop.open_reviews(order["orderId"]) == {"AVAILABILITY_UNVERIFIED", "PENDING_INVENTORY"}
    await until(lambda: shop.is_open("inventoryServiceReserver"), REACTION_SECONDS)
    assert await shop.metric("reservation_queue_depth") == len(waiting)
    assert await shop.metric('manual_reviews_open{reason="PENDING_INVENTORY"}') == len(waiting)
    return [order["orderId"] for order in waiting]


async def all_confirmed(shop: Shop, order_ids: list[str]) -> bool:
    return {await shop.status(order_id) for order_id in order_ids} == {"CONFIRMED"}


async def sells_again(shop: Shop) -> bool:
    return (await shop.order()).status_code == 201


async def all_closed(shop: Shop) -> bool:
    return set((await shop.breakers()).values()) == {"closed"}


async def test_orders_are_taken_while_the_broker_is_away_and_confirmed_when_it_comes(tmp_path: Path) -> None:
    broker = NatsServer(tmp_path / "broker")
    try:
        async with live_stack(tmp_path, HEADLESS, NATS_URL=broker.url) as stack, shop_of(stack) as shop:
            replies = [await shop.order() for _ in range(20)]
            assert {reply.status_code for reply in replies} == {201}
            placed = [reply.json()["data"]["orderId"] for reply in replies]
            assert unsent(stack) == 2 * len(placed)
            assert await shop.metric("outbox_pending") == 2 * len(placed)
            assert {await shop.status(order_id) for order_id in placed} == {"PLACED"}
            await broker.start()
            await until(lambda: all_confirmed(shop, placed), DRAIN_SECONDS, stack.logs)
            await stack.at_rest(DRAIN_SECONDS)
            assert unsent(stack) == 0
            with stack.books() as books:
                assert audit.compare(books) == []
    finally:
        broker.close()


def unsent(stack: LiveStack) -> int:
    with stack.books() as books:
        statement = select(func.count()).where(outbox.c.published_at.is_(None))
        return books.orders.scalar(statement) or 0
