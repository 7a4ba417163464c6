"""Work that waits for a time which no rule can have set: the clock was set back since, or runs ahead elsewhere.

Due times, claims and leases are written by one clock and read by another. One that is further ahead than the
longest wait there is would keep an order, an alert or what a person has asked for waiting for hours; it is
brought forward, and the paced workers take it from there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import Connection

from services.commands.queue import CLAIM as COMMAND_CLAIM
from services.domain.orders.failed_steps import LONGEST_DELAY as LONGEST_STEP_DELAY
from services.orders.context import OrdersContext
from services.reviews.claims import LEASE as CASE_CLAIM
from state import bulk_jobs, commands, leases, notifications, orders, outbox, releases, reviews
from state.engine.savepoints import apart

logger = logging.getLogger("holdfast.timekeeping")

AT_ONCE = 100
"""Rows of each kind in one round."""

SLACK = timedelta(seconds=60)
"""Clocks of replicas may differ so much without anything being brought forward."""


BringForward = Callable[[Connection], int]
"""Brings rows of one kind forward; returns how many."""


class ClockSkewRepair:
    """Brings forward what waits for longer than ``longest_wait``, which is that of orders and releases."""

    def __init__(
        self, context: OrdersContext, longest_wait: timedelta, longest_lease: timedelta = leases.LONGEST
    ) -> None:
        """``longest_lease``: nobody leases an operation, or work that one replica does alone, for longer."""
        self._context = context
        self._longest_wait = longest_wait
        self._longest_lease = longest_lease

    async def run_round(self) -> bool:
        """One round of a Loop; returns whether more may wait."""
        moved, failed = await self._context.database.write(self._bring_forward)
        if any(moved.values()):
            logger.warning("clock_was_set_back", extra={"brought_forward": moved})
        for kind, error in failed.items():
            logger.warning("not_brought_forward", extra={"kind": kind}, exc_info=error)
            self._context.failed("timekeeping")
        return max(moved.values(), default=0) >= AT_ONCE

    def _bring_forward(self, connection: Connection) -> tuple[dict[str, int], dict[str, Exception]]:
        """How many of each kind were brought forward, and what was raised of a kind; each is done by itself."""
        moved: dict[str, int] = {}
        failed: dict[str, Exception] = {}
        for kind, bring_forward in self._kinds(self._context.clock()).items():

            def work(kind: str = kind, bring_forward: BringForward = bring_forward) -> None:
                moved[kind] = bring_forward(connection)

            if (error := apart(connection, work)) is not None:
                failed[kind] = error
        return moved, failed

    def _kinds(self, now: datetime) -> dict[str, BringForward]:
        last = now + max(self._longest_wait, LONGEST_STEP_DELAY) + SLACK
        last_lease = now + self._longest_lease + SLACK
        last_command, last_claim = now + COMMAND_CLAIM + SLACK, now + CASE_CLAIM + SLACK
        last_event, last_notification = now + outbox.LONGEST_DELAY + SLACK, now + notifications.LONGEST_DELAY + SLACK
        return {
            "orders": lambda c: orders.bring_forward(c, last, now, AT_ONCE),
            "releases": lambda c: releases.bring_forward(c, last, now, AT_ONCE),
            "events": lambda c: outbox.bring_forward(c, last_event, AT_ONCE),
            "commands": lambda c: commands.bring_forward(c, last_command, now, AT_ONCE),
            "operations": lambda c: bulk_jobs.bring_forward(c, last_lease, now, AT_ONCE),
            "notifications": lambda c: notifications.bring_forward(c, last_notification, now, AT_ONCE),
            "claims": lambda c: reviews.bring_forward(c, last_claim, now, AT_ONCE),
            "leases": lambda c: leases.bring_forward(c, last_lease, now),
        }
