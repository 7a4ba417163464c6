"""Breaker overrides: manual states with an end. Overrides are audited, and every replica applies them.

Source: contract 3, PUT and DELETE /api/v1/breakers/{name}/override.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Literal, cast

from sqlalchemy import Connection

from services.clients.breaker import AsyncBreaker
from services.clients.inventory.resilient import InventoryBreakers
from services.domain.errors import InvalidState
from services.domain.orders.events import timestamp
from state import audit, breakers
from state.audit import AuditEntry
from state.breakers import BreakerOverride
from state.engine.database import Database

Forced = Literal["forced_open", "forced_closed"]
FORCED: tuple[Forced, ...] = ("forced_open", "forced_closed")
SHORTEST_OVERRIDE, LONGEST_OVERRIDE = timedelta(seconds=1), timedelta(days=1)


class BreakerOverrides:
    """Starts and ends overrides; follow() applies the stored overrides to the breakers of this replica."""

    def __init__(self, database: Database, clock: Callable[[], datetime], breakers: InventoryBreakers) -> None:
        self._database = database
        self._clock = clock
        self._breakers = breakers
        self._applied: dict[str, BreakerOverride] = {}

    async def start(
        self,
        breaker: str,
        state: Forced,
        *,
        reason: str,
        expires_in: timedelta,
        actor: str,
        asked_at: datetime | None = None,
        action_id: str | None = None,
    ) -> None:
        """Override a breaker on every replica for ``expires_in``, counted from ``asked_at`` (default: now).

        Raises NotFound, or InvalidState when the end lies in the past. A repeated ``action_id`` has no second effect.
        """
        self._breakers.named(breaker)
        at = self._clock()
        expires_at = (asked_at or at) + expires_in
        if expires_at <= at:
            raise InvalidState("The override would have ended before a worker started it.", {"breaker": breaker})
        override = BreakerOverride(breaker, state, reason, actor, at, expires_at)

        def transaction(connection: Connection) -> None:
            if action_id is not None and audit.find_action(connection, action_id):
                return
            before = breakers.active_overrides(connection, at).get(breaker)
            breakers.put_override(connection, override)
            audit.add(connection, _entry("FORCE_BREAKER", override, before, override, at, action_id))

        await self._database.write(transaction)
        await self.follow()

    async def end(self, breaker: str, *, actor: str, action_id: str | None = None) -> bool:
        """End an override early; returns False when no override is active. Raises NotFound for an unknown breaker."""
        self._breakers.named(breaker)
        at = self._clock()

        def transaction(connection: Connection) -> bool:
            if action_id is not None and audit.find_action(connection, action_id):
                return True
            before = breakers.active_overrides(connection, at).get(breaker)
            if before is None:
                return False
            breakers.remove_override(connection, breaker)
            ended = BreakerOverride(breaker, before.state, before.reason, actor, at, at)
            audit.add(connection, _entry("END_BREAKER_OVERRIDE", ended, before, None, at, action_id))
            return True

        was_active = await self._database.write(transaction)
        await self.follow()
        return was_active

    async def follow(self) -> bool:
        """Run one round of a Loop: apply the stored overrides to the breakers of this replica."""
        now = self._clock()
        active = await self._database.read(lambda connection: breakers.active_overrides(connection, now))
        for breaker in self._breakers:
            self._apply(breaker, active.get(breaker.label), now)
        self._applied = active
        return False

    def _apply(self, breaker: AsyncBreaker, override: BreakerOverride | None, now: datetime) -> None:
        if override == self._applied.get(breaker.label):
            return
        if override is None:
            breaker.end_override()
            return
        left_ms = max(1, round((override.expires_at - now).total_seconds() * 1000))
        breaker.start_override(cast("Forced", override.state), override.reason, left_ms)


def _entry(
    action: str,
    override: BreakerOverride,
    before: BreakerOverride | None,
    after: BreakerOverride | None,
    at: datetime,
    action_id: str | None,
) -> AuditEntry:
    return AuditEntry(
        at=at,
        actor=override.actor,
        action=action,
        target=f"breaker:{override.breaker}",
        reason=override.reason,
        before=_facts(before),
        after=_facts(after),
        action_id=action_id,
    )


def _facts(override: BreakerOverride | None) -> dict[str, str]:
    if override is None:
        return {"override": "none"}
    return {"override": override.state, "expiresAt": timestamp(override.expires_at)}
