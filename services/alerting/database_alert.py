"""The alert about a database that cannot be written.

Each replica evaluates and sends this alert from memory, because nothing can be stored. The receiver groups the
notifications by their label ``replica``. Once the database can be written again, the replica stores the alert with its
start and end, so that the console shows it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import httpx
from sqlalchemy import Connection

from services.alerting import webhook
from services.alerting.state_machine import ended, event_of, firing_alert
from services.alerting.threshold_rule import Rule
from services.metrics.expressions import MaxGauge
from state import alerts
from state.alerts import FIRING, RESOLVED, Alert
from state.database_watch import OUTAGE_SECONDS
from state.engine.database import Database

logger = logging.getLogger("holdfast.alerts")

DATABASE_NOT_WRITABLE = "DatabaseNotWritable"

STEPS = (
    "Orders are refused with 503 until the database can be written, and may be repeated; nothing else is stored.",
    "Look at /readyz and the log (database_not_writable): they say why.",
    (
        "Free the disk, make the primary server reachable or end its read-only state, or restore the file; the service "
        "goes on by itself within seconds."
    ),
)
RUNBOOK = " ".join(STEPS)

RULE = Rule(
    name=DATABASE_NOT_WRITABLE,
    severity="critical",
    summary="Nothing can be stored: the database cannot be written.",
    runbook=STEPS,
    page="overview",
    value=MaxGauge("database_not_writable"),
    unit="state",
    for_duration=timedelta(seconds=OUTAGE_SECONDS),
)
"""The rule as the Alerts page shows it. The evaluator does not evaluate this rule."""

StoreAlert = Callable[[Alert, datetime], Awaitable[object]]
"""Stores a resolved alert; the datetime is the end of the alert."""


def store_in(database: Database) -> StoreAlert:
    """Return a function that stores an ended outage with its history and queues no notification about it."""

    def store(alert: Alert, at: datetime) -> Awaitable[None]:
        over = replace(ended(alert, at), is_notified=False)
        events = [event_of(alert, "FIRING", alert.active_at), event_of(over, "RESOLVED", at)]

        def transaction(connection: Connection) -> None:
            alerts.put(connection, over)
            alerts.add_events(connection, events)

        return database.write(transaction)

    return store


@dataclass
class DatabaseOutage:
    """Posts the start and the end of an outage to the webhook, and stores the outage after its end."""

    client: httpx.AsyncClient
    url: str | None
    """The webhook. With None no notification is sent; the log, /readyz and the console show the outage."""
    clock: Callable[[], datetime]
    replica: str
    link: str
    store: StoreAlert

    def __post_init__(self) -> None:
        self._alert: Alert | None = None
        self._is_kept = False

    async def report(self, sentence: str | None) -> bool:
        """Send the start of an outage, whose reason is ``sentence``; None sends and stores its end.

        Returns False when a part failed and must be repeated.
        """
        if sentence is not None:
            self._alert = self._alert or self._firing(sentence)
            return await self._post(self._alert, FIRING)
        if self._alert is None:
            return True
        at = self.clock()
        self._is_kept = self._is_kept or await self._kept(self._alert, at)
        is_taken = await self._post(replace(self._alert, state=RESOLVED, resolved_at=at), RESOLVED)
        if is_taken and self._is_kept:
            self._alert, self._is_kept = None, False
            return True
        return False

    async def _kept(self, alert: Alert, at: datetime) -> bool:
        try:
            await self.store(alert, at)
        except Exception as error:  # noqa: BLE001 - a boundary: the database may have failed again
            logger.warning("outage_not_kept", extra={"error": repr(error)})
            return False
        return True

    def _firing(self, sentence: str) -> Alert:
        labels = {"alertname": DATABASE_NOT_WRITABLE, "severity": "critical", "replica": self.replica}
        at = self.clock()
        annotations = {"summary": f"Nothing can be stored. {sentence}", "runbook": RUNBOOK}
        return firing_alert(labels, annotations, self.link, at, since=at)

    async def _post(self, alert: Alert, status: str) -> bool:
        if self.url is None:
            return True
        error = await webhook.post(self.client, self.url, webhook.notification(alert, status, self.link))
        if error is not None:
            logger.warning("outage_not_sent", extra={"status": status, "error": error})
        return error is None
