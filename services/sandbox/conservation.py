"""Compares the orders, the stock and the money of the three databases with each other.

The databases are read one after another while the services run, so that they can differ about an order in progress.
Only rows that have not changed since ``settled_before`` are compared. ``settled_before`` may be the present time if the
traffic is stopped and the queues are empty.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Column, Connection, Row, func, or_, select

from services.domain.external import is_same_id
from services.domain.orders.model import OrderStatus, PaymentStatus, ReleaseState
from services.sandbox import payment_gateway
from services.sandbox.inventory_service import queries, tables
from services.sandbox.payment_gateway import payments
from state.tables import order_items, orders, outbox, releases

Lines = dict[tuple[str, str], int]

CALLED_OFF = frozenset({OrderStatus.CANCELLED, OrderStatus.REJECTED})
DEDUCTED = frozenset({OrderStatus.CONFIRMED, OrderStatus.PARTIALLY_RETURNED, OrderStatus.RETURNED})


class Kind(StrEnum):
    """Kinds of differences."""

    NEGATIVE_STOCK = "NEGATIVE_STOCK"
    LEDGER_DIFFERS = "LEDGER_DIFFERS"
    DEDUCTED_TWICE = "DEDUCTED_TWICE"
    HELD_WITHOUT_LIVE_ORDER = "HELD_WITHOUT_LIVE_ORDER"
    DEDUCTED_WITHOUT_LIVE_ORDER = "DEDUCTED_WITHOUT_LIVE_ORDER"
    CONFIRMED_NOT_DEDUCTED = "CONFIRMED_NOT_DEDUCTED"
    OTHER_LINES_DEDUCTED = "OTHER_LINES_DEDUCTED"
    RETURNS_DIFFER = "RETURNS_DIFFER"
    PAYMENT_KEPT = "PAYMENT_KEPT"
    PAYMENT_MISSING = "PAYMENT_MISSING"


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference between the databases."""

    kind: Kind
    key: str
    """The order's id, or ``productId/variantId``."""
    detail: str
    is_pending: bool = False
    """Whether a waiting release job, refund or unsent event will settle it."""


def differences(
    holdfast: Connection, inventory: Connection, payment: Connection | None, *, now: datetime, settled_before: datetime
) -> list[Difference]:
    """All differences between the three databases; reads only. ``payment`` None skips the payments."""
    known = _orders(holdfast)
    found = [*inventory_differences(inventory)]
    found += _between_orders_and_stock(known, inventory, now, settled_before)
    if payment is not None:
        found += _between_orders_and_money(known, payment, settled_before)
    return found


def inventory_differences(inventory: Connection) -> list[Difference]:
    """Differences within the Inventory Service."""
    return [*_impossible_stock(inventory), *_unexplained_columns(inventory), *_deducted_twice(inventory)]


def _impossible_stock(inventory: Connection) -> Iterator[Difference]:
    stock = tables.stock.c
    impossible = or_(stock.on_hand < 0, stock.reserved < 0, stock.reserved > stock.on_hand)
    for row in inventory.execute(select(tables.stock).where(impossible)):
        detail = f"{row.on_hand} on hand, {row.reserved} reserved"
        yield Difference(Kind.NEGATIVE_STOCK, f"{row.product_id}/{row.variant_id}", detail)


def _unexplained_columns(inventory: Connection) -> Iterator[Difference]:
    for it in queries.imbalances(inventory):
        detail = f"{it.column} is {it.stored}, the {it.of} sum up to {it.expected}"
        yield Difference(Kind.LEDGER_DIFFERS, "/".join(it.sku), detail)


def _deducted_twice(inventory: Connection) -> Iterator[Difference]:
    ledger = tables.ledger.c
    per_line = (ledger.order_id, ledger.product_id, ledger.variant_id)
    counted = select(*per_line, func.count().label("times")).where(ledger.kind == tables.DEDUCT).group_by(*per_line)
    for row in inventory.execute(counted.having(func.count() > 1)):
        yield Difference(
            Kind.DEDUCTED_TWICE, row.order_id, f"{row.product_id}/{row.variant_id} deducted {row.times} times"
        )


@dataclass(frozen=True, slots=True)
class _Order:
    row: Row[Any]
    bought: Lines
    returned: Lines
    release_is_pending: bool
    has_unsent_events: bool

    @property
    def is_called_off(self) -> bool:
        return self.row.status in CALLED_OFF

    @property
    def stock_is_pending(self) -> bool:
        return self.release_is_pending or self.has_unsent_events


def _lines(connection: Connection, key: Column[Any], quantity: Column[Any]) -> dict[str, Lines]:
    """The quantities of a table of lines, by the key of their order or reservation."""
    found: dict[str, Lines] = {}
    columns = key.table.c
    for owner, product_id, variant_id, number in connection.execute(
        select(key, columns.product_id, columns.variant_id, quantity)
    ):
        found.setdefault(owner, {})[product_id, variant_id] = number
    return found


def _orders(holdfast: Connection) -> dict[str, _Order]:
    columns = ("order_id", "status", "inventory_status", "payment_status", "reservation_id", "updated_at")
    items = order_items.c
    bought = _lines(holdfast, items.order_id, items.quantity)
    returned = _lines(holdfast, items.order_id, items.returned)
    waiting = set(holdfast.scalars(select(releases.c.order_id).where(releases.c.state == ReleaseState.PENDING)))
    unsent = set(holdfast.scalars(select(outbox.c.order_id).where(outbox.c.published_at.is_(None))))
    return {
        row.order_id: _Order(
            row,
            bought.get(row.order_id, {}),
            returned.get(row.order_id, {}),
            row.order_id in waiting,
            row.order_id in unsent,
        )
        for row in holdfast.execute(select(*(orders.c[name] for name in columns)))
    }


@dataclass(frozen=True, slots=True)
class _Reservation:
    row: Row[Any]
    deducted: Lines
    returned: Lines


def _between_orders_and_stock(
    known: dict[str, _Order], inventory: Connection, now: datetime, settled_before: datetime
) -> Iterator[Difference]:
    living = _living_reservations(inventory)
    for order_id, reservation in living.items():
        if reservation.row.updated_at <= settled_before:
            yield from _taken_for_nothing(known.get(order_id), reservation, now, settled_before)
    for order in known.values():
        if order.row.status in DEDUCTED and order.row.updated_at <= settled_before:
            yield from _not_as_confirmed(order, living.get(order.row.order_id))


def _living_reservations(inventory: Connection) -> dict[str, _Reservation]:
    lines = tables.reservation_lines.c
    deducted = _lines(inventory, lines.reservation_id, lines.deducted)
    returned = _lines(inventory, lines.reservation_id, lines.returned)
    living = tables.reservations.c.state.in_((tables.ACTIVE, tables.CONFIRMED))
    return {
        row.order_id: _Reservation(row, deducted.get(row.reservation_id, {}), returned.get(row.reservation_id, {}))
        for row in inventory.execute(select(tables.reservations).where(living))
    }


def _taken_for_nothing(
    order: _Order | None, reservation: _Reservation, now: datetime, settled_before: datetime
) -> Iterator[Difference]:
    """Stock reserved or deducted for an unknown or cancelled order."""
    row = reservation.row
    if order is not None and (not order.is_called_off or order.row.updated_at > settled_before):
        return
    if row.state == tables.ACTIVE and row.expires_at <= now:
        return
    kind = Kind.HELD_WITHOUT_LIVE_ORDER if row.state == tables.ACTIVE else Kind.DEDUCTED_WITHOUT_LIVE_ORDER
    detail = f"reservation {row.reservation_id} is {row.state}, the order is {order.row.status if order else 'unknown'}"
    yield Difference(kind, row.order_id, detail, is_pending=order is not None and order.stock_is_pending)


def _not_as_confirmed(order: _Order, reservation: _Reservation | None) -> Iterator[Difference]:
    """An order whose deduction is missing or different."""
    order_id = order.row.order_id
    if reservation is None or reservation.row.state != tables.CONFIRMED:
        state = reservation.row.state if reservation else "gone or unknown"
        yield Difference(
            Kind.CONFIRMED_NOT_DEDUCTED, order_id, f"the order is {order.row.status}, its reservation {state}"
        )
        return
    is_same = is_same_id(reservation.row.reservation_id, order.row.reservation_id or "")
    if not is_same or reservation.deducted != order.bought:
        detail = f"bought {_shown(order.bought)}, deducted {_shown(reservation.deducted)}"
        yield Difference(Kind.OTHER_LINES_DEDUCTED, order_id, detail)
    if reservation.returned != order.returned:
        detail = f"returned {_shown(order.returned)}, taken back {_shown(reservation.returned)}"
        yield Difference(Kind.RETURNS_DIFFER, order_id, detail, is_pending=order.has_unsent_events)


def _shown(lines: Lines) -> str:
    return (
        ", ".join(f"{quantity} x {'/'.join(sku)}" for sku, quantity in sorted(lines.items()) if quantity) or "nothing"
    )


def _between_orders_and_money(
    known: dict[str, _Order], payment: Connection, settled_before: datetime
) -> Iterator[Difference]:
    paid = {row.order_id: row for row in payment.execute(select(payments))}
    for order_id, row in paid.items():
        yield from _kept_for_nothing(known.get(order_id), row, settled_before)
    for order_id, order in known.items():
        is_settled = order.row.updated_at <= settled_before
        if is_settled and order.row.payment_status == PaymentStatus.CAPTURED and not _is_captured(paid.get(order_id)):
            state = paid[order_id].state if order_id in paid else "unknown"
            yield Difference(Kind.PAYMENT_MISSING, order_id, f"captured here, {state} at the gateway")


def _kept_for_nothing(order: _Order | None, row: Row[Any], settled_before: datetime) -> Iterator[Difference]:
    """Money captured for an unknown or cancelled order."""
    moved_at = order.row.updated_at if order else row.created_at
    if not _is_captured(row) or moved_at > settled_before or (order is not None and not order.is_called_off):
        return
    detail = f"captured, the order is {order.row.status if order else 'unknown'}"
    is_pending = order is not None and order.row.payment_status == PaymentStatus.REFUND_PENDING
    yield Difference(Kind.PAYMENT_KEPT, row.order_id, detail, is_pending)


def _is_captured(row: Row[Any] | None) -> bool:
    return row is not None and row.state == payment_gateway.CAPTURED
