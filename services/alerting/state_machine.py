"""The life of an alert: pending while it is not true for long enough, firing, resolved.

Pure. The rules are those of Prometheus for ``for`` and ``keep_firing_for``; what is different is only that
the state is kept in a database and outlives the process.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from services.alerting.labels import Matcher, fingerprint, fit
from services.alerting.threshold_rule import Rule
from services.metrics.expressions import Labels, MetricData
from state.alerts import FIRING, PENDING, RESOLVED, WORKER, Alert, AlertEvent

MAX_ERROR = 300
"""Characters of what a rule raised."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one evaluation changes."""

    put: tuple[Alert, ...]
    """Alerts that are new or changed."""
    remove: tuple[str, ...]
    """Alerts that were pending and have come to nothing."""
    events: tuple[AlertEvent, ...]
    """What became of them, for the history."""
    failed: tuple[tuple[str, str], ...] = ()
    """Rules that could not be judged, with what they raised."""

    def parts(self) -> list[Step]:
        """One step per alert, each with its own part of the history."""
        single = [
            Step((alert,), (), tuple(event for event in self.events if event.alert_id == alert.alert_id))
            for alert in self.put
        ]
        return single + [Step((), (alert_id,), ()) for alert_id in self.remove]


def step(
    rules: Sequence[Rule], data: MetricData, known: Sequence[Alert], at: datetime, *, outage: timedelta, link: str
) -> Step:
    """Judge every rule. ``known`` are the alerts judged here before, in whatever state.

    ``outage``: a pending alert that was not looked at for longer begins anew, because nobody knows whether
    it was true meanwhile; so does one whose clock was set back by as much. ``link`` stands in new alerts as the
    place where they come from.
    """
    stored = {alert.alert_id: alert for alert in known}
    put: list[Alert] = []
    remove: list[str] = []
    seen: set[str] = set()
    failed: dict[str, str] = {}
    for rule in rules:
        try:
            made = [
                _true(rule, labels, value, stored, at, outage=outage, link=link)
                for labels, value in rule.active(data).items()
            ]
        except Exception as error:  # noqa: BLE001 - a boundary: one rule must not keep the others from being judged
            failed[rule.name] = f"{type(error).__name__}: {error}"[:MAX_ERROR]
            continue
        seen |= {alert.alert_id for alert in made}
        put += made
    keep_firing = {rule.name: rule.keep_firing_for for rule in rules}
    for alert in known:
        # Of a rule that could not be judged nobody knows whether its alerts have ended.
        if alert.alert_id not in seen and alert.state != RESOLVED and alert.name not in failed:
            after = _untrue(alert, at, keep_firing.get(alert.name, timedelta(0)))
            if after is None:
                remove.append(alert.alert_id)
            else:
                put.append(after)
    changed = tuple(alert for alert in put if stored.get(alert.alert_id) != alert)
    return Step(changed, tuple(remove), tuple(_events(stored, changed, at)), tuple(failed.items()))


def _true(
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


def _untrue(alert: Alert, at: datetime, keep_firing_for: timedelta) -> Alert | None:
    if alert.state == PENDING:
        # It had fired before: that end is still worth showing.
        return replace(alert, state=RESOLVED, fired_at=None) if alert.resolved_at else None
    # A clock that was set back does not make it wait for its old time.
    since = min(alert.kept_since or at, at)
    if at - since < keep_firing_for:
        return replace(alert, kept_since=since)
    return ended(alert, at)


def ended(alert: Alert, at: datetime) -> Alert:
    """The alert resolved; what was said about it ends with it."""
    return replace(
        alert,
        state=RESOLVED,
        resolved_at=at,
        kept_since=None,
        acknowledged_at=None,
        acknowledged_by=None,
        acknowledged_note=None,
    )


def expired(received: Iterable[Alert], at: datetime) -> Step:
    """The received alerts whose end has come."""
    over = [alert for alert in received if alert.state == FIRING and alert.ends_at is not None and alert.ends_at <= at]
    put = tuple(ended(alert, at) for alert in over)
    return Step(put, (), tuple(_events({alert.alert_id: alert for alert in over}, put, at)))


def annotations_of(rule: Rule, labels: Mapping[str, str], value: float | None) -> dict[str, str]:
    """What a notification says beside the labels."""
    said = {
        "summary": rule.said(labels),
        "runbook": " ".join(rule.runbook),
        "threshold": f"{rule.comparison} {rule.threshold:g}",
    }
    return said if value is None else said | {"value": f"{value:.6g}"}


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


Silencers = Mapping[str, tuple[Matcher, ...]]
"""Matchers by the id of the silence they belong to."""


def silenced_by(labels: Mapping[str, str], silencers: Silencers) -> list[str]:
    """The silences that an alert with these labels falls under."""
    return [silence_id for silence_id, matchers in silencers.items() if matchers and fit(matchers, labels)]


def owed(alerts: Iterable[Alert], silencers: Silencers) -> list[tuple[Alert, str]]:
    """Which notifications have yet to be queued: ``(alert, firing or resolved)``.

    Whoever was told that an alert fires is told its end too, silenced or not. One that is silenced is not
    sent; when the silence ends while it fires, it is.
    """
    found = []
    for alert in alerts:
        if alert.state == FIRING and not alert.is_notified and not silenced_by(alert.labels, silencers):
            found.append((alert, FIRING))
        elif alert.state != FIRING and alert.is_notified:
            found.append((alert, RESOLVED))
    return found
