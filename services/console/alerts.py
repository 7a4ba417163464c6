"""Alerts for the pages: what stands, what people said about it, what is silenced, who was told.

Commands are stored; the worker executes them. Source: console page Alerts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from services.alerting import database_alert
from services.alerting.evaluator import silence_matchers
from services.alerting.labels import Matcher, exactly, fit, matchers_of
from services.alerting.rules import rules
from services.alerting.state_machine import silenced_by
from services.alerting.threshold_rule import Rule
from services.alerting.webhook import WATCHDOG
from services.base.settings import Settings
from services.console.access import Access
from services.console.cache import Reading
from services.domain.commands import CommandKind
from services.domain.external import time_or_none
from services.metrics.health import NAMES
from state import alerts, commands, leases, notifications, silences
from state.alerts import LEASE, Alert, AlertEvent
from state.commands import Command
from state.notifications import Notification
from state.silences import Silence

__all__ = [
    "HISTORY_PAGE",
    "WATCHDOG",
    "Alert",
    "AlertEvent",
    "AlertRow",
    "Alerts",
    "AlertsPage",
    "EvaluatorStatus",
    "Matcher",
    "Notification",
    "RuleRow",
    "Silence",
    "SilenceRow",
    "WebhookStatus",
    "exactly",
    "matchers_of",
    "would_silence",
]  # fmt: skip


RECENTLY = timedelta(days=1)
RESOLVED_SHOWN = 50
HISTORY_PAGE = 30
TTL = 1.0


@dataclass(frozen=True, slots=True)
class RuleRow:
    """An alert as it is defined, with what it looks at right now."""

    rule: Rule
    threshold: float
    """As the worker has it."""
    value: float | None
    state: str
    """The worst of its alerts; ``resolved`` when none stands."""


@dataclass(frozen=True, slots=True)
class AlertRow:
    """An alert with what a person needs to act on it."""

    alert: Alert
    rule: Rule | None
    """None of one received from elsewhere."""
    threshold: float | None
    silences: tuple[Silence, ...]
    command: Command | None
    """The last one given on it."""


@dataclass(frozen=True, slots=True)
class SilenceRow:
    """A running silence with the alerts it holds back now."""

    silence: Silence
    alerts: tuple[Alert, ...]
    command: Command | None

    @property
    def matchers(self) -> tuple[Matcher, ...]:
        return matchers_of(self.silence.matchers)


@dataclass(frozen=True, slots=True)
class EvaluatorStatus:
    """Who judges the alerts, and when that was last done."""

    replica: str
    evaluated_at: datetime | None
    interval: timedelta
    is_late: bool
    """Not for several rounds: what is shown may no longer be true."""
    failures: tuple[str, ...] = ()
    """Rules and alerts that the last round could not judge, store or send, with what was raised."""


@dataclass(frozen=True, slots=True)
class WebhookStatus:
    """How the webhook is doing."""

    is_configured: bool
    pending: int
    latest: tuple[Notification, ...]
    """Newest first, signs of life left out."""
    heartbeat: Notification | None
    """The last sign of life."""

    @property
    def trouble(self) -> Notification | None:
        """The newest message that could not be sent so far, if one waits for that."""
        return next((n for n in self.latest if n.state == notifications.PENDING and n.last_error), None)


@dataclass(frozen=True, slots=True)
class AlertsPage:
    """Everything about alerts at one instant."""

    standing: tuple[AlertRow, ...]
    """Firing ones first, critical before the rest, the oldest at the head."""
    resolved: tuple[AlertRow, ...]
    """Of the last day, newest first."""
    silences: tuple[SilenceRow, ...]
    ended: tuple[Silence, ...]
    rules: tuple[RuleRow, ...]
    evaluator: EvaluatorStatus | None
    """None: nobody has judged alerts so far."""
    webhook: WebhookStatus


class Alerts:
    """What the pages may know and ask about alerts."""

    def __init__(self, access: Access, settings: Settings) -> None:
        self._rules = {rule.name: rule for rule in (database_alert.RULE, *rules(settings))}
        self._access = access

    def firing(self) -> Reading[tuple[Alert, ...]]:
        """Those that fire and are not silenced, critical ones first."""
        return self._access.read("alerts_firing", TTL, lambda c: _firing(c, self._access.now()))

    def page(self) -> Reading[AlertsPage]:
        return self._access.read("alerts", TTL, lambda c: _page(c, self._rules, self._access.now()))

    def history(self, page: int = 1) -> Reading[tuple[AlertEvent, ...]]:
        """One page, newest first, and one entry more when there is a next page."""
        offset = (max(page, 1) - 1) * HISTORY_PAGE
        key = ("alert_history", offset)
        return self._access.read(key, TTL, lambda c: tuple(alerts.history(c, limit=HISTORY_PAGE + 1, offset=offset)))

    def acknowledge(self, alert: Alert, note: str, *, actor: str, command_id: str) -> Command:
        return self._access.store_command(
            CommandKind.ACKNOWLEDGE_ALERT, alert.alert_id, {"note": note}, actor=actor, command_id=command_id
        )

    def silence(
        self, target: str, matchers: Sequence[Matcher], reason: str, lasts: timedelta, *, actor: str, command_id: str
    ) -> Command:
        """Silence whatever fits; ``target`` is the alert from which the person came."""
        arguments = {
            "matchers": [matcher.wire() for matcher in matchers],
            "reason": reason,
            "expiresIn": lasts // timedelta(milliseconds=1),
        }
        return self._access.store_command(
            CommandKind.SILENCE_ALERT, target, arguments, actor=actor, command_id=command_id
        )

    def end_silence(self, silence: Silence, *, actor: str, command_id: str) -> Command:
        return self._access.store_command(
            CommandKind.END_SILENCE, silence.silence_id, {}, actor=actor, command_id=command_id
        )


def would_silence(matchers: Sequence[Matcher], page: AlertsPage) -> tuple[Alert, ...]:
    """The standing alerts that a silence with these matchers would hold back."""
    return tuple(row.alert for row in page.standing if matchers and fit(matchers, row.alert.labels))


def _firing(connection: Connection, now: datetime) -> tuple[Alert, ...]:
    running = silence_matchers(connection, now)
    found = [alert for alert in alerts.standing(connection) if alert.state == alerts.FIRING]
    return tuple(sorted((a for a in found if not silenced_by(a.labels, running)), key=urgency))


def title(alert: Alert) -> str:
    """Its name, and that of its breaker where it has one: such an alert fires once per breaker."""
    breaker = alert.labels.get("breaker")
    if alert.name == "InventoryRefusesUs":
        return f"{alert.name} ({alert.labels.get('operation')}, {alert.labels.get('status')})"
    return f"{alert.name} ({NAMES.get(breaker, breaker)})" if breaker else alert.name


def urgency(alert: Alert) -> tuple[bool, bool, datetime]:
    """Sorts by how much an alert needs a person: firing, critical, oldest first."""
    return alert.state != alerts.FIRING, alert.severity != "critical", alert.active_at


def _page(connection: Connection, known: Mapping[str, Rule], now: datetime) -> AlertsPage:
    standing = sorted(alerts.standing(connection), key=urgency)
    resolved = alerts.resolved(connection, now - RECENTLY, RESOLVED_SHOWN)
    running = silences.running(connection, now)
    ids = [alert.alert_id for alert in standing] + [silence.silence_id for silence in running]
    given = commands.latest_of(connection, ids) if ids else {}
    lease = leases.get(connection, LEASE)
    evaluator = _evaluator_status(lease, now)
    judged = dict((lease.noted if lease else {}).get("rules", {}))
    if evaluator is not None and not evaluator.is_late:
        # Each round is stored: the last one is the proof.
        judged[database_alert.DATABASE_NOT_WRITABLE] = {"value": 0.0}

    def row(alert: Alert) -> AlertRow:
        over = tuple(silence for silence in running if fit(matchers_of(silence.matchers), alert.labels))
        rule = known.get(alert.name) if alert.source == alerts.WORKER else None
        threshold = judged.get(alert.name, {}).get("threshold", rule.threshold) if rule else None
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
        ended=tuple(silences.ended(connection, now, limit=10)),
        rules=tuple(_rule_row(rule, judged.get(rule.name, {}), standing) for rule in known.values()),
        evaluator=evaluator,
        webhook=_webhook_status(connection, lease),
    )


def _rule_row(rule: Rule, judged: Mapping[str, Any], standing: Sequence[Alert]) -> RuleRow:
    states = {alert.state for alert in standing if alert.name == rule.name and alert.source == alerts.WORKER}
    worst = next((state for state in alerts.STATES if state in states), alerts.RESOLVED)
    return RuleRow(rule, judged.get("threshold", rule.threshold), judged.get("value"), worst)


def _evaluator_status(lease: leases.Lease | None, now: datetime) -> EvaluatorStatus | None:
    if lease is None:
        return None
    evaluated_at = time_or_none(lease.noted.get("evaluatedAt"))
    seconds = lease.noted.get("intervalSeconds")
    interval = timedelta(seconds=seconds if isinstance(seconds, int | float) and 0 < seconds < 86_400 else 5.0)
    is_late = evaluated_at is None or now - evaluated_at > max(4 * interval, timedelta(seconds=10))
    return EvaluatorStatus(lease.holder, evaluated_at, interval, is_late, tuple(lease.noted.get("failures", ())))


def _webhook_status(connection: Connection, lease: leases.Lease | None) -> WebhookStatus:
    found = notifications.latest(connection, limit=60)
    return WebhookStatus(
        is_configured=bool((lease.noted if lease else {}).get("webhook")),
        pending=notifications.count_pending(connection),
        latest=tuple(n for n in found if n.alert_id != WATCHDOG)[:20],
        heartbeat=notifications.last_of(connection, WATCHDOG),
    )
