"""Incident impacts: orders that a failure hurt, and when. A step has one row for each kind and inventory call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Select, func, insert, select

from services.domain.incident_impact import Impact
from state.engine.rows import Rows
from state.tables import order_impacts

MAX_WINDOW = 10_000
"""Maximum number of rows read for one interval, the newest ones."""

_INSERT = insert(order_impacts)
_IMPACTS = Rows(order_impacts, Impact, call="operation")


@dataclass(frozen=True, slots=True)
class Window:
    """An interval of time and the impacts that it counts."""

    start: datetime
    end: datetime
    """End of the interval, exclusive."""
    operations: tuple[str, ...] = ()
    """Inventory calls that count; empty: every call."""
    kinds: tuple[str, ...] = ()
    """Kinds of impact that count; empty: every kind."""


@dataclass(frozen=True, slots=True)
class AffectedOrder:
    """An order and how it was affected within a window."""

    order_id: str
    first_at: datetime
    impacts: tuple[Impact, ...]
    """Impacts within the window, oldest first."""


def add(connection: Connection, order_id: str, impacts: Sequence[Impact]) -> None:
    """Record impacts in the transaction that records their cause."""
    if impacts:
        rows = [_IMPACTS.values(impact) | {"order_id": order_id} for impact in impacts]
        connection.execute(_INSERT, rows)


def counts(connection: Connection, window: Window) -> dict[tuple[str, str], int]:
    """Number of impacts by kind and inventory call."""
    found = _within(window).subquery()
    statement = select(found.c.kind, found.c.operation, func.count()).group_by(found.c.kind, found.c.operation)
    return {(kind, operation): count for kind, operation, count in connection.execute(statement)}


def count_orders(connection: Connection, window: Window) -> int:
    """The number of affected orders, each counted once."""
    found = _within(window).subquery()
    return connection.scalar(select(func.count(found.c.order_id.distinct()))) or 0


def page(connection: Connection, window: Window, *, limit: int, offset: int = 0) -> list[AffectedOrder]:
    """Affected orders, the most recently affected first, each with all its impacts in the window."""
    found = _within(window).subquery()
    first_at = func.min(found.c.at)
    statement = (
        select(found.c.order_id, first_at)
        .group_by(found.c.order_id)
        .order_by(first_at.desc(), found.c.order_id)
        .limit(limit)
        .offset(offset)
    )
    order = [order_id for order_id, _ in connection.execute(statement)]
    if not order:
        return []
    details = select(found).where(found.c.order_id.in_(order)).order_by(found.c.at, found.c.id)
    impacts: dict[str, list[Impact]] = {}
    for row in connection.execute(details):
        impacts.setdefault(row.order_id, []).append(Impact(row.at, row.kind, row.operation, row.reason))
    return [AffectedOrder(order_id, impacts[order_id][0].at, tuple(impacts[order_id])) for order_id in order]


def affected_order_ids(window: Window) -> Select[tuple[str]]:
    """The ids of the orders that were affected within a window; page() lists the same orders."""
    return select(_within(window).subquery().c.order_id)


def _within(window: Window) -> Select[tuple[int, datetime, str, str, str, str]]:
    table = order_impacts
    statement = select(table.c.id, table.c.at, table.c.order_id, table.c.kind, table.c.operation, table.c.reason)
    statement = statement.where(table.c.at >= window.start, table.c.at < window.end)
    if window.operations:
        statement = statement.where(table.c.operation.in_(window.operations))
    if window.kinds:
        statement = statement.where(table.c.kind.in_(window.kinds))
    return statement.order_by(table.c.at.desc(), table.c.id.desc()).limit(MAX_WINDOW)
