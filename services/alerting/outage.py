"""The alert that the database cannot be written: judged and sent from memory, since no other one can be then.

Each replica tells for itself; the receiver groups them by their label ``replica``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import httpx

from services.alerting import webhook
from services.alerting.labels import fingerprint
from state.alerts import FIRING, RESOLVED, WORKER, Alert

logger = logging.getLogger("holdfast.alerts")

DATABASE_NOT_WRITABLE = "DatabaseNotWritable"
TIMEOUT_SECONDS = 5.0

RUNBOOK = (
    "Look at /readyz and the log (database_not_writable): they say why. "
    "Free the disk, make the primary server reachable or end its read-only state, or restore the file; "
    "the service goes on by itself within seconds. Orders are refused with 503 until then and may be repeated."
)


class DatabaseOutage:
    """Posts the beginning and the end of an outage to the webhook."""

    def __init__(
        self, client: httpx.AsyncClient, url: str | None, clock: Callable[[], datetime], replica: str, link: str
    ) -> None:
        """Without ``url`` nothing is posted; the log and /readyz name the outage."""
        self._client = client
        self._url = url
        self._clock = clock
        self._replica = replica
        self._link = link
        self._alert: Alert | None = None

    async def tell(self, sentence: str | None) -> bool:
        """Send that it fires (with the reason) or, with None, that it ended; returns whether the receiver took it."""
        if self._url is None:
            return True
        if sentence is not None:
            self._alert = self._alert or self._firing(sentence)
            return await self._post(self._alert, FIRING)
        if self._alert is None:
            return True
        ended = replace(self._alert, state=RESOLVED, resolved_at=self._clock())
        is_taken = await self._post(ended, RESOLVED)
        if is_taken:
            self._alert = None
        return is_taken

    def _firing(self, sentence: str) -> Alert:
        labels = {"alertname": DATABASE_NOT_WRITABLE, "severity": "critical", "replica": self._replica}
        at = self._clock()
        return Alert(
            alert_id=fingerprint(labels),
            source=WORKER,
            name=DATABASE_NOT_WRITABLE,
            labels=labels,
            annotations={"summary": f"Nothing can be stored. {sentence}", "runbook": RUNBOOK},
            generator_url=self._link,
            state=FIRING,
            value=1.0,
            active_at=at,
            fired_at=at,
            resolved_at=None,
            seen_at=at,
            is_notified=True,
        )

    async def _post(self, alert: Alert, status: str) -> bool:
        assert self._url is not None  # noqa: S101 - tell() has looked
        message = webhook.notification(alert, status, self._link)
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                answer = await self._client.post(self._url, json=message)
        except (TimeoutError, httpx.HTTPError) as error:
            logger.warning("outage_not_sent", extra={"status": status, "error": type(error).__name__})
            return False
        if not answer.is_success:
            logger.warning("outage_not_sent", extra={"status": status, "answered": answer.status_code})
        return answer.is_success
