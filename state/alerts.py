"""Alerts, one row per source and set of labels, their history, and silences.

Until a silence ends, notifications about alerts with matching labels are not sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from state.engine import rows
from state.engine.rows import Rows
from state.tables import alert_history, alerts, silences

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


_ALERTS = Rows(alerts, Alert)


def put(connection: Connection, alert: Alert) -> None:
    """Insert or update an alert."""
    rows.put(connection, alerts, _ALERTS.values(alert))


def mend_times(connection: Connection, now: datetime) -> None:
    """Replace ends outside of the readable range, which an earlier version stored, by ``now``."""
    rows.change(connection, alerts, alerts.c.source == PROMETHEUS, alerts.c.ends_at >= _LAST, ends_at=now)


def remove(connection: Connection, alert_id: str) -> None:
    rows.remove(connection, alerts, alerts.c.alert_id == alert_id)


def get(connection: Connection, alert_id: str) -> Alert | None:
    return _ALERTS.one(connection, alerts.c.alert_id == alert_id)


def of_source(connection: Connection, source: str) -> list[Alert]:
    """All alerts of one source; their number is bounded."""
    of_it = alerts.c.source == source
    return _ALERTS.some(connection, of_it, order=[alerts.c.alert_id], limit=10 * MAX_STANDING)


def standing(connection: Connection) -> list[Alert]:
    """All pending and firing alerts, oldest first."""
    stands = alerts.c.state.in_((PENDING, FIRING))
    return _ALERTS.some(connection, stands, order=[alerts.c.active_at, alerts.c.alert_id], limit=MAX_STANDING)


def resolved_unannounced(connection: Connection) -> list[Alert]:
    """Alerts that are resolved and whose resolution was not announced."""
    conditions = (alerts.c.state == RESOLVED, alerts.c.is_notified.is_(True))
    return _ALERTS.some(connection, *conditions, order=(), limit=MAX_STANDING)


def resolved(connection: Connection, since: datetime, limit: int = MAX_PAGE) -> list[Alert]:
    """Resolved alerts, newest first."""
    conditions = (alerts.c.state == RESOLVED, alerts.c.resolved_at >= since)
    return _ALERTS.some(connection, *conditions, order=[alerts.c.resolved_at.desc()], limit=limit)


def count_by_state(connection: Connection) -> dict[str, int]:
    return rows.count_by(connection, alerts.c.state)


def count_standing(connection: Connection, source: str) -> dict[str, int]:
    """The number of firing alerts, by sender."""
    return rows.count_by(connection, alerts.c.sender, alerts.c.source == source, alerts.c.state == FIRING)


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


_EVENTS = Rows(alert_history, AlertEvent)


def add_events(connection: Connection, events: Sequence[AlertEvent]) -> None:
    _EVENTS.add(connection, *events)


def history(
    connection: Connection, *, alert_id: str | None = None, limit: int = MAX_PAGE, offset: int = 0
) -> list[AlertEvent]:
    """The history of one alert or of all, newest first."""
    of_it = [] if alert_id is None else [alert_history.c.alert_id == alert_id]
    newest = [alert_history.c.at.desc(), alert_history.c.id.desc()]
    return _EVENTS.some(connection, *of_it, order=newest, limit=min(limit, MAX_PAGE), offset=offset)


MAX_RUNNING_SILENCES = 100
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


def add_silence(connection: Connection, silence: Silence) -> None:
    _SILENCES.add(connection, silence)


def get_silence(connection: Connection, silence_id: str) -> Silence | None:
    return _SILENCES.one(connection, silences.c.silence_id == silence_id)


def running_silences(connection: Connection, now: datetime) -> list[Silence]:
    """Running silences; the one that ends first comes first."""
    first = [silences.c.ends_at, silences.c.silence_id]
    return _SILENCES.some(connection, silences.c.ends_at > now, order=first, limit=MAX_RUNNING_SILENCES)


def count_running_silences(connection: Connection, now: datetime) -> int:
    return rows.count(connection, silences, silences.c.ends_at > now)


def ended_silences(connection: Connection, now: datetime, limit: int = 50) -> list[Silence]:
    """The ended silences, newest first."""
    return _SILENCES.some(connection, silences.c.ends_at <= now, order=[silences.c.ends_at.desc()], limit=limit)


def end_silence(connection: Connection, silence_id: str, by: str, at: datetime) -> bool:
    """End a running silence at ``at``; False when it has ended already."""
    is_running = (silences.c.silence_id == silence_id, silences.c.ends_at > at)
    return rows.change(connection, silences, *is_running, ends_at=at, ended_by=by) > 0
