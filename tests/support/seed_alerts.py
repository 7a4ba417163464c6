"""Alerts as a busy half hour would have left them: firing, pending, received, silenced, resolved, sent and not sent."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from services.alerting import webhook
from services.alerting.rules import rules
from services.alerting.state_machine import Matcher, annotations_of, event_of, fingerprint
from services.base.settings import Settings
from services.domain.orders.events import timestamp
from state import alerts, notifications, replicas
from state.alerts import FIRING, PENDING, PROMETHEUS, RESOLVED, WORKER, Alert, Silence

RULES = {rule.name: rule for rule in rules(Settings())}
LINK = "http://127.0.0.1:8600/api/v1/alerts"
SILENCE = "SIL-1"


def alert(name: str, state: str, at: datetime, value: float, **labels: str) -> Alert:
    """One of our own, as it stands."""
    rule = RULES[name]
    named = {"alertname": name, "severity": rule.severity, **labels}
    fired = at + rule.for_duration if state != PENDING else None
    annotations = annotations_of(rule, named, value)
    return Alert(fingerprint(named), WORKER, name, named, annotations, LINK, state, value, at, fired, None, at)


def breaker_open(now: datetime) -> Alert:
    found = alert(
        "InventoryCircuitBreakerOpen", FIRING, now - timedelta(seconds=12), 1, breaker="inventoryServiceReserver"
    )
    return replace(found, is_notified=True)


def success_low(now: datetime) -> Alert:
    found = alert("InventoryReservationSuccessLow", FIRING, now - timedelta(minutes=9), 0.871)
    return replace(
        found,
        is_notified=True,
        acknowledged_at=now - timedelta(minutes=6),
        acknowledged_by="olga@example.com",
        acknowledged_note="asked the inventory team",
    )


def received(now: datetime) -> Alert:
    labels = {"alertname": "HostDiskFull", "severity": "warning", "instance": "db-1:9100", "mount": "/var"}
    annotations = {"summary": "The disk of db-1 is 92 % full.", "runbook_url": "https://runbooks.example/disk"}
    return Alert(
        f"prometheus-{fingerprint(labels)}", PROMETHEUS, "HostDiskFull", labels, annotations,
        "http://prometheus.example/graph?g0.expr=disk", FIRING, None, now - timedelta(hours=3),
        now - timedelta(hours=3), None, now, ends_at=now + timedelta(minutes=4),
    )  # fmt: skip


def fill(connection: Any, now: datetime) -> None:
    """Everything at once."""
    dead_letters = alert("DeadLettersPresent", FIRING, now - timedelta(minutes=19), 1)
    slow = alert("InventoryAvailabilitySlow", PENDING, now - timedelta(seconds=24), 1.42)
    was = alert("InventoryReleasesFailing", FIRING, now - timedelta(minutes=50), 3)
    over = replace(was, state=RESOLVED, resolved_at=now - timedelta(minutes=31))
    standing = (breaker_open(now), success_low(now), slow, dead_letters, received(now))
    for one in (*standing, over):
        alerts.put(connection, one)
    reason = "replayed at noon, known case"
    ends_at = now + timedelta(minutes=41)
    matchers = [matcher.wire() for matcher in Matcher.all_of(dead_letters.labels)]
    made = Silence(SILENCE, matchers, reason, "ben@example.com", now - timedelta(minutes=19), ends_at)
    alerts.add_silence(connection, made)
    _history(connection, now, was, over, standing, f"{reason} (until {ends_at:%d %b %H:%M} UTC)")
    _evaluated(connection, now)
    _mail(connection, now, over)


def _history(
    connection: Any, now: datetime, was: Alert, over: Alert, standing: tuple[Alert, ...], silenced: str
) -> None:
    events = [event_of(was, "FIRING", was.active_at), event_of(over, "RESOLVED", now - timedelta(minutes=31))]
    events += [event_of(one, "FIRING", one.fired_at or now) for one in standing if one.state == FIRING]
    taken, dead_letters = standing[1], standing[3]
    events.append(
        event_of(
            taken, "ACKNOWLEDGED", now - timedelta(minutes=6), actor=taken.acknowledged_by, detail="asked the team"
        )
    )
    events.append(
        event_of(dead_letters, "SILENCED", now - timedelta(minutes=19), actor="ben@example.com", detail=silenced)
    )
    alerts.add_events(connection, sorted(events, key=lambda event: event.at))


VALUES = {
    "OrdersRefusedForInventory": 0.0,
    "InventoryRefusesUs": 0.0,
    "OrdersNeedingAttention": 0.0,
    "InventoryCircuitBreakerOpen": 1.0, "InventoryReservationSuccessLow": 0.871, "InventoryReservationQueueDeep": 1.0,
    "InventoryReleasesFailing": 1.0, "InventoryAvailabilitySlow": 1.42, "OutboxStalled": 0.4, "DeadLettersPresent": 1.0,
    "ManualReviewsAging": 3900.0,
}  # fmt: skip


def _evaluated(connection: Any, now: datetime) -> None:
    replicas.take_lease(connection, "alerts", "worker-1", now, now + timedelta(seconds=15))
    evaluated = {name: {"value": value, "threshold": RULES[name].threshold} for name, value in VALUES.items()}
    noted = {"evaluatedAt": timestamp(now - timedelta(seconds=2)), "intervalSeconds": 5.0, "webhook": True}
    replicas.note_lease(connection, "alerts", noted | {"rules": evaluated})


def _mail(connection: Any, now: datetime, over: Alert) -> None:
    sent = [(webhook.WATCHDOG, webhook.WATCHDOG, FIRING, timedelta(minutes=4))]
    sent += [(over.alert_id, over.name, FIRING, timedelta(minutes=50))]
    sent += [(over.alert_id, over.name, RESOLVED, timedelta(minutes=31))]
    for alert_id, name, status, ago in sent:
        _queued(connection, alert_id, name, status, now - ago, error=None)
    last = breaker_open(now)
    _queued(connection, last.alert_id, last.name, FIRING, now - timedelta(seconds=12), error="answered 502")


def _queued(connection: Any, alert_id: str, name: str, status: str, at: datetime, *, error: str | None) -> None:
    notifications.add(connection, alert_id=alert_id, name=name, status=status, payload={}, at=at)
    found = notifications.last_of(connection, alert_id)
    assert found is not None
    next_at = at + timedelta(seconds=19) if error else None
    notifications.settle(connection, found, at, error=error, next_attempt_at=next_at)
