"""Manual actions on alerts: acknowledge, silence until an end, end a silence early. Every action is audited.

An action that is repeated under the same ``action_id`` has no second effect. Source: contract 3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from services.alerting.state_machine import Matcher, event_of, fit, matchers_of
from services.domain.errors import InvalidState, ValidationFailed, existing
from services.domain.external import day_and_month
from services.domain.orders.events import timestamp
from state import alerts, audit, replicas
from state.alerts import FIRING, LEASE, Alert, AlertEvent, Silence
from state.audit import AuditEntry
from state.engine.database import Database

MAX_MATCHERS = 20
SHORTEST_SILENCE, LONGEST_SILENCE = timedelta(seconds=1), timedelta(days=7)


class AlertActions:
    """Performs an actor's actions on alerts."""

    def __init__(self, database: Database, clock: Callable[[], datetime], new_id: Callable[[], str]) -> None:
        self._database = database
        self._clock = clock
        self._new_id = new_id

    async def acknowledge(self, alert_id: str, *, note: str, actor: str, action_id: str | None = None) -> Alert:
        """Acknowledge a firing alert until it ends. Raises NotFound, or InvalidState when the alert is not firing."""
        at = self._clock()

        def transaction(connection: Connection) -> Alert:
            replicas.wait_for_lease(connection, LEASE)
            before = _found(connection, alert_id)
            if action_id is not None and audit.find_action(connection, action_id):
                return before
            if before.state != FIRING:
                raise InvalidState(
                    f"The alert is {before.state}; only a firing one is acknowledged.",
                    {"alertId": alert_id, "state": before.state},
                )
            after = replace(before, acknowledged_at=at, acknowledged_by=actor, acknowledged_note=note)
            alerts.put(connection, after)
            alerts.add_events(connection, [event_of(after, "ACKNOWLEDGED", at, actor=actor, detail=note or None)])
            entry = _entry("ACKNOWLEDGE_ALERT", f"alert:{alert_id}", actor, note or None, at, action_id)
            audit.add(connection, replace(entry, before=_acknowledged(before), after=_acknowledged(after)))
            return after

        return await self._database.write(transaction)

    async def silence_alert(
        self, alert_id: str, *, ends_in: timedelta, reason: str, actor: str, action_id: str | None = None
    ) -> Silence:
        """Silence all alerts that have the labels of this alert. Raises NotFound."""
        alert = await self._database.read(lambda c: _found(c, alert_id))
        return await self.silence(
            Matcher.all_of(alert.labels), ends_in=ends_in, reason=reason, actor=actor, action_id=action_id
        )

    async def silence(
        self,
        matchers: Sequence[Matcher],
        *,
        ends_in: timedelta,
        reason: str,
        actor: str,
        action_id: str | None = None,
    ) -> Silence:
        """Silence matching alerts for ``ends_in``. Raises ValidationFailed."""
        _check(matchers, ends_in)
        at = self._clock()
        made = Silence(action_id or self._new_id(), [m.wire() for m in matchers], reason, actor, at, at + ends_in)

        def transaction(connection: Connection) -> Silence:
            known = alerts.get_silence(connection, made.silence_id)
            if known is not None:
                return known
            if alerts.count_running_silences(connection, at) >= alerts.MAX_RUNNING_SILENCES:
                raise InvalidState(f"{alerts.MAX_RUNNING_SILENCES} silences are running; end one first.")
            alerts.add_silence(connection, made)
            hit = [alert for alert in alerts.standing(connection) if fit(matchers, alert.labels)]
            until = f"{reason} (until {day_and_month(made.ends_at)} {made.ends_at:%H:%M} UTC)"
            alerts.add_events(connection, [event_of(alert, "SILENCED", at, actor=actor, detail=until) for alert in hit])
            entry = _entry("SILENCE_ALERTS", f"silence:{made.silence_id}", actor, reason, at, action_id)
            audit.add(connection, replace(entry, before={"silenced": False}, after=_facts(made, [a.name for a in hit])))
            return made

        return await self._database.write(transaction)

    async def end_silence(self, silence_id: str, *, actor: str, action_id: str | None = None) -> Silence:
        """End a silence now. A silence that has ended stays unchanged. Raises NotFound."""
        at = self._clock()

        def transaction(connection: Connection) -> Silence:
            before = existing(alerts.get_silence(connection, silence_id), "silence", silence_id)
            if not alerts.end_silence(connection, silence_id, actor, at):
                return before
            name = next((m["value"] for m in before.matchers if m["name"] == "alertname"), "several alerts")
            labels = {m["name"]: m["value"] for m in before.matchers if m.get("isEqual", True)}
            alerts.add_events(
                connection,
                [AlertEvent(at, "SILENCE_ENDED", None, name, labels, alerts.WORKER, None, actor, before.reason)],
            )
            entry = _entry("END_SILENCE", f"silence:{silence_id}", actor, before.reason, at, action_id)
            after = {"endsAt": timestamp(at)}
            audit.add(connection, replace(entry, before={"endsAt": timestamp(before.ends_at)}, after=after))
            return alerts.get_silence(connection, silence_id) or before

        return await self._database.write(transaction)

    async def preview(self, matchers: Sequence[Matcher]) -> list[Alert]:
        """Return the pending and firing alerts that match. Raises ValidationFailed."""
        _check(matchers, SHORTEST_SILENCE)
        standing = await self._database.read(alerts.standing)
        return [alert for alert in standing if fit(matchers, alert.labels)]


def _check(matchers: Sequence[Matcher], ends_in: timedelta) -> None:
    problems = []
    if not 1 <= len(matchers) <= MAX_MATCHERS:
        problems.append({"field": "matchers", "value": len(matchers), "allowed": f"1 to {MAX_MATCHERS} matchers"})
    elif not any(matcher.is_equal and matcher.value for matcher in matchers):
        allowed = "at least one matcher that names a value: a silence of everything would silence the next incident"
        problems.append({"field": "matchers", "value": " ".join(map(str, matchers)), "allowed": allowed})
    if not SHORTEST_SILENCE <= ends_in <= LONGEST_SILENCE:
        allowed = "from 1 second to 7 days, in milliseconds"
        problems.append({"field": "expiresIn", "value": ends_in // timedelta(milliseconds=1), "allowed": allowed})
    if problems:
        raise ValidationFailed(f"Not valid: {', '.join(str(p['field']) for p in problems)}.", {"problems": problems})


def _found(connection: Connection, alert_id: str) -> Alert:
    return existing(alerts.get(connection, alert_id), "alert", alert_id)


def _acknowledged(alert: Alert) -> dict[str, Any]:
    return {"alert": alert.name, "labels": alert.labels, "acknowledgedBy": alert.acknowledged_by}


def _facts(silence: Silence, hit: list[str]) -> dict[str, Any]:
    matchers = [str(matcher) for matcher in matchers_of(silence.matchers)]
    return {"silenced": True, "matchers": matchers, "endsAt": timestamp(silence.ends_at), "alerts": hit[:50]}


def _entry(action: str, target: str, actor: str, reason: str | None, at: datetime, action_id: str | None) -> AuditEntry:
    return AuditEntry(at, actor, action, target, reason=reason, action_id=action_id)
