"""Rounds of work that one replica does for all: every other one leaves it alone for as long as the lease lasts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from state import leases
from state.engine.database import Database

CONSERVATION = "conservation"
"""Name of the lease under which orders are compared between the services."""


class Leader:
    """Runs rounds while this replica has the lease; in the hands of a dead one it runs out."""

    def __init__(
        self,
        database: Database,
        clock: Callable[[], datetime],
        name: str,
        replica: str,
        lease: timedelta,
        run_round: Callable[[], Awaitable[bool]],
    ) -> None:
        """``lease``: longer than a round may take."""
        self._database = database
        self._clock = clock
        self._name = name
        self._replica = replica
        self._lease = lease
        self._run_round = run_round

    async def run_round(self) -> bool:
        """One round of a Loop: of the work, or of nothing when another replica does it."""
        now = self._clock()
        is_ours = await self._database.write(
            lambda c: leases.take(c, self._name, self._replica, now, now + self._lease)
        )
        return await self._run_round() if is_ours else False
