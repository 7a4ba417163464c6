"""Routes for alerts: list, acknowledge, history, notifications, and the alerts that Prometheus posts.

Source: contract 3; Alertmanager API v2.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, ClassVar, Literal, Self

from fastapi import APIRouter, Path
from fastapi import Query as QueryParameters
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, RootModel, WithJsonSchema, model_validator
from sqlalchemy import Connection
from starlette.requests import Request

from services.alerting.evaluator import silence_matchers
from services.alerting.receiver import Received
from services.alerting.state_machine import SilenceMatchers, fingerprint, silenced_by
from services.api.models import (
    MAX_BODY_BYTES,
    Limit,
    ListQuery,
    NoteBody,
    Page,
    Query,
    Resource,
    Texts,
    Timestamp,
    one_of,
)
from services.api.routing import PATH_ID, ApiRoute, Operator, Service, Trader, errors
from services.api.service import OrderService
from services.domain.external import Identifier, NotAllowed, UtcTime, storable_text
from state import alerts, notifications
from state.alerts import FIRING, PENDING, RESOLVED, WORKER, Alert
from state.notifications import Notification

ALERTS, ALERT = "/api/v1/alerts", "/api/v1/alerts/{alertId}"
AlertId = Annotated[str, Path(alias="alertId"), PATH_ID]

RECENTLY = timedelta(days=1)
MAX_ALERT_CHARACTERS = 16_000
"""Characters of all labels and annotations of one alert."""

LabelName = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$")]
LabelValue = Annotated[str, AfterValidator(lambda value: storable_text(value, 1000))]
AnnotationValue = Annotated[str, AfterValidator(lambda value: storable_text(value, 10_000))]
LabelText = Annotated[Any, WithJsonSchema({"type": "string"})]
"""The stored value of a label or annotation."""

Address = Annotated[str, AfterValidator(lambda value: storable_text(value, 4000))]

router = APIRouter(route_class=ApiRoute, tags=["alerts"])


class AlertsQuery(Query):
    state: Literal["firing", "pending", "resolved"] | None = None
    limit: Limit = 200


class AlertHistoryQuery(Query):
    alertId: Identifier | None = None
    limit: Limit = 200


class PostedAlert(BaseModel):
    """One alert in the format that Prometheus posts."""

    model_config = ConfigDict(extra="ignore")

    labels: Annotated[dict[LabelName, LabelValue], Field(min_length=1, max_length=50)]
    annotations: Annotated[dict[LabelName, AnnotationValue], Field(max_length=50)] = Field(default_factory=dict)
    startsAt: UtcTime | None = None
    endsAt: UtcTime | None = None
    generatorURL: Address = ""

    @model_validator(mode="after")
    def _of_a_size_that_lists_can_show(self) -> Self:
        texts = (*self.labels.items(), *self.annotations.items())
        if sum(len(name) + len(value) for name, value in texts) > MAX_ALERT_CHARACTERS:
            raise NotAllowed(f"labels and annotations of at most {MAX_ALERT_CHARACTERS} characters in all")
        return self


class PostedAlerts(RootModel[Annotated[list[PostedAlert], Field(max_length=1000)]]):
    """The alerts of one request of Prometheus."""

    max_bytes: ClassVar[int] = MAX_BODY_BYTES


class Acknowledgement(Resource):
    by: str | None
    at: Timestamp
    note: str


class AlertResource(Resource):
    alert_id: str
    name: str
    state: Annotated[str, one_of(FIRING, PENDING, RESOLVED)]
    severity: LabelText
    source: Annotated[str, one_of("worker", "prometheus")]
    labels: Texts
    annotations: Texts
    summary: LabelText = ""
    runbook: LabelText = ""
    value: float | None
    threshold: float | None = None
    active_at: Timestamp
    fired_at: Timestamp | None
    resolved_at: Timestamp | None
    acknowledged: Acknowledgement | None = None
    silenced_by: list[str] = Field(default_factory=list)
    fingerprint: str = ""
    generator_url: Annotated[str, Field(serialization_alias="generatorURL")]

    @classmethod
    def among(cls, alert: Alert, silences: SilenceMatchers, thresholds: Mapping[str, float]) -> Self:
        """Return the alert with the silences that match it and the threshold of its rule."""
        resource = cls.of(alert)
        resource.summary = alert.annotations.get("summary", "")
        resource.runbook = alert.annotations.get("runbook", alert.annotations.get("runbook_url", ""))
        resource.threshold = thresholds.get(alert.name)
        if alert.acknowledged_at:
            resource.acknowledged = Acknowledgement(
                by=alert.acknowledged_by, at=alert.acknowledged_at, note=alert.acknowledged_note or ""
            )
        resource.silenced_by = silenced_by(alert.labels, silences)
        resource.fingerprint = fingerprint(alert.labels)
        return resource


class AlertEventResource(Resource):
    at: Timestamp
    kind: str
    alert_id: str | None
    name: str
    labels: Texts
    source: str
    value: float | None
    actor: str | None
    detail: str | None


class NotificationResource(Resource):
    name: str
    alert_id: str
    status: Annotated[str, one_of("firing", "resolved")]
    state: Annotated[str, one_of("PENDING", "SENT", "FAILED")]
    attempts: int
    next_attempt_at: Timestamp | None
    last_error: str | None
    created_at: Timestamp
    finished_at: Timestamp | None

    @classmethod
    def of_notification(cls, notification: Notification) -> Self:
        """Return the resource of a notification. Only a pending notification has a next attempt."""
        resource = cls.of(notification)
        if notification.state != notifications.PENDING:
            resource.next_attempt_at = None
        return resource


class ReceivedAlerts(Resource):
    received: int


@router.get(ALERTS, summary="Alerts: firing, pending and lately resolved")
async def list_alerts(query: Annotated[AlertsQuery, QueryParameters()], service: Service) -> Page[AlertResource]:
    now = service.clock()

    def read(connection: Connection) -> list[AlertResource]:
        running = silence_matchers(connection, now)
        found = alerts.standing(connection) if query.state != RESOLVED else []
        if query.state in (None, RESOLVED):
            found += alerts.resolved(connection, now - RECENTLY, query.limit)
        order = {FIRING: 0, PENDING: 1, RESOLVED: 2}
        wanted = [alert for alert in found if query.state in (None, alert.state)]
        ordered = sorted(wanted, key=lambda alert: (order[alert.state], alert.source != WORKER))
        return [AlertResource.among(alert, running, thresholds(service)) for alert in ordered[: query.limit]]

    return Page[AlertResource](items=await service.database.read(read))


@router.get(f"{ALERTS}/history", summary="The events of alerts, newest first")
async def list_history(
    query: Annotated[AlertHistoryQuery, QueryParameters()], service: Service
) -> Page[AlertEventResource]:
    found = await service.database.read(lambda c: alerts.history(c, alert_id=query.alertId, limit=query.limit))
    return Page[AlertEventResource].of(found)


@router.get(f"{ALERTS}/notifications", summary="Messages to the webhook, newest first")
async def list_notifications(
    query: Annotated[ListQuery, QueryParameters()], service: Service
) -> Page[NotificationResource]:
    found = await service.database.read(lambda c: notifications.latest(c, query.limit))
    return Page[NotificationResource](items=[NotificationResource.of_notification(message) for message in found])


@router.post(f"{ALERT}/acknowledge", summary="Acknowledge an alert", responses=errors(409))
async def acknowledge(alert_id: AlertId, body: NoteBody, caller: Operator, service: Service) -> AlertResource | None:
    await service.use_cases.alerts.acknowledge(alert_id, note=body.note, actor=caller.name)

    def read(connection: Connection) -> AlertResource | None:
        alert = alerts.get(connection, alert_id)
        running = silence_matchers(connection, service.clock())
        return AlertResource.among(alert, running, thresholds(service)) if alert else None

    return await service.database.read(read)


@router.post("/api/v2/alerts", summary="Receive alerts as Alertmanager does", responses=errors(503))
async def receive(request: Request, body: PostedAlerts, caller: Trader, service: Service) -> ReceivedAlerts:
    posted = [
        Received(alert.labels, alert.annotations, alert.generatorURL, alert.startsAt, alert.endsAt)
        for alert in body.root
    ]
    # Only a token proves the name of a sender. Other senders are recorded by address.
    address = request.client.host if request.client else ""
    sender = caller.name if caller.has_token else address
    return ReceivedAlerts(received=await service.alert_receiver.receive(posted, sender))


def thresholds(service: OrderService) -> Mapping[str, float]:
    """Return the threshold of each alert rule, by name of the alert."""
    return {rule.name: rule.threshold for rule in service.alert_rules}
