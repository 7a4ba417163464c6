"""Returns already asked for: each returnId of an order takes effect once."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select

from state.tables import returns


def find(connection: Connection, order_id: str, return_id: str) -> str | None:
    """The request's hash of a return of the order, or None."""
    same = (returns.c.order_id == order_id, returns.c.return_id == return_id)
    return connection.scalar(select(returns.c.request_hash).where(*same))


def add(
    connection: Connection,
    return_id: str,
    order_id: str,
    *,
    request_hash: str,
    items: list[dict[str, Any]],
    reason: str,
    restockable: bool,
    at: datetime,
) -> None:
    """Remember a return; raises IntegrityError when the order has one of that id."""
    row = {
        "return_id": return_id,
        "order_id": order_id,
        "request_hash": request_hash,
        "items": items,
        "reason": reason,
        "restockable": restockable,
        "created_at": at,
    }
    connection.execute(insert(returns), row)
