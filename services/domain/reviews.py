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
    """How a person resolves a case."""

    RETRY_RESERVATION = "RETRY_RESERVATION"
    RECONFIRM = "RECONFIRM"
    APPROVE = "APPROVE"
    CANCEL_ORDER = "CANCEL_ORDER"
    MARK_RELEASED = "MARK_RELEASED"
    RETRY_STEP = "RETRY_STEP"
    """Ours, beyond the contract: the step that failed unexpectedly is tried again at once."""


_ALWAYS: Mapping[str, ReviewAction] = {
    ReviewReason.AVAILABILITY_UNVERIFIED: ReviewAction.APPROVE,
    ReviewReason.RELEASE_FAILED: ReviewAction.MARK_RELEASED,
}
"""Allowed in every status of the order."""

_WHILE: Mapping[str, tuple[str, ReviewAction]] = {
    ReviewReason.PENDING_INVENTORY: (OrderStatus.PENDING_INVENTORY, ReviewAction.RETRY_RESERVATION),
    ReviewReason.INVENTORY_CONFIRMATION_FAILED: (OrderStatus.CONFIRMATION_FAILED, ReviewAction.RECONFIRM),
    ReviewReason.CONFIRMATION_TIMEOUT: (OrderStatus.PLACED, ReviewAction.RECONFIRM),
    ReviewReason.PAYMENT_UNKNOWN: (OrderStatus.PAYING, ReviewAction.APPROVE),
}
"""Allowed, together with CANCEL_ORDER, only in the status in which the case was opened."""

WITHOUT_GOODS = frozenset({OrderStatus.CANCELLED, OrderStatus.REJECTED})
"""Final statuses in which the customer must have all the money back."""


STEPPING = BEFORE_PAYMENT | {OrderStatus.PAYING, OrderStatus.PLACED}
"""Statuses in which a worker still has a step to take, and a cancel is possible."""


def is_about_a_difference(reason: str, order_status: str) -> bool:
    """Whether the conservation audit opened the case; that of 0.1.0 had no reason of its own for it."""
    of_old = reason == ReviewReason.INVENTORY_CONFIRMATION_FAILED and order_status in SOLD
    return of_old or reason == ReviewReason.CONSERVATION_DIFFERENCE


def allowed_actions(reason: str, order_status: str) -> tuple[ReviewAction, ...]:
    """The actions that a case allows, the usual one first; none when the order's status has changed.

    APPROVE of PAYMENT_UNKNOWN confirms that the money was captured or, for an order that ended without goods, that
    the customer has all of it. APPROVE of CONSERVATION_DIFFERENCE accepts the difference.
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
    """Orders that have ended without goods may still wait for their refund."""
    if order_status in STEPPING:
        return (ReviewAction.RETRY_STEP, ReviewAction.CANCEL_ORDER)
    return (ReviewAction.RETRY_STEP,) if order_status in WITHOUT_GOODS else ()


_CALLS: Mapping[str, frozenset[str]] = {
    ReviewAction.RETRY_RESERVATION: frozenset({ReviewReason.PENDING_INVENTORY}),
    # An order that waits for its confirmation is asked for by event; only one that was refused reserves anew.
    ReviewAction.RECONFIRM: frozenset({ReviewReason.INVENTORY_CONFIRMATION_FAILED}),
}


def called_by(action: str | None, reasons: Collection[str]) -> str | None:
    """The operation of the Inventory Service that an action on such cases calls at once; None: it calls none.

    A release that follows from cancelling is a job of its own, which waits for its breaker by itself.
    """
    return InventoryCall.RESERVE if _CALLS.get(action or "", frozenset()) & set(reasons) else None


def standings(action: str) -> Mapping[str, frozenset[str]]:
    """Where an action is allowed: per review reason the statuses of the order."""
    found = {
        reason: frozenset(status for status in OrderStatus if action in allowed_actions(reason, status))
        for reason in ReviewReason
    }
    return {reason: statuses for reason, statuses in found.items() if statuses}
