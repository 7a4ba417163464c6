"""Receives alerts that Prometheus posts to this service instead of to Alertmanager.

Source: Alertmanager API v2, ``POST /api/v2/alerts``.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial

from sqlalchemy import Connection

from services.alerting.labels import fingerprint
from services.alerting.state_machine import AlertChanges, ended, event_of
from services.domain.errors import ApiError
from services.domain.external import NotAllowed, cut_text, utc_time
from state import alerts, replicas
from state.alerts import FIRING, LEASE, MAX_RECEIVED, MAX_RECEIVED_IN_ALL, PROMETHEUS, RESOLVED, Alert
from state.engine.database import Database
from state.engine.transactions import apart

logger = logging.getLogger("holdfast.alerting")

RESOLVED_UNLESS_REPEATED = timedelta(minutes=5)
"""Time after which an alert that was posted without an end counts as resolved, as in Alertmanager."""

MAX_NAME = 128
"""Characters of an alert's name. The label ``alertname`` is not cut to this."""

LONGEST_END = timedelta(days=366)
"""Latest accepted end of an alert, from now. Prometheus posts a firing alert again before that."""

_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
"""Earliest accepted start. Go writes the year 1 for a missing time."""

MAX_LABELS, MAX_LABEL, MAX_ANNOTATION, MAX_ADDRESS = 50, 1000, 10_000, 4000
"""Limits of one alert: number of labels or annotations, then characters of a label, an annotation and an address."""


class AlertsFull(ApiError):
    """The limit of stored alerts is reached. The alerts up to the limit were stored."""

    code = "ALERTS_FULL"
    retryable = True


@dataclass(frozen=True, slots=True)
class Received:
    """One alert as it was posted."""

    labels: dict[str, str]
    annotations: dict[str, str]
    generator_url: str
    starts_at: datetime | None
    ends_at: datetime | None


class AlertNotStored(ApiError):
    """An unforeseen error prevented storing an alert. The other alerts were stored."""

    code = "ALERT_NOT_STORED"
    retryable = True


class AlertReceiver:
    """Stores posted alerts; the next evaluation queues their notifications."""

    def __init__(
        self, database: Database, clock: Callable[[], datetime], on_failure: Callable[[str], None] = lambda _: None
    ) -> None:
        """``on_failure`` is called with ``received`` once per alert that could not be stored."""
        self._database = database
        self._clock = clock
        self._on_failure = on_failure

    async def receive(self, posted: Sequence[Received], sender: str = "") -> int:
        """Store new alerts and refresh known alerts; returns their number.

        ``sender`` is the authenticated caller, not a name from the request.
        Raises AlertsFull or AlertNotStored after storing the other alerts.
        """
        at = self._clock()

        def transaction(connection: Connection) -> tuple[int, list[Exception]]:
            replicas.wait_for_lease(connection, LEASE)
            standing = alerts.count_standing(connection, PROMETHEUS)
            room = min(MAX_RECEIVED - standing.get(sender, 0), MAX_RECEIVED_IN_ALL - sum(standing.values()))
            place = _Capacity(room, sender)
            errors = [apart(connection, partial(place.store, connection, received, at)) for received in posted]
            return place.refused, [error for error in errors if error is not None]

        refused, failed = await self._database.write(transaction)
        for error in failed:
            self._on_failure("received")
            logger.error("posted_alert_not_stored", extra={"error": repr(error)[:MAX_LABEL]})
        if refused:
            raise AlertsFull(
                f"{refused} of {len(posted)} alerts were not stored: {MAX_RECEIVED} of one sender may fire at a time.",
                {"limit": MAX_RECEIVED, "refused": refused},
            )
        if failed:
            raise AlertNotStored(f"{len(failed)} of {len(posted)} alerts could not be stored.", {"failed": len(failed)})
        return len(posted)


class _Capacity:
    """Stores alerts of one sender up to a limit, and counts the refused alerts."""

    def __init__(self, left: int, sender: str) -> None:
        self._left = left
        self._sender = sender
        self.refused = 0

    def store(self, connection: Connection, posted: Received, at: datetime) -> None:
        received = bounded(posted)
        change = received_changes(received, alerts.get(connection, alert_id_of(received)), at, self._sender)
        is_new = any(event.kind == FIRING.upper() for event in change.events)
        if is_new and self._left <= 0:
            self.refused += 1
            return
        for alert in change.put:
            alerts.put(connection, alert)
        alerts.add_events(connection, change.events)
        self._left -= is_new


def bounded(posted: Received) -> Received:
    """A posted alert with labels, annotations and address cut to the stored limits."""
    return replace(
        posted,
        labels=_texts(posted.labels, MAX_LABEL),
        annotations=_texts(posted.annotations, MAX_ANNOTATION),
        generator_url=cut_text(posted.generator_url, MAX_ADDRESS),
    )


def _texts(given: dict[str, str], longest: int) -> dict[str, str]:
    kept = sorted(given.items())[:MAX_LABELS]
    return {cut_text(name, MAX_NAME): cut_text(str(text), longest) for name, text in kept}


def alert_id_of(received: Received) -> str:
    return f"{PROMETHEUS}-{fingerprint(received.labels)}"


def received_changes(received: Received, before: Alert | None, at: datetime, sender: str = "") -> AlertChanges:
    """The changes that a posted alert causes: a new alert fires, a known one is refreshed, an ended one is resolved."""
    ends_at = min(_time(received.ends_at) or at + RESOLVED_UNLESS_REPEATED, at + LONGEST_END)
    if ends_at <= at:
        if before is None or before.state == RESOLVED:
            return AlertChanges((), (), ())
        over = ended(replace(before, annotations=received.annotations, ends_at=ends_at), at)
        return AlertChanges((over,), (), (event_of(over, "RESOLVED", at),))
    starts_at = min(_time(received.starts_at) or at, at)
    known = before if before is not None and before.state == FIRING else None
    alert = Alert(
        alert_id=alert_id_of(received),
        source=PROMETHEUS,
        name=received.labels.get("alertname", "unnamed")[:MAX_NAME],
        labels=received.labels,
        annotations=received.annotations,
        generator_url=received.generator_url,
        state=FIRING,
        value=_value(received.annotations.get("value")),
        active_at=known.active_at if known else starts_at,
        fired_at=known.fired_at if known else starts_at,
        resolved_at=before.resolved_at if before else None,
        seen_at=at,
        ends_at=ends_at,
        is_notified=before.is_notified if before else False,
        acknowledged_at=known.acknowledged_at if known else None,
        acknowledged_by=known.acknowledged_by if known else None,
        acknowledged_note=known.acknowledged_note if known else None,
        sender=known.sender if known else sender,
    )
    return AlertChanges((alert,), (), () if known else (event_of(alert, "FIRING", at),))


def _time(given: datetime | None) -> datetime | None:
    """The time in UTC; None for a missing time or a time outside the supported range."""
    try:
        at = utc_time(given)
    except NotAllowed:
        return None
    return at if at > _EARLIEST else None


def _value(written: str | None) -> float | None:
    try:
        value = float(written) if written is not None else None
    except ValueError:
        return None
    return value if value is not None and math.isfinite(value) else None
