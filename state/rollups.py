"""Rollups of the metric history: the counts of each replica per minute and per hour.

Writing a row again replaces it, so several replicas may roll up the same minute.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, select

from state.engine import rows
from state.tables import metric_rollups

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
MAX_ROLLUPS = 20_000

Row = tuple[datetime, str, dict[str, Any]]
"""``(start of the step, replica, counts)``."""


def put(connection: Connection, step: timedelta, found: Sequence[Row]) -> None:
    """Insert rows; existing ones are replaced."""
    of_step = {"step_seconds": _seconds(step)}
    values = [of_step | {"at": at, "replica": replica, "counts": counts} for at, replica, counts in found]
    rows.put(connection, metric_rollups, *values)


def between(
    connection: Connection, step: timedelta, start: datetime, end: datetime, limit: int = MAX_ROLLUPS
) -> list[Row]:
    """Rows that begin in ``[start, end)``, oldest first; the newest ``limit`` of them."""
    table = metric_rollups
    statement = (
        select(table.c.at, table.c.replica, table.c.counts)
        .where(table.c.step_seconds == _seconds(step), table.c.at >= start, table.c.at < end)
        .order_by(table.c.at.desc(), table.c.replica.desc())
        .limit(limit)
    )
    return [(at, replica, counts) for at, replica, counts in reversed(connection.execute(statement).all())]


def newest(connection: Connection, step: timedelta) -> datetime | None:
    """The start of the newest row."""
    table = metric_rollups
    statement = select(table.c.at).where(table.c.step_seconds == _seconds(step)).order_by(table.c.at.desc()).limit(1)
    return connection.scalar(statement)


def first_at(connection: Connection, step: timedelta, since: datetime) -> datetime | None:
    """The start of the oldest row from ``since`` on."""
    table = metric_rollups
    statement = select(table.c.at).where(table.c.step_seconds == _seconds(step), table.c.at >= since)
    return connection.scalar(statement.order_by(table.c.at).limit(1))


def _seconds(step: timedelta) -> int:
    return int(step.total_seconds())
