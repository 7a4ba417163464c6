"""Notifications to ALERT_WEBHOOK_URL: their format, and their delivery.

The body has the format of Alertmanager's webhook. Every alert has its own ``groupKey``: many receivers open one
incident per group, and a resolved alert must not close the incident of another alert.
Delivery is at least once and in order per alert. It uses separate connections and timeouts, so that a slow receiver
does not delay orders. Source: Alertmanager, webhook_config, version 4.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import httpx

from services.alerting.state_machine import fingerprint, firing_alert
from services.domain.calls import Randomness, RetryPolicy
from services.domain.external import cut_text
from services.domain.orders.events import timestamp
from state import notifications, replicas
from state.alerts import FIRING, RESOLVED, WORKER, Alert
from state.engine.column_types import Unreadable
from state.engine.database import Database
from state.notifications import Notification

logger = logging.getLogger("holdfast.alerting")

RECEIVER = "holdfast"
WATCHDOG = "Watchdog"
NEVER = "0001-01-01T00:00:00Z"
"""Alertmanager's notation for a missing time."""

DELIVERY_LEASE = "alert-notifications"
TIMEOUT_SECONDS = 5.0
LEASE_TIME = timedelta(seconds=2 * TIMEOUT_SECONDS)

RETRY = RetryPolicy(attempts=600, base_delay_seconds=1.0, max_delay_seconds=60.0)
"""Retries of a notification: for about eight hours, at most a minute apart."""
UNFORESEEN = RetryPolicy(attempts=8, base_delay_seconds=1.0, max_delay_seconds=60.0)
"""Retries of a notification whose sending raises an unforeseen error, which the receiver cannot have caused."""
ONCE = RetryPolicy(attempts=1, base_delay_seconds=1.0, max_delay_seconds=1.0)
"""Heartbeats are not retried: a late heartbeat is useless."""

MAX_PER_ROUND = 10
SENT, RETRIED, GIVEN_UP = "sent", "retried", "failed"


def notification(alert: Alert, status: str, external_url: str) -> dict[str, Any]:
    """Return the body of a notification about an alert that fires or is resolved."""
    labels, annotations = alert.labels, alert.annotations
    shown = {
        "status": status,
        "labels": labels,
        "annotations": annotations,
        "startsAt": timestamp(alert.fired_at or alert.active_at),
        "endsAt": timestamp(alert.resolved_at) if status == RESOLVED and alert.resolved_at else NEVER,
        "generatorURL": alert.generator_url,
        "fingerprint": fingerprint(labels),
    }
    return {
        "version": "4",
        "groupKey": group_key(labels, alert.source),
        "truncatedAlerts": 0,
        "status": status,
        "receiver": RECEIVER,
        "groupLabels": labels,
        "commonLabels": labels,
        "commonAnnotations": annotations,
        "externalURL": external_url,
        "alerts": [shown],
    }


def watchdog(at: datetime, since: datetime, external_url: str) -> dict[str, Any]:
    """The heartbeat that is sent while alerts are evaluated. The receiver must raise an alarm when it stays away."""
    labels = {"alertname": WATCHDOG, "severity": "none"}
    annotations = {"summary": "Alerting works. When this stops coming, it does not.", "sentAt": timestamp(at)}
    return notification(firing_alert(labels, annotations, external_url, at, since), FIRING, external_url)


def group_key(labels: dict[str, str], source: str) -> str:
    """The group key in Alertmanager's notation; ``source`` keeps received alerts and our own alerts apart."""
    inside = ", ".join(f'{name}="{value}"' for name, value in sorted(labels.items()))
    route = "{}" if source == WORKER else f'{{}}/{{source="{source}"}}'
    return f"{route}:{{{inside}}}"


async def post(client: httpx.AsyncClient, url: str, message: object) -> str | None:
    """Send one message; returns the error, or None when the receiver accepted the message."""
    try:
        # This timeout covers the whole answer; the timeout of the client restarts with every byte.
        async with asyncio.timeout(TIMEOUT_SECONDS):
            answer = await client.post(url, json=message, timeout=TIMEOUT_SECONDS)
    except TimeoutError:
        return f"no complete answer within {TIMEOUT_SECONDS:g} s"
    except httpx.HTTPError as error:
        return cut_text(f"{type(error).__name__}: {error}", 500)
    if answer.is_success:
        return None
    return f"answered {answer.status_code}{': redirects are not followed' if answer.is_redirect else ''}"


class Raised(str):
    """The reason of an attempt that failed with an unforeseen error."""

    __slots__ = ()


@dataclass
class WebhookDelivery:
    """Sends due notifications in rounds. Only the replica that holds the lease sends."""

    database: Database
    clock: Callable[[], datetime]
    replica: str
    client: httpx.AsyncClient
    """Must not follow redirects."""
    url: str
    randomness: Randomness
    on_outcome: Callable[[str], None]
    """Called per attempt with sent, retried or failed."""
    on_failure: Callable[[str], None] = lambda _: None
    """Called with ``notify`` for each attempt that raised an unforeseen error."""

    async def deliver(self) -> bool:
        """Run one round of a Loop; returns whether more notifications may be due."""
        after = 0
        for _ in range(MAX_PER_ROUND):
            now = self.clock()
            due = await self.database.read(partial(notifications.next_due, now=now, after=after))
            if due is None:
                return False
            until = now + LEASE_TIME
            taking = partial(replicas.take_lease, name=DELIVERY_LEASE, holder=self.replica, now=now, until=until)
            if not await self.database.write(taking):
                return False
            await self._send(due)
            after = due.id
        return True

    async def release_lease(self) -> None:
        """Release the lease at an orderly stop, so that another replica takes over at once."""
        await self.database.write(lambda c: replicas.give_back_lease(c, DELIVERY_LEASE, self.replica))

    async def _send(self, notification: Notification) -> None:
        error = await self._post(notification)
        at = self.clock()
        policy = UNFORESEEN if isinstance(error, Raised) else RETRY
        policy = ONCE if notification.alert_id == WATCHDOG else policy
        delay = policy.delay_seconds(notification.attempts + 1, self.randomness) if error else None
        next_at = at + timedelta(seconds=delay) if delay is not None else None
        if not await self.database.write(
            lambda c: notifications.settle(c, notification, at, error=error, next_attempt_at=next_at)
        ):
            # Another replica has taken the lease and stored the outcome of this message.
            return
        outcome = SENT if error is None else RETRIED if next_at else GIVEN_UP
        self.on_outcome(outcome)
        if error is not None:
            facts = {"alert": notification.name, "status": notification.status, "error": error, "outcome": outcome}
            logger.warning("alert_notification_not_sent", extra=facts)

    async def _post(self, notification: Notification) -> str | None:
        try:
            if isinstance(notification.payload, Unreadable):
                raise TypeError("what is stored of it cannot be read")
            return await post(self.client, self.url, notification.payload)
        except Exception as error:
            # A boundary: a message that cannot be encoded must not block the other messages.
            logger.exception("alert_notification_raised", extra={"alert": notification.name})
            self.on_failure("notify")
            return Raised(cut_text(f"failed unexpectedly: {type(error).__name__}: {error}", 500))
