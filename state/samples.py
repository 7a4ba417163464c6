"""Metric samples, one row per replica and sampling time, and their rollups: the counts per minute and per hour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, insert, select, tuple_

from state.engine import rows
from state.tables import metric_rollups, metric_samples

MAX_SAMPLES = 2000
MAX_KEYS = 40_000
"""Maximum of keys from which samples are chosen: half an hour of twenty replicas with a sample a second."""

SPACINGS = (2, 5, 10, 15, 30)
"""Seconds between samples of one replica when there are too many; at most the finest step of the charts."""

Key = tuple[datetime, str]
Sampled = tuple[datetime, str, dict[str, Any]]
"""``(at, replica, sample)``."""

_SAMPLED = metric_samples.c["at", "replica", "sample"]

UNROLLED_KEPT_FOR = timedelta(days=1)
"""Additional time for which a sample is kept that no rollup of its minute includes."""


def add(connection: Connection, at: datetime, replica: str, sample: dict[str, Any]) -> None:
    connection.execute(insert(metric_samples), {"at": at, "replica": replica, "sample": sample})


def since(
    connection: Connection,
    start: datetime,
    known: Mapping[tuple[datetime, str], Mapping[str, Any]] | None = None,
    limit: int = MAX_SAMPLES,
) -> list[tuple[datetime, str, Mapping[str, Any]]]:
    """``(at, replica, sample)`` since ``start``, oldest first, at most ``limit``.

    When there are more, only the last sample of each replica in every few seconds is returned (SPACINGS). ``known``
    contains samples by time and replica, which are not read again.
    """
    table = metric_samples
    columns = (table.c.at, table.c.replica)
    newest = select(*columns).where(table.c.at >= start).order_by(table.c.at.desc(), table.c.replica.desc())
    keys = _thinned([(at, replica) for at, replica in connection.execute(newest.limit(MAX_KEYS))], limit)
    have = dict(known or {})
    unknown = [key for key in keys if key not in have]
    if unknown:
        within = (table.c.at >= unknown[-1][0], table.c.at <= unknown[0][0])
        missing = select(*columns, table.c.sample).where(*within, tuple_(*columns).in_(unknown))
        have |= {(at, replica): sample for at, replica, sample in connection.execute(missing)}
    # A comparison does not find a row whose time is stored in another format.
    return [(*key, have[key]) for key in reversed(keys) if key in have]


def _thinned(keys: list[Key], limit: int) -> list[Key]:
    """At most ``limit`` of the keys, newest first: the last key of each replica in each slot of time."""
    if len(keys) <= limit:
        return keys
    found = keys
    for seconds in SPACINGS:
        slots: dict[tuple[int, str], Key] = {}
        for at, replica in keys:
            slots.setdefault((int(at.timestamp()) // seconds, replica), (at, replica))
        found = list(slots.values())
        if len(found) <= limit:
            break
    return found[:limit]


def between(connection: Connection, start: datetime, end: datetime, limit: int = MAX_SAMPLES) -> list[Sampled]:
    """Samples of ``[start, end)``, the oldest ``limit`` of them, oldest first."""
    return _oldest(connection, limit, metric_samples.c.at >= start, metric_samples.c.at < end)


def up_to(connection: Connection, *, start: datetime, end: datetime, limit: int) -> list[Sampled]:
    """Samples from ``start`` to ``end``, both included, the oldest ``limit``, oldest first."""
    return _oldest(connection, limit, metric_samples.c.at >= start, metric_samples.c.at <= end)


def _oldest(connection: Connection, limit: int, *conditions: ColumnElement[bool]) -> list[Sampled]:
    statement = select(*_SAMPLED).where(*conditions).order_by(_SAMPLED.at, _SAMPLED.replica).limit(limit)
    return [(at, replica, sample) for at, replica, sample in connection.execute(statement)]


def last_before(connection: Connection, replica: str, at: datetime, not_before: datetime) -> Sampled | None:
    """The newest sample of a replica in ``[not_before, at)``."""
    of_replica = (_SAMPLED.replica == replica, _SAMPLED.at < at, _SAMPLED.at >= not_before)
    row = connection.execute(select(*_SAMPLED).where(*of_replica).order_by(_SAMPLED.at.desc()).limit(1)).one_or_none()
    return (row[0], row[1], row[2]) if row else None


def newest(connection: Connection, before: datetime) -> datetime | None:
    """The time of the newest sample before ``before``."""
    table = metric_samples
    return connection.scalar(select(table.c.at).where(table.c.at < before).order_by(table.c.at.desc()).limit(1))


def first_at(connection: Connection, since: datetime) -> datetime | None:
    """The time of the oldest sample from ``since`` on."""
    table = metric_samples
    return connection.scalar(select(table.c.at).where(table.c.at >= since).order_by(table.c.at).limit(1))


def before_not_rolled_up(connection: Connection, before: datetime) -> datetime:
    """The time before which samples may be pruned: rolled up, or UNROLLED_KEPT_FOR older than ``before``."""
    rolled_up = newest_rollup(connection, MINUTE)
    if rolled_up is not None and rolled_up >= before:
        return before
    return max(before - UNROLLED_KEPT_FOR, rolled_up or before - UNROLLED_KEPT_FOR)


MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
MAX_ROLLUPS = 20_000

Row = tuple[datetime, str, dict[str, Any]]
"""``(start of the step, replica, counts)``."""


def put_rollups(connection: Connection, step: timedelta, found: Sequence[Row]) -> None:
    """Insert rows; existing ones are replaced, so several replicas may roll up the same minute."""
    of_step = {"step_seconds": _seconds(step)}
    values = [of_step | {"at": at, "replica": replica, "counts": counts} for at, replica, counts in found]
    rows.put(connection, metric_rollups, *values)


def rollups_between(
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


def newest_rollup(connection: Connection, step: timedelta) -> datetime | None:
    """The start of the newest row."""
    table = metric_rollups
    statement = select(table.c.at).where(table.c.step_seconds == _seconds(step)).order_by(table.c.at.desc()).limit(1)
    return connection.scalar(statement)


def first_rollup_at(connection: Connection, step: timedelta, since: datetime) -> datetime | None:
    """The start of the oldest row from ``since`` on."""
    table = metric_rollups
    statement = select(table.c.at).where(table.c.step_seconds == _seconds(step), table.c.at >= since)
    return connection.scalar(statement.order_by(table.c.at).limit(1))


def _seconds(step: timedelta) -> int:
    return int(step.total_seconds())
