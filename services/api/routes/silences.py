"""Routes for silences, which stop webhook notifications about alerts. Source: contract 3; Alertmanager API v2."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, Self

from fastapi import APIRouter, Path
from fastapi import Query as QueryParameters
from pydantic import Field
from sqlalchemy import Connection

from services.alerting.evaluator import silence_matchers
from services.alerting.state_machine import Matcher
from services.api.models import Duration, Limit, Page, Query, RequestBody, Resource, Text, Timestamp, one_of
from services.api.routes.alerts import ALERT, AlertId, AlertResource, LabelName, LabelValue, thresholds
from services.api.routing import PATH_ID, ApiRoute, Operator, Service, errors
from state import alerts
from state.alerts import MAX_PAGE, Silence

SILENCES = "/api/v1/silences"
EndsIn = Annotated[Duration, Field(ge=1000, le=7 * 86_400_000)]

router = APIRouter(route_class=ApiRoute, tags=["alerts"])


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


class SilenceBody(PreviewBody):
    reason: Text
    expiresIn: EndsIn = 3_600_000


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
        resource = cls.of(silence)
        resource.state = "running" if silence.ends_at > now else "ended"
        return resource


class SilencePreview(Page[AlertResource]):
    total: int


@router.get(SILENCES, summary="Silences that run, or that have ended")
async def list_silences(query: Annotated[SilencesQuery, QueryParameters()], service: Service) -> Page[SilenceResource]:
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
