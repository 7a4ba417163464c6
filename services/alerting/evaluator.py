"""Evaluates the alerts in the worker, from the database alone.

One replica evaluates under a lease; any other replica can take over. All state is in the database, so a restart or a
takeover loses nothing. threshold_rule.py compares values with thresholds.
Source: contract 6; requirements 11.1, rule 17.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Self

from sqlalchemy import Connection

from services.alerting import webhook
from services.alerting.state_machine import (
    MAX_ERROR,
    AlertChanges,
    SilenceMatchers,
    due_notification,
    evaluate_rules,
    expired,
    matchers_of,
)
from services.alerting.threshold_rule import Rule
from services.base.settings import Settings
from services.domain.orders.events import timestamp
from services.metrics.gauges import GaugeValues, breaker_gauges, read_gauges
from services.metrics.sample import MetricWindow, SampleWindow
from state import alerts, notifications, replicas, samples
from state.alerts import FIRING, LEASE, PROMETHEUS, WORKER, Alert
from state.engine.database import Database
from state.engine.transactions import apart

LEASE_ROUNDS = 3
"""Number of missed rounds after which the lease expires."""
SHORTEST_LEASE = timedelta(seconds=5)

LATE_COMMIT = timedelta(seconds=30)
"""Longest delay between the time of a sample and the commit that makes it visible."""

PAGE = 500

NOTED_FAILURES = 10

logger = logging.getLogger("holdfast.alerting")


@dataclass(frozen=True, slots=True)
class AlertingPolicy:
    """Times and addresses of alerting, from the settings."""

    window: timedelta
    interval: timedelta
    heartbeat: timedelta
    is_sent: bool
    """Whether a webhook is configured."""
    external_url: str
    """URL of this service in notifications."""
    link: str
    """URL of the list of alerts."""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the policy from the settings. Without CONSOLE_URL, links in notifications point to the API."""
        return cls(
            window=timedelta(milliseconds=settings.alert_window),
            interval=timedelta(seconds=settings.alert_interval_seconds),
            heartbeat=timedelta(milliseconds=settings.alert_heartbeat_interval),
            is_sent=settings.alert_webhook_url is not None,
            external_url=settings.console_url or settings.api_url,
            link=f"{settings.console_url}/alerts" if settings.console_url else f"{settings.api_url}/api/v1/alerts",
        )

    @property
    def lease(self) -> timedelta:
        return max(LEASE_ROUNDS * self.interval, SHORTEST_LEASE)

    @property
    def outage(self) -> timedelta:
        """After this gap between evaluations the alert state is unknown."""
        return 2 * self.lease


@dataclass(frozen=True, slots=True)
class Failure:
    """An error during the evaluation of a rule, or when storing an alert or queueing its notification."""

    part: str
    name: str
    error: str


class AlertEvaluator:
    """Evaluates every rule once a round. A round without the lease does nothing."""

    def __init__(
        self,
        database: Database,
        clock: Callable[[], datetime],
        replica: str,
        rules: Sequence[Rule],
        policy: AlertingPolicy,
        on_failure: Callable[[str], None] = lambda _: None,
    ) -> None:
        """``on_failure`` is called once per failed rule or alert, with ``rule``, ``store`` or ``notify``."""
        self._on_failure = on_failure
        self._database = database
        self._clock = clock
        self._replica = replica
        self._rules = tuple(rules)
        self._policy = policy
        self._samples: SampleWindow | None = None
        self._read_up_to: datetime | None = None

    async def evaluate(self) -> bool:
        """Run one round of a Loop; always returns False."""
        now = self._clock()
        held = await self._database.read(lambda c: replicas.get_lease(c, LEASE))
        if held is not None and held.holder != self._replica and held.expires_at > now:
            self._samples = None
            return False
        data = await self._read_metrics(now)
        self._report(await self._database.write(lambda c: self._evaluate_rules(c, data, now)))
        return False

    async def release_lease(self) -> None:
        """Release the lease at an orderly stop, so that another replica takes over at once."""
        await self._database.write(lambda c: replicas.give_back_lease(c, LEASE, self._replica))

    # ----------------------------------------------------------- reading metrics

    async def _read_metrics(self, now: datetime) -> MetricWindow:
        if self._samples is None or (self._read_up_to and now < self._read_up_to):
            # After the clock was set back, new samples are older than the stored ones: the window is read anew.
            self._samples = SampleWindow(self._policy.window)
            self._read_up_to = None
        start = now - self._policy.window
        after = max(start, self._read_up_to - LATE_COMMIT) if self._read_up_to else start
        window = self._samples
        while True:
            rows = await self._database.read(partial(samples.up_to, start=after, end=now, limit=PAGE))
            window.feed(rows)
            if len(rows) < PAGE:
                break
            # Other replicas may have more samples of the last timestamp: it is read again.
            after = rows[-1][0] if rows[-1][0] > after else after + timedelta(milliseconds=1)
        self._read_up_to = now
        gauges = await self._database.read(lambda c: present_gauges(c, now))
        return window.at(now, gauges)

    # -------------------------------------------------------------- evaluating

    def _evaluate_rules(self, connection: Connection, data: MetricWindow, now: datetime) -> list[Failure]:
        """Evaluate all rules in one transaction. Only the replica that holds the lease at its commit evaluates.

        A failure of one rule or alert does not stop the others.
        """
        if not replicas.take_lease(connection, LEASE, self._replica, now, now + self._policy.lease):
            return []
        policy = self._policy
        alerts.mend_times(connection, now)
        known = alerts.of_source(connection, WORKER)
        change = evaluate_rules(self._rules, data, known, now, outage=policy.outage, link=policy.link)
        failures = [Failure("rule", name, error) for name, error in change.failed]
        failures += apply(connection, change)
        failures += apply(connection, expired(alerts.of_source(connection, PROMETHEUS), now))
        failures += self._notify(connection, now)
        noted = self._round_facts(data, now, failures)
        if error := apart(connection, partial(replicas.note_lease, connection, LEASE, noted)):
            failures.append(Failure("store", LEASE, repr(error)[:MAX_ERROR]))
        return failures

    def _report(self, failures: Sequence[Failure]) -> None:
        for failure in failures:
            self._on_failure(failure.part)
            logger.error(
                "alert_not_judged", extra={"part": failure.part, "alert": failure.name, "error": failure.error}
            )

    def _round_facts(self, data: MetricWindow, now: datetime, failures: Sequence[Failure]) -> dict[str, Any]:
        return {
            "evaluatedAt": timestamp(now),
            "intervalSeconds": self._policy.interval.total_seconds(),
            "webhook": self._policy.is_sent,
            "rules": {
                rule.name: {"value": _present_value(rule, data), "threshold": rule.threshold} for rule in self._rules
            },
            "failures": [f"{failure.part} {failure.name}: {failure.error}" for failure in failures[:NOTED_FAILURES]],
        }

    def _notify(self, connection: Connection, now: datetime) -> list[Failure]:
        if not self._policy.is_sent:
            return []
        candidates = [*alerts.standing(connection), *alerts.resolved_unannounced(connection)]
        running = silence_matchers(connection, now)
        failures = []
        for alert in candidates:
            error = apart(connection, partial(self._queue_notification, connection, alert, running, now))
            if error is not None:
                failures.append(Failure("notify", alert.name, repr(error)[:MAX_ERROR]))
        self._watchdog(connection, now)
        return failures

    def _queue_notification(
        self, connection: Connection, alert: Alert, running: SilenceMatchers, now: datetime
    ) -> None:
        status = due_notification(alert, running)
        if status is not None:
            payload = webhook.notification(alert, status, self._policy.external_url)
            about = {"alert_id": alert.alert_id, "name": alert.name, "status": status}
            notifications.add(connection, **about, payload=payload, at=now)
            alerts.put(connection, replace(alert, is_notified=status == FIRING))

    def _watchdog(self, connection: Connection, now: datetime) -> None:
        last = notifications.last_of(connection, webhook.WATCHDOG)
        # One queued heartbeat is enough.
        if last is None or (
            last.state != notifications.PENDING and abs(now - last.created_at) >= self._policy.heartbeat
        ):
            held = replicas.get_lease(connection, LEASE)
            payload = webhook.watchdog(now, held.acquired_at if held else now, self._policy.external_url)
            about = {"alert_id": webhook.WATCHDOG, "name": webhook.WATCHDOG, "status": FIRING}
            notifications.add(connection, **about, payload=payload, at=now)


def silence_matchers(connection: Connection, now: datetime) -> SilenceMatchers:
    """Return the matchers of the active silences."""
    return {silence.silence_id: matchers_of(silence.matchers) for silence in alerts.running_silences(connection, now)}


def apply(connection: Connection, change: AlertChanges) -> list[Failure]:
    """Store the changes of each alert separately, and return the failures."""
    failures = []
    for part in change.parts():
        error = apart(connection, partial(store_changes, connection, part))
        if error is not None:
            name = next((alert.name for alert in part.put), "")
            failures.append(Failure("store", name, repr(error)[:MAX_ERROR]))
    return failures


def store_changes(connection: Connection, changes: AlertChanges) -> None:
    for alert in changes.put:
        alerts.put(connection, alert)
    for alert_id in changes.remove:
        alerts.remove(connection, alert_id)
    alerts.add_events(connection, changes.events)


def _present_value(rule: Rule, data: MetricWindow) -> float | None:
    try:
        return rule.worst_value(data)
    except Exception:  # noqa: BLE001 - a boundary: evaluate_rules() reports the error
        return None


def present_gauges(connection: Connection, now: datetime) -> GaugeValues:
    """The queue gauges in the database and the breaker states of the live replicas."""
    return {**read_gauges(connection, now), **breaker_gauges(replicas.alive(connection, now))}
