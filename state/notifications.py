"""The durable queue of notifications to the webhook, in order per alert."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, func, insert, select, text

from state.engine import rows
from state.engine.rows import Rows
from state.tables import alert_notifications as table

PENDING, SENT, FAILED = "PENDING", "SENT", "FAILED"

MAX_PENDING = 1000
"""A longer queue drops its oldest messages."""

_IS_PENDING = text("alert_notifications.state = 'PENDING'")

LONGEST_DELAY = timedelta(seconds=60)
"""Longest time between two attempts."""


@dataclass(frozen=True, slots=True)
class Notification:
    """One message in Alertmanager's webhook format."""

    id: int
    alert_id: str
    name: str
    status: str
    """firing or resolved."""
    payload: dict[str, Any]
    state: str
    attempts: int
    next_attempt_at: datetime | None
    last_error: str | None
    created_at: datetime
    finished_at: datetime | None


_NOTIFICATIONS = Rows(table, Notification)


def add(
    connection: Connection, *, alert_id: str, name: str, status: str, payload: dict[str, Any], at: datetime
) -> None:
    """Queue a message; a full queue drops its oldest message."""
    if count_pending(connection) >= MAX_PENDING:
        oldest = connection.scalar(select(func.min(table.c.id)).where(_IS_PENDING))
        end = {"state": FAILED, "finished_at": at, "last_error": f"given up: {MAX_PENDING} messages waited"}
        rows.change(connection, table, table.c.id == oldest, **end)
    row = {"alert_id": alert_id, "name": name, "status": status, "payload": payload, "created_at": at}
    connection.execute(insert(table), row | {"state": PENDING, "attempts": 0, "next_attempt_at": at})


def next_due(connection: Connection, now: datetime, *, after: int = 0) -> Notification | None:
    """The oldest due message with an id above ``after``, whose alert has no earlier pending message."""
    earlier = table.alias()
    blocked = (
        select(earlier.c.id)
        .where(earlier.c.alert_id == table.c.alert_id, earlier.c.state == PENDING, earlier.c.id < table.c.id)
        .exists()
    )
    due = (_IS_PENDING, table.c.id > after, table.c.next_attempt_at <= now, ~blocked)
    return next(iter(_NOTIFICATIONS.some(connection, *due, order=[table.c.id], limit=1)), None)


def settle(
    connection: Connection,
    notification: Notification,
    at: datetime,
    *,
    error: str | None,
    next_attempt_at: datetime | None,
) -> bool:
    """Record the result of an attempt: sent, to be retried, or failed for good.

    Returns False when another attempt was recorded meanwhile; then this one is not recorded.
    """
    state = SENT if error is None else PENDING if next_attempt_at else FAILED
    attempt = {"attempts": notification.attempts + 1, "next_attempt_at": next_attempt_at, "last_error": error}
    finished_at = None if state == PENDING else at
    is_as_seen = (table.c.id == notification.id, _IS_PENDING, table.c.attempts == notification.attempts)
    return rows.change(connection, table, *is_as_seen, **attempt, state=state, finished_at=finished_at) == 1


def count_pending(connection: Connection) -> int:
    return rows.count(connection, table, _IS_PENDING)


def last_of(connection: Connection, alert_id: str) -> Notification | None:
    """The newest message about one alert."""
    of_alert = table.c.alert_id == alert_id
    return next(iter(_NOTIFICATIONS.some(connection, of_alert, order=[table.c.id.desc()], limit=1)), None)


def latest(connection: Connection, limit: int = 20) -> list[Notification]:
    """The latest messages, newest first."""
    return _NOTIFICATIONS.some(connection, order=[table.c.id.desc()], limit=limit)
