"""The rules of stock: reserve, confirm, release, cancel, return, adjust, as functions of one transaction.

Each takes the connection of a writing transaction and the present time, and either succeeds as a whole or raises
and changes nothing. The expiry of a reservation is decided by comparing times under the database's lock, so that
no answer depends on when the sweeper last ran.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, insert

from services.domain.external import id_key
from services.domain.orders.model import Line, aggregated
from services.sandbox.inventory_service import reservations as rows
from services.sandbox.inventory_service import tables
from services.sandbox.inventory_service.queries import free, stock_row
from services.sandbox.inventory_service.reservations import SWEEP_LIMIT, Reservation
from services.sandbox.inventory_service.stock_ledger import StockBook, in_order
from services.sandbox.inventory_service.tables import reservation_lines, reservations, returns
from state.engine.rows import change


class InsufficientStock(Exception):
    """One or more lines are short, and nothing is reserved. ``short``: (line, available quantity) for each."""

    def __init__(self, short: Sequence[tuple[Line, int]]) -> None:
        super().__init__(f"{len(short)} line(s) are short of stock")
        self.short = tuple(short)


class RefusalReason(StrEnum):
    """Why an order may not reserve stock, however much is available."""

    RELEASED = "RELEASED"
    OTHER_LINES = "OTHER_LINES"


class ReservationRefused(Exception):
    """The order was released before, or has a reservation with other lines."""

    def __init__(self, reason: RefusalReason) -> None:
        super().__init__(reason.value)
        self.reason = reason


class AlreadyConfirmed(Exception):
    """The stock was deducted; only the cancellation of the order restocks it."""


class AdjustmentRefused(Exception):
    """The product is unknown, or less would be on hand than is reserved."""

    def __init__(self, on_hand: int | None, reserved: int | None) -> None:
        super().__init__("unknown product" if on_hand is None else f"{on_hand} on hand, {reserved} reserved")
        self.on_hand, self.reserved = on_hand, reserved


class ConfirmationFailure(StrEnum):
    """Reasons in the event inventory.confirmation_failed."""

    RESERVATION_EXPIRED = "RESERVATION_EXPIRED"
    RELEASED = "RELEASED"
    UNKNOWN = "UNKNOWN"
    MISMATCH = "MISMATCH"


def reserve(
    connection: Connection,
    *,
    order_id: str,
    lines: Sequence[Line],
    user_id: str | None,
    expires_in: timedelta,
    now: datetime,
    is_sold_out: bool = False,
) -> Reservation:
    """Reserve all lines or none, once per order; a repeated request returns the same reservation.

    ``is_sold_out`` (a drill) refuses new reservations and keeps existing ones.
    Raises InsufficientStock with every short line, or ReservationRefused.
    """
    if rows.is_tombstoned(connection, order_id):
        raise ReservationRefused(RefusalReason.RELEASED)
    with StockBook(connection, now) as book:
        existing = rows.current(book, order_id)
        if existing is not None:
            return _again(connection, existing, lines)
        if is_sold_out:
            raise InsufficientStock([(line, 0) for line in in_order(aggregated(lines))])
        rows.expire_overdue(book)
        return _reserve_lines(book, order_id, in_order(aggregated(lines)), user_id, now + expires_in)


def confirm(
    connection: Connection, *, order_id: str, reservation_id: str, now: datetime
) -> datetime | ConfirmationFailure:
    """Deduct the reserved stock once. Returns the time of the deduction, or why there is none."""
    found = rows.find(connection, reservations.c.reservation_id == id_key(reservation_id))
    if found is None:
        return _why_unknown(connection, order_id)
    if found.order_id != order_id:
        return ConfirmationFailure.MISMATCH
    if found.state == tables.CONFIRMED:
        return found.confirmed_at or now
    return _deduct_if_reserved(connection, found, now)


def release(connection: Connection, *, order_id: str, now: datetime) -> Reservation | None:
    """Release the order's reservation. Returns it, or None if nothing was reserved.

    Either way the order can never reserve again, so that a delayed reserve request cannot take stock for an order
    that has ended. Raises AlreadyConfirmed.
    """
    with StockBook(connection, now) as book:
        current = rows.current(book, order_id)
        if current is not None and current.state == tables.CONFIRMED:
            raise AlreadyConfirmed
        rows.add_tombstone(connection, order_id, "RELEASE", now)
        if current is not None:
            _give_back(book, current)
        return current


class CancelOutcome(StrEnum):
    """The effect of a cancelled order on its stock."""

    RELEASED = "released"
    RESTOCKED = "restocked"
    NOTHING = "nothing"


def cancel(connection: Connection, *, order_id: str, now: datetime) -> CancelOutcome:
    """Undo the order's effect on stock, once: release its reservation, or restock what was deducted.

    Returned goods are not restocked a second time. An unknown order gets a tombstone.
    """
    with StockBook(connection, now) as book:
        current = rows.current(book, order_id)
        rows.add_tombstone(connection, order_id, "ORDER_CANCELLED", now)
        if current is None:
            return CancelOutcome.NOTHING
        if current.state == tables.ACTIVE:
            _give_back(book, current)
            return CancelOutcome.RELEASED
        _restock(book, current)
        return CancelOutcome.RESTOCKED


def take_back(
    connection: Connection, *, order_id: str, return_id: str, lines: Sequence[Line], restockable: bool, now: datetime
) -> tuple[Line, ...]:
    """Accept returned goods, once per return. Returns the accepted lines, which may be fewer than were sent.

    A line accepts at most what was deducted and not returned yet; only restockable goods are restocked. An order
    that is not confirmed accepts nothing.
    """
    with StockBook(connection, now) as book:
        current = rows.current(book, order_id)
        if current is None or current.state != tables.CONFIRMED or rows.is_returned(connection, order_id, return_id):
            return ()
        accepted = _accepted(current, aggregated(lines))
        for line in accepted:
            rows.count_returned(connection, current, line)
            if restockable:
                reference = rows.reference(current) | {"reason": f"return {return_id}"}
                book.move(tables.RESTOCK_RETURN, line.sku, line.quantity, 0, **reference)
        row = {"order_id": order_id, "return_id": return_id, "at": now, "restockable": restockable}
        connection.execute(insert(returns), row | {"lines": [line.wire() for line in accepted]})
        return tuple(accepted)


def validate(
    connection: Connection, *, order_id: str, reservation_id: str, lines: Sequence[Line], now: datetime
) -> bool:
    """Compare a created order with its reservation. Returns False if their lines differ.

    Nothing is deducted. A later confirm refuses a reservation whose lines differ. A missing reservation is
    reported by the answer to inventory.confirm_requested, not here.
    """
    found = rows.find(connection, reservations.c.reservation_id == id_key(reservation_id))
    if found is None or found.order_id != order_id or found.state not in (tables.ACTIVE, tables.CONFIRMED):
        return True
    if found.matches(lines):
        return True
    if found.state == tables.ACTIVE:
        rows.set_values(connection, found, {"mismatch": True, "updated_at": now})
    return False


def expire(connection: Connection, *, now: datetime, limit: int = SWEEP_LIMIT) -> int:
    """Expire up to ``limit`` overdue reservations. Returns their number. No answer depends on this expiry."""
    with StockBook(connection, now) as book:
        return rows.expire_overdue(book, limit)


def adjust(connection: Connection, *, product_id: str, variant_id: str, delta: int, reason: str, now: datetime) -> Any:
    """Adjust the stock on hand. Returns the stock row afterwards. Raises AdjustmentRefused."""
    with StockBook(connection, now) as book:
        if book.adjust(tables.ADJUST, (product_id, variant_id), delta, reason=reason):
            return stock_row(connection, product_id, variant_id)
    row = stock_row(connection, product_id, variant_id)
    raise AdjustmentRefused(row.on_hand if row else None, row.reserved if row else None)


_WHY_ENDED = {
    tables.EXPIRED: ConfirmationFailure.RESERVATION_EXPIRED,
    tables.RELEASED: ConfirmationFailure.RELEASED,
    tables.RESTOCKED: ConfirmationFailure.RELEASED,
}


def _again(connection: Connection, existing: Reservation, lines: Sequence[Line]) -> Reservation:
    if not existing.matches(lines):
        raise ReservationRefused(RefusalReason.OTHER_LINES)
    if existing.mismatch:
        # A repeated request for exactly the reserved lines clears the mismatch that order.created raised.
        rows.set_values(connection, existing, {"mismatch": False})
    return existing


def _reserve_lines(
    book: StockBook, order_id: str, lines: Sequence[Line], user_id: str | None, expires_at: datetime
) -> Reservation:
    reservation_id = str(uuid4())
    reference = {"order_id": order_id, "reservation_id": reservation_id}
    refused = [line for line in lines if not book.reserve(tables.RESERVE, line, **reference)]
    if refused:
        raise InsufficientStock([(line, _available(book.connection, line)) for line in refused])
    return rows.add(book, order_id, lines, user_id, expires_at, reservation_id)


def _deduct_if_reserved(connection: Connection, found: Reservation, now: datetime) -> datetime | ConfirmationFailure:
    if found.state != tables.ACTIVE:
        return _WHY_ENDED[found.state]
    with StockBook(connection, now) as book:
        if found.is_over(now):
            rows.expire(book, found)
            return ConfirmationFailure.RESERVATION_EXPIRED
        if found.mismatch:
            return ConfirmationFailure.MISMATCH
        _deduct(book, found)
        return now


def _deduct(book: StockBook, reserved: Reservation) -> None:
    for line in reserved.lines:
        book.move(tables.DEDUCT, line.sku, -line.quantity, -line.quantity, **rows.reference(reserved))
    of_it = reservation_lines.c.reservation_id == reserved.reservation_id
    change(book.connection, reservation_lines, of_it, deducted=reservation_lines.c.quantity)
    rows.end(book, reserved, tables.CONFIRMED, confirmed_at=book.now)


def _give_back(book: StockBook, reserved: Reservation) -> None:
    for line in reserved.lines:
        book.move(tables.RELEASE, line.sku, 0, -line.quantity, **rows.reference(reserved))
    rows.end(book, reserved, tables.RELEASED)


def _restock(book: StockBook, deducted: Reservation) -> None:
    for item in deducted.items:
        still_out = item.deducted - item.returned
        if still_out:
            book.move(tables.RESTOCK_CANCEL, item.line.sku, still_out, 0, **rows.reference(deducted))
    rows.end(book, deducted, tables.RESTOCKED)


def _why_unknown(connection: Connection, order_id: str) -> ConfirmationFailure:
    if rows.is_tombstoned(connection, order_id):
        return ConfirmationFailure.RELEASED
    return ConfirmationFailure.MISMATCH if rows.has_reserved(connection, order_id) else ConfirmationFailure.UNKNOWN


def _accepted(reservation: Reservation, lines: Sequence[Line]) -> list[Line]:
    still_out = {item.line.sku: item.deducted - item.returned for item in reservation.items}
    capped = (replace(line, quantity=min(line.quantity, still_out.get(line.sku, 0))) for line in in_order(lines))
    return [line for line in capped if line.quantity > 0]


def _available(connection: Connection, line: Line) -> int:
    row = stock_row(connection, line.product_id, line.variant_id)
    return free(row) if row else 0
