"""The local history of metrics: one row per replica and sampling instant."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from state.tables import metric_samples

MAX_SAMPLES = 2000


def add(connection: Connection, at: datetime, replica: str, sample: dict[str, Any]) -> None:
    connection.execute(insert(metric_samples), {"at": at, "replica": replica, "sample": sample})


def since(
    connection: Connection,
    start: datetime,
    known: Mapping[tuple[datetime, str], Mapping[str, Any]] | None = None,
    limit: int = MAX_SAMPLES,
) -> list[tuple[datetime, str, Mapping[str, Any]]]:
    """``(at, replica, sample)`` oldest first; the newest ``limit`` of them.

    What is ``known``, by time and replica, and older than everything that is not, is not read again.
    """
    table = metric_samples
    columns = (table.c.at, table.c.replica)
    newest = select(*columns).where(table.c.at >= start).order_by(table.c.at.desc()).limit(limit)
    keys = [(at, replica) for at, replica in connection.execute(newest)]
    have = dict(known or {})
    unknown = [key for key in keys if key not in have]
    if unknown:
        missing = select(*columns, table.c.sample).where(table.c.at >= unknown[-1][0], table.c.at <= unknown[0][0])
        have |= {(at, replica): sample for at, replica, sample in connection.execute(missing)}
    return [(at, replica, have[at, replica]) for at, replica in reversed(keys)]


def prune(connection: Connection, before: datetime, limit: int) -> int:
    """Delete a small step of old samples; returns how many went."""
    table = metric_samples
    old = connection.execute(
        select(table.c.at, table.c.replica).where(table.c.at < before).order_by(table.c.at).limit(limit)
    ).all()
    if not old:
        return 0
    return connection.execute(delete(table).where(table.c.at <= old[-1][0])).rowcount
