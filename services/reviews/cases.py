"""Review cases: the command that resolves one, claims, and the errors for a case that changed meanwhile.

A claim is a lease, so an absent person does not block a case for long.
Source: contract 3, POST /api/v1/reviews/{reviewId}/claim, /release-claim and /resolve.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from services.domain.errors import (
    ApiError,
    ClaimedByOther,
    IdempotencyKeyReused,
    InvalidState,
    ReviewConflict,
    existing,
)
from services.domain.orders.events import timestamp
from services.domain.orders.model import Order
from services.domain.reviews import ReviewAction, ReviewState
from services.unit_of_work import SYSTEM, OrdersContext
from state import audit, reviews
from state.audit import AuditEntry
from state.reviews import Review


@dataclass(frozen=True, slots=True)
class ResolveReview:
    """The command that resolves a review case."""

    review_id: str
    action: str
    note: str
    version: int
    actor: str
    action_id: str | None = None
    reason: str | None = None
    """A ResolutionReason."""
    by_admin: bool = False
    """Whether the actor is an admin, whom another actor's claim does not block."""
    in_bulk: bool = False
    """Whether it is one item of a bulk job."""


def _states(order: Order) -> dict[str, str]:
    """The states of an order, as the audit log stores them."""
    return {name: str(getattr(order, name)) for name in ("status", "inventory_status", "payment_status")}


def audit_entry(
    command: ResolveReview, review: Review, before: Order, after: Order, result: str, at: datetime
) -> AuditEntry:
    """The audit entry of an action on a case."""
    return AuditEntry(
        at=at,
        actor=command.actor,
        action=command.action,
        target=_target(review.review_id),
        order_id=review.order_id,
        reason=": ".join(filter(None, (command.reason, command.note))),
        before=_states(before),
        after=_states(after),
        result=result,
        action_id=command.action_id,
    )


async def was_done_before(context: OrdersContext, command: ResolveReview) -> bool:
    """Whether the audit log has this action; raises IdempotencyKeyReused for another action with its action_id."""
    action_id = command.action_id
    if action_id is None:
        return False
    entry = await context.database.read(lambda c: audit.find_action(c, action_id))
    if entry is None:
        return False
    if (entry.target, entry.action) != (_target(command.review_id), command.action):
        raise IdempotencyKeyReused("This actionId was used for another action.", {"actionId": action_id})
    return True


async def stored_case(context: OrdersContext, review_id: str) -> Review:
    """The stored case. Raises NotFound."""
    return await context.database.read(lambda c: _case(c, review_id))


async def conflict(context: OrdersContext, review: Review, command: ResolveReview) -> ApiError:
    """The error for a case that changed meanwhile: ClaimedByOther, or ReviewConflict with actor, time and action."""
    current = await stored_case(context, review.review_id)
    if (
        current.state == ReviewState.OPEN
        and current.version == review.version == command.version
        and not command.by_admin
    ):
        claimed = claimed_by_other(current, command.actor, context.clock())
        if claimed:
            return claimed
    target = _target(review.review_id)
    entry = await context.database.read(lambda c: audit.last_on(c, target, review.order_id, tuple(ReviewAction)))
    if entry is not None:
        # The action of a person; the case may have been settled by a later consequence of it.
        by, at, action = entry.actor, entry.at, entry.action
    else:
        by = current.resolved_by or SYSTEM
        at = current.resolved_at or current.opened_at
        action = current.resolution or "OPENED"
    return ReviewConflict(
        f"This case was changed by {by}: {action}.",
        {"by": by, "at": timestamp(at), "action": action, "state": current.state, "version": current.version},
    )


def _target(review_id: str) -> str:
    return f"review:{review_id}"


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
                _note_claim(connection, at, actor, CLAIM, before, after)
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
            _note_claim(connection, at, actor, RELEASE_CLAIM, before, after)
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
    return existing(reviews.get(connection, review_id), "review", review_id)


def _open_case(connection: Connection, review_id: str) -> Review:
    review = _case(connection, review_id)
    if review.state != ReviewState.OPEN:
        raise _not_open(review)
    return review


def _not_open(review: Review) -> ApiError:
    return InvalidState(f"This case is {review.state}.", {"reviewId": review.review_id, "state": review.state})


def _note_claim(connection: Connection, at: datetime, actor: str, action: str, before: Review, after: Review) -> None:
    target, claims = _target(before.review_id), (_claim(before, at), _claim(after, at))
    audit.add(connection, AuditEntry(at, actor, action, target, before.order_id, None, *claims))


def _claim(review: Review, at: datetime) -> dict[str, str | None]:
    lasts = review.owner_at(at) is not None and review.claimed_until is not None
    return {
        "owner": review.owner if lasts else None,
        "claimedUntil": timestamp(review.claimed_until) if lasts and review.claimed_until else None,
    }
