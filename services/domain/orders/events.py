"""The events that Holdfast publishes and handles.

Source: requirements 2.2 and 3.2; contract 5.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from services.domain.orders.model import Line, Order

ORDER_CREATED = "order.created"
ORDER_CANCELLED = "order.cancelled"
ORDER_RETURNED = "order.returned"
CONFIRM_REQUESTED = "inventory.confirm_requested"
CONFIRMED = "inventory.confirmed"
CONFIRMATION_FAILED = "inventory.confirmation_failed"
OUT_OF_STOCK = "inventory.out_of_stock"
LOW_STOCK = "inventory.low_stock"
BACK_IN_STOCK = "inventory.back_in_stock"

OUTGOING = (ORDER_CREATED, ORDER_CANCELLED, ORDER_RETURNED, CONFIRM_REQUESTED)
INCOMING = (CONFIRMED, CONFIRMATION_FAILED, OUT_OF_STOCK, LOW_STOCK, BACK_IN_STOCK)


@dataclass(frozen=True, slots=True)
class OutgoingEvent:
    """An event to publish. Its envelope (id, source, version) is added when it is stored."""

    type: str
    order_id: str
    data: dict[str, Any]


def timestamp(at: datetime) -> str:
    """Return the time as in every body and event, in UTC with milliseconds: ``2023-11-21T15:27:30.123Z``."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds")[:23] + "Z"


def order_created(order: Order, reservation_id: str, at: datetime) -> OutgoingEvent:
    """Return the event by which the Inventory Service validates the reservation. Source: requirements 3.2."""
    return _about(order, ORDER_CREATED, order.lines, at, reservationId=reservation_id)


def order_cancelled(order: Order, reason: str, at: datetime) -> OutgoingEvent:
    """Return the event by which the Inventory Service releases the reservation or restocks deducted stock."""
    return _about(order, ORDER_CANCELLED, order.lines, at, reason=reason)


def order_returned(
    order: Order, return_id: str, lines: tuple[Line, ...], reason: str, restockable: bool, at: datetime
) -> OutgoingEvent:
    """Return the event by which the Inventory Service restocks returned items, once per returnId."""
    return _about(order, ORDER_RETURNED, lines, at, returnId=return_id, reason=reason, restockable=restockable)


def confirm_requested(order_id: str, reservation_id: str) -> OutgoingEvent:
    """Return the event by which the Inventory Service deducts the reserved stock. Source: requirements 5."""
    return OutgoingEvent(CONFIRM_REQUESTED, order_id, {"orderId": order_id, "reservationId": reservation_id})


def _about(order: Order, event_type: str, lines: tuple[Line, ...], at: datetime, **facts: Any) -> OutgoingEvent:
    data = {
        "eventType": event_type,
        "orderId": order.order_id,
        "userId": order.user_id,
        "items": [line.wire() for line in lines],
        **facts,
        "timestamp": timestamp(at),
    }
    return OutgoingEvent(event_type, order.order_id, data)
