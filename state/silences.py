"""Silences: until a silence ends, notifications about alerts with matching labels are not sent."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from state.tables import silences

MAX_RUNNING = 100
"""Maximum number of running silences."""


@dataclass(frozen=True, slots=True)
class Silence:
    """A silence with its matchers, reason, actor and end."""

    silence_id: str
    matchers: list[dict[str, Any]]
    """``{name, value, isRegex: false, isEqual}`` each, as Alertmanager writes them."""
    reason: str
    actor: str
    created_at: datetime
    ends_at: datetime
    ended_by: str | None = None
    """The actor who ended it early."""


_COLUMNS = [silences.c[name] for name in Silence.__dataclass_fields__]


def add(connection: Connection, silence: Silence) -> None:
    connection.execute(insert(silences), {name: getattr(silence, name) for name in Silence.__dataclass_fields__})


def get(connection: Connection, silence_id: str) -> Silence | None:
    row = connection.execute(select(*_COLUMNS).where(silences.c.silence_id == silence_id)).one_or_none()
    return Silence(*row) if row else None


def running(connection: Connection, now: datetime) -> list[Silence]:
    """Running silences; the one that ends first comes first."""
    statement = select(*_COLUMNS).where(silences.c.ends_at > now).order_by(silences.c.ends_at, silences.c.silence_id)
    return [Silence(*row) for row in connection.execute(statement.limit(MAX_RUNNING))]


def count_running(connection: Connection, now: datetime) -> int:
    return connection.scalar(select(func.count()).select_from(silences).where(silences.c.ends_at > now)) or 0


def ended(connection: Connection, now: datetime, limit: int = 50) -> list[Silence]:
    """The ended silences, newest first."""
    statement = select(*_COLUMNS).where(silences.c.ends_at <= now).order_by(silences.c.ends_at.desc())
    return [Silence(*row) for row in connection.execute(statement.limit(limit))]


def end(connection: Connection, silence_id: str, by: str, at: datetime) -> bool:
    """End a running silence at ``at``; False when it has ended already."""
    found = update(silences).where(silences.c.silence_id == silence_id, silences.c.ends_at > at)
    return connection.execute(found.values(ends_at=at, ended_by=by)).rowcount > 0
