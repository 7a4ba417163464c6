"""The routes about alerts: what stands, what people do about it, and what Prometheus posts.

Source: contract section 3; Alertmanager API v2.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from pydantic import BaseModel
from sqlalchemy import Connection
from starlette.responses import Response

from services.alerting.evaluator import silencers
from services.alerting.labels import Matcher, fingerprint
from services.alerting.receiver import Received
from services.alerting.state_machine import Silencers, silenced_by
from services.api import alert_schemas as schemas
from services.api.auth import OPERATE, TRADE
from services.api.endpoints import Call, Endpoint
from services.api.http import MAX_BODY_BYTES, success
from services.api.schemas import ListQuery, NoteBody
from services.api.service import OrderService
from state import alerts, notifications, silences
from state.alerts import FIRING, MAX_PAGE, PENDING, RESOLVED, WORKER, Alert, AlertEvent
from state.notifications import Notification
from state.silences import Silence

RECENTLY = timedelta(days=1)


class AlertHandlers:
    """One method per endpoint about alerts."""

    def __init__(self, service: OrderService) -> None:
        self._service = service
        self._read = service.database.read
        self._thresholds = {rule.name: rule.threshold for rule in service.alert_rules}

    async def list_alerts(self, call: Call) -> Response:
        query, now = call.query, self._service.clock()

        def read(connection: Connection) -> list[dict[str, Any]]:
            running = silencers(connection, now)
            found = alerts.standing(connection) if query.state != RESOLVED else []
            if query.state in (None, RESOLVED):
                found += alerts.resolved(connection, now - RECENTLY, query.limit)
            order = {FIRING: 0, PENDING: 1, RESOLVED: 2}
            wanted = [alert for alert in found if query.state in (None, alert.state)]
            ordered = sorted(wanted, key=lambda alert: (order[alert.state], alert.source != WORKER))
            return [self._view(alert, running) for alert in ordered[: query.limit]]

        return success({"items": await self._read(read)})

    async def list_history(self, call: Call) -> Response:
        query = call.query
        found = await self._read(lambda c: alerts.history(c, alert_id=query.alertId, limit=query.limit))
        return success({"items": [_event_view(event) for event in found]})

    async def acknowledge(self, call: Call) -> Response:
        alert_id = call.path("alertId")
        await self._service.alert_actions.acknowledge(alert_id, note=call.body.note, actor=call.caller.name)
        return await self._alert(alert_id)

    async def silence_alert(self, call: Call) -> Response:
        made = await self._service.alert_actions.silence_alert(
            call.path("alertId"),
            ends_in=timedelta(milliseconds=call.body.expiresIn),
            reason=call.body.reason,
            actor=call.caller.name,
        )
        return success(self._silence_view(made))

    async def list_silences(self, call: Call) -> Response:
        query, now = call.query, self._service.clock()

        def read(connection: Connection) -> list[Silence]:
            if query.state == "running":
                return silences.running(connection, now)[: query.limit]
            return silences.ended(connection, now, query.limit)

        return success({"items": [self._silence_view(silence) for silence in await self._read(read)]})

    async def add_silence(self, call: Call) -> Response:
        made = await self._service.alert_actions.silence(
            _matchers(call.body.matchers),
            ends_in=timedelta(milliseconds=call.body.expiresIn),
            reason=call.body.reason,
            actor=call.caller.name,
        )
        return success(self._silence_view(made))

    async def preview_silence(self, call: Call) -> Response:
        hit = await self._service.alert_actions.preview(_matchers(call.body.matchers))
        running = await self._read(lambda c: silencers(c, self._service.clock()))
        return success({"items": [self._view(alert, running) for alert in hit[:MAX_PAGE]], "total": len(hit)})

    async def end_silence(self, call: Call) -> Response:
        ended = await self._service.alert_actions.end_silence(call.path("silenceId"), actor=call.caller.name)
        return success(self._silence_view(ended))

    async def list_notifications(self, call: Call) -> Response:
        found = await self._read(lambda c: notifications.latest(c, call.query.limit))
        return success({"items": [_notification_view(notification) for notification in found]})

    async def receive(self, call: Call) -> Response:
        posted = [
            Received(alert.labels, alert.annotations, alert.generatorURL, alert.startsAt, alert.endsAt)
            for alert in call.body.root
        ]
        return success({"received": await self._service.alert_receiver.receive(posted, _sender(call))})

    # ---------------------------------------------------------------- helpers

    async def _alert(self, alert_id: str) -> Response:
        now = self._service.clock()

        def read(connection: Connection) -> dict[str, Any] | None:
            alert = alerts.get(connection, alert_id)
            return self._view(alert, silencers(connection, now)) if alert else None

        return success(await self._read(read))

    def _view(self, alert: Alert, running: Silencers) -> dict[str, Any]:
        acknowledged = {
            "by": alert.acknowledged_by,
            "at": alert.acknowledged_at,
            "note": alert.acknowledged_note or "",
        }
        return {
            "alertId": alert.alert_id,
            "name": alert.name,
            "state": alert.state,
            "severity": alert.severity,
            "source": alert.source,
            "labels": alert.labels,
            "annotations": alert.annotations,
            "summary": alert.annotations.get("summary", ""),
            "runbook": alert.annotations.get("runbook", alert.annotations.get("runbook_url", "")),
            "value": alert.value,
            "threshold": self._thresholds.get(alert.name),
            "activeAt": alert.active_at,
            "firedAt": alert.fired_at,
            "resolvedAt": alert.resolved_at,
            "acknowledged": acknowledged if alert.acknowledged_at else None,
            "silencedBy": silenced_by(alert.labels, running),
            "fingerprint": fingerprint(alert.labels),
            "generatorURL": alert.generator_url,
        }

    def _silence_view(self, silence: Silence) -> dict[str, Any]:
        return {
            "silenceId": silence.silence_id,
            "matchers": silence.matchers,
            "reason": silence.reason,
            "actor": silence.actor,
            "createdAt": silence.created_at,
            "endsAt": silence.ends_at,
            "endedBy": silence.ended_by,
            "state": "running" if silence.ends_at > self._service.clock() else "ended",
        }


def alert_endpoints(handlers: AlertHandlers) -> list[Endpoint]:
    """The endpoints about alerts, in the table's form."""
    every, one, silence = "/api/v1/alerts", "/api/v1/alerts/{alertId}", "/api/v1/silences"
    view: dict[int, type[BaseModel] | None] = {200: schemas.AlertView}
    silence_view: dict[int, type[BaseModel] | None] = {200: schemas.SilenceView}
    return [
        Endpoint(
            "GET",
            every,
            "Alerts: firing, pending and lately resolved",
            handlers.list_alerts,
            view,
            query=schemas.AlertsQuery,
            is_list=True,
        ),
        Endpoint(
            "GET",
            f"{every}/history",
            "What became of alerts, newest first",
            handlers.list_history,
            {200: schemas.AlertEventView},
            query=schemas.AlertHistoryQuery,
            is_list=True,
        ),
        Endpoint(
            "GET",
            f"{every}/notifications",
            "Messages to the webhook, newest first",
            handlers.list_notifications,
            {200: schemas.NotificationView},
            query=ListQuery,
            is_list=True,
        ),
        Endpoint(
            "POST",
            f"{one}/acknowledge",
            "Say that somebody is at it",
            handlers.acknowledge,
            view,
            body=NoteBody,
            errors=(409,),
            roles=OPERATE,
        ),
        Endpoint(
            "POST",
            f"{one}/silence",
            "Silence an alert for a while",
            handlers.silence_alert,
            silence_view,
            body=schemas.SilenceAlertBody,
            errors=(409,),
            roles=OPERATE,
        ),
        Endpoint(
            "GET",
            silence,
            "Silences that run, or that have ended",
            handlers.list_silences,
            silence_view,
            query=schemas.SilencesQuery,
            is_list=True,
        ),
        Endpoint(
            "POST",
            silence,
            "Silence whatever fits all matchers, for a while",
            handlers.add_silence,
            silence_view,
            body=schemas.SilenceBody,
            errors=(409,),
            roles=OPERATE,
        ),
        Endpoint(
            "POST",
            f"{silence}/preview",
            "The alerts that a silence would silence now",
            handlers.preview_silence,
            view,
            body=schemas.PreviewBody,
            is_list=True,
        ),
        Endpoint(
            "DELETE",
            f"{silence}/{{silenceId}}",
            "End a silence early",
            handlers.end_silence,
            silence_view,
            roles=OPERATE,
        ),
        Endpoint(
            "POST",
            "/api/v2/alerts",
            "Receive alerts as Alertmanager does",
            handlers.receive,
            {200: schemas.ReceivedView},
            body=schemas.PostedAlerts,
            max_body_bytes=MAX_BODY_BYTES,
            errors=(503,),
            roles=TRADE,
        ),
    ]


def _sender(call: Call) -> str:
    """Who posts, as far as it is known: the token's name, or else the address; anybody may give any other name."""
    if call.caller.has_token:
        return call.caller.name
    client = call.request.client
    return client.host if client else ""


def _matchers(given: list[schemas.MatcherBody]) -> list[Matcher]:
    return [Matcher(matcher.name, matcher.value, matcher.isEqual) for matcher in given]


def _event_view(event: AlertEvent) -> dict[str, Any]:
    return {
        "at": event.at,
        "kind": event.kind,
        "alertId": event.alert_id,
        "name": event.name,
        "labels": event.labels,
        "source": event.source,
        "value": event.value,
        "actor": event.actor,
        "detail": event.detail,
    }


def _notification_view(notification: Notification) -> dict[str, Any]:
    return {
        "name": notification.name,
        "alertId": notification.alert_id,
        "status": notification.status,
        "state": notification.state,
        "attempts": notification.attempts,
        "nextAttemptAt": notification.next_attempt_at if notification.state == notifications.PENDING else None,
        "lastError": notification.last_error,
        "createdAt": notification.created_at,
        "finishedAt": notification.finished_at,
    }
