"""Read-only queries of the Inventory Service."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, select

from services.domain.orders.model import Line
from services.http_server.envelope import wire
from services.sandbox.inventory_service.tables import (
    ACTIVE,
    EXPIRED,
    ledger,
    reservation_lines,
    reservations,
    stock,
    tombstones,
)

Sku = tuple[str, str]
TOMBSTONED = "TOMBSTONED"

_RESERVATION = reservations.c["reservation_id", "state", "created_at", "expires_at", "confirmed_at", "updated_at"]
_LINE = reservation_lines.c["product_id", "variant_id", "quantity", "deducted", "returned"]


def availability(connection: Connection, lines: Iterable[Line], now: datetime) -> list[tuple[Line, int]]:
    """Each line with the quantity available to a new reservation; 0 for unknown products.

    Stock of an overdue reservation counts as available, whether the sweeper has expired it or not.
    """
    overdue = _overdue_quantities(connection, now)
    found = []
    for line in lines:
        row = stock_row(connection, line.product_id, line.variant_id)
        found.append((line, free(row, overdue.get(line.sku, 0)) if row else 0))
    return found


def stock_row(connection: Connection, product_id: str, variant_id: str) -> Row[Any] | None:
    of_it = (stock.c.product_id == product_id, stock.c.variant_id == variant_id)
    return connection.execute(select(stock).where(*of_it)).one_or_none()


def free(row: Row[Any], overdue: int = 0) -> int:
    """The quantity available to a new reservation, with ``overdue`` units of reservations whose time has passed."""
    quantity: int = row.on_hand - row.reserved - row.safety + overdue
    return max(0, quantity)


def stock_list(connection: Connection, now: datetime) -> list[dict[str, Any]]:
    """Every product, by name."""
    overdue = _overdue_quantities(connection, now)
    rows = connection.execute(select(stock).order_by(stock.c.name, stock.c.product_id, stock.c.variant_id))
    return [_stock_view(row, overdue.get((row.product_id, row.variant_id), 0)) for row in rows]


def stock_item(connection: Connection, product_id: str, variant_id: str, now: datetime) -> dict[str, Any] | None:
    """One product, or None."""
    row = stock_row(connection, product_id, variant_id)
    return _stock_view(row, _overdue_quantities(connection, now).get((product_id, variant_id), 0)) if row else None


def reservation_view(connection: Connection, order_id: str, now: datetime) -> dict[str, Any] | None:
    """Reservations, lines and ledger of one order; None for an unknown order."""
    of_it = select(*_RESERVATION).where(reservations.c.order_id == order_id)
    rows = connection.execute(of_it.order_by(reservations.c.created_at.desc())).all()
    tombstone = connection.execute(select(tombstones).where(tombstones.c.order_id == order_id)).one_or_none()
    if not rows and tombstone is None:
        return None
    views = [_reservation_view(connection, row, now) for row in rows]
    current = views[0] if views else {"reservationId": None, "state": TOMBSTONED, "expiresAt": None, "items": []}
    buried = {"cause": tombstone.cause, "at": tombstone.at} if tombstone else None
    entries = connection.execute(select(ledger).where(ledger.c.order_id == order_id).order_by(ledger.c.id))
    return {
        "orderId": order_id,
        **current,
        "tombstone": buried,
        "reservations": views,
        "ledger": [wire(row) for row in entries],
    }


def ledger_page(connection: Connection, limit: int) -> list[dict[str, Any]]:
    """The latest movements, newest first."""
    return [wire(row) for row in connection.execute(select(ledger).order_by(ledger.c.id.desc()).limit(limit))]


@dataclass(frozen=True, slots=True)
class Imbalance:
    """A stock column that differs from the sum it should equal."""

    sku: Sku
    column: str
    stored: int
    expected: int
    of: str
    """The source of the expected number: the ledger, or the lines of active reservations."""


def imbalances(connection: Connection) -> list[Imbalance]:
    """Differences between ledger and columns, and between reservations and reserved stock; [] if none."""
    sums = select(
        ledger.c.product_id, ledger.c.variant_id, func.sum(ledger.c.on_hand_delta), func.sum(ledger.c.reserved_delta)
    )
    moved = {
        (p, v): (h, r) for p, v, h, r in connection.execute(sums.group_by(ledger.c.product_id, ledger.c.variant_id))
    }
    held = _held(connection, reservations.c.state == ACTIVE)
    found = []
    for row in connection.execute(select(stock).order_by(stock.c.product_id, stock.c.variant_id)):
        sku = (row.product_id, row.variant_id)
        on_hand, reserved = moved.get(sku, (0, 0))
        found += [
            Imbalance(sku, "on_hand", row.on_hand, on_hand, "ledger"),
            Imbalance(sku, "reserved", row.reserved, reserved, "ledger"),
            Imbalance(sku, "reserved", row.reserved, held.get(sku, 0), "holds"),
        ]
    return [imbalance for imbalance in found if imbalance.stored != imbalance.expected]


def _overdue_quantities(connection: Connection, now: datetime) -> dict[Sku, int]:
    return _held(connection, reservations.c.state == ACTIVE, reservations.c.expires_at <= now)


def _held(connection: Connection, *criteria: Any) -> dict[Sku, int]:
    lines = reservation_lines.c
    statement = (
        select(lines.product_id, lines.variant_id, func.sum(lines.quantity))
        .join(reservations, reservations.c.reservation_id == lines.reservation_id)
        .where(*criteria)
        .group_by(lines.product_id, lines.variant_id)
    )
    return {(product, variant): quantity for product, variant, quantity in connection.execute(statement)}


def _stock_view(row: Row[Any], overdue: int) -> dict[str, Any]:
    return wire(row) | {"reserved": row.reserved - overdue, "available": free(row, overdue)}


def _reservation_view(connection: Connection, row: Row[Any], now: datetime) -> dict[str, Any]:
    of_it = reservation_lines.c.reservation_id == row.reservation_id
    lines = connection.execute(select(*_LINE).where(of_it).order_by(_LINE.product_id, _LINE.variant_id))
    is_over = row.state == ACTIVE and row.expires_at <= now
    return wire(row) | {"items": [wire(line) for line in lines]} | ({"state": EXPIRED} if is_over else {})
