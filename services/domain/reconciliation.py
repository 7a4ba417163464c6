"""Reconciliation: which actions fit the state of an order and its stock at the Inventory Service. Pure.

An unknown stock state forbids no action. The preview of a bulk job compares its items with the inventory status, then
freezes the selection. It looks up the first MAX_ASKED orders; every other item is compared when the job sends it.
Source: requirements 11.2, 1 and 4.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from services.domain.bulk import BulkAction
from services.domain.conservation import StockState
from services.domain.orders.model import OrderStatus, ReviewReason
from services.domain.reviews import ReviewAction, allowed_actions

FRESH = timedelta(seconds=10)
"""Age up to which a lookup counts as the present stock. An action repeats an older lookup."""

OFFERED = timedelta(minutes=5)
"""Age up to which a lookup decides which actions are offered. An action repeats the lookup."""

CANNOT_ANSWER, NO_ANSWER = "CANNOT_ANSWER", "NO_ANSWER"


@dataclass(frozen=True, slots=True)
class LookupResult:
    """The stock of one order at the Inventory Service, or the reason why it is unknown."""

    stock: StockState | None
    """None if unknown."""
    said: str | None = None
    """The status in the words of the Inventory Service, such as RELEASED or EXPIRED."""
    reservation_id: str | None = None
    expires_at: datetime | None = None
    problem: str | None = None
    """CANNOT_ANSWER: the service lacks the route, or returned an unknown status. NO_ANSWER: no answer came."""


@dataclass(frozen=True, slots=True)
class AllowedActions:
    """The allowed actions for an order and its stock, the usual action first."""

    allowed: tuple[ReviewAction, ...]
    refused: Mapping[ReviewAction, str] = field(default_factory=dict)
    """Actions that the order allows but the stock forbids, each with the reason."""


RESERVED_OR_DEDUCTED = frozenset({StockState.RESERVED, StockState.DEDUCTED})
_STOCK_OF: Mapping[str, frozenset[StockState]] = {
    OrderStatus.PAYING: RESERVED_OR_DEDUCTED,
    OrderStatus.PLACED: RESERVED_OR_DEDUCTED,
    OrderStatus.CONFIRMED: frozenset({StockState.DEDUCTED}),
}
"""Expected stock states by order status. For other statuses every stock state is expected."""

_SAYS: Mapping[StockState, str] = {
    StockState.RESERVED: "still has stock reserved for this order",
    StockState.DEDUCTED: "has already deducted the stock of this order",
    StockState.FREE: "has nothing reserved for this order",
}


def reconcile(reason: str, order_status: str, stock: StockState | None) -> AllowedActions:
    """Return the actions for a case: the actions that its order allows, minus those that the stock forbids."""
    ours = allowed_actions(reason, order_status)
    if stock is None:
        return AllowedActions(ours)
    refused = {action: why for action in ours if (why := _why_not(reason, action, order_status, stock))}
    return AllowedActions(tuple(action for action in ours if action not in refused), refused)


def _why_not(reason: str, action: ReviewAction, order_status: str, stock: StockState) -> str | None:
    says = f"The Inventory Service {_SAYS[stock]}"
    if action == ReviewAction.RETRY_RESERVATION and stock == StockState.DEDUCTED:
        return f"{says}: reserving again would take it twice."
    # RECONFIRM of a PLACED order reuses its reservation; in CONFIRMATION_FAILED it makes a new reservation.
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
    """Return why the stock of one item of a bulk job forbids the action, or None.

    ``action`` and ``reason`` belong to a review case and are ignored for release jobs.
    """
    if stock is None:
        return None
    if bulk_action == BulkAction.RESOLVE_REVIEW:
        return reconcile(reason, order_status, stock).refused.get(ReviewAction(action or ""))
    return why_not_mark(stock) if bulk_action == BulkAction.MARK_RELEASED else why_not_retry(stock)


def why_not_mark(stock: StockState | None) -> str | None:
    """Return why a failed release job must not be marked as released, or None."""
    if stock == StockState.RESERVED:
        return f"The Inventory Service {_SAYS[stock]}: retry the release instead."
    if stock == StockState.DEDUCTED:
        return (
            f"The Inventory Service {_SAYS[stock]}: there was no reservation to release. "
            "Its review case and the conservation audit settle it."
        )
    return None


def why_not_retry(stock: StockState | None) -> str | None:
    """Return why a release retry cannot succeed, or None. The Inventory Service does not release deducted stock."""
    if stock == StockState.DEDUCTED:
        return f"The Inventory Service {_SAYS[stock]}: it would refuse the release again."
    return None


def what_a_retry_does(stock: StockState | None) -> str | None:
    """Return the expected effect of a release retry, or None for an unknown stock state."""
    if stock == StockState.RESERVED:
        return "A retry asks the Inventory Service to release the reservation that it reports."
    if stock == StockState.FREE:
        return "Already released there: a retry is harmless, finds no reservation and closes the job."
    return why_not_retry(stock)


def evidence(stock: StockState | None) -> str | None:
    """Return the evidence for marking a job as released, or None."""
    if stock == StockState.FREE:
        return "The Inventory Service has nothing reserved for this order: that supports the proof."
    return None


def advice(reason: str, order_status: str, stock: StockState | None) -> str | None:
    """Return a sentence that explains an unexpected combination of order status and stock, or None."""
    if reason == ReviewReason.RELEASE_FAILED:
        return {
            StockState.RESERVED: "Nothing was given back yet: retry the release.",
            StockState.DEDUCTED: "There is no reservation to release. Mark it released; the conservation audit then "
            "offers to put the deducted stock back.",
            StockState.FREE: "Nothing is reserved any more: marking it released is right.",
            None: None,
        }[stock]
    if order_status == OrderStatus.PAYING and stock == StockState.FREE:
        return "The reservation has ended: an approved order will fail its confirmation and has to reserve anew."
    if order_status == OrderStatus.PLACED and stock == StockState.DEDUCTED:
        return "They have done their part and the answer was lost: confirming again settles it."
    if order_status == OrderStatus.PLACED and stock == StockState.FREE:
        return "The reservation has ended: confirming again will be refused, and a new case then reserves anew."
    return None


def is_fresh(asked_at: datetime, now: datetime, changed_at: datetime, within: timedelta = FRESH) -> bool:
    """Whether a lookup is at most ``within`` old and not older than the last change of the order."""
    return now - asked_at <= within and asked_at >= changed_at


MAX_ASKED = 50
"""Most orders that one preview looks up."""

PATIENCE = timedelta(seconds=10)
"""Longest wait for lookups. After it, the selection is frozen with the answers so far."""


class Agreement(StrEnum):
    """Whether the inventory status of an item permits the action."""

    AGREES = "AGREES"
    REFUSED = "REFUSED"
    """The inventory status forbids the action, so the item is left out."""
    UNANSWERED = "UNANSWERED"
    """No answer arrived; the job compares the item again when it sends it."""
    LATER = "LATER"
    """Not looked up by the preview; the job compares the item when it sends it."""


@dataclass(frozen=True, slots=True)
class ComparedItem:
    """One item with the inventory status of its order."""

    agreement: Agreement
    lookup: LookupResult | None = None
    why: str | None = None
    """Why the item is left out; None for an included item."""


@dataclass(frozen=True, slots=True)
class FrozenSelection:
    """The frozen selection. Later answers do not change it."""

    at: datetime
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Reasons by id of the items that are left out."""


def compare(
    bulk_action: str, action: str | None, reason: str, order_status: str, lookup: LookupResult | None
) -> ComparedItem:
    """Compare one item with its lookup. ``lookup`` is None when there is no fresh answer."""
    if lookup is None or lookup.stock is None:
        return ComparedItem(Agreement.UNANSWERED, lookup)
    why = refusal(bulk_action, action, reason, order_status, lookup.stock)
    return ComparedItem(Agreement.REFUSED if why else Agreement.AGREES, lookup, why)


def freeze(
    compared: Mapping[str, ComparedItem], at: datetime, *, is_asking: bool, waited: timedelta
) -> FrozenSelection | None:
    """Freeze the selection. Returns None while lookups are running and PATIENCE has not passed."""
    if is_asking and waited < PATIENCE:
        return None
    return FrozenSelection(at, {item_id: one.why for item_id, one in compared.items() if one.why})


def preview_summary(standings: Iterable[Agreement]) -> str:
    """Return the number of items by agreement, as one sentence."""
    counts = Counter(standings)
    parts = [
        f"agreed: {counts[Agreement.AGREES]:,}",
        f"would be refused: {counts[Agreement.REFUSED]:,}",
        f"not answered: {counts[Agreement.UNANSWERED]:,}",
    ]
    if counts[Agreement.LATER]:
        parts.append(f"{counts[Agreement.LATER]:,} beyond the first {MAX_ASKED} are compared when their turn comes")
    return "; ".join(parts)
