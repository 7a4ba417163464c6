"""Forcing a breaker open or closed as a loan: recorded, obeyed by every replica, ended by itself.

Source: contract section 3, PUT and DELETE /api/v1/breakers/{name}/override.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Literal, cast

from sqlalchemy import Connection

from services.domain.events import timestamp
from services.inventory.breaker import AsyncBreaker, InventoryBreakers
from state import audit, overrides
from state.audit import AuditEntry
from state.database import Database
from state.overrides import BreakerOverride

Forced = Literal["forced_open", "forced_closed"]


class BreakerOverrides:
    """Lends states to breakers; follow() makes this replica's breakers do what the database says."""

    def __init__(self, database: Database, clock: Callable[[], datetime], breakers: InventoryBreakers) -> None:
        self._database = database
        self._clock = clock
        self._breakers = breakers
        self._obeyed: dict[str, BreakerOverride] = {}

    async def lend(self, breaker: str, state: Forced, *, reason: str, expires_in: timedelta, actor: str) -> None:
        """Force a state on every replica's breaker of that name; raises NotFound."""
        self._breakers.named(breaker)
        at = self._clock()
        loan = BreakerOverride(breaker, state, reason, actor, at, at + expires_in)

        def transaction(connection: Connection) -> None:
            before = overrides.active(connection, at).get(breaker)
            overrides.put(connection, loan)
            audit.add(connection, _entry("FORCE_BREAKER", loan, before, loan, at))

        await self._database.write(transaction)
        await self.follow()

    async def end(self, breaker: str, *, actor: str) -> None:
        """Give a loan back early; when nothing is lent, nothing happens. Raises NotFound for the breaker."""
        self._breakers.named(breaker)
        at = self._clock()

        def transaction(connection: Connection) -> None:
            before = overrides.active(connection, at).get(breaker)
            if before is None:
                return
            overrides.remove(connection, breaker)
            ended = BreakerOverride(breaker, before.state, before.reason, actor, at, at)
            audit.add(connection, _entry("END_BREAKER_OVERRIDE", ended, before, None, at))

        await self._database.write(transaction)
        await self.follow()

    async def follow(self) -> bool:
        """Apply the loans of the database to this replica's breakers; one round of a Loop."""
        now = self._clock()
        active = await self._database.read(lambda connection: overrides.active(connection, now))
        for breaker in self._breakers:
            self._obey(breaker, active.get(breaker.label), now)
        self._obeyed = active
        return False

    def _obey(self, breaker: AsyncBreaker, loan: BreakerOverride | None, now: datetime) -> None:
        if loan == self._obeyed.get(breaker.label):
            return
        if loan is None:
            breaker.end_override()
            return
        left_ms = max(1, round((loan.expires_at - now).total_seconds() * 1000))
        breaker.force(cast("Forced", loan.state), loan.reason, left_ms)


def _entry(
    action: str, loan: BreakerOverride, before: BreakerOverride | None, after: BreakerOverride | None, at: datetime
) -> AuditEntry:
    return AuditEntry(
        at=at,
        actor=loan.actor,
        action=action,
        target=f"breaker:{loan.breaker}",
        order_id=None,
        reason=loan.reason,
        before=_facts(before),
        after=_facts(after),
        result="done",
        action_id=None,
    )


def _facts(loan: BreakerOverride | None) -> dict[str, str]:
    if loan is None:
        return {"override": "none"}
    return {"override": loan.state, "expiresAt": timestamp(loan.expires_at)}
