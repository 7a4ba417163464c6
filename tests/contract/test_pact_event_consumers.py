"""What either service expects of the other's events, read by the real handlers.

Source: requirements 2.2, 3.2, 5 and 10.3; contract 5.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pact import match
from sqlalchemy import update

from services.domain.orders import events
from services.domain.orders.model import InventoryStatus, Line, Order, OrderStatus, PaymentStatus, ReviewReason
from services.messaging.envelope import decode
from services.orders.inventory_events import HANDLED, UNAVAILABLE_FOR
from services.sandbox.inventory_service import events as inventory_events
from services.sandbox.inventory_service import tables
from services.sandbox.inventory_service.catalogue import CATALOGUE, put_on_shelves
from state import orders, products
from state.products import Product
from tests.contract.pact_events import AgreedEvents
from tests.contract.pact_examples import (
    EVENT_ID,
    HOLDFAST,
    HOLDFAST_EVENTS,
    INVENTORY,
    INVENTORY_EVENTS,
    LINES,
    NOTEBOOKS,
    NOW,
    ORDER_ID,
    PENS,
    RESERVATION_ID,
    RETURN_ID,
    SKU,
    USER_ID,
    identifier,
    items,
    moment,
    text,
)
from tests.support.inventory_shop import Shop
from tests.support.orders_harness import OrdersHarness

OF_ORDER = {"orderId": identifier(ORDER_ID), "reservationId": identifier(RESERVATION_ID)}
OF_VARIANT = {name: identifier(example) for name, example in SKU.items()}


# ---------------------------------------------------------------- Holdfast listens


@pytest.fixture
def from_inventory(pact_directory: Path) -> AgreedEvents:
    return AgreedEvents(pact_directory, HOLDFAST, INVENTORY_EVENTS)


@pytest.fixture
def placed(shop: OrdersHarness) -> Order:
    """An order that waits for its confirmation."""
    at = shop.clock()
    order = Order(
        ORDER_ID,
        USER_ID,
        "standard",
        LINES,
        at,
        at,
        status=OrderStatus.PLACED,
        inventory_status=InventoryStatus.CONFIRM_REQUESTED,
        payment_status=PaymentStatus.CAPTURED,
        reservation_id=RESERVATION_ID,
    )
    shop.real_database.write_now(lambda connection: orders.add(connection, order, "hash"))
    return order


def needed(event_type: str, data: dict[str, Any]) -> dict[str, Any]:
    """As much of the envelope as Holdfast relies on."""
    return {"id": identifier(EVENT_ID), "type": event_type, "timestamp": moment(), "data": data}


def heard_by(shop: OrdersHarness) -> Callable[[bytes, str], str]:
    """Decodes and handles as the worker does; returns the outcome."""

    def read(payload: bytes, subject: str) -> str:
        event = decode(payload, subject=subject, headers=None, fallback_id="INVENTORY_EVENTS:1")
        assert event.event_id == EVENT_ID
        return asyncio.run(shop.inbound.handle(event))

    return read


def the_order(shop: OrdersHarness) -> Order:
    return asyncio.run(shop.order(ORDER_ID))


def the_product(shop: OrdersHarness) -> Product:
    (product,) = shop.real_database.read_now(lambda connection: products.page(connection, shop.clock()))
    return product


def heard_of(event_type: str, level: str, **more: Any) -> Product:
    """The availability cache after an event about the notebooks."""
    values = {
        "product_id": NOTEBOOKS.product_id,
        "variant_id": NOTEBOOKS.variant_id,
        "available": True,
        "level": level,
        "available_quantity": None,
        "threshold": None,
        "source": event_type,
        "changed_at": NOW,
        "expires_at": None,
    }
    return Product(**(values | more))


def test_a_placed_order_is_confirmed_when_its_stock_was_deducted(from_inventory, shop, placed):
    event = needed(events.CONFIRMED, OF_ORDER)
    assert from_inventory.hear(events.CONFIRMED, event, heard_by(shop)) == HANDLED
    order = the_order(shop)
    assert (order.status, order.inventory_status) == (OrderStatus.CONFIRMED, InventoryStatus.INVENTORY_CONFIRMED)
    assert order.confirmed_at == NOW


def test_a_placed_order_is_flagged_with_the_reason_when_its_stock_was_not_deducted(from_inventory, shop, placed):
    event = needed(events.CONFIRMATION_FAILED, OF_ORDER | {"reason": text("RESERVATION_EXPIRED")})
    assert from_inventory.hear(events.CONFIRMATION_FAILED, event, heard_by(shop)) == HANDLED
    order = the_order(shop)
    assert (order.status, order.inventory_status) == (OrderStatus.CONFIRMATION_FAILED, InventoryStatus.INVENTORY_FAILED)
    (case,) = asyncio.run(shop.cases(ORDER_ID))
    assert case.reason == ReviewReason.INVENTORY_CONFIRMATION_FAILED
    assert "RESERVATION_EXPIRED" in case.detail


def test_a_product_that_is_out_of_stock_is_marked_unavailable_for_a_while(from_inventory, shop):
    event = needed(events.OUT_OF_STOCK, OF_VARIANT)
    assert from_inventory.hear(events.OUT_OF_STOCK, event, heard_by(shop)) == HANDLED
    until = shop.clock() + UNAVAILABLE_FOR
    assert the_product(shop) == heard_of(
        events.OUT_OF_STOCK, "out", available=False, available_quantity=0, expires_at=until
    )


def test_a_product_that_is_low_stays_available_whether_or_not_quantities_are_told(from_inventory, shop):
    event = needed(events.LOW_STOCK, OF_VARIANT)
    assert from_inventory.hear(events.LOW_STOCK, event, heard_by(shop)) == HANDLED
    assert the_product(shop) == heard_of(events.LOW_STOCK, "low")


def test_a_product_that_is_back_is_available_again(from_inventory, shop):
    event = needed(events.BACK_IN_STOCK, OF_VARIANT)
    assert from_inventory.hear(events.BACK_IN_STOCK, event, heard_by(shop)) == HANDLED
    assert the_product(shop) == heard_of(events.BACK_IN_STOCK, "in_stock")


# --------------------------------------------------- the Inventory Service listens


@pytest.fixture
def from_holdfast(pact_directory: Path) -> AgreedEvents:
    return AgreedEvents(pact_directory, INVENTORY, HOLDFAST_EVENTS)


@pytest.fixture
def held(stockroom: Shop) -> Shop:
    """The shelves of the seed's examples, with the example order's items on hold."""
    return holding(stockroom, *LINES)


def holding(stockroom: Shop, *lines: Line) -> Shop:
    stockroom.write(lambda connection, now: put_on_shelves(connection, CATALOGUE[:2], now))
    reservation = stockroom.reserve(ORDER_ID, *lines)
    rename(stockroom, reservation.reservation_id)
    return stockroom


def rename(stockroom: Shop, reservation_id: str) -> None:
    """Give the reservation the id that the seed's events name."""

    def transaction(connection: Any, now: Any) -> None:
        connection.exec_driver_sql("PRAGMA defer_foreign_keys = ON")
        for table in (tables.reservation_lines, tables.reservations):
            is_it = table.c.reservation_id == reservation_id
            connection.execute(update(table).where(is_it).values(reservation_id=RESERVATION_ID))

    stockroom.write(transaction)


def promised(event_type: str, data: dict[str, Any]) -> dict[str, Any]:
    """The whole envelope of the seed; for ``order.*`` the data stand at the top level as well."""
    envelope = {
        "id": identifier(EVENT_ID),
        "type": event_type,
        "source": "order-service",
        "dataVersion": "1.0",
        "timestamp": moment(),
        "correlationId": identifier(ORDER_ID),
        "data": data,
    }
    return envelope | data if event_type.startswith("order.") else envelope


def about_order(event_type: str, **more: Any) -> dict[str, Any]:
    who = {"orderId": identifier(ORDER_ID), "userId": identifier(USER_ID)}
    return {"eventType": event_type, **who, "items": items(), **more, "timestamp": moment()}


def carried_out_by(stockroom: Shop) -> Callable[[bytes, str], str]:
    """Decodes and handles as the reference service does; returns what came of it."""

    def read(payload: bytes, subject: str) -> str:
        schemas = inventory_events.SCHEMAS
        event = decode(payload, subject=subject, headers=None, fallback_id="ORDER_EVENTS:1", schemas=schemas)
        assert event.event_id == EVENT_ID
        return stockroom.write(lambda connection, now: inventory_events.handle(connection, event, now))

    return read


CREATED = about_order(events.ORDER_CREATED, reservationId=identifier(RESERVATION_ID))
MESSAGE_ID = {"Nats-Msg-Id": identifier(EVENT_ID)}


def test_a_created_order_is_valid_when_its_items_are_reserved(from_holdfast, stockroom):
    holding(stockroom, NOTEBOOKS)
    event = promised(events.ORDER_CREATED, CREATED)
    assert from_holdfast.hear(events.ORDER_CREATED, event, carried_out_by(stockroom), **MESSAGE_ID) == "valid"
    assert stockroom.published() == []


def test_a_created_order_is_a_mismatch_when_other_items_are_reserved(from_holdfast, stockroom):
    holding(stockroom, PENS)
    event = promised(events.ORDER_CREATED, CREATED)
    assert from_holdfast.hear(events.ORDER_CREATED, event, carried_out_by(stockroom), **MESSAGE_ID) == "mismatch"
    assert stockroom.published_types() == [events.CONFIRMATION_FAILED]


def test_reserved_stock_is_deducted_when_its_confirmation_is_requested(from_holdfast, held):
    event = promised(events.CONFIRM_REQUESTED, OF_ORDER)
    assert from_holdfast.hear(events.CONFIRM_REQUESTED, event, carried_out_by(held), **MESSAGE_ID) == "confirmed"
    assert [held.columns(line) for line in LINES] == [(398, 0), (239, 0)]


def test_reserved_stock_is_released_when_the_order_is_cancelled(from_holdfast, held):
    event = promised(events.ORDER_CANCELLED, about_order(events.ORDER_CANCELLED, reason=text("CUSTOMER_CANCELLED")))
    assert from_holdfast.hear(events.ORDER_CANCELLED, event, carried_out_by(held), **MESSAGE_ID) == "released"
    assert [held.columns(line) for line in LINES] == [(400, 0), (240, 0)]


def test_returned_items_go_back_on_the_shelf(from_holdfast, stockroom):
    holding(stockroom, *LINES)
    stockroom.handle(events.CONFIRM_REQUESTED, orderId=ORDER_ID, reservationId=RESERVATION_ID)
    more = {"returnId": identifier(RETURN_ID), "reason": text("DAMAGED"), "restockable": match.bool(True)}
    event = promised(events.ORDER_RETURNED, about_order(events.ORDER_RETURNED, **more))
    assert from_holdfast.hear(events.ORDER_RETURNED, event, carried_out_by(stockroom), **MESSAGE_ID) == "accepted"
    assert [stockroom.columns(line) for line in LINES] == [(400, 0), (239, 0)]
