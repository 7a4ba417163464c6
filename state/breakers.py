"""Circuit breakers: manual overrides, one row per breaker, and the state changes of every replica."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select

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


_COLUMNS = [breaker_overrides.c[name] for name in BreakerOverride.__dataclass_fields__]


def put_override(connection: Connection, override: BreakerOverride) -> None:
    """Store an override; it replaces an earlier override of the same breaker."""
    remove_override(connection, override.breaker)
    row = {name: getattr(override, name) for name in BreakerOverride.__dataclass_fields__}
    connection.execute(insert(breaker_overrides), row)


def remove_override(connection: Connection, breaker: str) -> bool:
    """End an override; False when there was none."""
    return connection.execute(delete(breaker_overrides).where(breaker_overrides.c.breaker == breaker)).rowcount > 0


def active_overrides(connection: Connection, now: datetime) -> dict[str, BreakerOverride]:
    """The overrides that have not expired, by breaker."""
    rows = connection.execute(select(*_COLUMNS).where(breaker_overrides.c.expires_at > now))
    return {row.breaker: BreakerOverride(*row) for row in rows}


@dataclass(frozen=True, slots=True)
class BreakerTransition:
    """One state change of a breaker on one replica."""

    replica: str
    breaker: str
    from_state: str
    to_state: str
    at: datetime


def add_transitions(connection: Connection, transitions: Sequence[BreakerTransition]) -> None:
    if transitions:
        rows = [{name: getattr(t, name) for name in BreakerTransition.__dataclass_fields__} for t in transitions]
        connection.execute(insert(breaker_transitions), rows)


def transitions_since(connection: Connection, since: datetime, limit: int = 500) -> list[BreakerTransition]:
    """State changes since ``since``, newest first."""
    table = breaker_transitions
    statement = (
        select(table.c.replica, table.c.breaker, table.c.from_state, table.c.to_state, table.c.at)
        .where(table.c.at >= since)
        .order_by(table.c.at.desc(), table.c.id.desc())
        .limit(limit)
    )
    return [BreakerTransition(*row) for row in connection.execute(statement)]
