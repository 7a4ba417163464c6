"""Returns already asked for: each returnId takes effect once."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select

from state.tables import returns


def find(connection: Connection, return_id: str) -> tuple[str, str] | None:
    """``(order_id, request_hash)`` of a return, or None."""
    statement = select(returns.c.order_id, returns.c.request_hash).where(returns.c.return_id == return_id)
    row = connection.execute(statement).one_or_none()
    return (row[0], row[1]) if row else None


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
    """Remember a return; raises IntegrityError when the id is taken."""
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
