"""Manual breaker states on override: one row per breaker, obeyed by every replica until it expires."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select

from state.tables import breaker_overrides


@dataclass(frozen=True, slots=True)
class BreakerOverride:
    """Who lent which state to a breaker, why, and until when."""

    breaker: str
    state: str
    """forced_open or forced_closed."""
    reason: str
    actor: str
    created_at: datetime
    expires_at: datetime


_COLUMNS = [breaker_overrides.c[name] for name in BreakerOverride.__dataclass_fields__]


def put(connection: Connection, override: BreakerOverride) -> None:
    """Lend a state; an earlier override of the same breaker ends."""
    remove(connection, override.breaker)
    row = {name: getattr(override, name) for name in BreakerOverride.__dataclass_fields__}
    connection.execute(insert(breaker_overrides), row)


def remove(connection: Connection, breaker: str) -> bool:
    """Take an override back; False when there was none."""
    return connection.execute(delete(breaker_overrides).where(breaker_overrides.c.breaker == breaker)).rowcount > 0


def active(connection: Connection, now: datetime) -> dict[str, BreakerOverride]:
    """The overrides that have not expired, by breaker."""
    rows = connection.execute(select(*_COLUMNS).where(breaker_overrides.c.expires_at > now))
    return {row.breaker: BreakerOverride(*row) for row in rows}
