"""Builds the parts of alerting from the settings."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import httpx

from services.alerting.actions import AlertActions
from services.alerting.evaluator import AlertEvaluator, AlertingPolicy
from services.alerting.receiver import AlertReceiver
from services.alerting.rules import rules
from services.alerting.threshold_rule import Rule
from services.alerting.webhook import WebhookDelivery
from services.base.loops import Loop
from services.base.settings import Settings
from services.domain.retry import Randomness
from state.engine.database import Database

DELIVERY_PAUSE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Alerting:
    """The parts of alerting that a worker runs or serves."""

    rules: tuple[Rule, ...]
    evaluator: AlertEvaluator
    delivery: WebhookDelivery | None
    """None without ALERT_WEBHOOK_URL."""
    actions: AlertActions
    receiver: AlertReceiver
    interval_seconds: float

    def loops(self) -> list[Loop]:
        """The background loops of alerting."""
        found = [Loop("alerts", self.evaluator.evaluate, pause_seconds=self.interval_seconds)]
        if self.delivery is not None:
            found.append(Loop("notifications", self.delivery.deliver, pause_seconds=DELIVERY_PAUSE_SECONDS))
        return found

    def lease_releases(self) -> list[Callable[[], Awaitable[None]]]:
        """Functions that release the leases. Call them after the loops have ended."""
        return [self.evaluator.release_lease, *([self.delivery.release_lease] if self.delivery is not None else [])]


def policy_of(settings: Settings) -> AlertingPolicy:
    """Return the policy from the settings. Without CONSOLE_URL, links in notifications point to the API."""
    return AlertingPolicy(
        window=timedelta(milliseconds=settings.alert_window),
        interval=timedelta(seconds=settings.alert_interval_seconds),
        heartbeat=timedelta(milliseconds=settings.alert_heartbeat_interval),
        is_sent=settings.alert_webhook_url is not None,
        external_url=settings.console_url or settings.api_url,
        link=f"{settings.console_url}/alerts" if settings.console_url else f"{settings.api_url}/api/v1/alerts",
    )


def alerting(
    settings: Settings,
    database: Database,
    clock: Callable[[], datetime],
    new_id: Callable[[], str],
    replica: str,
    client: httpx.AsyncClient,
    randomness: Randomness,
    on_notification: Callable[[str], None],
    on_failure: Callable[[str], None],
) -> Alerting:
    """Build alerting. ``client`` sends notifications and must not follow redirects; ``on_failure`` counts failures."""
    definitions = rules(settings)
    url = settings.alert_webhook_url
    return Alerting(
        rules=definitions,
        evaluator=AlertEvaluator(database, clock, replica, definitions, policy_of(settings), on_failure),
        delivery=(
            WebhookDelivery(database, clock, replica, client, url, randomness, on_notification, on_failure)
            if url
            else None
        ),
        actions=AlertActions(database, clock, new_id),
        receiver=AlertReceiver(database, clock, on_failure),
        interval_seconds=settings.alert_interval_seconds,
    )
