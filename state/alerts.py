"""Alerts, one row per source and set of labels, and their history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from state.tables import alert_history, alerts

PENDING, FIRING, RESOLVED = "pending", "firing", "resolved"
STATES = (FIRING, PENDING, RESOLVED)
WORKER, PROMETHEUS = "worker", "prometheus"

MAX_PAGE = 200
MAX_RECEIVED = 500
"""Firing alerts of one sender. Further ones are refused, so that other senders keep room."""
MAX_RECEIVED_IN_ALL = 4 * MAX_RECEIVED
MAX_STANDING = MAX_RECEIVED_IN_ALL + 200
"""Pending and firing alerts of all sources."""


_LAST = datetime(9999, 1, 1, tzinfo=UTC)

LEASE = "alerts"
"""The lease of the alert evaluator; other writers of alerts wait for it."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert: pending, firing or resolved."""

    alert_id: str
    source: str
    """``worker``: evaluated here; ``prometheus``: received."""
    name: str
    labels: dict[str, str]
    annotations: dict[str, str]
    generator_url: str
    state: str
    value: float | None
    active_at: datetime
    """Since when its condition has been true without interruption."""
    fired_at: datetime | None
    resolved_at: datetime | None
    """When its last firing ended."""
    seen_at: datetime
    """Time of the last evaluation at which its condition was true."""
    kept_since: datetime | None = None
    """Since when it keeps firing although its condition is false."""
    ends_at: datetime | None = None
    """When a received alert resolves unless it is received again."""
    is_notified: bool = False
    """Whether its firing was announced and its resolution was not."""
    acknowledged_at: datetime | None = None
    acknowledged_by: str | None = None
    acknowledged_note: str | None = None
    sender: str = ""
    """The caller that posted it first; empty for alerts of the worker."""

    @property
    def severity(self) -> str:
        return self.labels.get("severity", "none")


_COLUMNS = [alerts.c[name] for name in Alert.__dataclass_fields__]


def _row(alert: Alert) -> dict[str, Any]:
    return {name: getattr(alert, name) for name in Alert.__dataclass_fields__}


def put(connection: Connection, alert: Alert) -> None:
    """Insert or update an alert."""
    row = _row(alert)
    if not connection.execute(update(alerts).where(alerts.c.alert_id == alert.alert_id).values(row)).rowcount:
        connection.execute(insert(alerts), row)


def mend_times(connection: Connection, now: datetime) -> None:
    """Replace ends outside of the readable range, which an earlier version stored, by ``now``."""
    beyond = alerts.c.ends_at >= _LAST
    connection.execute(update(alerts).where(alerts.c.source == PROMETHEUS, beyond).values(ends_at=now))


def remove(connection: Connection, alert_id: str) -> None:
    connection.execute(delete(alerts).where(alerts.c.alert_id == alert_id))


def get(connection: Connection, alert_id: str) -> Alert | None:
    row = connection.execute(select(*_COLUMNS).where(alerts.c.alert_id == alert_id)).one_or_none()
    return Alert(*row) if row else None


def of_source(connection: Connection, source: str) -> list[Alert]:
    """All alerts of one source; their number is bounded."""
    statement = select(*_COLUMNS).where(alerts.c.source == source).order_by(alerts.c.alert_id)
    return [Alert(*row) for row in connection.execute(statement.limit(10 * MAX_STANDING))]


def standing(connection: Connection) -> list[Alert]:
    """All pending and firing alerts, oldest first."""
    statement = select(*_COLUMNS).where(alerts.c.state.in_((PENDING, FIRING)))
    ordered = statement.order_by(alerts.c.active_at, alerts.c.alert_id).limit(MAX_STANDING)
    return [Alert(*row) for row in connection.execute(ordered)]


def resolved_unannounced(connection: Connection) -> list[Alert]:
    """Alerts that are resolved and whose resolution was not announced."""
    statement = select(*_COLUMNS).where(alerts.c.state == RESOLVED, alerts.c.is_notified.is_(True))
    return [Alert(*row) for row in connection.execute(statement.limit(MAX_STANDING))]


def resolved(connection: Connection, since: datetime, limit: int = MAX_PAGE) -> list[Alert]:
    """Resolved alerts, newest first."""
    statement = select(*_COLUMNS).where(alerts.c.state == RESOLVED, alerts.c.resolved_at >= since)
    rows = connection.execute(statement.order_by(alerts.c.resolved_at.desc()).limit(limit))
    return [Alert(*row) for row in rows]


def count_by_state(connection: Connection) -> dict[str, int]:
    statement = select(alerts.c.state, func.count()).group_by(alerts.c.state)
    return dict(connection.execute(statement).all())


def count_standing(connection: Connection, source: str) -> dict[str, int]:
    """The number of firing alerts, by sender."""
    firing = (alerts.c.source == source, alerts.c.state == FIRING)
    statement = select(alerts.c.sender, func.count()).where(*firing).group_by(alerts.c.sender)
    return dict(connection.execute(statement).all())


@dataclass(frozen=True, slots=True)
class AlertEvent:
    """An entry of the history of alerts."""

    at: datetime
    kind: str
    """FIRING, RESOLVED, ACKNOWLEDGED, SILENCED or SILENCE_ENDED."""
    alert_id: str | None
    name: str
    labels: dict[str, str]
    source: str
    value: float | None = None
    actor: str | None = None
    detail: str | None = None


_EVENT_COLUMNS = [alert_history.c[name] for name in AlertEvent.__dataclass_fields__]


def add_events(connection: Connection, events: Sequence[AlertEvent]) -> None:
    if events:
        rows = [{name: getattr(event, name) for name in AlertEvent.__dataclass_fields__} for event in events]
        connection.execute(insert(alert_history), rows)


def history(
    connection: Connection, *, alert_id: str | None = None, limit: int = MAX_PAGE, offset: int = 0
) -> list[AlertEvent]:
    """The history of one alert or of all, newest first."""
    statement = select(*_EVENT_COLUMNS)
    if alert_id is not None:
        statement = statement.where(alert_history.c.alert_id == alert_id)
    ordered = statement.order_by(alert_history.c.at.desc(), alert_history.c.id.desc())
    return [AlertEvent(*row) for row in connection.execute(ordered.limit(min(limit, MAX_PAGE)).offset(offset))]
