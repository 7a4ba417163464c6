"""Routes for release jobs: list and retry. Source: contract 3."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from fastapi import APIRouter
from pydantic import Field

from services.api.models import ITEMS_BODY_BYTES, Limit, Page, Query, RequestBody, Resource, Timestamp, one_of
from services.api.routing import ApiRoute, Operator, OrderId, Parameters, Service
from services.domain.external import CanonicalIdentifier
from state import releases

router = APIRouter(route_class=ApiRoute, tags=["releases"])


class ReleasesQuery(Query):
    state: Literal["PENDING", "FAILED", "DONE"] | None = None
    limit: Limit = 200


class RetryReleasesBody(RequestBody):
    max_bytes: ClassVar[int] = ITEMS_BODY_BYTES

    orderIds: Annotated[list[CanonicalIdentifier], Field(min_length=1, max_length=200)]


class WaitQuery(Query):
    """``wait``: true answers after the release attempt, false as soon as the attempt is queued."""

    wait: bool = False


class ReleaseResource(Resource):
    order_id: str
    reason: str
    state: Annotated[str, one_of(*releases.STATES)]
    attempts: int
    next_attempt_at: Timestamp | None
    last_error: str | None
    created_at: Timestamp
    updated_at: Timestamp


@router.get("/api/v1/releases", summary="Release jobs")
async def list_releases(query: Parameters[ReleasesQuery], service: Service) -> Page[ReleaseResource]:
    states = (query.state,) if query.state else releases.STATES
    found = await service.database.read(lambda c: releases.page(c, states=states, limit=query.limit))
    return Page[ReleaseResource].of(found)


@router.post("/api/v1/releases/retry", summary="Retry several release jobs now", status_code=202)
async def retry_releases(body: RetryReleasesBody, caller: Operator, service: Service) -> Page[ReleaseResource]:
    found = await service.use_cases.releases.retry(list(dict.fromkeys(body.orderIds)), actor=caller.name)
    service.wake_releases()
    return Page[ReleaseResource].of(found)


@router.post("/api/v1/releases/{orderId}/retry", summary="Retry a release job now", status_code=202)
async def retry_release(
    order_id: OrderId, query: Parameters[WaitQuery], caller: Operator, service: Service
) -> ReleaseResource:
    if query.wait:
        return ReleaseResource.of(await service.use_cases.releases.retry_now(order_id, actor=caller.name))
    (release,) = await service.use_cases.releases.retry([order_id], actor=caller.name)
    service.wake_releases()
    return ReleaseResource.of(release)
