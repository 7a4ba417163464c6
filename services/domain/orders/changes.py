"""The changes of one transaction to an order, and the allowed transitions between order statuses.

Pure: functions take an order and a fact, and return a Change. ``lifecycle`` has the decisions from the request to the
confirmation; ``ending`` has cancellation, refund, release and return.

Source: docs/adr/0002; requirements 4, 6 and 7.3.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from services.domain.calls import FailureClass, failure_of
from services.domain.errors import ApiError, InvalidState
from services.domain.orders.events import OutgoingEvent
from services.domain.orders.model import Order, OrderStatus, PaymentStatus

S = OrderStatus

NEXT: dict[str, frozenset[str]] = {
    S.RECEIVED: frozenset({S.RESERVING, S.REJECTED, S.CANCELLED}),
    S.RESERVING: frozenset({S.PAYING, S.PENDING_INVENTORY, S.REJECTED, S.CANCELLED}),
    S.PENDING_INVENTORY: frozenset({S.RESERVING, S.CANCELLED, S.REJECTED}),
    S.PAYING: frozenset({S.PAYING, S.PLACED, S.REJECTED, S.CANCELLED, S.RESERVING}),
    S.PLACED: frozenset({S.PLACED, S.CONFIRMED, S.CONFIRMATION_FAILED, S.CANCELLED}),
    S.CONFIRMED: frozenset({S.CANCELLED, S.PARTIALLY_RETURNED, S.RETURNED}),
    S.CONFIRMATION_FAILED: frozenset({S.PLACED, S.CANCELLED}),
    S.PARTIALLY_RETURNED: frozenset({S.PARTIALLY_RETURNED, S.RETURNED}),
    S.CANCELLED: frozenset(),
    S.REJECTED: frozenset({S.RECEIVED}),
    S.RETURNED: frozenset(),
}
"""Allowed next statuses by status. Any other transition raises InvalidState."""

BEFORE_PAYMENT = frozenset({S.RECEIVED, S.RESERVING, S.PENDING_INVENTORY})
AFTER_PAYMENT = frozenset({S.PLACED, S.CONFIRMED, S.CONFIRMATION_FAILED})
CALLED_OFF = frozenset({S.CANCELLED, S.REJECTED})
"""Final statuses without goods, in which all money must be refunded."""
SOLD = frozenset({S.CONFIRMED, S.PARTIALLY_RETURNED, S.RETURNED})
RETURNABLE = frozenset({S.CONFIRMED, S.PARTIALLY_RETURNED})
ENDED = CALLED_OFF | {S.RETURNED}

CAPTURE_SEEN: dict[str, Any] = {"captured": True}
"""Timeline details of a transition at which the gateway reported a capture."""

TRANSITION, CALL, EVENT_OUT, EVENT_IN, ACTION = "transition", "call", "event_out", "event_in", "action"


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """One entry of an order's timeline. Source: contract 3."""

    at: datetime
    kind: str
    title: str
    details: dict[str, Any] = field(default_factory=dict)
    actor: str | None = None


@dataclass(frozen=True, slots=True)
class ReviewRequest:
    """A review case to open, unless the order already has an open case with the same reason."""

    reason: str
    detail: str
    cause: str = ""
    """The code by which cases with the same cause are grouped; empty without a code."""
    failure_class: FailureClass | None = None
    """The failure class of the call that caused the case."""

    @classmethod
    def after(cls, error: ApiError, reason: str) -> ReviewRequest:
        """Return a case about a failed inventory call."""
        found = failure_of(error).failure_class
        return cls(reason, f"{error.code}: {error.message}", found, found)


@dataclass(frozen=True, slots=True)
class Change:
    """The changes of one transaction to an order."""

    values: dict[str, Any]
    timeline: tuple[TimelineEntry, ...] = ()
    events: tuple[OutgoingEvent, ...] = ()
    opens: tuple[ReviewRequest, ...] = ()
    closes: tuple[str, ...] = ()
    """Reasons of the open cases that this change closes."""
    release_because: str | None = None
    """Reason of the release job that this change starts or restarts; None for no release job."""

    def then(self, other: Change) -> Change:
        """Combine both changes for one transaction. Column values of ``other`` take precedence."""
        return Change(
            self.values | other.values,
            self.timeline + other.timeline,
            self.events + other.events,
            self.opens + other.opens,
            self.closes + other.closes,
            other.release_because or self.release_because,
        )


def change_status(order: Order, status: str, at: datetime, title: str, **more: Any) -> Change:
    """Return a change to ``status`` that clears due time and attempts. Raises InvalidState if not allowed."""
    if status not in NEXT[order.status]:
        raise InvalidState(
            f"Order {order.order_id} is {order.status}; it cannot become {status}.",
            {"orderId": order.order_id, "status": order.status, "allowed": sorted(NEXT[order.status])},
        )
    details = more.pop("details", {})
    values = {"status": status, "due_at": None, "attempts": 0} | more.pop("values", {})
    timeline = more.pop("timeline", ())
    if status != order.status:
        details = {"from": order.status, "to": status} | details
    entry = TimelineEntry(at, TRANSITION, title, details)
    return Change(values, (entry, *timeline), **more)


def noted(
    at: datetime, title: str, values: dict[str, Any], details: dict[str, Any] | None = None, **more: Any
) -> Change:
    """Return a change of columns other than the status, with one timeline entry."""
    return Change(values, (TimelineEntry(at, TRANSITION, title, details or {}),), **more)


def money_that_may_come(order: Order, at: datetime) -> dict[str, Any]:
    """Return the column values by which the sweeper voids or refunds a possible capture of an order that ends."""
    if order.payment_status != PaymentStatus.UNKNOWN:
        return {}
    return {"payment_status": PaymentStatus.REFUND_PENDING, "due_at": at}
