"""Handles the orders' events, each at most once and in any order. Source: requirements 2.2, 3.2 and 5; contract 5."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection, insert, select

from services.domain.external import Identifier
from services.domain.orders import events
from services.domain.orders.events import OutgoingEvent, timestamp
from services.domain.orders.model import Line
from services.messaging.envelope import IncomingEvent
from services.sandbox.inventory_service import outbox, stock
from services.sandbox.inventory_service.reservations import has_heard_of
from services.sandbox.inventory_service.stock import ConfirmationFailure
from services.sandbox.inventory_service.tables import inbox

DUPLICATE = "duplicate"
NOT_OURS = "not ours"


class _Model(BaseModel):
    # Additional fields are allowed; wrong types are not.
    model_config = ConfigDict(extra="allow", strict=True)


class _Item(_Model):
    productId: Identifier
    variantId: Identifier
    quantity: Annotated[int, Field(ge=1)]


class ConfirmRequested(_Model):
    orderId: Identifier
    reservationId: Identifier


class OrderCreated(ConfirmRequested):
    items: Annotated[list[_Item], Field(min_length=1)]


class OrderCancelled(_Model):
    orderId: Identifier


class OrderReturned(OrderCancelled):
    returnId: Identifier
    items: Annotated[list[_Item], Field(min_length=1)]
    restockable: bool


SCHEMAS: dict[str, type[BaseModel]] = {
    events.ORDER_CREATED: OrderCreated,
    events.ORDER_CANCELLED: OrderCancelled,
    events.ORDER_RETURNED: OrderReturned,
    events.CONFIRM_REQUESTED: ConfirmRequested,
}


def handle(
    connection: Connection, event: IncomingEvent, now: datetime, *, is_silent: bool = False, is_foreign: bool = False
) -> str:
    """Handle one event in one transaction with its inbox row and its answers.

    Events are equal if source, type and id are equal; one handled before is a DUPLICATE and changes nothing.
    ``is_silent`` (a drill) suppresses the answers to inventory.confirm_requested. ``is_foreign``: another installation
    published the event; it may have its own Inventory Service, which answers for orders unknown here.
    """
    if is_foreign and not has_heard_of(connection, event.data["orderId"]):
        return NOT_OURS
    key = {"event_id": event.event_id, "type": event.type, "source": event.source}
    same = [inbox.c[name] == value for name, value in key.items()]
    if connection.scalar(select(inbox.c.event_id).where(*same)) is not None:
        return DUPLICATE
    outcome, answers = _HANDLERS[event.type](connection, event.data, now)
    if not (is_silent and event.type == events.CONFIRM_REQUESTED):
        for answer in answers:
            outbox.add(connection, answer, now)
    connection.execute(insert(inbox), key | {"outcome": outcome, "handled_at": now})
    return outcome


Handled = tuple[str, list[OutgoingEvent]]
"""The result of an event, and the events that answer it."""


def _confirm(connection: Connection, data: dict[str, Any], now: datetime) -> Handled:
    order_id, reservation_id = data["orderId"], data["reservationId"]
    result = stock.confirm(connection, order_id=order_id, reservation_id=reservation_id, now=now)
    if isinstance(result, ConfirmationFailure):
        return result.value, [confirmation_failed(order_id, reservation_id, result)]
    return "confirmed", [confirmed(order_id, reservation_id, result)]


def _validate(connection: Connection, data: dict[str, Any], now: datetime) -> Handled:
    order_id, reservation_id = data["orderId"], data["reservationId"]
    is_valid = stock.validate(connection, order_id=order_id, reservation_id=reservation_id, lines=_lines(data), now=now)
    if is_valid:
        return "valid", []
    return "mismatch", [confirmation_failed(order_id, reservation_id, ConfirmationFailure.MISMATCH)]


def _cancel(connection: Connection, data: dict[str, Any], now: datetime) -> Handled:
    return stock.cancel(connection, order_id=data["orderId"], now=now).value, []


def _take_back(connection: Connection, data: dict[str, Any], now: datetime) -> Handled:
    accepted = stock.take_back(
        connection,
        order_id=data["orderId"],
        return_id=data["returnId"],
        lines=_lines(data),
        restockable=data["restockable"],
        now=now,
    )
    return "accepted" if accepted else "nothing to accept", []


_HANDLERS: dict[str, Callable[[Connection, dict[str, Any], datetime], Handled]] = {
    events.CONFIRM_REQUESTED: _confirm,
    events.ORDER_CREATED: _validate,
    events.ORDER_CANCELLED: _cancel,
    events.ORDER_RETURNED: _take_back,
}


def confirmed(order_id: str, reservation_id: str, confirmed_at: datetime) -> OutgoingEvent:
    """The event that the stock was deducted, with the time of the deduction. Source: requirements 6."""
    data = {"orderId": order_id, "reservationId": reservation_id, "confirmedAt": timestamp(confirmed_at)}
    return OutgoingEvent(events.CONFIRMED, order_id, data)


def confirmation_failed(order_id: str, reservation_id: str, reason: ConfirmationFailure) -> OutgoingEvent:
    """The event that the stock was not deducted and will not be. Source: requirements 6."""
    data = {"orderId": order_id, "reservationId": reservation_id, "reason": reason.value}
    return OutgoingEvent(events.CONFIRMATION_FAILED, order_id, data)


def _lines(data: dict[str, Any]) -> list[Line]:
    return [Line(item["productId"], item["variantId"], item["quantity"]) for item in data["items"]]
