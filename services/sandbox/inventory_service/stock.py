"""What may happen to stock: every rule of the service, as functions over one transaction.

Each takes the connection of a writing transaction and the present time, and either does all it
says or raises and does nothing. A hold's end is decided here, by comparing times under the
database's lock: whether the sweeper has come by yet makes no difference to any answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import uuid4

from sqlalchemy import ColumnElement, Connection, bindparam, insert, select, update

from services.domain.external import id_key
from services.domain.orders.model import Line, aggregated
from services.sandbox.inventory_service import tables
from services.sandbox.inventory_service.stock_ledger import StockBook, in_order
from services.sandbox.inventory_service.tables import reservation_lines, reservations, returns, stock, tombstones

SWEEP_LIMIT = 200
"""Holds ended in one step at most, so that no transaction keeps the others waiting."""


class InsufficientStock(Exception):
    """One or more lines are short; nothing is held. ``short``: (line, available quantity) for each."""

    def __init__(self, short: Sequence[tuple[Line, int]]) -> None:
        super().__init__(f"{len(short)} line(s) are short of stock")
        self.short = tuple(short)


class RefusalReason(StrEnum):
    """Why an order may not hold stock, whatever there is of it."""

    RELEASED = "RELEASED"
    OTHER_LINES = "OTHER_LINES"


class ReservationRefused(Exception):
    """The order was released before, or holds other lines already."""

    def __init__(self, reason: RefusalReason) -> None:
        super().__init__(reason.value)
        self.reason = reason


class AlreadyConfirmed(Exception):
    """The stock was deducted: a release cannot undo that, only a cancelled order can."""


class AdjustmentRefused(Exception):
    """The product is unknown, or more would be taken away than is free of reservations."""

    def __init__(self, on_hand: int | None, reserved: int | None) -> None:
        super().__init__("unknown product" if on_hand is None else f"{on_hand} on hand, {reserved} reserved")
        self.on_hand, self.reserved = on_hand, reserved


class ConfirmationFailure(StrEnum):
    """The reasons that inventory.confirmation_failed carries."""

    RESERVATION_EXPIRED = "RESERVATION_EXPIRED"
    RELEASED = "RELEASED"
    UNKNOWN = "UNKNOWN"
    MISMATCH = "MISMATCH"


@dataclass(frozen=True, slots=True)
class ReservedLine:
    """One line of a reservation and what became of its quantity."""

    line: Line
    deducted: int
    returned: int


@dataclass(frozen=True, slots=True)
class Reservation:
    """A hold on stock for one order, or what it has become."""

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

    def holds(self, lines: Sequence[Line]) -> bool:
        """Whether these are the lines it was made for, in whatever order and splitting."""
        return in_order(self.lines) == in_order(aggregated(lines))

    def is_over(self, now: datetime) -> bool:
        """Whether it is a hold whose time has passed."""
        return self.state == tables.ACTIVE and self.expires_at <= now


def reserve(
    connection: Connection,
    *,
    order_id: str,
    lines: Sequence[Line],
    user_id: str | None,
    expires_in: timedelta,
    now: datetime,
    shelves_look_empty: bool = False,
) -> Reservation:
    """Hold all lines or none, once per order; the same request again gets the same answer.

    ``shelves_look_empty`` (a drill): nothing can be held anew, and what is held stays held.
    Raises InsufficientStock with every short line, or ReservationRefused.
    """
    if _is_tombstoned(connection, order_id):
        raise ReservationRefused(RefusalReason.RELEASED)
    with StockBook(connection, now) as book:
        existing = _living(book, order_id)
        if existing is not None:
            return _again(connection, existing, lines)
        if shelves_look_empty:
            raise InsufficientStock([(line, 0) for line in in_order(aggregated(lines))])
        _end_overdue_holds(book)
        return _hold(book, order_id, in_order(aggregated(lines)), user_id, now + expires_in)


def confirm(
    connection: Connection, *, order_id: str, reservation_id: str, now: datetime
) -> datetime | ConfirmationFailure:
    """Deduct what the reservation holds, once: the time of the deduction, or why there is none."""
    found = _reservation(connection, reservations.c.reservation_id == id_key(reservation_id))
    if found is None:
        return _why_unknown(connection, order_id)
    if found.order_id != order_id:
        return ConfirmationFailure.MISMATCH
    if found.state == tables.CONFIRMED:
        return found.confirmed_at or now
    return _deduct_if_held(connection, found, now)


def release(connection: Connection, *, order_id: str, now: datetime) -> Reservation | None:
    """Give a hold back: the reservation released, or None when nothing was held.

    Either way the order never holds stock again, so that a reserve request which was under way
    for long cannot take stock for an order that has ended. Raises AlreadyConfirmed.
    """
    with StockBook(connection, now) as book:
        living = _living(book, order_id)
        if living is not None and living.state == tables.CONFIRMED:
            raise AlreadyConfirmed
        _bury(connection, order_id, "RELEASE", now)
        if living is not None:
            _give_back(book, living)
        return living


class CancelOutcome(StrEnum):
    """What a cancelled order had us do."""

    RELEASED = "released"
    RESTOCKED = "restocked"
    NOTHING = "nothing"


def cancel(connection: Connection, *, order_id: str, now: datetime) -> CancelOutcome:
    """Undo whatever the order did to stock: release what is held, restock what was deducted, once.

    Goods that came back already are not restocked a second time. An unknown order is remembered.
    """
    with StockBook(connection, now) as book:
        living = _living(book, order_id)
        _bury(connection, order_id, "ORDER_CANCELLED", now)
        if living is None:
            return CancelOutcome.NOTHING
        if living.state == tables.ACTIVE:
            _give_back(book, living)
            return CancelOutcome.RELEASED
        _restock(book, living)
        return CancelOutcome.RESTOCKED


def take_back(
    connection: Connection, *, order_id: str, return_id: str, lines: Sequence[Line], restockable: bool, now: datetime
) -> tuple[Line, ...]:
    """Accept returned goods, once per return: the lines accepted, perhaps fewer than were sent.

    Never more per line than was deducted and has not come back; only restockable goods go back
    on the shelf. Nothing is accepted for an order that is not confirmed.
    """
    with StockBook(connection, now) as book:
        living = _living(book, order_id)
        if living is None or living.state != tables.CONFIRMED or _is_returned(connection, order_id, return_id):
            return ()
        accepted = _accepted(living, aggregated(lines))
        for line in accepted:
            _count_returned(connection, living, line)
            if restockable:
                reference = _reference(living) | {"reason": f"return {return_id}"}
                book.move(tables.RESTOCK_RETURN, line.sku, line.quantity, 0, **reference)
        row = {"order_id": order_id, "return_id": return_id, "at": now, "restockable": restockable}
        connection.execute(insert(returns), row | {"lines": [line.wire() for line in accepted]})
        return tuple(accepted)


def validate(
    connection: Connection, *, order_id: str, reservation_id: str, lines: Sequence[Line], now: datetime
) -> bool:
    """Compare a created order with its reservation: False when they name different lines.

    It never deducts. A hold found wrong is refused to a later confirm; where there is no such
    reservation the answer to inventory.confirm_requested will say so.
    """
    found = _reservation(connection, reservations.c.reservation_id == id_key(reservation_id))
    if found is None or found.order_id != order_id or found.state not in (tables.ACTIVE, tables.CONFIRMED):
        return True
    if found.holds(lines):
        return True
    if found.state == tables.ACTIVE:
        _set(connection, found, {"mismatch": True, "updated_at": now})
    return False


def expire(connection: Connection, *, now: datetime, limit: int = SWEEP_LIMIT) -> int:
    """End a step of holds whose time has passed: how many. Only cleans up; no answer waits for it."""
    with StockBook(connection, now) as book:
        return _end_overdue_holds(book, limit)


def adjust(connection: Connection, *, product_id: str, variant_id: str, delta: int, reason: str, now: datetime) -> Any:
    """Count stock in or out by hand: the stock row afterwards. Raises AdjustmentRefused."""
    with StockBook(connection, now) as book:
        if book.adjust(tables.ADJUST, (product_id, variant_id), delta, reason=reason):
            return _stock_row(connection, product_id, variant_id)
    row = _stock_row(connection, product_id, variant_id)
    raise AdjustmentRefused(row.on_hand if row else None, row.reserved if row else None)


_WHY_ENDED = {
    tables.EXPIRED: ConfirmationFailure.RESERVATION_EXPIRED,
    tables.RELEASED: ConfirmationFailure.RELEASED,
    tables.RESTOCKED: ConfirmationFailure.RELEASED,
}

_WITH_LINES = (
    select(
        reservations,
        reservation_lines.c.product_id,
        reservation_lines.c.variant_id,
        reservation_lines.c.quantity,
        reservation_lines.c.deducted,
        reservation_lines.c.returned,
    )
    .join(reservation_lines, reservation_lines.c.reservation_id == reservations.c.reservation_id)
    .order_by(reservation_lines.c.product_id, reservation_lines.c.variant_id)
)


def _reservation(connection: Connection, *criteria: ColumnElement[bool]) -> Reservation | None:
    rows = connection.execute(_WITH_LINES.where(*criteria)).all()
    if not rows:
        return None
    first = rows[0]
    items = tuple(
        ReservedLine(Line(row.product_id, row.variant_id, row.quantity), row.deducted, row.returned) for row in rows
    )
    return Reservation(
        first.reservation_id,
        first.order_id,
        first.state,
        first.expires_at,
        first.confirmed_at,
        first.mismatch,
        items,
    )


def _living(book: StockBook, order_id: str) -> Reservation | None:
    """The order's hold or deduction, if it has one now; a hold that is over is ended on the way."""
    living_states = reservations.c.state.in_((tables.ACTIVE, tables.CONFIRMED))
    found = _reservation(book.connection, reservations.c.order_id == order_id, living_states)
    if found is not None and found.is_over(book.now):
        _expire(book, found)
        return None
    return found


def _again(connection: Connection, existing: Reservation, lines: Sequence[Line]) -> Reservation:
    if not existing.holds(lines):
        raise ReservationRefused(RefusalReason.OTHER_LINES)
    if existing.mismatch:
        # Asking anew for exactly the lines held settles the doubt that order.created raised.
        _set(connection, existing, {"mismatch": False})
    return existing


def _hold(
    book: StockBook, order_id: str, lines: Sequence[Line], user_id: str | None, expires_at: datetime
) -> Reservation:
    reservation_id = str(uuid4())
    reference = {"order_id": order_id, "reservation_id": reservation_id}
    refused = [line for line in lines if not book.hold(tables.HOLD, line, **reference)]
    if refused:
        raise InsufficientStock([(line, _available(book.connection, line)) for line in refused])
    row = {
        "reservation_id": reservation_id,
        "order_id": order_id,
        "user_id": user_id,
        "state": tables.ACTIVE,
        "created_at": book.now,
        "expires_at": expires_at,
        "updated_at": book.now,
    }
    book.connection.execute(insert(reservations), row)
    book.connection.execute(insert(reservation_lines), [_line_row(reservation_id, line) for line in lines])
    items = tuple(ReservedLine(line, 0, 0) for line in lines)
    return Reservation(reservation_id, order_id, tables.ACTIVE, expires_at, None, mismatch=False, items=items)


def _line_row(reservation_id: str, line: Line) -> dict[str, Any]:
    return {
        "reservation_id": reservation_id,
        "product_id": line.product_id,
        "variant_id": line.variant_id,
        "quantity": line.quantity,
    }


def _deduct_if_held(connection: Connection, found: Reservation, now: datetime) -> datetime | ConfirmationFailure:
    if found.state != tables.ACTIVE:
        return _WHY_ENDED[found.state]
    with StockBook(connection, now) as book:
        if found.is_over(now):
            _expire(book, found)
            return ConfirmationFailure.RESERVATION_EXPIRED
        if found.mismatch:
            return ConfirmationFailure.MISMATCH
        _deduct(book, found)
        return now


def _deduct(book: StockBook, held: Reservation) -> None:
    for line in held.lines:
        book.move(tables.DEDUCT, line.sku, -line.quantity, -line.quantity, **_reference(held))
    whole = {"deducted": reservation_lines.c.quantity}
    of_it = reservation_lines.c.reservation_id == held.reservation_id
    book.connection.execute(update(reservation_lines).where(of_it).values(whole))
    _end(book, held, tables.CONFIRMED, confirmed_at=book.now)


def _give_back(book: StockBook, held: Reservation) -> None:
    for line in held.lines:
        book.move(tables.RELEASE, line.sku, 0, -line.quantity, **_reference(held))
    _end(book, held, tables.RELEASED)


def _expire(book: StockBook, held: Reservation) -> None:
    for line in held.lines:
        book.move(tables.EXPIRE, line.sku, 0, -line.quantity, **_reference(held))
    _end(book, held, tables.EXPIRED)


def _restock(book: StockBook, deducted: Reservation) -> None:
    for item in deducted.items:
        still_out = item.deducted - item.returned
        if still_out:
            book.move(tables.RESTOCK_CANCEL, item.line.sku, still_out, 0, **_reference(deducted))
    _end(book, deducted, tables.RESTOCKED)


def _end_overdue_holds(book: StockBook, limit: int = SWEEP_LIMIT) -> int:
    overdue = select(reservations.c.reservation_id).where(
        reservations.c.state == tables.ACTIVE, reservations.c.expires_at <= book.now
    )
    ids = book.connection.scalars(overdue.order_by(reservations.c.expires_at).limit(limit)).all()
    for reservation_id in ids:
        held = _reservation(book.connection, reservations.c.reservation_id == reservation_id)
        if held is not None:
            _expire(book, held)
    return len(ids)


def _end(book: StockBook, reservation: Reservation, state: str, **values: Any) -> None:
    _set(book.connection, reservation, {"state": state, "updated_at": book.now} | values)


def _set(connection: Connection, reservation: Reservation, values: dict[str, Any]) -> None:
    of_it = reservations.c.reservation_id == reservation.reservation_id
    connection.execute(update(reservations).where(of_it).values(values))


def _reference(reservation: Reservation) -> dict[str, str | None]:
    return {"order_id": reservation.order_id, "reservation_id": reservation.reservation_id}


def _why_unknown(connection: Connection, order_id: str) -> ConfirmationFailure:
    if _is_tombstoned(connection, order_id):
        return ConfirmationFailure.RELEASED
    other = connection.scalar(select(reservations.c.reservation_id).where(reservations.c.order_id == order_id).limit(1))
    return ConfirmationFailure.UNKNOWN if other is None else ConfirmationFailure.MISMATCH


def has_heard_of(connection: Connection, order_id: str) -> bool:
    """Whether the order ever reserved or released here."""
    reserved = select(reservations.c.reservation_id).where(reservations.c.order_id == order_id).limit(1)
    return _is_tombstoned(connection, order_id) or connection.scalar(reserved) is not None


def _is_tombstoned(connection: Connection, order_id: str) -> bool:
    found = select(tombstones.c.order_id).where(tombstones.c.order_id == order_id)
    return connection.scalar(found) is not None


def _bury(connection: Connection, order_id: str, cause: str, now: datetime) -> None:
    if not _is_tombstoned(connection, order_id):
        connection.execute(insert(tombstones), {"order_id": order_id, "cause": cause, "at": now})


def _is_returned(connection: Connection, order_id: str, return_id: str) -> bool:
    found = select(returns.c.return_id).where(returns.c.order_id == order_id, returns.c.return_id == return_id)
    return connection.scalar(found) is not None


def _accepted(reservation: Reservation, lines: Sequence[Line]) -> list[Line]:
    still_out = {item.line.sku: item.deducted - item.returned for item in reservation.items}
    capped = (replace(line, quantity=min(line.quantity, still_out.get(line.sku, 0))) for line in in_order(lines))
    return [line for line in capped if line.quantity > 0]


_COUNT_RETURNED = (
    update(reservation_lines)
    .where(
        reservation_lines.c.reservation_id == bindparam("reservation"),
        reservation_lines.c.product_id == bindparam("product"),
        reservation_lines.c.variant_id == bindparam("variant"),
    )
    .values(returned=reservation_lines.c.returned + bindparam("by"))
)


def _count_returned(connection: Connection, reservation: Reservation, line: Line) -> None:
    key = {"reservation": reservation.reservation_id, "product": line.product_id, "variant": line.variant_id}
    connection.execute(_COUNT_RETURNED, key | {"by": line.quantity})


def _stock_row(connection: Connection, product_id: str, variant_id: str) -> Any:
    found = select(stock).where(stock.c.product_id == product_id, stock.c.variant_id == variant_id)
    return connection.execute(found).one_or_none()


def _available(connection: Connection, line: Line) -> int:
    row = _stock_row(connection, line.product_id, line.variant_id)
    return max(0, row.on_hand - row.reserved - row.safety) if row else 0
