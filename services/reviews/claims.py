"""Claims on review cases. A claim is a lease, so an absent person does not block a case for long.

Source: contract 3, POST /api/v1/reviews/{reviewId}/claim and /release-claim.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection

from services.domain.errors import ApiError, ClaimedByOther, InvalidState, NotFound
from services.domain.orders.events import timestamp
from services.domain.reviews import ReviewState
from services.unit_of_work import OrdersContext
from state import audit, reviews
from state.audit import AuditEntry
from state.reviews import Review

LEASE = timedelta(minutes=15)
"""Duration of a claim; an action on the case renews the claim."""

CLAIM, RELEASE_CLAIM = "CLAIM", "RELEASE_CLAIM"
"""The actions in the audit log."""


class ReviewClaims:
    """Claims cases; of two concurrent claims exactly one succeeds."""

    def __init__(self, context: OrdersContext) -> None:
        self._context = context

    async def claim(self, review_id: str, *, actor: str, take_over: bool = False) -> Review:
        """Claim the case for the actor, or renew the actor's claim; returns the case.

        ``take_over`` replaces the claim of another actor; the caller has checked that the actor is an admin.
        Raises NotFound, InvalidState (resolved), ClaimedByOther.
        """

        def transaction(connection: Connection) -> Review:
            at = self._context.clock()
            before = _open_case(connection, review_id)
            if not reviews.claim(connection, review_id, actor, at, at + LEASE, take=take_over):
                raise claimed_by_other(before, actor, at) or _not_open(before)
            after = _open_case(connection, review_id)
            if before.owner_at(at) != actor:
                audit.add(connection, _entry(at, actor, CLAIM, before, after))
            return after

        return await self._context.database.write(transaction)

    async def release(self, review_id: str, *, actor: str, take_over: bool = False) -> Review:
        """End the claim on the case; without a claim nothing changes. Returns the case.

        Raises NotFound, and ClaimedByOther for a claim of another actor unless ``take_over``.
        """

        def transaction(connection: Connection) -> Review:
            at = self._context.clock()
            before = _case(connection, review_id)
            owner = before.owner_at(at)
            if owner is None:
                return before
            if not take_over and (claimed := claimed_by_other(before, actor, at)):
                raise claimed
            reviews.release_claim(connection, review_id, owner)
            after = _case(connection, review_id)
            audit.add(connection, _entry(at, actor, RELEASE_CLAIM, before, after))
            return after

        return await self._context.database.write(transaction)

    async def renew(self, review_id: str, *, actor: str) -> None:
        """Extend the actor's claim; without a claim nothing changes."""
        at = self._context.clock()
        await self._context.database.write(lambda c: reviews.renew_claim(c, review_id, actor, at, at + LEASE))


def claimed_by_other(review: Review, actor: str, at: datetime) -> ClaimedByOther | None:
    """The error for a case that another person has claimed, or None."""
    owner = review.owner_at(at)
    if owner in (None, actor) or review.claimed_until is None:
        return None
    until = timestamp(review.claimed_until)
    return ClaimedByOther(
        f"{owner} works on this case until {until}.", {"reviewId": review.review_id, "by": owner, "until": until}
    )


def _case(connection: Connection, review_id: str) -> Review:
    review = reviews.get(connection, review_id)
    if review is None:
        raise NotFound("review", review_id)
    return review


def _open_case(connection: Connection, review_id: str) -> Review:
    review = _case(connection, review_id)
    if review.state != ReviewState.OPEN:
        raise _not_open(review)
    return review


def _not_open(review: Review) -> ApiError:
    return InvalidState(f"This case is {review.state}.", {"reviewId": review.review_id, "state": review.state})


def _entry(at: datetime, actor: str, action: str, before: Review, after: Review) -> AuditEntry:
    return AuditEntry(
        at=at,
        actor=actor,
        action=action,
        target=f"review:{before.review_id}",
        order_id=before.order_id,
        before=_claim(before, at),
        after=_claim(after, at),
    )


def _claim(review: Review, at: datetime) -> dict[str, str | None]:
    lasts = review.owner_at(at) is not None and review.claimed_until is not None
    return {
        "owner": review.owner if lasts else None,
        "claimedUntil": timestamp(review.claimed_until) if lasts and review.claimed_until else None,
    }
