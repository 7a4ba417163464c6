"""Either side does what the committed contracts say: answers, and events on their way to the broker.

Source: requirements 10.3; contract 4 and 5.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import orjson
import pytest
from pact.types import Message

from services.domain.orders import events
from services.domain.orders.model import Line
from services.messaging.envelope import decode
from state import outbox, products
from state.engine.database import opened
from tests.contract.pact_events import on_the_wire
from tests.contract.pact_examples import (
    HOLDFAST,
    HOLDFAST_EVENTS,
    INVENTORY,
    INVENTORY_EVENTS,
    LINES,
    NOTEBOOKS,
    ORDER_ID,
    USER_ID,
    committed,
)
from tests.contract.pact_provider import ProviderStates, served, verify_events, verify_rest
from tests.support.inventory_shop import Shop, mugs
from tests.support.orders_harness import OrdersHarness


def test_the_reference_inventory_service_answers_as_agreed(tmp_path: Path) -> None:
    with opened(f"sqlite:///{tmp_path / 'inventory.db'}") as database, served(database) as url:
        verify_rest(INVENTORY, committed(HOLDFAST, INVENTORY), url, ProviderStates(database))


async def sent_by_holdfast(shop: OrdersHarness) -> dict[str, Message]:
    """Every event of the orders, from the use cases through outbox and publisher."""
    order = await shop.place(order_id=ORDER_ID, user_id=USER_ID, lines=LINES)
    await shop.deliver(events.CONFIRMED, order)
    await shop.take_back(ORDER_ID, Line(*NOTEBOOKS.sku, 1))
    cancelled = await shop.place(lines=LINES)
    await shop.cancel(cancelled.order_id)
    now = shop.clock()
    return await on_the_wire(
        await shop.database.write(lambda connection: outbox.settle_and_claim(connection, [], [], 100, now))
    )


async def sent_by_inventory(stockroom: Shop) -> dict[str, Message]:
    """Every event of the reference service, from its rules through outbox and publisher."""
    reservation = stockroom.reserve("o-1", mugs(7))
    stockroom.reserve("o-2", mugs(3))
    stockroom.release("o-2")
    stockroom.handle(events.CONFIRM_REQUESTED, orderId="o-1", reservationId=reservation.reservation_id)
    stockroom.handle(events.CONFIRM_REQUESTED, orderId="o-2", reservationId="none")
    return await on_the_wire(
        stockroom.write(lambda connection, now: outbox.settle_and_claim(connection, [], [], 100, now))
    )


def test_holdfast_publishes_its_events_as_agreed(shop: OrdersHarness) -> None:
    sent = asyncio.run(sent_by_holdfast(shop))
    assert set(sent) == set(events.OUTGOING)
    verify_events(HOLDFAST_EVENTS, committed(INVENTORY, HOLDFAST_EVENTS), sent)


def test_the_reference_inventory_service_publishes_its_events_as_agreed(stockroom: Shop) -> None:
    sent = asyncio.run(sent_by_inventory(stockroom))
    assert set(sent) == set(events.INCOMING)
    verify_events(INVENTORY_EVENTS, committed(HOLDFAST, INVENTORY_EVENTS), sent)


async def test_every_event_of_holdfast_carries_one_id_and_correlates_with_its_order(shop: OrdersHarness) -> None:
    for message in (await sent_by_holdfast(shop)).values():
        event, metadata = orjson.loads(message["contents"]), message["metadata"] or {}
        assert metadata["Nats-Msg-Id"] == event["id"]
        assert event["correlationId"] == event["data"]["orderId"]


@pytest.mark.parametrize(
    ("event_type", "level", "quantity", "threshold"),
    [
        (events.LOW_STOCK, "low", 3, 3),
        (events.BACK_IN_STOCK, "in_stock", 3, None),
        (events.OUT_OF_STOCK, "out", 0, None),
    ],
)
async def test_quantities_that_the_reference_service_tells_besides_reach_the_availability_cache(
    shop: OrdersHarness, stockroom: Shop, event_type: str, level: str, quantity: int, threshold: int | None
) -> None:
    payload = (await sent_by_inventory(stockroom))[event_type]["contents"]
    await shop.inbound.handle(decode(payload, subject=event_type, headers=None, fallback_id="none"))
    (product,) = await shop.database.read(lambda connection: products.page(connection, shop.clock()))
    assert (product.level, product.available_quantity, product.threshold) == (level, quantity, threshold)
