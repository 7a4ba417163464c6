"""Our side beside stock: which moves are right for what both services say of one order.

Pure: the case, the order's status and what the Inventory Service says go in; legal and refused moves come out.
A side that cannot be asked refuses nothing. Source: console, "what none of them has" 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from services.domain.bulk import BulkAction
from services.domain.conservation import StockState
from services.domain.orders.model import OrderStatus, ReviewReason
from services.domain.reviews import ReviewAction, allowed_actions

FRESH = timedelta(seconds=10)
"""For so long an answer counts as what they say now; a move that rests on an older one asks again."""

OFFERED = timedelta(minutes=5)
"""For so long an answer decides what is offered to a person; carrying it out asks again."""

CANNOT_ANSWER, NO_ANSWER = "CANNOT_ANSWER", "NO_ANSWER"


@dataclass(frozen=True, slots=True)
class LookupResult:
    """What the Inventory Service said about the stock of one order, or why it did not."""

    stock: StockState | None
    """None: it did not say."""
    said: str | None = None
    """Its own word, such as RELEASED or EXPIRED."""
    reservation_id: str | None = None
    expires_at: datetime | None = None
    problem: str | None = None
    """CANNOT_ANSWER: it has no such question, or says a word we do not know. NO_ANSWER: it is away."""


@dataclass(frozen=True, slots=True)
class AllowedActions:
    """What may be done for a pair of sides, the usual move first."""

    allowed: tuple[ReviewAction, ...]
    refused: Mapping[ReviewAction, str] = field(default_factory=dict)
    """AllowedActions that our side alone would allow, each with the reason why stock does not."""


RESERVED_OR_DEDUCTED = frozenset({StockState.RESERVED, StockState.DEDUCTED})
_STOCK_OF: Mapping[str, frozenset[StockState]] = {
    OrderStatus.PAYING: RESERVED_OR_DEDUCTED,
    OrderStatus.PLACED: RESERVED_OR_DEDUCTED,
    OrderStatus.CONFIRMED: frozenset({StockState.DEDUCTED}),
}
"""What stock must be for an order in this status to be as it should; other statuses say nothing about it."""

_SAYS: Mapping[StockState, str] = {
    StockState.RESERVED: "still holds stock for this order",
    StockState.DEDUCTED: "has already deducted the stock of this order",
    StockState.FREE: "holds nothing for this order",
}


def reconcile(reason: str, order_status: str, stock: StockState | None) -> AllowedActions:
    """The moves for a case: those of our side, less those that what they say makes wrong."""
    ours = allowed_actions(reason, order_status)
    if stock is None:
        return AllowedActions(ours)
    refused = {action: why for action in ours if (why := _why_not(reason, action, order_status, stock))}
    return AllowedActions(tuple(action for action in ours if action not in refused), refused)


def _why_not(reason: str, action: ReviewAction, order_status: str, stock: StockState) -> str | None:
    says = f"The Inventory Service {_SAYS[stock]}"
    if action == ReviewAction.RETRY_RESERVATION and stock == StockState.DEDUCTED:
        return f"{says}: reserving again would take it twice."
    # An order that is still PLACED only asks again for the reservation it has; one that failed reserves anew.
    reserves_anew = action == ReviewAction.RECONFIRM and order_status == OrderStatus.CONFIRMATION_FAILED
    if reserves_anew and stock == StockState.DEDUCTED:
        return f"{says}: reserving anew would take it twice."
    if action == ReviewAction.MARK_RELEASED and stock == StockState.RESERVED:
        return f"{says}: retry the release instead."
    if action == ReviewAction.APPROVE and reason == ReviewReason.AVAILABILITY_UNVERIFIED:
        needed = _STOCK_OF.get(order_status)
        if needed is not None and stock not in needed:
            return f"{says}, but the order is {order_status}: approving would close the case over it."
    return None


def refusal(
    bulk_action: str, action: str | None, reason: str, order_status: str, stock: StockState | None
) -> str | None:
    """Why what they say makes one item of a bulk job wrong; None when it does not, or they do not say.

    ``action`` and ``reason`` are those of a review case; release jobs need neither.
    """
    if stock is None:
        return None
    if bulk_action == BulkAction.RESOLVE_REVIEW:
        return reconcile(reason, order_status, stock).refused.get(ReviewAction(action or ""))
    return why_not_mark(stock) if bulk_action == BulkAction.MARK_RELEASED else why_not_retry(stock)


def why_not_mark(stock: StockState | None) -> str | None:
    """Why a failed release job must not be marked released; None when nothing speaks against it."""
    if stock == StockState.RESERVED:
        return f"The Inventory Service {_SAYS[stock]}: retry the release instead."
    if stock == StockState.DEDUCTED:
        return (
            f"The Inventory Service {_SAYS[stock]}: there was no hold to release. "
            "Its review case and the conservation audit settle it."
        )
    return None


def why_not_retry(stock: StockState | None) -> str | None:
    """Why a person's retry of a release is of no use: what is deducted is refused by them, again and again."""
    if stock == StockState.DEDUCTED:
        return f"The Inventory Service {_SAYS[stock]}: it would refuse the release again."
    return None


def what_a_retry_does(stock: StockState | None) -> str | None:
    """What will come of a retry of a release, in one sentence; None when they do not say."""
    if stock == StockState.RESERVED:
        return "A retry asks the Inventory Service to give back the hold that it says it has."
    if stock == StockState.FREE:
        return "Already released over there: a retry is harmless, finds nothing held and closes the job."
    return why_not_retry(stock)


def evidence(stock: StockState | None) -> str | None:
    """What supports marking a job released, in one sentence."""
    if stock == StockState.FREE:
        return "The Inventory Service holds nothing for this order: that supports the proof."
    return None


def advice(reason: str, order_status: str, stock: StockState | None) -> str | None:
    """One sentence on what the pair means, where it is not what one would expect."""
    if reason == ReviewReason.RELEASE_FAILED:
        return {
            StockState.RESERVED: "Nothing was given back yet: retry the release.",
            StockState.DEDUCTED: "There is no hold to release. Mark it released; the conservation audit then "
            "offers to put the deducted stock back.",
            StockState.FREE: "Nothing is held any more: marking it released is right.",
            None: None,
        }[stock]
    if order_status == OrderStatus.PAYING and stock == StockState.FREE:
        return "The hold has ended: an approved order will fail its confirmation and has to reserve anew."
    if order_status == OrderStatus.PLACED and stock == StockState.DEDUCTED:
        return "They have done their part and the answer was lost: confirming again settles it."
    if order_status == OrderStatus.PLACED and stock == StockState.FREE:
        return "The hold has ended: confirming again will be refused, and a new case then reserves anew."
    return None


def is_fresh(asked_at: datetime, now: datetime, changed_at: datetime, within: timedelta = FRESH) -> bool:
    """Whether an answer still counts; one from before the order last changed compares what is with what was."""
    return now - asked_at <= within and asked_at >= changed_at
