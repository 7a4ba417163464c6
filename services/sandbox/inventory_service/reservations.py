"""Reservations, tombstones and returns of the Inventory Service: their model and their rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, insert, select

from services.domain.orders.model import Line, aggregated
from services.sandbox.inventory_service import tables
from services.sandbox.inventory_service.stock_ledger import StockBook, in_order
from services.sandbox.inventory_service.tables import reservation_lines, reservations, returns, tombstones
from state.engine.rows import change, has_any

SWEEP_LIMIT = 200
"""Maximum reservations expired in one transaction, so that it does not block other transactions for long."""


@dataclass(frozen=True, slots=True)
class ReservedLine:
    """One line of a reservation with the quantities deducted and returned."""

    line: Line
    deducted: int
    returned: int


@dataclass(frozen=True, slots=True)
class Reservation:
    """Stock set aside for one order, in any state."""

    reservation_id: str
    order_id: str
    state: str
    expires_at: datetime
    confirmed_at: datetime | None
    mismatch: bool
    items: tuple[ReservedLine, ...]

    @property
    def lines(self) -> tuple[Line, ...]:
        return tuple(item.line for item in self.items)

    def matches(self, lines: Sequence[Line]) -> bool:
        """Whether these lines equal the reserved lines, in any order and however quantities are split."""
        return in_order(self.lines) == in_order(aggregated(lines))

    def is_over(self, now: datetime) -> bool:
        """Whether the reservation is active and its time has passed."""
        return self.state == tables.ACTIVE and self.expires_at <= now


_COLUMNS = reservations.c["reservation_id", "order_id", "state", "expires_at", "confirmed_at", "mismatch"]
_LINE = reservation_lines.c["product_id", "variant_id", "quantity"]
_WITH_LINES = (
    select(*_COLUMNS, *_LINE, *reservation_lines.c["deducted", "returned"])
    .join(reservation_lines, reservation_lines.c.reservation_id == reservations.c.reservation_id)
    .order_by(reservation_lines.c.product_id, reservation_lines.c.variant_id)
)


def find(connection: Connection, *criteria: ColumnElement[bool]) -> Reservation | None:
    rows = connection.execute(_WITH_LINES.where(*criteria)).all()
    if not rows:
        return None
    items = tuple(
        ReservedLine(Line(row.product_id, row.variant_id, row.quantity), row.deducted, row.returned) for row in rows
    )
    return Reservation(**{column.name: getattr(rows[0], column.name) for column in _COLUMNS}, items=items)


def current(book: StockBook, order_id: str) -> Reservation | None:
    """The order's active or confirmed reservation. An overdue reservation is expired and None is returned."""
    current_states = reservations.c.state.in_((tables.ACTIVE, tables.CONFIRMED))
    found = find(book.connection, reservations.c.order_id == order_id, current_states)
    if found is not None and found.is_over(book.now):
        expire(book, found)
        return None
    return found


def add(
    book: StockBook,
    order_id: str,
    lines: Sequence[Line],
    user_id: str | None,
    expires_at: datetime,
    reservation_id: str,
) -> Reservation:
    """Store an active reservation whose lines are reserved in the stock already."""
    items = tuple(ReservedLine(line, 0, 0) for line in lines)
    added = Reservation(reservation_id, order_id, tables.ACTIVE, expires_at, None, mismatch=False, items=items)
    row = {column.name: getattr(added, column.name) for column in _COLUMNS}
    times = {"created_at": book.now, "updated_at": book.now}
    book.connection.execute(insert(reservations), row | times | {"user_id": user_id})
    values = [{column.name: getattr(line, column.name) for column in _LINE} for line in lines]
    book.connection.execute(insert(reservation_lines).values(reservation_id=reservation_id), values)
    return added


def expire(book: StockBook, reservation: Reservation) -> None:
    for line in reservation.lines:
        book.move(tables.EXPIRE, line.sku, 0, -line.quantity, **reference(reservation))
    end(book, reservation, tables.EXPIRED)


def expire_overdue(book: StockBook, limit: int = SWEEP_LIMIT) -> int:
    overdue = select(reservations.c.reservation_id).where(
        reservations.c.state == tables.ACTIVE, reservations.c.expires_at <= book.now
    )
    ids = book.connection.scalars(overdue.order_by(reservations.c.expires_at).limit(limit)).all()
    for reservation_id in ids:
        reservation = find(book.connection, reservations.c.reservation_id == reservation_id)
        if reservation is not None:
            expire(book, reservation)
    return len(ids)


def end(book: StockBook, reservation: Reservation, state: str, **values: Any) -> None:
    set_values(book.connection, reservation, {"state": state, "updated_at": book.now} | values)


def set_values(connection: Connection, reservation: Reservation, values: dict[str, Any]) -> None:
    change(connection, reservations, reservations.c.reservation_id == reservation.reservation_id, **values)


def reference(reservation: Reservation) -> dict[str, str | None]:
    return {"order_id": reservation.order_id, "reservation_id": reservation.reservation_id}


def is_tombstoned(connection: Connection, order_id: str) -> bool:
    return has_any(connection, tombstones, tombstones.c.order_id == order_id)


def add_tombstone(connection: Connection, order_id: str, cause: str, now: datetime) -> None:
    if not is_tombstoned(connection, order_id):
        connection.execute(insert(tombstones), {"order_id": order_id, "cause": cause, "at": now})


def has_reserved(connection: Connection, order_id: str) -> bool:
    """Whether the order has a reservation in any state."""
    return has_any(connection, reservations, reservations.c.order_id == order_id)


def has_heard_of(connection: Connection, order_id: str) -> bool:
    """Whether the order has ever reserved or released stock here."""
    return is_tombstoned(connection, order_id) or has_reserved(connection, order_id)


def is_returned(connection: Connection, order_id: str, return_id: str) -> bool:
    return has_any(connection, returns, returns.c.order_id == order_id, returns.c.return_id == return_id)


def count_returned(connection: Connection, reservation: Reservation, line: Line) -> None:
    of_line = (
        reservation_lines.c.reservation_id == reservation.reservation_id,
        reservation_lines.c.product_id == line.product_id,
        reservation_lines.c.variant_id == line.variant_id,
    )
    change(connection, reservation_lines, *of_line, returned=reservation_lines.c.returned + line.quantity)
