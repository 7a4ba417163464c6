"""The samples of all replicas, oldest first, for those who judge alerts by them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from state.tables import metric_samples


def samples_between(
    connection: Connection, start: datetime, end: datetime, limit: int
) -> list[tuple[datetime, str, dict[str, Any]]]:
    """``(at, replica, sample)`` from ``start`` to ``end``, both included, oldest first, at most ``limit``."""
    table = metric_samples
    statement = select(table.c.at, table.c.replica, table.c.sample).where(table.c.at >= start, table.c.at <= end)
    ordered = statement.order_by(table.c.at, table.c.replica).limit(limit)
    return [(at, replica, sample) for at, replica, sample in connection.execute(ordered)]
