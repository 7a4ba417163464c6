"""Work that waits for a time which no rule can have set: the clock was set back since, or runs ahead elsewhere.

Due times, claims and leases are written by one clock and read by another. One that is further ahead than the
longest wait there is would keep an order, an alert or what a person has asked for waiting for hours; it is
brought forward, and the paced workers take it from there.
"""

from __future__ import annotations

import logging
from datetime import timedelta

from sqlalchemy import Connection

from services.domain.steps import LONGEST_DELAY as LONGEST_STEP_DELAY
from services.orders.claims import LEASE as CASE_CLAIM
from services.orders.commands import CLAIM as COMMAND_CLAIM
from services.orders.context import OrdersContext
from state import commands, leases, notifications, operations, orders, outbox, releases, reviews

logger = logging.getLogger("holdfast.timekeeping")

AT_ONCE = 100
"""Rows of each kind in one round."""

SLACK = timedelta(seconds=60)
"""Clocks of replicas may differ so much without anything being brought forward."""


class Timekeeping:
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
        moved = await self._context.database.write(self._bring_forward)
        if any(moved.values()):
            logger.warning("clock_was_set_back", extra={"brought_forward": moved})
        return max(moved.values()) >= AT_ONCE

    def _bring_forward(self, connection: Connection) -> dict[str, int]:
        now = self._context.clock()
        last = now + max(self._longest_wait, LONGEST_STEP_DELAY) + SLACK
        last_lease = now + self._longest_lease + SLACK
        return {
            "orders": orders.bring_forward(connection, last, now, AT_ONCE),
            "releases": releases.bring_forward(connection, last, now, AT_ONCE),
            "events": outbox.bring_forward(connection, now + outbox.LONGEST_DELAY + SLACK, AT_ONCE),
            "commands": commands.bring_forward(connection, now + COMMAND_CLAIM + SLACK, now, AT_ONCE),
            "operations": operations.bring_forward(connection, last_lease, now, AT_ONCE),
            "notifications": notifications.bring_forward(
                connection, now + notifications.LONGEST_DELAY + SLACK, now, AT_ONCE
            ),
            "claims": reviews.bring_forward(connection, now + CASE_CLAIM + SLACK, now, AT_ONCE),
            "leases": leases.bring_forward(connection, last_lease, now),
        }
