"""Routes for review cases: list, claim, resolve. Source: contract 3."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from fastapi import APIRouter, Path
from pydantic import Field
from sqlalchemy import Connection

from services.api.auth import Forbidden
from services.api.models import Limit, Note, Page, Query, RequestBody, Resource, Timestamp, one_of
from services.api.routing import PATH_ID, ApiRoute, Operator, OrderService, Parameters, Service, errors
from services.domain.errors import NotFound
from services.domain.external import INT32, CanonicalIdentifier, Identifier
from services.domain.orders.model import ReviewReason
from services.domain.reviews import ResolutionReason, ReviewAction, allowed_actions
from services.domain.roles import ADMIN
from services.reviews.cases import ResolveReview
from state import orders, reviews
from state.reviews import Review

REVIEWS, REVIEW = "/api/v1/reviews", "/api/v1/reviews/{reviewId}"
ReviewId = Annotated[str, Path(alias="reviewId"), PATH_ID]

router = APIRouter(route_class=ApiRoute, tags=["reviews"])


class ReviewsQuery(Query):
    state: Literal["OPEN", "RESOLVED"] = "OPEN"
    reason: ReviewReason | None = None
    orderId: CanonicalIdentifier | None = None
    limit: Limit = 200


class ClaimBody(RequestBody):
    """``takeOver``: true replaces the claim of another person; only an admin may do this."""

    takeOver: bool = False


class ResolveBody(RequestBody):
    action: ReviewAction
    note: Note = ""
    version: Annotated[int, Field(ge=1, le=INT32[1])]
    actionId: Identifier | None = None
    resolutionReason: ResolutionReason | None = None


class ReviewResource(Resource):
    review_id: str
    order_id: str
    reason: Annotated[str, one_of(*ReviewReason)]
    state: Annotated[str, one_of("OPEN", "RESOLVED")]
    detail: str
    opened_at: Timestamp
    version: int
    allowed_actions: list[Annotated[str, one_of(*ReviewAction)]] = Field(default_factory=list)
    resolved_at: Timestamp | None
    resolved_by: str | None
    resolution: str | None
    resolution_reason: str | None
    note: str | None
    owner: str | None
    claimed_until: Timestamp | None

    @classmethod
    def at(cls, now: datetime, case: Review, order_status: str) -> Self:
        """Return the case with the actions that the status of its order allows, without an expired claim."""
        actions = list(allowed_actions(case.reason, order_status)) if case.state == "OPEN" else []
        owner = case.owner_at(now)
        return cls.of(case, allowed_actions=actions, owner=owner, claimed_until=case.claimed_until if owner else None)


@router.get(REVIEWS, summary="The manual-review queue")
async def list_reviews(query: Parameters[ReviewsQuery], service: Service) -> Page[ReviewResource]:
    now = service.clock()

    def read(connection: Connection) -> list[ReviewResource]:
        cases = reviews.page(
            connection, state=query.state, reason=query.reason, order_id=query.orderId, limit=query.limit
        )
        found = {order.order_id: order for order in orders.get_many(connection, [c.order_id for c in cases])}
        known = [case for case in cases if case.order_id in found]
        return [ReviewResource.at(now, case, found[case.order_id].status) for case in known]

    return Page[ReviewResource](items=await service.database.read(read))


@router.post(f"{REVIEW}/claim", summary="Claim a case; the claim ends by itself", responses=errors(409))
async def claim_review(review_id: ReviewId, body: ClaimBody, caller: Operator, service: Service) -> ReviewResource:
    if body.takeOver and caller.role != ADMIN:
        details: dict[str, Any] = {"role": caller.role, "allowed": [ADMIN]}
        raise Forbidden("Only an admin may take a case over.", details)
    await service.use_cases.claims.claim(review_id, actor=caller.name, take_over=body.takeOver)
    return await _review(service, review_id)


@router.post(f"{REVIEW}/release-claim", summary="Hand a case back", responses=errors(409))
async def release_claim(review_id: ReviewId, caller: Operator, service: Service) -> ReviewResource:
    await service.use_cases.claims.release(review_id, actor=caller.name, take_over=caller.role == ADMIN)
    return await _review(service, review_id)


@router.post(f"{REVIEW}/resolve", summary="Resolve a case", responses=errors(408, 409, 422, 503))
async def resolve_review(review_id: ReviewId, body: ResolveBody, caller: Operator, service: Service) -> ReviewResource:
    await service.use_cases.reviews.resolve(
        ResolveReview(
            review_id=review_id,
            action=body.action,
            note=body.note,
            version=body.version,
            actor=caller.name,
            action_id=body.actionId,
            reason=body.resolutionReason,
            by_admin=caller.role == ADMIN,
        )
    )
    return await _review(service, review_id)


async def _review(service: OrderService, review_id: str) -> ReviewResource:
    def read(connection: Connection) -> ReviewResource:
        case = reviews.get(connection, review_id)
        order = orders.get(connection, case.order_id) if case else None
        if case is None or order is None:
            raise NotFound("review", review_id)
        return ReviewResource.at(service.clock(), case, order.status)

    return await service.database.read(read)
