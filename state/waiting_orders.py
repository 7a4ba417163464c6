"""What the orders that wait for inventory wait for."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from services.domain.orders.model import OrderStatus
from state.tables import order_items, orders

MAX_ORDERS = 5000
"""Waiting orders that are looked at, the longest waiting ones."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Orders in PENDING_INVENTORY, by variant."""

    orders: int
    """Waiting orders that were looked at."""
    is_capped: bool
    variants: dict[tuple[str, str], tuple[int, int]]
    """``(product_id, variant_id) -> (orders, units)``."""


def by_variant(connection: Connection, limit: int = MAX_ORDERS) -> Wanted:
    """Orders and units that wait, per variant."""
    waiting = (
        select(orders.c.order_id)
        .where(orders.c.status == OrderStatus.PENDING_INVENTORY)
        .order_by(orders.c.created_at)
        .limit(limit)
        .subquery("waiting")
    )
    count = connection.scalar(select(func.count()).select_from(waiting)) or 0
    lines = (
        select(order_items.c.product_id, order_items.c.variant_id, func.count(), func.sum(order_items.c.quantity))
        .join(waiting, waiting.c.order_id == order_items.c.order_id)
        .group_by(order_items.c.product_id, order_items.c.variant_id)
    )
    found = {(row[0], row[1]): (int(row[2]), int(row[3])) for row in connection.execute(lines)}
    return Wanted(count, count >= limit, found)
