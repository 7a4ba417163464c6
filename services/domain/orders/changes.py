"""What one transaction does to an order, and which status may follow which.

Pure: an order and a fact go in, a Change comes out. The functions that decide are in ``lifecycle`` (from the request to
the confirmation) and ``ending`` (cancellation, refund, release, return).

Source: docs/adr/0002; requirements 4, 6 and 7.3.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from services.domain.errors import ApiError, InvalidState
from services.domain.failures import FailureClass, failure_of
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
"""Which status may follow which; everything else, the same status included, raises InvalidState."""

BEFORE_PAYMENT = frozenset({S.RECEIVED, S.RESERVING, S.PENDING_INVENTORY})
AFTER_PAYMENT = frozenset({S.PLACED, S.CONFIRMED, S.CONFIRMATION_FAILED})
RETURNABLE = frozenset({S.CONFIRMED, S.PARTIALLY_RETURNED})
ENDED = frozenset({S.CANCELLED, S.REJECTED, S.RETURNED})

CAPTURE_SEEN: dict[str, Any] = {"captured": True}
"""Details of a transition at which the gateway reported the capture."""

TRANSITION, CALL, EVENT_OUT, EVENT_IN, ACTION = "transition", "call", "event_out", "event_in", "action"


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """One line of an order's timeline. Source: contract 3."""

    at: datetime
    kind: str
    title: str
    details: dict[str, Any] = field(default_factory=dict)
    actor: str | None = None


@dataclass(frozen=True, slots=True)
class ReviewRequest:
    """A case to open, unless one with the same reason is already open for the order."""

    reason: str
    detail: str
    cause: str = ""
    """The code that cases with the same cause share; empty without one."""
    failure_class: FailureClass | None = None
    """The class of the failed call that led to the case."""

    @classmethod
    def after(cls, error: ApiError, reason: str) -> ReviewRequest:
        """A case about a failed inventory call."""
        found = failure_of(error).failure_class
        return cls(reason, f"{error.code}: {error.message}", found, found)


@dataclass(frozen=True, slots=True)
class Change:
    """What one transaction does to an order."""

    values: dict[str, Any]
    timeline: tuple[TimelineEntry, ...] = ()
    events: tuple[OutgoingEvent, ...] = ()
    opens: tuple[ReviewRequest, ...] = ()
    closes: tuple[str, ...] = ()
    """Reasons of open cases that this change settles."""
    release_because: str | None = None
    """Starts (or starts again) the release job of the order."""

    def then(self, other: Change) -> Change:
        """Both changes, recorded in one transaction; the later one's column values stand."""
        return Change(
            self.values | other.values,
            self.timeline + other.timeline,
            self.events + other.events,
            self.opens + other.opens,
            self.closes + other.closes,
            other.release_because or self.release_because,
        )


def change_status(order: Order, status: str, at: datetime, title: str, **more: Any) -> Change:
    """A change to ``status``, which clears the due time and the attempts; raises InvalidState if it may not follow."""
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


def money_that_may_come(order: Order, at: datetime) -> dict[str, Any]:
    """The columns of an order that ends while a capture may be under way: it will be voided or refunded."""
    if order.payment_status != PaymentStatus.UNKNOWN:
        return {}
    return {"payment_status": PaymentStatus.REFUND_PENDING, "due_at": at}
