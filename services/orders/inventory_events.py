"""Applies the events of the Inventory Service to orders and to the availability cache.

Every event takes effect once (inbox row in the same transaction). Late, duplicate and foreign events are
recorded and change nothing. Source: requirements 6; docs/adr/0002, races.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import Connection

from services.domain.external import id_key, is_same_id
from services.domain.orders import changes, events, lifecycle
from services.domain.orders.changes import EVENT_IN, Change, TimelineEntry
from services.domain.orders.model import Order, OrderStatus
from services.messaging.envelope import IncomingEvent, NotYet, PoisonEvent
from services.unit_of_work import OrdersContext, UnitOfWork
from state import deduplication, orders, products
from state.deduplication import DUPLICATE, HANDLED, IGNORED, OtherContent
from state.products import Product

UNAVAILABLE_FOR = timedelta(minutes=30)
"""A product marked unavailable counts as available again after this time without an event about it."""


SHOWN_BYTES = 8192
"""Bytes of an event's data that a timeline shows."""

_KNOWN_FIELDS = frozenset({"orderId", "reservationId", "reason", "confirmedAt"})


EARLY = frozenset({*changes.BEFORE_PAYMENT, OrderStatus.PAYING})
"""Statuses of an order that is not placed yet; a parked event about its stock keeps waiting."""


class UnknownOrder(NotYet):
    """The event names an unknown order: it is parked, and becomes a dead letter later."""


class InventoryEvents:
    """Handles one event at a time; returns its outcome: handled, duplicate or ignored."""

    def __init__(self, context: OrdersContext) -> None:
        self._context = context

    async def handle(self, event: IncomingEvent) -> str:
        """Apply an event; raises UnknownOrder when its order is not stored.

        Raises PoisonEvent when another event was handled under the same identity.
        """
        apply = self._apply_to_order if event.type in _ORDER_DECISIONS else self._apply_to_product
        try:
            return await self._context.unit_of_work(lambda unit: apply(unit, event, self._context.clock()))
        except OtherContent as error:
            raise PoisonEvent(str(error)) from None

    def _apply_to_order(self, unit: UnitOfWork, event: IncomingEvent, at: datetime) -> str:
        connection = unit.connection
        order = _order_of(connection, event.data["orderId"])
        if order is None:
            raise UnknownOrder(f"order {event.data['orderId']} is not known")
        change = _ORDER_DECISIONS[event.type](order, event, at) if _is_awaited(order, event) else None
        # Decided before the inbox is checked, so that the inbox row stores the outcome without another write.
        outcome = HANDLED if change else IGNORED
        if not _remember(connection, event, order.order_id, at, outcome):
            return DUPLICATE
        entry = TimelineEntry(
            at,
            EVENT_IN,
            event.type if change else f"{event.type} (changes nothing)",
            {"eventId": event.event_id, "data": _shown(event.data)},
        )
        if change is None:
            orders.add_timeline(connection, order.order_id, [entry])
            return IGNORED
        unit.record(order, Change({}, (entry,)).then(change))
        return HANDLED

    def _apply_to_product(self, unit: UnitOfWork, event: IncomingEvent, at: datetime) -> str:
        connection = unit.connection
        if not _remember(connection, event, None, at, HANDLED):
            return DUPLICATE
        if products.put(connection, _product(event, at)):
            return HANDLED
        deduplication.note_ignored(connection, event.event_id, event.type, event.source)
        return IGNORED


def _order_of(connection: Connection, order_id: str) -> Order | None:
    """The order with the normalised id (a UUID in lower case), else with the id as sent."""
    return orders.get(connection, id_key(order_id)) or (
        orders.get(connection, order_id) if order_id != id_key(order_id) else None
    )


def _remember(connection: Connection, event: IncomingEvent, order_id: str | None, at: datetime, outcome: str) -> bool:
    return deduplication.add(
        connection,
        event.event_id,
        event.type,
        order_id,
        at,
        outcome,
        source=event.source,
        digest=event.digest or None,
    )


def _shown(data: dict[str, Any]) -> dict[str, Any]:
    """The data that the timeline shows: all of a short event, else the known fields."""
    if len(orjson.dumps(data)) <= SHOWN_BYTES:
        return data
    return {name: value for name, value in data.items() if name in _KNOWN_FIELDS}


def _confirmed(order: Order, event: IncomingEvent, at: datetime) -> Change:
    return lifecycle.confirm(order, event.occurred_at or at, at)


def _confirmation_failed(order: Order, event: IncomingEvent, at: datetime) -> Change:
    return lifecycle.fail_confirmation(order, event.data["reason"], at)


def _is_awaited(order: Order, event: IncomingEvent) -> bool:
    held = order.reservation_id
    return order.status == OrderStatus.PLACED and held is not None and is_same_id(event.data["reservationId"], held)


_ORDER_DECISIONS: dict[str, Callable[[Order, IncomingEvent, datetime], Change]] = {
    events.CONFIRMED: _confirmed,
    events.CONFIRMATION_FAILED: _confirmation_failed,
}

_LEVELS = {events.OUT_OF_STOCK: "out", events.LOW_STOCK: "low", events.BACK_IN_STOCK: "in_stock"}


def _product(event: IncomingEvent, at: datetime) -> Product:
    available = event.type != events.OUT_OF_STOCK
    quantity = event.data.get("availableQuantity")
    return Product(
        product_id=event.data["productId"],
        variant_id=event.data["variantId"],
        available=available,
        level=_LEVELS[event.type],
        available_quantity=quantity if available else (quantity or 0),
        threshold=event.data.get("threshold"),
        source=event.type,
        # The clock of another machine may run ahead; a time in the future would block later events.
        changed_at=min(event.occurred_at or at, at),
        expires_at=None if available else at + UNAVAILABLE_FOR,
    )
