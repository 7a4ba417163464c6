"""Orders that could not be reserved because inventory could not be asked, or refused us and not the order."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select

from services.domain.errors import InventoryTimeout, InventoryUnavailable
from services.domain.orders.model import InventoryStatus, OrderStatus
from state.tables import orders

CODES = (InventoryUnavailable.code, InventoryTimeout.code)
"""Errors that end an order although nothing was wrong with it."""

LOOKED_AT = 50
"""Newest orders that are read; more in a row are not counted."""

_UNDECIDED = (OrderStatus.RECEIVED, OrderStatus.RESERVING)
_NEWEST = (
    select(orders.c.status, orders.c.inventory_status, orders.c.failure)
    .order_by(orders.c.created_at.desc(), orders.c.order_id.desc())
    .limit(LOOKED_AT)
)


def in_a_row(connection: Connection) -> int:
    """How many of the newest orders in a row are refused or wait because of inventory; undecided ones do not count."""
    count = 0
    for status, inventory_status, failure in connection.execute(_NEWEST):
        if _is_refused(status, failure):
            count += 1
        elif not _says_nothing(status, inventory_status):
            break
    return count


def _is_refused(status: str, failure: Any) -> bool:
    if status == OrderStatus.REJECTED:
        return isinstance(failure, dict) and failure.get("code") in CODES
    return status == OrderStatus.PENDING_INVENTORY


def _says_nothing(status: str, inventory_status: str) -> bool:
    is_cancelled_early = status == OrderStatus.CANCELLED and inventory_status == InventoryStatus.NONE
    return status in _UNDECIDED or is_cancelled_early
