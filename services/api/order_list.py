"""GET /api/v1/orders: a page of orders, newest first, and where the next one begins.

A page may hold fewer orders than its limit, even none, while a cursor says that more may follow.

Source: contract section 3.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from services.api import views
from services.api.http import wrong_value
from services.api.schemas import OrdersQuery
from services.domain.external import identifier, utc_time
from state import order_search, reviews
from state.order_search import OrderQuery


def reader(query: OrdersQuery) -> Callable[[Connection], dict[str, Any]]:
    """What reads the page; raises ValidationFailed for a cursor that is none."""
    before = _cursor(query.cursor)

    def read(connection: Connection) -> dict[str, Any]:
        found = order_search.find(connection, _search(query), limit=query.limit, before=before)
        cases = reviews.of_orders(connection, [order.order_id for order in found.orders])
        items = [views.order_view(order, cases[order.order_id]) for order in found.orders]
        # A filter that no index serves is looked for in a part of the orders; the next page goes on behind it.
        last = found.orders[-1] if found.has_more else None
        end = (last.created_at, last.order_id) if last else found.frontier
        return {"items": items, "nextCursor": _next_cursor(*end) if end else None}

    return read


def _search(query: OrdersQuery) -> OrderQuery:
    return OrderQuery(
        user_id=query.userId or "",
        statuses=(query.status,) if query.status else (),
        inventory_statuses=(query.inventoryStatus,) if query.inventoryStatus else (),
        flagged=query.reviewOpen is True,
        unflagged=query.reviewOpen is False,
    )


def _next_cursor(created_at: datetime, order_id: str) -> str:
    return urlsafe_b64encode(f"{created_at.isoformat()} {order_id}".encode()).decode().rstrip("=")


def _cursor(cursor: str | None) -> tuple[datetime, str] | None:
    if cursor is None:
        return None
    try:
        at, _, order_id = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().partition(" ")
        return utc_time(at), identifier(order_id)
    except (ValueError, NotBase64):
        raise wrong_value("cursor", cursor, "the nextCursor of an earlier answer") from None
