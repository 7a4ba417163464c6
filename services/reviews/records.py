"""Records of resolving a review case: the command, its audit entry, and the error for a concurrent change."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from services.domain.errors import ApiError, IdempotencyKeyReused, NotFound, ReviewConflict
from services.domain.orders.events import timestamp
from services.domain.orders.model import Order
from services.domain.reviews import ReviewAction, ReviewState
from services.reviews.claims import claimed_by_other
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


_STATES = ("status", "inventory_status", "payment_status")


def _standing(order: Order) -> dict[str, str]:
    """The states of an order, as the audit log stores them."""
    return {name: str(getattr(order, name)) for name in _STATES}


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
        before=_standing(before),
        after=_standing(after),
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
    review = await context.database.read(lambda c: reviews.get(c, review_id))
    if review is None:
        raise NotFound("review", review_id)
    return review


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
