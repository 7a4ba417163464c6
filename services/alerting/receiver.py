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

from services.alerting.evaluator import store_changes
from services.alerting.state_machine import MAX_ERROR, AlertChanges, ended, event_of, fingerprint
from services.domain.errors import ApiError
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


class AlertsFull(ApiError):
    """The limit of stored alerts is reached. The alerts up to the limit were stored."""

    code = "ALERTS_FULL"
    retryable = True


@dataclass(frozen=True, slots=True)
class Received:
    """One alert as it was posted. The API limits its size."""

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
            refused = 0

            def store(received: Received) -> None:
                nonlocal room, refused
                changes = received_changes(received, alerts.get(connection, alert_id_of(received)), at, sender)
                is_new = any(event.kind == FIRING.upper() for event in changes.events)
                if is_new and room <= 0:
                    refused += 1
                else:
                    store_changes(connection, changes)
                    room -= is_new

            errors = [apart(connection, partial(store, received)) for received in posted]
            return refused, [error for error in errors if error is not None]

        refused, failed = await self._database.write(transaction)
        for error in failed:
            self._on_failure("received")
            logger.error("posted_alert_not_stored", extra={"error": repr(error)[:MAX_ERROR]})
        if refused:
            raise AlertsFull(
                f"{refused} of {len(posted)} alerts were not stored: {MAX_RECEIVED} of one sender may fire at a time.",
                {"limit": MAX_RECEIVED, "refused": refused},
            )
        if failed:
            raise AlertNotStored(f"{len(failed)} of {len(posted)} alerts could not be stored.", {"failed": len(failed)})
        return len(posted)


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
    return given if given is not None and given > _EARLIEST else None


def _value(written: str | None) -> float | None:
    try:
        value = float(written) if written is not None else None
    except ValueError:
        return None
    return value if value is not None and math.isfinite(value) else None
