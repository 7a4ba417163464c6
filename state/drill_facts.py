"""What the database knows of the orders of a stretch of time: for the report of a drill."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select

from services.domain.orders.model import OrderStatus
from state.tables import breaker_transitions, conservation_differences, orders, reviews

MAX_ORDERS = 5000
"""Orders of one drill that are looked at, the first ones."""

UNDER_WAY = (
    OrderStatus.RECEIVED,
    OrderStatus.RESERVING,
    OrderStatus.PENDING_INVENTORY,
    OrderStatus.PAYING,
    OrderStatus.PLACED,
)
_STEP = 500


@dataclass(frozen=True, slots=True)
class OrdersOfDrill:
    """What became of the orders that were placed while the faults lasted."""

    placed: int
    statuses: dict[str, int]
    refusals: dict[str, int]
    """Codes of the failures with which orders ended."""
    flagged: int
    """Orders with a case for a person, open or not."""
    unsettled: tuple[str, ...]
    """On their way, without an open case."""
    ids: tuple[str, ...]


def orders_between(connection: Connection, since: datetime, until: datetime) -> OrdersOfDrill:
    columns = (orders.c.order_id, orders.c.status, orders.c.failure)
    statement = select(*columns).where(orders.c.created_at >= since, orders.c.created_at <= until)
    rows = connection.execute(statement.order_by(orders.c.created_at, orders.c.order_id).limit(MAX_ORDERS)).all()
    ids = [row.order_id for row in rows]
    cases = _cases(connection, ids)
    waiting = {order_id for order_id, states in cases.items() if "OPEN" in states}
    return OrdersOfDrill(
        placed=len(rows),
        statuses=dict(Counter(row.status for row in rows)),
        refusals=dict(Counter(str(row.failure.get("code")) for row in rows if row.failure)),
        flagged=len(cases),
        unsettled=tuple(row.order_id for row in rows if row.status in UNDER_WAY and row.order_id not in waiting),
        ids=tuple(ids),
    )


def first_opened(connection: Connection, since: datetime, until: datetime) -> tuple[str, datetime] | None:
    """The first breaker that opened, and when."""
    table = breaker_transitions
    statement = select(table.c.breaker, table.c.at).where(
        table.c.at >= since, table.c.at <= until, table.c.to_state == "open"
    )
    row = connection.execute(statement.order_by(table.c.at).limit(1)).first()
    return (row[0], row[1]) if row else None


def opened(connection: Connection, since: datetime, until: datetime) -> dict[str, int]:
    """How often each breaker opened."""
    table = breaker_transitions
    statement = (
        select(table.c.breaker, func.count())
        .where(table.c.at >= since, table.c.at <= until, table.c.to_state == "open")
        .group_by(table.c.breaker)
    )
    return {row[0]: row[1] for row in connection.execute(statement)}


def differences_of(connection: Connection, order_ids: Sequence[str]) -> list[tuple[str, str]]:
    """``(order_id, kind)`` of what does not add up among these orders."""
    table = conservation_differences
    found: list[tuple[str, str]] = []
    for start in range(0, len(order_ids), _STEP):
        some = order_ids[start : start + _STEP]
        statement = select(table.c.order_id, table.c.kind).where(table.c.order_id.in_(some), table.c.state != "SETTLED")
        found += [(row[0], row[1]) for row in connection.execute(statement)]
    return found


def _cases(connection: Connection, order_ids: Sequence[str]) -> dict[str, set[str]]:
    cases: dict[str, set[str]] = {}
    for start in range(0, len(order_ids), _STEP):
        some = order_ids[start : start + _STEP]
        statement = select(reviews.c.order_id, reviews.c.state).where(reviews.c.order_id.in_(some))
        for order_id, state in connection.execute(statement):
            cases.setdefault(order_id, set()).add(state)
    return cases
