"""The body of a notification, as Alertmanager's webhook sends it.

Pure. Every alert is a group of its own: a receiver that opens one incident per ``groupKey`` then never
closes the incident of one breaker because another one closed.
Source: Alertmanager, webhook_config, version 4.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from services.alerting.labels import fingerprint
from services.domain.orders.events import timestamp
from state.alerts import FIRING, RESOLVED, WORKER, Alert

RECEIVER = "holdfast"
WATCHDOG = "Watchdog"
NEVER = "0001-01-01T00:00:00Z"
"""How Alertmanager writes that there is no such time."""


def notification(alert: Alert, status: str, external_url: str) -> dict[str, Any]:
    """The message that an alert fires, or no longer does."""
    labels = alert.labels
    ended = timestamp(alert.resolved_at) if status == RESOLVED and alert.resolved_at else NEVER
    shown = {
        "status": status,
        "labels": labels,
        "annotations": alert.annotations,
        "startsAt": timestamp(alert.fired_at or alert.active_at),
        "endsAt": ended,
        "generatorURL": alert.generator_url,
        "fingerprint": fingerprint(labels),
    }
    return _message(shown, status, group_key(labels, alert.source), external_url)


def watchdog(at: datetime, since: datetime, external_url: str) -> dict[str, Any]:
    """The message that is sent again and again for as long as alerts are judged: its absence is the alarm."""
    labels = {"alertname": WATCHDOG, "severity": "none"}
    shown = {
        "status": FIRING,
        "labels": labels,
        "annotations": {
            "summary": "Alerting works. When this stops coming, it does not.",
            "sentAt": timestamp(at),
        },
        "startsAt": timestamp(since),
        "endsAt": NEVER,
        "generatorURL": external_url,
        "fingerprint": fingerprint(labels),
    }
    return _message(shown, FIRING, group_key(labels, WORKER), external_url)


def group_key(labels: dict[str, str], source: str) -> str:
    """The name of a group in Alertmanager's manner; alerts received from elsewhere are told apart from our own."""
    inside = ", ".join(f'{name}="{value}"' for name, value in sorted(labels.items()))
    route = "{}" if source == WORKER else f'{{}}/{{source="{source}"}}'
    return f"{route}:{{{inside}}}"


def _message(alert: dict[str, Any], status: str, key: str, external_url: str) -> dict[str, Any]:
    return {
        "version": "4",
        "groupKey": key,
        "truncatedAlerts": 0,
        "status": status,
        "receiver": RECEIVER,
        "groupLabels": alert["labels"],
        "commonLabels": alert["labels"],
        "commonAnnotations": alert["annotations"],
        "externalURL": external_url,
        "alerts": [alert],
    }
