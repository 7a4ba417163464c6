"""Reschedules rows whose due time lies further ahead than any policy allows (clock skew).

Due times, claims and leases are written by one clock and read by another. After a clock was set back, or when another
replica's clock runs ahead, such a row would wait for hours: for example an order, an alert or a command.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import Column, Connection, Table, select, text, update

from services.commands.queue import CLAIM as COMMAND_CLAIM
from services.domain.orders.lifecycle import LONGEST_STEP_DELAY
from services.reviews.cases import LEASE as CASE_CLAIM
from services.unit_of_work import OrdersContext
from state import notifications, outbox, replicas, tables
from state.engine.transactions import apart

logger = logging.getLogger("holdfast.timekeeping")

MAX_ROWS_PER_ROUND = 100
"""Rows of each kind that one round reschedules."""

SLACK = timedelta(seconds=60)
"""Allowed difference between the clocks of replicas; within it, no row is rescheduled."""

JUST_PASSED = timedelta(milliseconds=1)
"""Age of the new due time, so that a rescheduled row is due for ``<`` as well as for ``<=``."""


@dataclass(frozen=True, slots=True)
class ScheduledRows:
    """A kind of row: the condition that selects it, and how far ahead its due time, claim or lease may lie."""

    kind: str
    due: Column[datetime]
    longest_delay: timedelta
    condition: str | None = None
    """SQL, verbatim that of a partial index, so that the index is used."""

    @property
    def table(self) -> Table:
        return self.due.table


def scheduled(longest_wait: timedelta, longest_lease: timedelta) -> tuple[ScheduledRows, ...]:
    """Every kind of row that waits."""
    longest_step = max(longest_wait, LONGEST_STEP_DELAY)
    is_unfinished, is_queued = "commands.state IN ('STORED', 'RUNNING')", "alert_notifications.state = 'PENDING'"
    commands, bulk_jobs, queued = tables.commands.c, tables.operations.c, tables.alert_notifications.c
    return (
        ScheduledRows("orders", tables.orders.c.due_at, longest_step),
        ScheduledRows("releases", tables.releases.c.next_attempt_at, longest_step, "releases.state = 'PENDING'"),
        ScheduledRows("events", tables.outbox.c.claimed_until, outbox.LONGEST_DELAY, "outbox.published_at IS NULL"),
        ScheduledRows("commands", commands.claimed_until, COMMAND_CLAIM, is_unfinished),
        ScheduledRows("commands", commands.not_before, COMMAND_CLAIM, is_unfinished),
        ScheduledRows("operations", bulk_jobs.claimed_until, longest_lease, "operations.ended_at IS NULL"),
        ScheduledRows("notifications", queued.next_attempt_at, notifications.LONGEST_DELAY, is_queued),
        ScheduledRows("claims", tables.reviews.c.claimed_until, CASE_CLAIM, "reviews.state = 'OPEN'"),
        ScheduledRows("leases", tables.leases.c.expires_at, longest_lease),
    )


def reschedule(connection: Connection, rows: ScheduledRows, now: datetime, limit: int) -> int:
    """Make rows due now whose due time lies too far ahead, the furthest first; returns how many."""
    is_too_late = rows.due > now + rows.longest_delay + SLACK
    conditions = [is_too_late] if rows.condition is None else [is_too_late, text(rows.condition)]
    (key,) = rows.table.primary_key
    found = connection.scalars(select(key).where(*conditions).order_by(rows.due.desc()).limit(limit)).all()
    if found:
        change = update(rows.table).where(key.in_(found), *conditions)
        connection.execute(change.values({rows.due: now - JUST_PASSED}))
    return len(found)


class ClockSkewRepair:
    """Reschedules a batch of each kind of row in each round."""

    def __init__(
        self, context: OrdersContext, longest_wait: timedelta, longest_lease: timedelta = replicas.LONGEST_LEASE
    ) -> None:
        """``longest_wait`` applies to orders and release jobs, ``longest_lease`` to bulk jobs and leaders."""
        self._context = context
        self._scheduled = scheduled(longest_wait, longest_lease)

    async def run_round(self) -> bool:
        """Run one round of a Loop; returns whether more rows may have to be rescheduled."""
        moved, failed = await self._context.database.write(self._reschedule_all)
        if any(moved.values()):
            logger.warning("clock_was_set_back", extra={"brought_forward": dict(moved)})
        for kind, error in failed.items():
            logger.warning("not_brought_forward", extra={"kind": kind}, exc_info=error)
            self._context.failed("timekeeping")
        return max(moved.values(), default=0) >= MAX_ROWS_PER_ROUND

    def _reschedule_all(self, connection: Connection) -> tuple[Counter[str], dict[str, Exception]]:
        """Counts of rescheduled rows and errors, each by kind; an error of one kind does not roll back the others."""
        moved: Counter[str] = Counter()
        failed: dict[str, Exception] = {}
        now = self._context.clock()
        for rows in self._scheduled:
            run = partial(self._reschedule, connection, rows, now, moved)
            if (error := apart(connection, run)) is not None:
                failed[rows.kind] = error
        return moved, failed

    @staticmethod
    def _reschedule(connection: Connection, rows: ScheduledRows, now: datetime, moved: Counter[str]) -> None:
        moved[rows.kind] += reschedule(connection, rows, now, MAX_ROWS_PER_ROUND)
