"""Circuit breakers: manual overrides, one row per breaker, and the state changes of every replica."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from state.engine import rows
from state.engine.rows import Rows
from state.tables import breaker_overrides, breaker_transitions


@dataclass(frozen=True, slots=True)
class BreakerOverride:
    """A manual state of a breaker with its end, reason and actor."""

    breaker: str
    state: str
    """forced_open or forced_closed."""
    reason: str
    actor: str
    created_at: datetime
    expires_at: datetime


_OVERRIDES = Rows(breaker_overrides, BreakerOverride)


def put_override(connection: Connection, override: BreakerOverride) -> None:
    """Store an override; it replaces an earlier override of the same breaker."""
    rows.put(connection, breaker_overrides, _OVERRIDES.values(override))


def remove_override(connection: Connection, breaker: str) -> bool:
    """End an override; False when there was none."""
    return rows.remove(connection, breaker_overrides, breaker_overrides.c.breaker == breaker) > 0


def active_overrides(connection: Connection, now: datetime) -> dict[str, BreakerOverride]:
    """The overrides that have not expired, by breaker."""
    active = select(*_OVERRIDES.columns).where(breaker_overrides.c.expires_at > now)
    return {override.breaker: override for override in _OVERRIDES.read(connection, active)}


@dataclass(frozen=True, slots=True)
class BreakerTransition:
    """One state change of a breaker on one replica."""

    replica: str
    breaker: str
    from_state: str
    to_state: str
    at: datetime


_TRANSITIONS = Rows(breaker_transitions, BreakerTransition)


def add_transitions(connection: Connection, transitions: Sequence[BreakerTransition]) -> None:
    _TRANSITIONS.add(connection, *transitions)


def transitions_since(connection: Connection, since: datetime, limit: int = 500) -> list[BreakerTransition]:
    """State changes since ``since``, newest first."""
    table = breaker_transitions
    return _TRANSITIONS.some(connection, table.c.at >= since, order=[table.c.at.desc(), table.c.id.desc()], limit=limit)
