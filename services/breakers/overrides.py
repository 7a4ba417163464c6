"""Forcing a breaker open or closed as an override: recorded, obeyed by every replica, ended by itself.

Source: contract section 3, PUT and DELETE /api/v1/breakers/{name}/override.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Literal, cast

from sqlalchemy import Connection

from services.clients.breaker import AsyncBreaker, InventoryBreakers
from services.commands.queue import Execute, Outcome, outcome_of
from services.domain.arguments import reading_arguments
from services.domain.errors import InvalidState, ValidationFailed
from services.domain.orders.events import timestamp
from state import audit, overrides
from state.audit import AuditEntry
from state.commands import Command
from state.engine.database import Database
from state.overrides import BreakerOverride

Forced = Literal["forced_open", "forced_closed"]
FORCED: tuple[Forced, ...] = ("forced_open", "forced_closed")
SHORTEST_OVERRIDE, LONGEST_OVERRIDE = timedelta(seconds=1), timedelta(days=1)
SET_OVERRIDE, END_OVERRIDE = "set_override", "end_override"
"""Kinds of the console's commands."""


class BreakerOverrides:
    """Lends states to breakers; follow() makes this replica's breakers do what the database says."""

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
        """Force a state on every replica's breaker of that name, for ``expires_in`` from ``asked_at`` (now) on.

        Raises NotFound, and InvalidState when the override would have ended already. Under a known ``action_id``
        nothing happens.
        """
        self._breakers.named(breaker)
        at = self._clock()
        expires_at = (asked_at or at) + expires_in
        if expires_at <= at:
            raise InvalidState("The override would have ended before a worker came to it.", {"breaker": breaker})
        override = BreakerOverride(breaker, state, reason, actor, at, expires_at)

        def transaction(connection: Connection) -> None:
            if action_id is not None and audit.find_action(connection, action_id):
                return
            before = overrides.active(connection, at).get(breaker)
            overrides.put(connection, override)
            audit.add(connection, _entry("FORCE_BREAKER", override, before, override, at, action_id))

        await self._database.write(transaction)
        await self.follow()

    async def end(self, breaker: str, *, actor: str, action_id: str | None = None) -> bool:
        """Give an override back early; False when nothing is lent. Raises NotFound for the breaker."""
        self._breakers.named(breaker)
        at = self._clock()

        def transaction(connection: Connection) -> bool:
            if action_id is not None and audit.find_action(connection, action_id):
                return True
            before = overrides.active(connection, at).get(breaker)
            if before is None:
                return False
            overrides.remove(connection, breaker)
            ended = BreakerOverride(breaker, before.state, before.reason, actor, at, at)
            audit.add(connection, _entry("END_BREAKER_OVERRIDE", ended, before, None, at, action_id))
            return True

        was_active = await self._database.write(transaction)
        await self.follow()
        return was_active

    def commands(self) -> Mapping[str, Execute]:
        """What people ask for on the console, by kind of command."""
        return {SET_OVERRIDE: self._set, END_OVERRIDE: self._end}

    async def _set(self, command: Command) -> Outcome:
        state, expires_in, reason = _asked(command)
        await self.start(
            command.target_id,
            state,
            reason=reason,
            expires_in=expires_in,
            actor=command.actor,
            asked_at=command.created_at,
            action_id=command.command_id,
        )
        return outcome_of(
            f"{state.replace('_', ' ').capitalize()} until {command.created_at + expires_in:%H:%M:%S} UTC"
        )

    async def _end(self, command: Command) -> Outcome:
        was_active = await self.end(command.target_id, actor=command.actor, action_id=command.command_id)
        return outcome_of("The override has ended" if was_active else "No override was active any more")

    async def follow(self) -> bool:
        """Apply the overrides of the database to this replica's breakers; one round of a Loop."""
        now = self._clock()
        active = await self._database.read(lambda connection: overrides.active(connection, now))
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


def _asked(command: Command) -> tuple[Forced, timedelta, str]:
    """State, length and reason of a wanted override; raises ValidationFailed."""
    given = command.arguments
    with reading_arguments():
        expires_in = timedelta(milliseconds=int(given["expiresIn"]))
        reason, state = str(given["reason"]).strip(), given["state"]
    if state not in FORCED:
        raise _not_valid("state", state, " or ".join(FORCED))
    if not SHORTEST_OVERRIDE <= expires_in <= LONGEST_OVERRIDE:
        raise _not_valid("expiresIn", given["expiresIn"], "1000 to 86400000 milliseconds")
    if not reason:
        raise _not_valid("reason", "", "some words")
    return state, expires_in, reason


def _not_valid(field: str, value: object, allowed: str) -> ValidationFailed:
    problem = {"field": field, "value": value, "allowed": allowed}
    return ValidationFailed(f"Not valid: {field}.", {"problems": [problem]})


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
        order_id=None,
        reason=override.reason,
        before=_facts(before),
        after=_facts(after),
        result="done",
        action_id=action_id,
    )


def _facts(override: BreakerOverride | None) -> dict[str, str]:
    if override is None:
        return {"override": "none"}
    return {"override": override.state, "expiresAt": timestamp(override.expires_at)}
