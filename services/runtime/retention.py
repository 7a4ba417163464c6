"""Deletes old rows in small batches, when their table's retention time has passed.

``KEPT`` lists every table that is pruned. Orders, timelines, review cases, release jobs, returns and the audit log
are never pruned, and neither are unsettled differences of the conservation audit.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import Column, ColumnElement, Connection, Table, and_, delete, false, select, tuple_

from services.domain.bulk import BulkJobState
from state import alerts, conservation, dead_letters, samples, tables
from state.engine.database import Database

logger = logging.getLogger("holdfast.retention")

MAX_ROWS_PER_TRANSACTION = 500

Condition = ColumnElement[bool]


@dataclass(frozen=True, slots=True)
class KeptRows:
    """The retention time of a table's rows that meet all conditions."""

    table: Table
    time: Column[datetime]
    """The column from which the age of a row counts; a row without a value is kept."""
    kept_for: timedelta
    conditions: tuple[Condition, ...] = ()
    indexed_time: Column[datetime] | None = None
    """A column that is never later than ``time`` and has an index, where ``time`` has none."""
    parts: Table | None = None
    """A table whose rows refer to this one and are deleted with its rows."""
    limit_age: Callable[[Connection, datetime], datetime] | None = None
    """Returns an earlier limit when some older rows are still needed."""


def _kept(table: Table, time: str, *conditions: Condition, days: int) -> KeptRows:
    return KeptRows(table, table.c[time], timedelta(days=days), conditions)


_COMMANDS, _DRILLS, _ROLLUPS = tables.commands.c, tables.drills.c, tables.metric_rollups.c
_ALERTS, _BULK_JOBS, _DIFFERENCES = tables.alerts.c, tables.operations.c, tables.conservation_differences.c

KEPT: tuple[KeptRows, ...] = (
    # Longer than the streams keep a message, because until then an event could be published or delivered again.
    _kept(tables.outbox, "published_at", days=14),
    _kept(tables.inbox, "received_at", days=30),
    replace(_kept(tables.metric_samples, "at", days=1), limit_age=samples.before_not_rolled_up),
    _kept(tables.metric_rollups, "at", _ROLLUPS.step_seconds == samples.MINUTE.total_seconds(), days=31),
    _kept(tables.metric_rollups, "at", _ROLLUPS.step_seconds == samples.HOUR.total_seconds(), days=400),
    _kept(tables.order_impacts, "at", days=90),
    _kept(tables.breaker_transitions, "at", days=90),
    _kept(tables.commands, "created_at", _COMMANDS.finished_at.is_not(None), days=30),
    _kept(tables.release_actions, "at", days=90),
    replace(
        _kept(
            tables.operations,
            "created_at",
            _BULK_JOBS.state != BulkJobState.RUNNING,
            _BULK_JOBS.in_flight == 0,
            days=90,
        ),
        parts=tables.operation_items,
    ),
    _kept(tables.idempotency_keys, "created_at", days=30),
    _kept(tables.alerts, "resolved_at", _ALERTS.state == alerts.RESOLVED, _ALERTS.is_notified.is_(False), days=1),
    _kept(tables.alert_history, "at", days=90),
    _kept(tables.silences, "ends_at", days=90),
    _kept(tables.alert_notifications, "finished_at", days=7),
    _kept(tables.dead_letters, "resolved_at", tables.dead_letters.c.state != dead_letters.OPEN, days=90),
    replace(
        _kept(tables.conservation_differences, "settled_at", _DIFFERENCES.state == conservation.SETTLED, days=90),
        indexed_time=_DIFFERENCES.first_seen_at,
    ),
    _kept(tables.drills, "created_at", _DRILLS.finished_at.is_not(None), days=365),
    _kept(tables.console_looks, "looked_at", days=365),
    _kept(tables.inventory_lookups, "asked_at", days=30),
)


def delete_older(connection: Connection, kept: KeptRows, before: datetime, limit: int) -> int:
    """Delete at most ``limit`` rows older than ``before``, and at most as many parts; returns how many rows went."""
    if kept.limit_age is not None:
        before = kept.limit_age(connection, before)
    times = (kept.time, kept.indexed_time) if kept.indexed_time is not None else (kept.time,)
    is_old = and_(*kept.conditions, *(time < before for time in times))
    key = tuple(kept.table.primary_key)
    found = connection.execute(select(*key).where(is_old).order_by(times[-1]).limit(limit)).all()
    if not found:
        return 0
    deleted = 0
    if kept.parts is not None:
        part_key = tuple(kept.parts.primary_key)
        (reference,) = (column for column in part_key if column.references(key[0]))
        of_these = select(*part_key).where(_is_one_of((reference,), found)).limit(limit)
        parts = connection.execute(of_these).all()
        deleted = connection.execute(delete(kept.parts).where(_is_one_of(part_key, parts))).rowcount
        if deleted >= limit:
            return deleted
    return deleted + connection.execute(delete(kept.table).where(is_old, _is_one_of(key, found))).rowcount


def _is_one_of(key: Sequence[Column[object]], rows: Sequence[Sequence[object]]) -> Condition:
    if not rows:
        return false()
    if len(key) == 1:
        return key[0].in_([row[0] for row in rows])
    return tuple_(*key).in_([tuple(row) for row in rows])


@dataclass(slots=True)
class Retention:
    """Prunes one batch of every table in each round."""

    database: Database
    clock: Callable[[], datetime]
    on_failure: Callable[[], None] = lambda: None
    """Called for each table that could not be pruned."""
    kept: Sequence[KeptRows] = KEPT

    async def prune(self) -> bool:
        """Run one round of a Loop; returns whether a table had a full batch to delete."""
        now = self.clock()
        is_full = False
        for kept in self.kept:
            before = now - kept.kept_for
            try:
                deleted = await self.database.write(
                    partial(delete_older, kept=kept, before=before, limit=MAX_ROWS_PER_TRANSACTION)
                )
            except Exception as error:
                # A boundary: a table that cannot be pruned does not block the others.
                logger.warning("retention_step_failed", extra={"table": kept.table.name}, exc_info=error)
                self.on_failure()
                continue
            is_full = is_full or deleted >= MAX_ROWS_PER_TRANSACTION
        return is_full
