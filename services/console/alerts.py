"""Alerts on the console: pending and firing alerts, silences, rules, notifications, and the commands on them.

Commands are stored; the worker executes them. Source: requirements 11, page Alerts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from services.alerting import database_alert
from services.alerting.evaluator import silence_matchers
from services.alerting.rules import rules
from services.alerting.state_machine import Matcher, fit, matchers_of, silenced_by
from services.alerting.threshold_rule import Rule
from services.alerting.webhook import WATCHDOG
from services.base.settings import Settings
from services.console.access import Access, Topic
from services.console.cache import Reading
from services.domain.external import time_or_none
from services.metrics.health import NAMES
from state import alerts, commands, notifications, replicas
from state.alerts import LEASE, Alert, AlertEvent, Silence
from state.commands import Command
from state.notifications import Notification

RECENTLY = timedelta(days=1)
RESOLVED_SHOWN = 50
HISTORY_PAGE = 30
TTL = 1.0


@dataclass(frozen=True, slots=True)
class RuleRow:
    """A rule with its present value."""

    rule: Rule
    threshold: float
    """The threshold in the settings of the worker."""
    value: float | None
    state: str
    """The worst state of its alerts; ``resolved`` without pending or firing ones."""


@dataclass(frozen=True, slots=True)
class AlertRow:
    """An alert with its rule, silences and last command."""

    alert: Alert
    rule: Rule | None
    """None for a received alert."""
    threshold: float | None
    silences: tuple[Silence, ...]
    command: Command | None
    """The last command on it."""


@dataclass(frozen=True, slots=True)
class SilenceRow:
    """A running silence with the alerts that it silences now."""

    silence: Silence
    alerts: tuple[Alert, ...]
    command: Command | None

    @property
    def matchers(self) -> tuple[Matcher, ...]:
        return matchers_of(self.silence.matchers)


@dataclass(frozen=True, slots=True)
class EvaluatorStatus:
    """Which replica evaluates the alerts, and the last evaluation."""

    replica: str
    evaluated_at: datetime | None
    interval: timedelta
    is_late: bool
    """Whether several rounds are missing, so that the shown state may be old."""
    failures: tuple[str, ...] = ()
    """Rules and alerts that the last round could not evaluate, store or announce, with the error."""


@dataclass(frozen=True, slots=True)
class WebhookStatus:
    """The state of the webhook and its latest notifications."""

    is_configured: bool
    pending: int
    latest: tuple[Notification, ...]
    """Newest first, without heartbeats."""
    heartbeat: Notification | None
    """The last heartbeat."""

    @property
    def trouble(self) -> Notification | None:
        """The newest pending message with a failed attempt; None without one."""
        return next((n for n in self.latest if n.state == notifications.PENDING and n.last_error), None)


@dataclass(frozen=True, slots=True)
class AlertsPage:
    """The content of the Alerts page at one instant."""

    standing: tuple[AlertRow, ...]
    """Firing before pending, critical before others, oldest first."""
    resolved: tuple[AlertRow, ...]
    """Resolved in the last day, newest first."""
    silences: tuple[SilenceRow, ...]
    ended: tuple[Silence, ...]
    rules: tuple[RuleRow, ...]
    evaluator: EvaluatorStatus | None
    """None before the first evaluation."""
    webhook: WebhookStatus


class Alerts(Topic):
    """Reads and commands of the Alerts page."""

    def __init__(self, access: Access, settings: Settings) -> None:
        self._rules = {rule.name: rule for rule in (database_alert.RULE, *rules(settings))}
        super().__init__(access)

    def firing(self) -> Reading[tuple[Alert, ...]]:
        """The firing alerts that are not silenced, critical ones first."""
        return self._access.read("alerts_firing", TTL, lambda c: _firing(c, self._access.now()))

    def page(self) -> Reading[AlertsPage]:
        return self._access.read("alerts", TTL, lambda c: _page(c, self._rules, self._access.now()))

    def history(self, page: int = 1) -> Reading[tuple[AlertEvent, ...]]:
        """One page of the history, newest first, plus one entry when there is a next page."""
        offset = (max(page, 1) - 1) * HISTORY_PAGE
        key = ("alert_history", offset)
        return self._access.read(key, TTL, lambda c: tuple(alerts.history(c, limit=HISTORY_PAGE + 1, offset=offset)))


def would_silence(matchers: Sequence[Matcher], page: AlertsPage) -> tuple[Alert, ...]:
    """The pending and firing alerts that a silence with these matchers would silence."""
    return tuple(row.alert for row in page.standing if matchers and fit(matchers, row.alert.labels))


def _firing(connection: Connection, now: datetime) -> tuple[Alert, ...]:
    running = silence_matchers(connection, now)
    found = [alert for alert in alerts.standing(connection) if alert.state == alerts.FIRING]
    return tuple(sorted((a for a in found if not silenced_by(a.labels, running)), key=urgency))


def title(alert: Alert) -> str:
    """The name of the alert with its breaker, or with its inventory call and HTTP status."""
    breaker = alert.labels.get("breaker")
    if alert.name == "InventoryRefusesUs":
        return f"{alert.name} ({alert.labels.get('operation')}, {alert.labels.get('status')})"
    return f"{alert.name} ({NAMES.get(breaker, breaker)})" if breaker else alert.name


def urgency(alert: Alert) -> tuple[bool, bool, datetime]:
    """Sort key: firing, critical, oldest first."""
    return alert.state != alerts.FIRING, alert.severity != "critical", alert.active_at


def _page(connection: Connection, known: Mapping[str, Rule], now: datetime) -> AlertsPage:
    standing = sorted(alerts.standing(connection), key=urgency)
    resolved = alerts.resolved(connection, now - RECENTLY, RESOLVED_SHOWN)
    running = alerts.running_silences(connection, now)
    ids = [alert.alert_id for alert in standing] + [silence.silence_id for silence in running]
    given = commands.latest_of(connection, ids) if ids else {}
    lease = replicas.get_lease(connection, LEASE)
    evaluator = _evaluator_status(lease, now)
    noted = dict((lease.noted if lease else {}).get("rules", {}))
    if evaluator is not None and not evaluator.is_late:
        # The last round was stored, so the database is writable.
        noted[database_alert.DATABASE_NOT_WRITABLE] = {"value": 0.0}

    def row(alert: Alert) -> AlertRow:
        over = tuple(silence for silence in running if fit(matchers_of(silence.matchers), alert.labels))
        rule = known.get(alert.name) if alert.source == alerts.WORKER else None
        threshold = noted.get(alert.name, {}).get("threshold", rule.threshold) if rule else None
        return AlertRow(alert, rule, threshold, over, given.get(alert.alert_id))

    return AlertsPage(
        standing=tuple(row(alert) for alert in standing),
        resolved=tuple(row(alert) for alert in resolved),
        silences=tuple(
            SilenceRow(
                silence,
                tuple(alert for alert in standing if fit(matchers_of(silence.matchers), alert.labels)),
                given.get(silence.silence_id),
            )
            for silence in running
        ),
        ended=tuple(alerts.ended_silences(connection, now, limit=10)),
        rules=tuple(_rule_row(rule, noted.get(rule.name, {}), standing) for rule in known.values()),
        evaluator=evaluator,
        webhook=_webhook_status(connection, lease),
    )


def _rule_row(rule: Rule, noted: Mapping[str, Any], standing: Sequence[Alert]) -> RuleRow:
    states = {alert.state for alert in standing if alert.name == rule.name and alert.source == alerts.WORKER}
    worst = next((state for state in alerts.STATES if state in states), alerts.RESOLVED)
    return RuleRow(rule, noted.get("threshold", rule.threshold), noted.get("value"), worst)


def _evaluator_status(lease: replicas.Lease | None, now: datetime) -> EvaluatorStatus | None:
    if lease is None:
        return None
    evaluated_at = time_or_none(lease.noted.get("evaluatedAt"))
    seconds = lease.noted.get("intervalSeconds")
    interval = timedelta(seconds=seconds if isinstance(seconds, int | float) and 0 < seconds < 86_400 else 5.0)
    is_late = evaluated_at is None or now - evaluated_at > max(4 * interval, timedelta(seconds=10))
    return EvaluatorStatus(lease.holder, evaluated_at, interval, is_late, tuple(lease.noted.get("failures", ())))


def _webhook_status(connection: Connection, lease: replicas.Lease | None) -> WebhookStatus:
    found = notifications.latest(connection, limit=60)
    return WebhookStatus(
        is_configured=bool((lease.noted if lease else {}).get("webhook")),
        pending=notifications.count_pending(connection),
        latest=tuple(n for n in found if n.alert_id != WATCHDOG)[:20],
        heartbeat=notifications.last_of(connection, WATCHDOG),
    )
