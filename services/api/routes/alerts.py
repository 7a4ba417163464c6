"""Routes for alerts (list, acknowledge, history, notifications, alerts that Prometheus posts) and for silences.

Source: contract 3; Alertmanager API v2.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, ClassVar, Literal, Self

from fastapi import APIRouter, Path
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, RootModel, WithJsonSchema, model_validator
from sqlalchemy import Connection
from starlette.requests import Request

from services.alerting.evaluator import silence_matchers
from services.alerting.receiver import Received
from services.alerting.state_machine import Matcher, SilenceMatchers, fingerprint, silenced_by
from services.api.models import (
    MAX_BODY_BYTES,
    Duration,
    Limit,
    ListQuery,
    NoteBody,
    Page,
    Query,
    RequestBody,
    Resource,
    Text,
    Texts,
    Timestamp,
    one_of,
)
from services.api.routing import PATH_ID, ApiRoute, Operator, OrderService, Parameters, Service, Trader, errors
from services.domain.external import Identifier, NotAllowed, UtcTime, storable_text
from state import alerts, notifications
from state.alerts import FIRING, MAX_PAGE, PENDING, RESOLVED, WORKER, Alert, Silence
from state.notifications import Notification

ALERTS, ALERT = "/api/v1/alerts", "/api/v1/alerts/{alertId}"
SILENCES = "/api/v1/silences"
EndsIn = Annotated[Duration, Field(ge=1000, le=7 * 86_400_000)]
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
        by, at, note = alert.acknowledged_by, alert.acknowledged_at, alert.acknowledged_note
        return cls.of(
            alert,
            summary=alert.annotations.get("summary", ""),
            runbook=alert.annotations.get("runbook", alert.annotations.get("runbook_url", "")),
            threshold=thresholds.get(alert.name),
            acknowledged=Acknowledgement(by=by, at=at, note=note or "") if at else None,
            silenced_by=silenced_by(alert.labels, silences),
            fingerprint=fingerprint(alert.labels),
        )


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
        next_attempt_at = notification.next_attempt_at if notification.state == notifications.PENDING else None
        return cls.of(notification, next_attempt_at=next_attempt_at)


class ReceivedAlerts(Resource):
    received: int


class SilencesQuery(Query):
    state: Literal["running", "ended"] = "running"
    limit: Limit = 50


class SilenceAlertBody(RequestBody):
    """``expiresIn`` is in whole milliseconds, from one second to seven days."""

    reason: Text
    expiresIn: EndsIn = 3_600_000


class MatcherBody(RequestBody):
    """A matcher in the format of Alertmanager. Regular expressions are refused."""

    name: LabelName
    value: LabelValue
    isRegex: Literal[False] = False
    isEqual: bool = True


class PreviewBody(RequestBody):
    matchers: Annotated[list[MatcherBody], Field(min_length=1, max_length=20)]

    def as_matchers(self) -> list[Matcher]:
        return [Matcher(matcher.name, matcher.value, matcher.isEqual) for matcher in self.matchers]


class SilenceBody(PreviewBody, SilenceAlertBody):
    """The matchers of a silence, its reason and its duration."""


class SilenceResource(Resource):
    silence_id: str
    matchers: list[dict[str, Any]]
    reason: str
    actor: str
    created_at: Timestamp
    ends_at: Timestamp
    ended_by: str | None
    state: Annotated[str, one_of("running", "ended")] = "ended"

    @classmethod
    def at(cls, now: datetime, silence: Silence) -> Self:
        """Return the silence, and whether it is active at ``now``."""
        return cls.of(silence, state="running" if silence.ends_at > now else "ended")


class SilencePreview(Page[AlertResource]):
    total: int


@router.get(ALERTS, summary="Alerts: firing, pending and lately resolved")
async def list_alerts(query: Parameters[AlertsQuery], service: Service) -> Page[AlertResource]:
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
async def list_history(query: Parameters[AlertHistoryQuery], service: Service) -> Page[AlertEventResource]:
    found = await service.database.read(lambda c: alerts.history(c, alert_id=query.alertId, limit=query.limit))
    return Page[AlertEventResource].of(found)


@router.get(f"{ALERTS}/notifications", summary="Messages to the webhook, newest first")
async def list_notifications(query: Parameters[ListQuery], service: Service) -> Page[NotificationResource]:
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


@router.get(SILENCES, summary="Silences that run, or that have ended")
async def list_silences(query: Parameters[SilencesQuery], service: Service) -> Page[SilenceResource]:
    now = service.clock()

    def read(connection: Connection) -> list[Silence]:
        if query.state == "running":
            return alerts.running_silences(connection, now)[: query.limit]
        return alerts.ended_silences(connection, now, query.limit)

    found = await service.database.read(read)
    return Page[SilenceResource](items=[SilenceResource.at(now, silence) for silence in found])


@router.post(f"{ALERT}/silence", summary="Silence an alert for a while", responses=errors(409))
async def silence_alert(
    alert_id: AlertId, body: SilenceAlertBody, caller: Operator, service: Service
) -> SilenceResource:
    ends_in = timedelta(milliseconds=body.expiresIn)
    made = await service.use_cases.alerts.silence_alert(
        alert_id, ends_in=ends_in, reason=body.reason, actor=caller.name
    )
    return SilenceResource.at(service.clock(), made)


@router.post(SILENCES, summary="Silence the alerts that match, for a while", responses=errors(409))
async def add_silence(body: SilenceBody, caller: Operator, service: Service) -> SilenceResource:
    ends_in = timedelta(milliseconds=body.expiresIn)
    made = await service.use_cases.alerts.silence(
        body.as_matchers(), ends_in=ends_in, reason=body.reason, actor=caller.name
    )
    return SilenceResource.at(service.clock(), made)


@router.post(f"{SILENCES}/preview", summary="The alerts that a silence would silence now")
async def preview_silence(body: PreviewBody, service: Service) -> SilencePreview:
    hit = await service.use_cases.alerts.preview(body.as_matchers())
    running = await service.database.read(lambda c: silence_matchers(c, service.clock()))
    items = [AlertResource.among(alert, running, thresholds(service)) for alert in hit[:MAX_PAGE]]
    return SilencePreview(items=items, total=len(hit))


@router.delete(f"{SILENCES}/{{silenceId}}", summary="End a silence early")
async def end_silence(
    silence_id: Annotated[str, Path(alias="silenceId"), PATH_ID], caller: Operator, service: Service
) -> SilenceResource:
    ended = await service.use_cases.alerts.end_silence(silence_id, actor=caller.name)
    return SilenceResource.at(service.clock(), ended)


def thresholds(service: OrderService) -> Mapping[str, float]:
    """Return the threshold of each alert rule, by name of the alert."""
    return {rule.name: rule.threshold for rule in service.alert_rules}
