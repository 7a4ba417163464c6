"""The latest inventory status of each order that a person looked up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from services.domain.conservation import StockState
from services.domain.reconciliation import LookupResult, is_fresh
from state import orders
from state.engine import rows
from state.tables import inventory_lookups


@dataclass(frozen=True, slots=True)
class StoredLookup:
    """A lookup result with its time and the actor who requested it."""

    order_id: str
    result: LookupResult
    asked_at: datetime
    asked_by: str


_FACTS = ("stock", "said", "reservation_id", "expires_at", "problem")
_COLUMNS = [inventory_lookups.c[name] for name in ("order_id", *_FACTS, "asked_at", "asked_by")]


def note(connection: Connection, answer: StoredLookup) -> None:
    """Store the answer unless a later one is stored."""
    facts = {name: getattr(answer.result, name) for name in _FACTS}
    row = {"order_id": answer.order_id, **facts, "asked_at": answer.asked_at, "asked_by": answer.asked_by}
    rows.put(connection, inventory_lookups, row, newer_by="asked_at")


def of_orders(connection: Connection, order_ids: Sequence[str]) -> dict[str, StoredLookup]:
    """The latest answer by order id; orders without an answer are left out."""
    if not order_ids:
        return {}
    found = connection.execute(select(*_COLUMNS).where(inventory_lookups.c.order_id.in_(order_ids)))
    return {order_id: _answer(order_id, *facts) for order_id, *facts in found}


def get(connection: Connection, order_id: str) -> StoredLookup | None:
    return of_orders(connection, [order_id]).get(order_id)


def not_fresh(connection: Connection, order_ids: Sequence[str], now: datetime) -> list[str]:
    """The orders without a recent answer, each once and in the given sequence; unknown orders are left out."""
    ids = list(dict.fromkeys(order_ids))
    changed = {order.order_id: order.updated_at for order in orders.get_many(connection, ids)}
    known = {
        order_id
        for order_id, answer in of_orders(connection, ids).items()
        if order_id in changed and is_fresh(answer.asked_at, now, changed[order_id])
    }
    return [order_id for order_id in ids if order_id in changed and order_id not in known]


def _answer(order_id: str, stock: str | None, *facts: Any) -> StoredLookup:
    *others, asked_at, asked_by = facts
    known = StockState(stock) if stock in tuple(StockState) else None
    return StoredLookup(order_id, LookupResult(known, *others), asked_at, asked_by)
