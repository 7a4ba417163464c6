"""Silences: until a silence ends, notifications about alerts with matching labels are not sent."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from state.engine import rows
from state.engine.rows import Rows
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


_SILENCES = Rows(silences, Silence)


def add(connection: Connection, silence: Silence) -> None:
    _SILENCES.add(connection, silence)


def get(connection: Connection, silence_id: str) -> Silence | None:
    return _SILENCES.one(connection, silences.c.silence_id == silence_id)


def running(connection: Connection, now: datetime) -> list[Silence]:
    """Running silences; the one that ends first comes first."""
    first = [silences.c.ends_at, silences.c.silence_id]
    return _SILENCES.some(connection, silences.c.ends_at > now, order=first, limit=MAX_RUNNING)


def count_running(connection: Connection, now: datetime) -> int:
    return rows.count(connection, silences, silences.c.ends_at > now)


def ended(connection: Connection, now: datetime, limit: int = 50) -> list[Silence]:
    """The ended silences, newest first."""
    return _SILENCES.some(connection, silences.c.ends_at <= now, order=[silences.c.ends_at.desc()], limit=limit)


def end(connection: Connection, silence_id: str, by: str, at: datetime) -> bool:
    """End a running silence at ``at``; False when it has ended already."""
    is_running = (silences.c.silence_id == silence_id, silences.c.ends_at > at)
    return rows.change(connection, silences, *is_running, ends_at=at, ended_by=by) > 0
