"""Sending queued notifications to ALERT_WEBHOOK_URL: at least once, in order per alert, never in anybody's way.

Its connections and its time are its own; whatever the receiver does, orders do not notice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial

import httpx
from sqlalchemy import Connection

from services.alerting.webhook import WATCHDOG
from services.domain.external import cut_text
from services.domain.retry import Randomness, RetryPolicy
from state import leases, notifications
from state.engine.column_types import Unreadable
from state.engine.database import Database
from state.notifications import Notification

logger = logging.getLogger("holdfast.alerting")

LEASE = "alert-notifications"
TIMEOUT_SECONDS = 5.0
LEASE_TIME = timedelta(seconds=2 * TIMEOUT_SECONDS)

RETRY = RetryPolicy(attempts=600, base_delay_seconds=1.0, max_delay_seconds=60.0)
"""For about eight hours; a pager that is back is told within a minute."""
UNFORESEEN = RetryPolicy(attempts=8, base_delay_seconds=1.0, max_delay_seconds=60.0)
"""For a message whose sending raises something that no receiver can cause."""
ONCE = RetryPolicy(attempts=1, base_delay_seconds=1.0, max_delay_seconds=1.0)
"""A sign of life that comes late is none."""

AT_ONCE = 10
SENT, RETRIED, GIVEN_UP = "sent", "retried", "failed"


class Raised(str):
    """Why a message was not sent: something unforeseen was raised."""

    __slots__ = ()


class WebhookDelivery:
    """One round sends what is due; only the replica with the lease sends."""

    def __init__(
        self,
        database: Database,
        clock: Callable[[], datetime],
        replica: str,
        client: httpx.AsyncClient,
        url: str,
        randomness: Randomness,
        on_outcome: Callable[[str], None],
        on_failure: Callable[[str], None] = lambda _: None,
    ) -> None:
        """``client`` must not follow redirects; ``on_outcome`` is told sent, retried or failed.

        ``on_failure`` is told ``notify`` for each attempt that raised something unforeseen.
        """
        self._on_failure = on_failure
        self._database = database
        self._clock = clock
        self._replica = replica
        self._client = client
        self._url = url
        self._randomness = randomness
        self._on_outcome = on_outcome

    async def deliver(self) -> bool:
        """One round of a Loop; returns whether more may be due."""
        after = 0
        for _ in range(AT_ONCE):
            now = self._clock()
            due = await self._database.read(partial(_next_due, now, after))
            if due is None:
                return False
            if not await self._hold(now):
                return False
            await self._send(due)
            after = due.id
        return True

    async def hand_over(self) -> None:
        """Let another replica go on at once; to be called when this one stops in good order."""
        await self._database.write(lambda c: leases.give_back(c, LEASE, self._replica))

    async def _hold(self, now: datetime) -> bool:
        return await self._database.write(lambda c: leases.take(c, LEASE, self._replica, now, now + LEASE_TIME))

    async def _send(self, notification: Notification) -> None:
        error = await self._post(notification)
        at = self._clock()
        policy = UNFORESEEN if isinstance(error, Raised) else RETRY
        policy = ONCE if notification.alert_id == WATCHDOG else policy
        delay = policy.delay_seconds(notification.attempts + 1, self._randomness) if error else None
        next_at = at + timedelta(seconds=delay) if delay is not None else None
        if not await self._database.write(
            lambda c: notifications.settle(c, notification, at, error=error, next_attempt_at=next_at)
        ):
            # Another replica took this one for dead and has settled the message.
            return
        outcome = SENT if error is None else RETRIED if next_at else GIVEN_UP
        self._on_outcome(outcome)
        if error is not None:
            facts = {"alert": notification.name, "status": notification.status, "error": error, "outcome": outcome}
            logger.warning("alert_notification_not_sent", extra=facts)

    async def _post(self, notification: Notification) -> str | None:
        """Send one message; returns what went wrong, None when it was taken."""
        try:
            if isinstance(notification.payload, Unreadable):
                raise TypeError("what is stored of it cannot be read")
            # Of the whole answer: the client's own timeout begins anew with every byte.
            async with asyncio.timeout(TIMEOUT_SECONDS):
                answer = await self._client.post(self._url, json=notification.payload, timeout=TIMEOUT_SECONDS)
        except TimeoutError:
            return f"no complete answer within {TIMEOUT_SECONDS:g} s"
        except httpx.HTTPError as error:
            return cut_text(f"{type(error).__name__}: {error}", 500)
        except Exception as error:
            # A boundary: a message that cannot even be written down keeps no other one from being sent.
            logger.exception("alert_notification_raised", extra={"alert": notification.name})
            self._on_failure("notify")
            return Raised(cut_text(f"failed unexpectedly: {type(error).__name__}: {error}", 500))
        return _refusal(answer)


def _refusal(answer: httpx.Response) -> str | None:
    if answer.is_success:
        return None
    about = ": redirects are not followed" if answer.is_redirect else ""
    return f"answered {answer.status_code}{about}"


def _next_due(now: datetime, after: int, connection: Connection) -> Notification | None:
    return notifications.next_due(connection, now, after=after)
