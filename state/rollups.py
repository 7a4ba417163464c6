"""Rollups of the metric history: the counts of each replica per minute and per hour.

Writing a row again replaces it, so several replicas may roll up the same minute.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql, sqlite

from state.tables import metric_rollups

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
MAX_ROLLUPS = 20_000

Row = tuple[datetime, str, dict[str, Any]]
"""``(start of the step, replica, counts)``."""


def put(connection: Connection, step: timedelta, rows: Sequence[Row]) -> None:
    """Insert rows; existing ones are replaced."""
    if not rows:
        return
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(metric_rollups)
    replacing = statement.on_conflict_do_update(
        index_elements=["step_seconds", "at", "replica"], set_={"counts": statement.excluded.counts}
    )
    seconds = _seconds(step)
    values = [{"step_seconds": seconds, "at": at, "replica": replica, "counts": counts} for at, replica, counts in rows]
    connection.execute(replacing, values)


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
