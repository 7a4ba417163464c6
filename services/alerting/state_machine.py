"""The states of an alert (pending, firing, resolved), its labels, and the silences that match it.

Pure. An alert fires once its condition was true for ``for_duration``. The transitions are those of Prometheus with
``for`` and ``keep_firing_for``. Unlike Prometheus, the service stores the state in a database, so the state survives a
restart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from services.alerting.threshold_rule import Rule
from services.metrics.expressions import Labels, MetricData
from state.alerts import FIRING, PENDING, RESOLVED, WORKER, Alert, AlertEvent

MAX_ERROR = 300
"""Characters of an error that are stored."""


@dataclass(frozen=True, slots=True)
class AlertChanges:
    """Alerts to store and to remove, and the entries of their history."""

    put: tuple[Alert, ...]
    """Alerts that are new or changed."""
    remove: tuple[str, ...]
    """Ids of pending alerts whose condition is no longer true."""
    events: tuple[AlertEvent, ...]
    """Entries of the history."""
    failed: tuple[tuple[str, str], ...] = ()
    """Names of the rules that raised, with the error."""

    def parts(self) -> list[AlertChanges]:
        """The changes split by alert."""
        single = [
            AlertChanges((alert,), (), tuple(event for event in self.events if event.alert_id == alert.alert_id))
            for alert in self.put
        ]
        return single + [AlertChanges((), (alert_id,), ()) for alert_id in self.remove]


def evaluate_rules(
    rules: Sequence[Rule], data: MetricData, known: Sequence[Alert], at: datetime, *, outage: timedelta, link: str
) -> AlertChanges:
    """Evaluate every rule. ``known`` are the stored alerts of these rules, in any state.

    ``outage``: after a longer gap between evaluations a pending alert starts again, because its state in the gap is
    unknown. A pending alert also starts again when the clock was set back by more than ``outage``. ``link``: generator
    URL of new alerts.
    """
    stored = {alert.alert_id: alert for alert in known}
    put: list[Alert] = []
    remove: list[str] = []
    seen: set[str] = set()
    failed: dict[str, str] = {}
    for rule in rules:
        try:
            made = [
                _condition_true(rule, labels, value, stored, at, outage=outage, link=link)
                for labels, value in rule.active(data).items()
            ]
        except Exception as error:  # noqa: BLE001 - a boundary: a rule that raises does not stop the others
            failed[rule.name] = f"{type(error).__name__}: {error}"[:MAX_ERROR]
            continue
        seen |= {alert.alert_id for alert in made}
        put += made
    keep_firing = {rule.name: rule.keep_firing_for for rule in rules}
    for alert in known:
        # The alerts of a rule that raised stay unchanged: their condition is unknown.
        if alert.alert_id not in seen and alert.state != RESOLVED and alert.name not in failed:
            after = _condition_false(alert, at, keep_firing.get(alert.name, timedelta(0)))
            if after is None:
                remove.append(alert.alert_id)
            else:
                put.append(after)
    changed = tuple(alert for alert in put if stored.get(alert.alert_id) != alert)
    return AlertChanges(changed, tuple(remove), tuple(_events(stored, changed, at)), tuple(failed.items()))


def _condition_true(
    rule: Rule,
    labels: Labels,
    value: float,
    stored: Mapping[str, Alert],
    at: datetime,
    *,
    outage: timedelta,
    link: str,
) -> Alert:
    names = {"alertname": rule.name, "severity": rule.severity, **dict(labels)}
    alert_id = fingerprint(names)
    before = stored.get(alert_id)
    if before is None or before.state == RESOLVED:
        alert = Alert(
            alert_id=alert_id,
            source=WORKER,
            name=rule.name,
            labels=names,
            annotations={},
            generator_url=f"{link}?alert={alert_id}",
            state=PENDING,
            value=value,
            active_at=at,
            fired_at=None,
            resolved_at=before.resolved_at if before else None,
            seen_at=at,
            is_notified=before.is_notified if before else False,
        )
    else:
        alert = before
        if alert.state == PENDING and abs(at - alert.seen_at) > outage:
            alert = replace(alert, active_at=at)
    alert = replace(alert, value=value, seen_at=at, kept_since=None, annotations=annotations_of(rule, names, value))
    if alert.state == PENDING and at - alert.active_at >= rule.for_duration:
        alert = replace(alert, state=FIRING, fired_at=at)
    return alert


def _condition_false(alert: Alert, at: datetime, keep_firing_for: timedelta) -> Alert | None:
    if alert.state == PENDING:
        # A pending alert that had fired earlier becomes resolved again; any other pending alert is removed.
        return replace(alert, state=RESOLVED, fired_at=None) if alert.resolved_at else None
    # After the clock was set back, ``keep_firing_for`` counts from now.
    since = min(alert.kept_since or at, at)
    if at - since < keep_firing_for:
        return replace(alert, kept_since=since)
    return ended(alert, at)


def ended(alert: Alert, at: datetime) -> Alert:
    """The alert in state resolved, without its acknowledgement."""
    return replace(
        alert,
        state=RESOLVED,
        resolved_at=at,
        kept_since=None,
        acknowledged_at=None,
        acknowledged_by=None,
        acknowledged_note=None,
    )


def expired(received: Iterable[Alert], at: datetime) -> AlertChanges:
    """The changes that resolve the expired received alerts."""
    over = [alert for alert in received if alert.state == FIRING and alert.ends_at is not None and alert.ends_at <= at]
    put = tuple(ended(alert, at) for alert in over)
    return AlertChanges(put, (), tuple(_events({alert.alert_id: alert for alert in over}, put, at)))


def firing_alert(
    labels: dict[str, str], annotations: dict[str, str], link: str, at: datetime, since: datetime
) -> Alert:
    """Return a firing alert of this service that no rule evaluates."""
    return Alert(
        alert_id=fingerprint(labels),
        source=WORKER,
        name=labels["alertname"],
        labels=labels,
        annotations=annotations,
        generator_url=link,
        state=FIRING,
        value=1.0,
        active_at=since,
        fired_at=since,
        resolved_at=None,
        seen_at=at,
        is_notified=True,
    )


def annotations_of(rule: Rule, labels: Mapping[str, str], value: float | None) -> dict[str, str]:
    """Return the annotations of an alert, which its notifications contain."""
    summary_for = {
        "summary": rule.summary_for(labels),
        "runbook": " ".join(rule.runbook),
        "threshold": f"{rule.comparison} {rule.threshold:g}",
    }
    return summary_for if value is None else summary_for | {"value": f"{value:.6g}"}


def event_of(
    alert: Alert, kind: str, at: datetime, *, actor: str | None = None, detail: str | None = None
) -> AlertEvent:
    """An entry of the history."""
    return AlertEvent(at, kind, alert.alert_id, alert.name, alert.labels, alert.source, alert.value, actor, detail)


def _events(stored: Mapping[str, Alert], changed: Iterable[Alert], at: datetime) -> Iterable[AlertEvent]:
    for alert in changed:
        before = stored.get(alert.alert_id)
        was_firing = before is not None and before.state == FIRING
        if alert.state == FIRING and not was_firing:
            yield event_of(alert, "FIRING", at)
        elif alert.state == RESOLVED and was_firing:
            yield event_of(alert, "RESOLVED", at)


_FNV_OFFSET, _FNV_PRIME, _MASK = 0xCBF29CE484222325, 0x100000001B3, (1 << 64) - 1
_SEPARATOR = b"\xff"


def fingerprint(labels: Mapping[str, str]) -> str:
    """Sixteen hexadecimal digits: FNV-1a over the sorted label names and values."""
    digest = _FNV_OFFSET
    for name in sorted(labels):
        for byte in name.encode() + _SEPARATOR + str(labels[name]).encode() + _SEPARATOR:
            digest = ((digest ^ byte) * _FNV_PRIME) & _MASK
    return f"{digest:016x}"


@dataclass(frozen=True, slots=True)
class Matcher:
    """A condition on one label. An absent label counts as empty."""

    name: str
    value: str
    is_equal: bool = True

    @classmethod
    def all_of(cls, labels: Mapping[str, str]) -> tuple[Matcher, ...]:
        """Matchers that match the alerts with all of these labels."""
        return tuple(cls(name, value) for name, value in sorted(labels.items()))

    def fits(self, labels: Mapping[str, str]) -> bool:
        return (labels.get(self.name, "") == self.value) is self.is_equal

    def wire(self) -> dict[str, Any]:
        """The JSON form of Alertmanager."""
        return {"name": self.name, "value": self.value, "isRegex": False, "isEqual": self.is_equal}

    def __str__(self) -> str:
        return f'{self.name}{"=" if self.is_equal else "!="}"{self.value}"'


def matchers_of(wire: Iterable[Mapping[str, Any]]) -> tuple[Matcher, ...]:
    """Matchers from the JSON form of Alertmanager; a matcher without name or value matches no alert."""
    return tuple(_matcher(one) for one in wire)


def _matcher(wire: Mapping[str, Any]) -> Matcher:
    if wire.get("name") is None or wire.get("value") is None:
        return Matcher("unreadable", "an unreadable matcher")
    return Matcher(str(wire["name"]), str(wire["value"]), bool(wire.get("isEqual", True)))


def fit(matchers: Iterable[Matcher], labels: Mapping[str, str]) -> bool:
    return all(matcher.fits(labels) for matcher in matchers)


SilenceMatchers = Mapping[str, tuple[Matcher, ...]]
"""Matchers by silence id."""


def silenced_by(labels: Mapping[str, str], silence_matchers: SilenceMatchers) -> list[str]:
    """Ids of the silences that match these labels."""
    return [silence_id for silence_id, matchers in silence_matchers.items() if matchers and fit(matchers, labels)]


def due_notification(alert: Alert, silence_matchers: SilenceMatchers) -> str | None:
    """The notification that must be queued for an alert: FIRING, RESOLVED, or None.

    A silenced alert has no FIRING notification until its silence ends. An alert with a FIRING notification also gets a
    RESOLVED notification, even when it is silenced by then.
    """
    if alert.state == FIRING and not alert.is_notified and not silenced_by(alert.labels, silence_matchers):
        return FIRING
    return RESOLVED if alert.state != FIRING and alert.is_notified else None
