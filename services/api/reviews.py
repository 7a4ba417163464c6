"""The handlers of the manual-review queue. Source: contract section 3, /api/v1/reviews."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection
from starlette.responses import Response

from services.api import views
from services.api.auth import Forbidden
from services.api.endpoints import Call
from services.api.http import success
from services.api.service import OrderService
from services.domain.errors import NotFound
from services.domain.roles import ADMIN
from services.reviews.resolution import ResolveReview
from state import orders, reviews


class ReviewHandlers:
    """One method per endpoint."""

    def __init__(self, service: OrderService) -> None:
        self._service = service
        self._read = service.database.read

    async def list_reviews(self, call: Call) -> Response:
        query = call.query
        now = self._service.clock()

        def read(connection: Connection) -> list[dict[str, Any]]:
            cases = reviews.page(
                connection, state=query.state, reason=query.reason, order_id=query.orderId, limit=query.limit
            )
            found = {order.order_id: order for order in orders.get_many(connection, [c.order_id for c in cases])}
            known = [case for case in cases if case.order_id in found]
            return [views.review_view(case, found[case.order_id].status, now) for case in known]

        return success({"items": await self._read(read)})

    async def claim_review(self, call: Call) -> Response:
        review_id = call.path("reviewId")
        if call.body.takeOver and call.caller.role != ADMIN:
            details = {"role": call.caller.role, "allowed": [ADMIN]}
            raise Forbidden("Only an admin may take a case over.", details)
        await self._service.claims.claim(review_id, actor=call.caller.name, take_over=call.body.takeOver)
        return await self._review(review_id)

    async def release_claim(self, call: Call) -> Response:
        review_id = call.path("reviewId")
        await self._service.claims.release(review_id, actor=call.caller.name, take_over=call.caller.role == ADMIN)
        return await self._review(review_id)

    async def resolve_review(self, call: Call) -> Response:
        body = call.body
        review_id = call.path("reviewId")
        await self._service.reviews.resolve(
            ResolveReview(
                review_id=review_id,
                action=body.action,
                note=body.note,
                version=body.version,
                actor=call.caller.name,
                action_id=body.actionId,
                reason=body.resolutionReason,
                by_admin=call.caller.role == ADMIN,
            )
        )
        return await self._review(review_id)

    async def _review(self, review_id: str) -> Response:
        def read(connection: Connection) -> dict[str, Any]:
            case = reviews.get(connection, review_id)
            order = orders.get(connection, case.order_id) if case else None
            if case is None or order is None:
                raise NotFound("review", review_id)
            return views.review_view(case, order.status, self._service.clock())

        return success(await self._read(read))
