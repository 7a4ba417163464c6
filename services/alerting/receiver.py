"""Alerts that a Prometheus posts here as if this were Alertmanager, so that a site without one loses nothing.

Source: Alertmanager API v2, ``POST /api/v2/alerts``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection

from services.alerting.labels import fingerprint
from services.alerting.states import Step, ended, event_of
from services.domain.errors import ApiError
from state import alerts, leases
from state.alerts import FIRING, LEASE, MAX_RECEIVED, PROMETHEUS, RESOLVED, Alert
from state.database import Database

RESOLVED_UNLESS_REPEATED = timedelta(minutes=5)
"""The end of an alert that names none, as in Alertmanager."""

MAX_NAME = 128
"""A longer name is cut where it stands alone; the labels keep the whole of it."""

_NO_TIME = datetime(1, 1, 2, tzinfo=UTC)


class AlertsFull(ApiError):
    """More alerts stand than are kept; those that found a place were stored."""

    code = "ALERTS_FULL"
    http_status = 503
    retryable = True


@dataclass(frozen=True, slots=True)
class Received:
    """One alert as it was posted."""

    labels: dict[str, str]
    annotations: dict[str, str]
    generator_url: str
    starts_at: datetime | None
    ends_at: datetime | None


class AlertReceiver:
    """Stores what is posted; notifications follow with the next evaluation."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    async def receive(self, posted: Sequence[Received]) -> int:
        """Store alerts, known ones refreshed; returns how many. Raises AlertsFull after storing what it could."""
        at = self._clock()

        def transaction(connection: Connection) -> int:
            leases.wait_for(connection, LEASE)
            room = MAX_RECEIVED - alerts.count_standing(connection, PROMETHEUS)
            refused = 0
            for received in posted:
                before = alerts.get(connection, alert_id_of(received))
                change = received_step(received, before, at)
                is_new = any(event.kind == FIRING.upper() for event in change.events)
                if is_new and room <= 0:
                    refused += 1
                    continue
                room -= is_new
                for alert in change.put:
                    alerts.put(connection, alert)
                alerts.add_events(connection, change.events)
            return refused

        refused = await self._database.write(transaction)
        if refused:
            raise AlertsFull(
                f"{refused} of {len(posted)} alerts were not stored: {MAX_RECEIVED} are firing already.",
                {"limit": MAX_RECEIVED, "refused": refused},
            )
        return len(posted)


def alert_id_of(received: Received) -> str:
    return f"{PROMETHEUS}-{fingerprint(received.labels)}"


def received_step(received: Received, before: Alert | None, at: datetime) -> Step:
    """What a posted alert changes: a new one fires, a known one is refreshed, one whose end has come is resolved."""
    ends_at = _time(received.ends_at) or at + RESOLVED_UNLESS_REPEATED
    if ends_at <= at:
        if before is None or before.state == RESOLVED:
            return Step((), (), ())
        over = ended(replace(before, annotations=received.annotations, ends_at=ends_at), at)
        return Step((over,), (), (event_of(over, "RESOLVED", at),))
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
    )
    return Step((alert,), (), () if known else (event_of(alert, "FIRING", at),))


def _time(given: datetime | None) -> datetime | None:
    """A time; None for the year 1, by which Go says that there is none."""
    return given if given is not None and given > _NO_TIME else None


def _value(written: str | None) -> float | None:
    try:
        value = float(written) if written is not None else None
    except ValueError:
        return None
    return value if value is not None and math.isfinite(value) else None
