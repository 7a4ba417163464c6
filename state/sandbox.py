"""The sandbox: drills, one at a time, with the facts for their reports, and stored values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, insert, select

from services.domain.orders.model import OrderStatus
from state.engine import rows
from state.engine.rows import Rows
from state.tables import breaker_transitions, conservation_differences, drills, orders, reviews, sandbox_values

MAX_PAGE = 100


@dataclass(frozen=True, slots=True)
class Drill:
    """One drill and its progress."""

    drill_id: str
    kind: str
    faults: dict[str, Any]
    """The faults of the Inventory Service, in the format of its fault switch."""
    seconds: int
    """How long the faults last."""
    actor: str
    reason: str
    phase: str
    created_at: datetime
    began_at: datetime | None = None
    """When the faults were first observed."""
    ended_at: datetime | None = None
    """When the state from before the drill was observed again."""
    recovered_at: datetime | None = None
    finished_at: datetime | None = None
    stopped_by: str | None = None
    before: dict[str, Any] | None = None
    """``{faults, waiting, releases, reviews}`` before the drill, to restore the faults and to detect recovery."""
    noticed: dict[str, str] = field(default_factory=dict)
    """What detected the faults first, and when: ``{breaker: time, health: time, alert: time}``."""
    report: dict[str, Any] | None = None
    version: int = 1


_DRILLS = Rows(drills, Drill)


def start(connection: Connection, drill: Drill) -> bool:
    """Store a new drill; False when another one is active."""
    if active(connection) is not None:
        return False
    connection.execute(insert(drills), _DRILLS.values(drill) | {"is_active": 1})
    return True


def active(connection: Connection) -> Drill | None:
    """The active drill, or None."""
    return _DRILLS.one(connection, drills.c.is_active == 1)


def save(connection: Connection, drill: Drill, **values: Any) -> Drill | None:
    """Store changed values under a version check; None when the drill changed meanwhile."""
    changes = values | {"version": drill.version + 1}
    done = {"is_active": None} if changes.get("finished_at") else {}
    is_as_seen = (drills.c.drill_id == drill.drill_id, drills.c.version == drill.version)
    changed = rows.change(connection, drills, *is_as_seen, **changes, **done)
    return replace(drill, **changes) if changed else None


def get(connection: Connection, drill_id: str) -> Drill | None:
    return _DRILLS.one(connection, drills.c.drill_id == drill_id)


def latest(connection: Connection, limit: int = 20) -> list[Drill]:
    """Drills, newest first."""
    return _DRILLS.some(connection, order=[drills.c.created_at.desc()], limit=min(limit, MAX_PAGE))


MAX_ORDERS = 5000
"""Maximum number of orders of one drill that are read, the first ones."""

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
    """Outcome of the orders that were placed while the faults lasted."""

    placed: int
    statuses: dict[str, int]
    refusals: dict[str, int]
    """Number of orders by code of the failure with which they ended."""
    flagged: int
    """Number of orders with a review case, open or resolved."""
    unsettled: tuple[str, ...]
    """Ids of unfinished orders without an open case."""
    ids: tuple[str, ...]


def orders_placed_between(connection: Connection, since: datetime, until: datetime) -> OrdersOfDrill:
    columns = (orders.c.order_id, orders.c.status, orders.c.failure)
    statement = select(*columns).where(orders.c.created_at >= since, orders.c.created_at <= until)
    placed = connection.execute(statement.order_by(orders.c.created_at, orders.c.order_id).limit(MAX_ORDERS)).all()
    ids = [row.order_id for row in placed]
    cases = _cases(connection, ids)
    waiting = {order_id for order_id, states in cases.items() if "OPEN" in states}
    return OrdersOfDrill(
        placed=len(placed),
        statuses=dict(Counter(row.status for row in placed)),
        refusals=dict(Counter(str(row.failure.get("code")) for row in placed if row.failure)),
        flagged=len(cases),
        unsettled=tuple(row.order_id for row in placed if row.status in UNDER_WAY and row.order_id not in waiting),
        ids=tuple(ids),
    )


def first_breaker_opened(connection: Connection, since: datetime, until: datetime) -> tuple[str, datetime] | None:
    """The first breaker that opened, and when."""
    statement = select(breaker_transitions.c.breaker, breaker_transitions.c.at).where(*_opened(since, until))
    row = connection.execute(statement.order_by(breaker_transitions.c.at).limit(1)).first()
    return (row[0], row[1]) if row else None


def breakers_opened(connection: Connection, since: datetime, until: datetime) -> dict[str, int]:
    """Number of times that each breaker opened."""
    return rows.count_by(connection, breaker_transitions.c.breaker, *_opened(since, until))


def _opened(since: datetime, until: datetime) -> tuple[ColumnElement[bool], ...]:
    table = breaker_transitions
    return table.c.at >= since, table.c.at <= until, table.c.to_state == "open"


def differences_of(connection: Connection, order_ids: Sequence[str]) -> list[tuple[str, str]]:
    """``(order_id, kind)`` of the unsettled conservation differences of these orders."""
    table = conservation_differences
    unsettled = select(table.c.order_id, table.c.kind).where(table.c.state != "SETTLED")
    return [(row[0], row[1]) for row in _of_orders(connection, unsettled, table.c.order_id, order_ids)]


def _of_orders(
    connection: Connection, statement: Select[Any], column: ColumnElement[str], order_ids: Sequence[str]
) -> Iterator[Any]:
    for start in range(0, len(order_ids), _STEP):
        yield from connection.execute(statement.where(column.in_(order_ids[start : start + _STEP])))


def _cases(connection: Connection, order_ids: Sequence[str]) -> dict[str, set[str]]:
    cases: dict[str, set[str]] = {}
    states = select(reviews.c.order_id, reviews.c.state)
    for order_id, state in _of_orders(connection, states, reviews.c.order_id, order_ids):
        cases.setdefault(order_id, set()).add(state)
    return cases


TRAFFIC = "traffic"
"""``{ordersPerSecond}`` as requested on the console."""
SHELVES = "shelves"
"""``{items, ledger, faults, traffic}`` as the reference Inventory Service last returned them."""


def put_value(connection: Connection, name: str, value: dict[str, Any], at: datetime) -> None:
    rows.put(connection, sandbox_values, {"name": name, "value": value, "changed_at": at})


def get_value(connection: Connection, name: str) -> tuple[dict[str, Any], datetime] | None:
    """The value and when it was stored, or None."""
    table = sandbox_values
    row = connection.execute(select(table.c.value, table.c.changed_at).where(table.c.name == name)).one_or_none()
    return (row[0], row[1]) if row else None
