"""Review cases: the actions that a case allows, by its reason and the order's status. Pure.

Source: contract 3 (resolve) and docs/adr/0002.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum

from services.domain.call_attempts import InventoryCall
from services.domain.conservation import SOLD
from services.domain.orders.changes import AFTER_PAYMENT, BEFORE_PAYMENT
from services.domain.orders.model import OrderStatus, ReviewReason

CANCELLABLE = BEFORE_PAYMENT | AFTER_PAYMENT | {OrderStatus.PAYING}
"""Statuses in which an order can still be cancelled."""


class ReviewState(StrEnum):
    """State of a review case."""

    OPEN = "OPEN"
    RESOLVED = "RESOLVED"


class ReviewAction(StrEnum):
    """The actions by which a person resolves a case."""

    RETRY_RESERVATION = "RETRY_RESERVATION"
    RECONFIRM = "RECONFIRM"
    APPROVE = "APPROVE"
    CANCEL_ORDER = "CANCEL_ORDER"
    MARK_RELEASED = "MARK_RELEASED"
    RETRY_STEP = "RETRY_STEP"
    """Not in the contract: try the step that failed unexpectedly again at once."""


_ALWAYS: Mapping[str, ReviewAction] = {
    ReviewReason.AVAILABILITY_UNVERIFIED: ReviewAction.APPROVE,
    ReviewReason.RELEASE_FAILED: ReviewAction.MARK_RELEASED,
}
"""Action by review reason, allowed in every status of the order."""

_WHILE: Mapping[str, tuple[str, ReviewAction]] = {
    ReviewReason.PENDING_INVENTORY: (OrderStatus.PENDING_INVENTORY, ReviewAction.RETRY_RESERVATION),
    ReviewReason.INVENTORY_CONFIRMATION_FAILED: (OrderStatus.CONFIRMATION_FAILED, ReviewAction.RECONFIRM),
    ReviewReason.CONFIRMATION_TIMEOUT: (OrderStatus.PLACED, ReviewAction.RECONFIRM),
    ReviewReason.PAYMENT_UNKNOWN: (OrderStatus.PAYING, ReviewAction.APPROVE),
}
"""Status and action by review reason. The action and CANCEL_ORDER are allowed only in this status."""

WITHOUT_GOODS = frozenset({OrderStatus.CANCELLED, OrderStatus.REJECTED})
"""Final statuses in which all money must be refunded."""


STEPPING = BEFORE_PAYMENT | {OrderStatus.PAYING, OrderStatus.PLACED}
"""Statuses in which a worker has a further step to run and the order can be cancelled."""


def is_about_a_difference(reason: str, order_status: str) -> bool:
    """Whether the conservation audit opened the case. In 0.1.0 such cases had INVENTORY_CONFIRMATION_FAILED."""
    of_old = reason == ReviewReason.INVENTORY_CONFIRMATION_FAILED and order_status in SOLD
    return of_old or reason == ReviewReason.CONSERVATION_DIFFERENCE


def allowed_actions(reason: str, order_status: str) -> tuple[ReviewAction, ...]:
    """Return the actions that a case allows, the usual action first; none when the order's status has changed.

    APPROVE of PAYMENT_UNKNOWN confirms that the money was captured. For an order that ended without goods it confirms
    that the customer has all the money. APPROVE of CONSERVATION_DIFFERENCE accepts the difference.
    """
    if reason == ReviewReason.PAYMENT_UNKNOWN and order_status in WITHOUT_GOODS:
        return (ReviewAction.APPROVE,)
    if is_about_a_difference(reason, order_status):
        return (ReviewAction.APPROVE,)
    if reason == ReviewReason.STEP_FAILED:
        return _of_failed_step(order_status)
    if reason in _WHILE:
        status, action = _WHILE[reason]
        return (action, ReviewAction.CANCEL_ORDER) if order_status == status else ()
    usual = (_ALWAYS[reason],) if reason in _ALWAYS else ()
    may_cancel = reason == ReviewReason.AVAILABILITY_UNVERIFIED and order_status in CANCELLABLE
    return (*usual, ReviewAction.CANCEL_ORDER) if may_cancel else usual


def _of_failed_step(order_status: str) -> tuple[ReviewAction, ...]:
    """Return the actions of a STEP_FAILED case. An order that ended without goods may still need its refund step."""
    if order_status in STEPPING:
        return (ReviewAction.RETRY_STEP, ReviewAction.CANCEL_ORDER)
    return (ReviewAction.RETRY_STEP,) if order_status in WITHOUT_GOODS else ()


_CALLS: Mapping[str, frozenset[str]] = {
    ReviewAction.RETRY_RESERVATION: frozenset({ReviewReason.PENDING_INVENTORY}),
    # RECONFIRM calls the Inventory Service only after a refused confirmation; otherwise it publishes an event.
    ReviewAction.RECONFIRM: frozenset({ReviewReason.INVENTORY_CONFIRMATION_FAILED}),
}


def called_by(action: str | None, reasons: Collection[str]) -> str | None:
    """Return the inventory call that an action on cases with these reasons makes at once, or None.

    CANCEL_ORDER makes no such call: its release is a separate release job, which waits for the breaker.
    """
    return InventoryCall.RESERVE if _CALLS.get(action or "", frozenset()) & set(reasons) else None


def standings(action: str) -> Mapping[str, frozenset[str]]:
    """Return where an action is allowed: the order statuses by review reason."""
    found = {
        reason: frozenset(status for status in OrderStatus if action in allowed_actions(reason, status))
        for reason in ReviewReason
    }
    return {reason: statuses for reason, statuses in found.items() if statuses}
