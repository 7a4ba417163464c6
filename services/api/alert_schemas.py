"""Bodies and answers of the routes about alerts. Source: contract section 3; Alertmanager API v2."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, RootModel, model_validator

from services.api.schemas import Limit, Query, Request, Text, whole_float
from services.domain.external import Identifier, NotAllowed, UtcTime, storable_text

LabelName = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$")]
LabelValue = Annotated[str, AfterValidator(lambda value: storable_text(value, 1000))]
AnnotationValue = Annotated[str, AfterValidator(lambda value: storable_text(value, 10_000))]
Address = Annotated[str, AfterValidator(lambda value: storable_text(value, 4000))]
MAX_ALERT_CHARACTERS = 16_000
"""Of labels and annotations of one alert."""

EndsIn = Annotated[int, Field(ge=1000, le=7 * 86_400_000), BeforeValidator(whole_float)]


class AlertsQuery(Query):
    state: Literal["firing", "pending", "resolved"] | None = None
    limit: Limit = 200


class AlertHistoryQuery(Query):
    alertId: Identifier | None = None
    limit: Limit = 200


class SilencesQuery(Query):
    state: Literal["running", "ended"] = "running"
    limit: Limit = 50


class SilenceAlertBody(Request):
    """``expiresIn`` is in whole milliseconds: from a second to seven days."""

    reason: Text
    expiresIn: EndsIn = 3_600_000


class MatcherBody(Request):
    """In Alertmanager's form; regular expressions are not taken."""

    name: LabelName
    value: LabelValue
    isRegex: Literal[False] = False
    isEqual: bool = True


Matchers = Annotated[list[MatcherBody], Field(min_length=1, max_length=20)]


class PreviewBody(Request):
    matchers: Matchers


class SilenceBody(Request):
    matchers: Matchers
    reason: Text
    expiresIn: EndsIn = 3_600_000


class PostedAlert(BaseModel):
    """As Prometheus posts it."""

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
    """A list of alerts."""


class AcknowledgementView(BaseModel):
    by: str
    at: datetime
    note: str


class AlertView(BaseModel):
    alertId: str
    name: str
    state: Literal["firing", "pending", "resolved"]
    severity: str
    source: Literal["worker", "prometheus"]
    labels: dict[str, str]
    annotations: dict[str, str]
    summary: str
    runbook: str
    value: float | None
    threshold: float | None
    activeAt: datetime
    firedAt: datetime | None
    resolvedAt: datetime | None
    acknowledged: AcknowledgementView | None
    silencedBy: list[str]
    fingerprint: str
    generatorURL: str


class AlertEventView(BaseModel):
    at: datetime
    kind: str
    alertId: str | None
    name: str
    labels: dict[str, str]
    source: str
    value: float | None
    actor: str | None
    detail: str | None


class SilenceView(BaseModel):
    silenceId: str
    matchers: list[dict[str, Any]]
    reason: str
    actor: str
    createdAt: datetime
    endsAt: datetime
    endedBy: str | None
    state: Literal["running", "ended"]


class NotificationView(BaseModel):
    name: str
    alertId: str
    status: Literal["firing", "resolved"]
    state: Literal["PENDING", "SENT", "FAILED"]
    attempts: int
    nextAttemptAt: datetime | None
    lastError: str | None
    createdAt: datetime
    finishedAt: datetime | None


class ReceivedView(BaseModel):
    received: int
