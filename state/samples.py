"""The local history of metrics: one row per replica and sampling instant."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from state.tables import metric_samples

MAX_SAMPLES = 2000


def add(connection: Connection, at: datetime, replica: str, sample: dict[str, Any]) -> None:
    connection.execute(insert(metric_samples), {"at": at, "replica": replica, "sample": sample})


def since(
    connection: Connection, start: datetime, limit: int = MAX_SAMPLES
) -> list[tuple[datetime, str, dict[str, Any]]]:
    """``(at, replica, sample)`` oldest first; the newest ``limit`` of them."""
    table = metric_samples
    statement = select(table.c.at, table.c.replica, table.c.sample).where(table.c.at >= start)
    rows = connection.execute(statement.order_by(table.c.at.desc()).limit(limit)).all()
    return [(at, replica, sample) for at, replica, sample in reversed(rows)]


def prune(connection: Connection, before: datetime, limit: int) -> int:
    """Delete a small step of old samples; returns how many went."""
    table = metric_samples
    old = connection.execute(
        select(table.c.at, table.c.replica).where(table.c.at < before).order_by(table.c.at).limit(limit)
    ).all()
    if not old:
        return 0
    return connection.execute(delete(table).where(table.c.at <= old[-1][0])).rowcount
