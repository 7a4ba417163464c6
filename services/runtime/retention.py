"""Deleting what nobody needs any more, in small steps, so that a year of orders slows nothing down.

Orders, their timelines, cases, releases, returns and the audit log are kept, and so is every difference that is
not settled. Source: design 7.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import Connection

from state import (
    alerts,
    bulk_jobs,
    commands,
    conservation,
    dead_letters,
    drills,
    handover_visits,
    inbox,
    incident_impacts,
    inventory_lookups,
    notifications,
    orders,
    outbox,
    release_actions,
    replicas,
    rollups,
    samples,
    silences,
)
from state.engine.database import Database

logger = logging.getLogger("holdfast.retention")

STEP = 500
"""Rows of one transaction."""

KEPT_FOR: tuple[tuple[Callable[[Connection, datetime, int], int], timedelta], ...] = (
    # Longer than the streams keep a message: until then it could be published or delivered again.
    (outbox.prune, timedelta(days=14)),
    (inbox.prune, timedelta(days=30)),
    (samples.prune, timedelta(days=1)),
    (rollups.prune_minutes, timedelta(days=31)),
    (rollups.prune_hours, timedelta(days=400)),
    (incident_impacts.prune, timedelta(days=90)),
    (replicas.prune_transitions, timedelta(days=90)),
    (commands.prune, timedelta(days=30)),
    (release_actions.prune, timedelta(days=90)),
    (bulk_jobs.prune, timedelta(days=90)),
    (orders.prune_keys, timedelta(days=30)),
    (alerts.prune, timedelta(days=1)),
    (alerts.prune_history, timedelta(days=90)),
    (silences.prune, timedelta(days=90)),
    (notifications.prune, timedelta(days=7)),
    (dead_letters.prune, timedelta(days=90)),
    (conservation.prune, timedelta(days=90)),
    (drills.prune, timedelta(days=365)),
    (handover_visits.prune, timedelta(days=365)),
    (inventory_lookups.prune, timedelta(days=30)),
)


class Retention:
    """Prunes one step of every table a round."""

    def __init__(
        self, database: Database, clock: Callable[[], datetime], on_failure: Callable[[], None] = lambda: None
    ) -> None:
        """``on_failure`` is called for each table that could not be pruned."""
        self._database = database
        self._clock = clock
        self._on_failure = on_failure

    async def prune(self) -> bool:
        """One round of a Loop; returns whether a table had a full step to delete."""
        now = self._clock()
        full = False
        for delete_step, kept_for in KEPT_FOR:
            try:
                deleted = await self._database.write(partial(_run, delete_step, now - kept_for))
            except Exception as error:
                # A boundary: a table that cannot be pruned keeps no other one from it.
                step = f"{delete_step.__module__}.{delete_step.__name__}"
                logger.warning("retention_step_failed", extra={"step": step}, exc_info=error)
                self._on_failure()
                continue
            full = full or deleted >= STEP
        return full


def _run(delete_step: Callable[[Connection, datetime, int], int], before: datetime, connection: Connection) -> int:
    return delete_step(connection, before, STEP)
