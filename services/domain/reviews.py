"""Review cases: the allowed actions, the reasons that they need, and how often past resolutions lasted. Pure.

The allowed actions depend on the reason of the case and on the status of the order.

An action on a review case lasted when its order ended as intended and no case was opened for the order afterwards. It
failed when a case was opened afterwards, or when the order was cancelled or rejected instead. Until then it is
undecided. An action on a release job lasted when the reservation was released and the order needed no further release.

Source: contract 3 (resolve); docs/adr/0002; requirements 11, page "Manual review" (note and resolution reason), rule 9.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from services.domain.calls import InventoryCall
from services.domain.errors import ValidationFailed
from services.domain.orders.changes import AFTER_PAYMENT, BEFORE_PAYMENT, CALLED_OFF, SOLD
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
    if reason == ReviewReason.PAYMENT_UNKNOWN and order_status in CALLED_OFF:
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
    return (ReviewAction.RETRY_STEP,) if order_status in CALLED_OFF else ()


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


class ResolutionReason(StrEnum):
    """Why a person resolved a case. The values are stored."""

    CUSTOMER_ASKED = "CUSTOMER_ASKED"
    OUT_OF_STOCK = "OUT_OF_STOCK"
    SUSPECTED_FRAUD = "SUSPECTED_FRAUD"
    DUPLICATE_ORDER = "DUPLICATE_ORDER"
    PAYMENT_SEEN = "PAYMENT_SEEN"
    STOCK_SEEN = "STOCK_SEEN"
    SEEN_RELEASED = "SEEN_RELEASED"
    NEVER_RESERVED = "NEVER_HELD"
    OTHER = "OTHER"


R = ResolutionReason

REASONS: Mapping[str, tuple[ResolutionReason, ...]] = {
    ReviewAction.CANCEL_ORDER: (R.CUSTOMER_ASKED, R.OUT_OF_STOCK, R.SUSPECTED_FRAUD, R.DUPLICATE_ORDER, R.OTHER),
    ReviewAction.APPROVE: (R.STOCK_SEEN, R.PAYMENT_SEEN, R.CUSTOMER_ASKED, R.OTHER),
    ReviewAction.MARK_RELEASED: (R.SEEN_RELEASED, R.NEVER_RESERVED, R.OTHER),
}
"""The allowed reasons of each action. Actions that only retry need no reason."""

UNDO_FOR: Mapping[str, timedelta] = dict.fromkeys(REASONS, timedelta(seconds=10))
"""Time for which the command of an action is delayed, so that it can be undone."""


_SEEN = frozenset(ReviewReason) - {ReviewReason.AVAILABILITY_UNVERIFIED}
"""Review reasons whose approval depends on facts outside this service."""


def needs_reason(case_reason: str, action: str) -> bool:
    """Whether the action needs a reason: it is irreversible, or depends on facts outside this service."""
    irreversible = action in (ReviewAction.CANCEL_ORDER, ReviewAction.MARK_RELEASED)
    return irreversible or (action == ReviewAction.APPROVE and case_reason in _SEEN)


def check_reason(case_reason: str, action: str, resolution_reason: str | None, note: str) -> None:
    """Check reason and note of an action. Raises ValidationFailed with field, value and what is allowed."""
    fitting = REASONS.get(action, ())
    if resolution_reason is not None and resolution_reason not in fitting:
        allowed = f"one of {', '.join(fitting)}" if fitting else "nothing: this action needs no reason"
        raise _refused("resolutionReason", resolution_reason, allowed)
    if needs_reason(case_reason, action) and resolution_reason in (None, R.OTHER) and not note.strip():
        others = ", ".join(reason for reason in fitting if reason != R.OTHER)
        raise _refused("note", note, f"1 character or more, unless resolutionReason is one of {others}")


def _refused(field: str, value: str, allowed: str) -> ValidationFailed:
    problem = {"field": field, "value": value, "allowed": allowed}
    return ValidationFailed(f"Not valid: {field}.", {"problems": [problem]})


class ResolutionOutcome(StrEnum):
    """Whether an action lasted. The values are stored."""

    LASTED = "HELD"
    FAILED = "FAILED"
    UNDECIDED = "UNDECIDED"


BY_ITSELF = "BY_ITSELF"
"""No action was taken: events settled the case."""


class ReleaseActionKind(StrEnum):
    """Actions on a failed release job."""

    RETRY = "RETRY"
    BULK_RETRY = "BULK_RETRY"
    AUTOMATIC = "AUTOMATIC"
    """No action was taken: the automatic retries of the job continued."""
    MARKED = "MARKED"
    BULK_MARKED = "BULK_MARKED"


@dataclass(frozen=True, slots=True)
class PastResolution:
    """One past action: the last action on a review case, or any action on a release job."""

    action: str
    """A ReviewAction, BY_ITSELF or a ReleaseActionKind."""
    by: str
    at: datetime
    outcome: str
    """A ResolutionOutcome."""
    why: str | None = None


@dataclass(frozen=True, slots=True)
class ActionSummary:
    """How often an action was taken, and how often it lasted or failed."""

    action: str
    times: int
    lasted: int
    failed: int
    last: PastResolution

    @property
    def undecided(self) -> int:
        return self.times - self.lasted - self.failed


def outcome_of(action: str, order_status: str, *, came_again: bool) -> str:
    """Return the ResolutionOutcome of an action; ``came_again``: a case opened for the order afterwards."""
    if came_again:
        return ResolutionOutcome.FAILED
    if action in (ReviewAction.MARK_RELEASED, ReviewAction.RETRY_STEP):
        return ResolutionOutcome.LASTED
    if action == ReviewAction.CANCEL_ORDER:
        return ResolutionOutcome.LASTED if order_status in CALLED_OFF else ResolutionOutcome.UNDECIDED
    if order_status in SOLD:
        return ResolutionOutcome.LASTED
    return ResolutionOutcome.FAILED if order_status in CALLED_OFF else ResolutionOutcome.UNDECIDED


def summarise(past: Sequence[PastResolution]) -> tuple[ActionSummary, ...]:
    """Summarise past resolutions, given newest first, by action; the most frequent action comes first."""
    by_action: dict[str, list[PastResolution]] = {}
    for one in past:
        by_action.setdefault(one.action, []).append(one)
    found = [_summary(action, of_action) for action, of_action in by_action.items()]
    return tuple(sorted(found, key=lambda one: (-one.times, one.action)))


def _summary(action: str, past: Sequence[PastResolution]) -> ActionSummary:
    ends = [one.outcome for one in past]
    return ActionSummary(
        action, len(past), ends.count(ResolutionOutcome.LASTED), ends.count(ResolutionOutcome.FAILED), past[0]
    )
