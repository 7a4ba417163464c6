"""The life of an order as pure decisions: an order and a fact go in, a Change comes out.

Nothing here reads a clock, calls a service or writes a row. A Change says everything that
must happen in the one transaction that records it: new column values, timeline entries,
events to publish, review cases to open or close, a release job to start.

Source: design 3; seed 4, 6 and 7.3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from services.domain.errors import ApiError, CircuitOpen, DependencyError, InvalidState, InventoryThrottled
from services.domain.failures import Failure, FailureClass, failure_of, stated_code
from services.domain.orders import events
from services.domain.orders.events import OutgoingEvent
from services.domain.orders.model import InventoryStatus, Line, Order, OrderStatus, PaymentStatus, ReviewReason

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
"""Which status may follow which; everything else, standing still included, is refused with InvalidState."""

BEFORE_PAYMENT = frozenset({S.RECEIVED, S.RESERVING, S.PENDING_INVENTORY})
AFTER_PAYMENT = frozenset({S.PLACED, S.CONFIRMED, S.CONFIRMATION_FAILED})
RETURNABLE = frozenset({S.CONFIRMED, S.PARTIALLY_RETURNED})
ENDED = frozenset({S.CANCELLED, S.REJECTED, S.RETURNED})

LATE_CAPTURE = timedelta(seconds=60)
"""So long a capture under way is waited for at a gateway that cannot be told to refuse it. See docs/adr/0008."""

CAPTURE_SEEN: dict[str, Any] = {"captured": True}
"""Among the details of a transition: the gateway said that it has the money."""

TRANSITION, CALL, EVENT_OUT, EVENT_IN, ACTION = "transition", "call", "event_out", "event_in", "action"


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """One line of an order's timeline. Source: contract section 3."""

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


def _change(order: Order, status: str, at: datetime, title: str, **more: Any) -> Change:
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


def start_reserving(order: Order, at: datetime, due_at: datetime, *, unverified: ApiError | None = None) -> Change:
    """The availability check said yes, or (high priority only) could not be made.

    ``unverified`` is why the check failed; it opens the case AVAILABILITY_UNVERIFIED.
    Source: seed 7.3, availability check failures.
    """
    opens = (ReviewRequest.after(unverified, ReviewReason.AVAILABILITY_UNVERIFIED),) if unverified else ()
    title = "Availability unverified, going on" if unverified else "Reserving stock"
    return _change(order, S.RESERVING, at, title, values={"due_at": due_at, "attempts": order.attempts}, opens=opens)


def reject(order: Order, error: ApiError, at: datetime, *, release: bool = False) -> Change:
    """The order ends without goods; ``release`` when a hold exists or may exist."""
    values: dict[str, Any] = {"failure": _failure(error)}
    if release:
        values["inventory_status"] = InventoryStatus.RELEASE_PENDING
    if order.status == S.PAYING:
        values["payment_status"] = PaymentStatus.FAILED
    else:
        values |= _money_that_may_come(order, at)
    return _change(
        order,
        S.REJECTED,
        at,
        f"Rejected: {error.code}",
        values=values,
        details={"code": error.code, "message": error.message},
        release_because=f"order rejected: {error.code}" if release else None,
        closes=(ReviewReason.AVAILABILITY_UNVERIFIED, ReviewReason.PENDING_INVENTORY, ReviewReason.PAYMENT_UNKNOWN),
    )


def may_try_again(order: Order) -> bool:
    """Whether the order was refused for a passing reason, so that the same request is a new try of it.

    Only the availability check ends an order that way: nothing was reserved or charged for it. An order that has
    touched stock or money is not tried again under its id, which the Inventory Service may have fenced off.
    """
    untouched = (InventoryStatus.NONE, PaymentStatus.NONE, None)
    return (
        order.status == S.REJECTED
        and bool((order.failure or {}).get("retryable"))
        and (order.inventory_status, order.payment_status, order.reservation_id) == untouched
    )


def try_again(order: Order, at: datetime, due_at: datetime) -> Change:
    """The request of a refused order came again: it begins anew, as the same order."""
    values = {"failure": None, "due_at": due_at}
    return _change(order, S.RECEIVED, at, "Requested again: a new try", values=values)


def _failure(error: ApiError) -> dict[str, Any]:
    details = error.details
    if isinstance(error, DependencyError) and error.retry_after_seconds is not None:
        details = details | {"retryAfterSeconds": math.ceil(error.retry_after_seconds)}
    return {"code": error.code, "message": error.message, "details": details, "retryable": error.retryable}


def _money_that_may_come(order: Order, at: datetime) -> dict[str, Any]:
    """An order that ends while a capture may still be under way has it fenced off or refunded."""
    if order.payment_status != PaymentStatus.UNKNOWN:
        return {}
    return {"payment_status": PaymentStatus.REFUND_PENDING, "due_at": at}


def reserve_stock(order: Order, reservation_id: str, expires_at: datetime, at: datetime, due_at: datetime) -> Change:
    """The Inventory Service holds every line: payment may begin."""
    return _change(
        order,
        S.PAYING,
        at,
        "Stock reserved",
        values={
            "inventory_status": InventoryStatus.RESERVED,
            "reservation_id": reservation_id,
            "reservation_expires_at": expires_at,
            "due_at": due_at,
            "attempts": order.attempts if order.payment_status == PaymentStatus.UNKNOWN else 0,
        },
        details={"reservationId": reservation_id, "expiresAt": events.timestamp(expires_at)},
        # Without a failed attempt there was no case to open.
        closes=(ReviewReason.PENDING_INVENTORY,) if order.attempts else (),
    )


def wait_for_inventory(order: Order, error: ApiError, at: datetime, due_at: datetime | None) -> Change:
    """The reservation could not be settled: retried later, in the review queue from the start.

    ``due_at`` None: the automatic retries are used up and only a person goes on.
    Source: seed 7.3, reservation failures.
    """
    attempts = reservation_attempts(order, error)
    title = "Waiting for inventory" if due_at else "Waiting for a person: automatic retries are used up"
    return _change(
        order,
        S.PENDING_INVENTORY,
        at,
        title,
        values={"due_at": due_at, "attempts": attempts},
        details={"code": error.code, "message": error.message, "attempts": attempts},
        opens=(ReviewRequest.after(error, ReviewReason.PENDING_INVENTORY),),
    )


def reservation_attempts(order: Order, error: ApiError) -> int:
    """Attempts made, this one included; one that a breaker or the service's own limit kept back does not count."""
    was_not_sent = isinstance(error, CircuitOpen | InventoryThrottled) and not error.may_have_run
    return max(order.attempts, 1) if was_not_sent else order.attempts + 1


def postpone(due_at: datetime) -> Change:
    """Nothing was tried (the breaker is open): look again at ``due_at``, no attempt counted."""
    return Change({"due_at": due_at})


def resume_reserving(order: Order, at: datetime, due_at: datetime) -> Change:
    """A delayed retry, a person or the sweeper tries the reservation again."""
    values = {"due_at": due_at, "attempts": order.attempts}
    return _change(order, S.RESERVING, at, "Trying to reserve again", values=values)


def reserve_before_payment(order: Order, at: datetime, due_at: datetime) -> Change:
    """The hold would end before the payment is settled: it is taken anew first.

    A run that died may have asked for a payment that the gateway does not know yet: from here on the
    order must not end without a refund. The tries to pay stay counted, so that a person is asked in the end.
    """
    values = {"due_at": due_at, "payment_status": PaymentStatus.UNKNOWN, "attempts": order.attempts}
    return _change(order, S.RESERVING, at, "The hold is about to end: reserving again", values=values)


def place(order: Order, at: datetime, confirmation_due_at: datetime) -> Change:
    """The payment is captured: the order is placed and the deduction is requested. Source: seed 4.1."""
    reservation_id = order.reservation_id or ""
    return _change(
        order,
        S.PLACED,
        at,
        "Payment captured, order placed",
        values={
            "payment_status": PaymentStatus.CAPTURED,
            "inventory_status": InventoryStatus.CONFIRM_REQUESTED,
            "due_at": confirmation_due_at,
        },
        events=(
            events.confirm_requested(order.order_id, reservation_id),
            events.order_created(order, reservation_id, at),
        ),
        closes=(ReviewReason.PAYMENT_UNKNOWN,) if order.payment_status == PaymentStatus.UNKNOWN else (),
    )


def payment_unknown(order: Order, message: str, at: datetime, due_at: datetime | None) -> Change:
    """The gateway did not say whether it captured: it is asked again, in the end by a person."""
    attempts = order.attempts + 1
    opens = () if due_at else (ReviewRequest(ReviewReason.PAYMENT_UNKNOWN, message),)
    return _change(
        order,
        S.PAYING,
        at,
        "Payment outcome unknown",
        values={"payment_status": PaymentStatus.UNKNOWN, "due_at": due_at, "attempts": attempts},
        details={"message": message, "attempts": attempts},
        opens=opens,
    )


def confirm(order: Order, confirmed_at: datetime, at: datetime) -> Change:
    """The Inventory Service deducted the stock. Source: seed 6."""
    return _change(
        order,
        S.CONFIRMED,
        at,
        "Inventory confirmed",
        values={"inventory_status": InventoryStatus.INVENTORY_CONFIRMED, "confirmed_at": confirmed_at},
        closes=(ReviewReason.CONFIRMATION_TIMEOUT,) if order.attempts else (),
    )


def fail_confirmation(order: Order, reason: str, at: datetime) -> Change:
    """The Inventory Service could not deduct: flagged for review. Source: seed 6."""
    title = f"Inventory confirmation failed: {reason}"
    case = ReviewRequest(ReviewReason.INVENTORY_CONFIRMATION_FAILED, title, stated_code(reason))
    return _change(
        order,
        S.CONFIRMATION_FAILED,
        at,
        title,
        values={"inventory_status": InventoryStatus.INVENTORY_FAILED},
        details={"reason": reason},
        opens=(case,),
        closes=(ReviewReason.CONFIRMATION_TIMEOUT,),
    )


def ask_confirmation_again(order: Order, at: datetime, due_at: datetime) -> Change:
    """No answer to inventory.confirm_requested: it is sent again under a new event id."""
    return _change(
        order,
        S.PLACED,
        at,
        "No confirmation yet: asking again",
        values={"due_at": due_at, "attempts": order.attempts + 1},
        details={"requests": order.attempts + 2},
        events=(events.confirm_requested(order.order_id, order.reservation_id or ""),),
    )


def give_up_on_confirmation(order: Order, at: datetime) -> Change:
    """The Inventory Service never answered: a person decides."""
    requests = order.attempts + 1
    detail = f"No answer to {requests} requests for confirmation"
    return _change(
        order,
        S.PLACED,
        at,
        detail,
        values={"attempts": order.attempts},
        opens=(ReviewRequest(ReviewReason.CONFIRMATION_TIMEOUT, detail),),
    )


def reconfirm(order: Order, reservation_id: str, expires_at: datetime, at: datetime, due_at: datetime) -> Change:
    """An operator had stock reserved anew after a failed confirmation: the deduction is asked for again."""
    return _change(
        order,
        S.PLACED,
        at,
        "Reserved anew, confirmation requested",
        values={
            "inventory_status": InventoryStatus.CONFIRM_REQUESTED,
            "reservation_id": reservation_id,
            "reservation_expires_at": expires_at,
            "due_at": due_at,
        },
        details={"reservationId": reservation_id},
        events=(events.confirm_requested(order.order_id, reservation_id),),
    )


def cancel(order: Order, reason: str, at: datetime) -> Change:
    """A customer or a person cancels; what it takes depends on how far the order has come.

    Before payment the hold is released (also when no answer about it was ever seen), while PAYING
    the cancel waits for the payment's outcome, afterwards the money is refunded and the Inventory
    Service is told by event. Source: seed 4.2; design 3.
    """
    if order.status in BEFORE_PAYMENT:
        return _cancel_unpaid(order, reason, at)
    if order.status == S.PAYING:
        # Where only a person was going to look, the gateway is asked once more.
        values = {"cancel_reason": reason, "due_at": order.due_at or at, "attempts": order.attempts}
        return _change(order, S.PAYING, at, "Cancel requested while paying", values=values, details={"reason": reason})
    if order.status not in AFTER_PAYMENT:
        raise InvalidState(
            f"Order {order.order_id} is {order.status} and cannot be cancelled.",
            {"orderId": order.order_id, "status": order.status},
        )
    return _cancel_placed(order, reason, at)


def _cancel_unpaid(order: Order, reason: str, at: datetime) -> Change:
    return _change(
        order,
        S.CANCELLED,
        at,
        "Cancelled before payment",
        values={"cancel_reason": reason, "inventory_status": InventoryStatus.RELEASE_PENDING}
        | _money_that_may_come(order, at),
        details={"reason": reason},
        release_because=f"order cancelled: {reason}",
        closes=(ReviewReason.PENDING_INVENTORY, ReviewReason.AVAILABILITY_UNVERIFIED),
    )


def _cancel_placed(order: Order, reason: str, at: datetime) -> Change:
    deducted = order.status == S.CONFIRMED
    inventory_status = InventoryStatus.RESTOCK_REQUESTED if deducted else InventoryStatus.RELEASE_PENDING
    return _change(
        order,
        S.CANCELLED,
        at,
        "Cancelled, refund and " + ("restock" if deducted else "release") + " requested",
        values={
            "cancel_reason": reason,
            "inventory_status": inventory_status,
            "payment_status": PaymentStatus.REFUND_PENDING,
            "due_at": at,
        },
        details={"reason": reason},
        events=(events.order_cancelled(order, reason, at),),
        release_because=None if deducted else f"order cancelled: {reason}",
        closes=(
            ReviewReason.AVAILABILITY_UNVERIFIED,
            ReviewReason.INVENTORY_CONFIRMATION_FAILED,
            ReviewReason.CONFIRMATION_TIMEOUT,
            ReviewReason.PAYMENT_UNKNOWN,
        ),
    )


def cancel_while_paying(order: Order, reason: str, at: datetime, *, money: bool | None) -> Change:
    """A cancel was waiting for the payment's outcome: neither money nor stock is kept.

    ``money``: True when it was seen captured, False when the gateway declined, so that there is nothing
    to refund. None: a capture whose answer was lost may still arrive, so it is fenced off or refunded.
    """
    to_refund = money is not False
    return _change(
        order,
        S.CANCELLED,
        at,
        "Cancelled, " + ("refund requested" if to_refund else "nothing was charged"),
        values={
            "cancel_reason": reason,
            "inventory_status": InventoryStatus.RELEASE_PENDING,
            "payment_status": PaymentStatus.REFUND_PENDING if to_refund else PaymentStatus.FAILED,
            "due_at": at if to_refund else None,
        },
        details={"reason": reason} | (CAPTURE_SEEN if money else {}),
        release_because=f"order cancelled: {reason}",
        closes=(ReviewReason.PAYMENT_UNKNOWN, ReviewReason.AVAILABILITY_UNVERIFIED),
    )


def refund_late_capture(at: datetime, *, seen: bool) -> Change:
    """Money came for an order that had ended without it, or (not ``seen``) may: it is given back."""
    what = "captured" if seen else "may be captured"
    title = f"Payment {what} after the order had ended, refund requested"
    return request_refund(at, title, seen=seen)


def request_refund(at: datetime, title: str, *, seen: bool) -> Change:
    """The sweeper gives back what an order without goods was charged."""
    entry = TimelineEntry(at, TRANSITION, title, dict(CAPTURE_SEEN) if seen else {})
    values = {"payment_status": PaymentStatus.REFUND_PENDING, "due_at": at, "attempts": 0}
    return Change(values, (entry,), closes=(ReviewReason.PAYMENT_UNKNOWN,))


def refunded(at: datetime, *, was_charged: bool) -> Change:
    """The gateway gave the money back, or says that it never took any."""
    entry = TimelineEntry(at, TRANSITION, "Payment refunded" if was_charged else "Nothing was charged")
    status = PaymentStatus.REFUNDED if was_charged else PaymentStatus.FAILED
    return Change({"payment_status": status, "due_at": None, "attempts": 0}, (entry,))


def nothing_to_refund(order: Order, at: datetime, *, is_final: bool, was_captured: bool) -> Change:
    """The gateway has no money to give back.

    ``is_final``: none can come any more, since it declined or was told to refuse. ``was_captured``: we saw
    it capture, so it has forgotten or somebody else was there, and only a person can find out.
    """
    if was_captured:
        return _money_in_doubt(at, "The capture was recorded, but the gateway has no money to give back")
    if is_final:
        return refunded(at, was_charged=False)
    if order.attempts == 0:
        return refund_later(order, at + LATE_CAPTURE)
    return _money_in_doubt(at, "The gateway knows of no payment and cannot be told to refuse one that is under way")


def _money_in_doubt(at: datetime, detail: str) -> Change:
    entry = TimelineEntry(at, TRANSITION, "Refund in doubt: a person has to look", {"detail": detail})
    values = {"payment_status": PaymentStatus.UNKNOWN, "due_at": None, "attempts": 0}
    return Change(values, (entry,), opens=(ReviewRequest(ReviewReason.PAYMENT_UNKNOWN, detail),))


def money_settled_by_hand(at: datetime) -> Change:
    """A person has made sure that the customer of an ended order has all the money."""
    entry = TimelineEntry(at, TRANSITION, "Seen by a person: the customer has all the money")
    return Change({"payment_status": PaymentStatus.FAILED, "due_at": None}, (entry,))


def shows_capture(entry: TimelineEntry) -> bool:
    """Whether a line of the timeline says that the money was seen captured."""
    return entry.details.get("to") == S.PLACED or entry.details.items() >= CAPTURE_SEEN.items()


def refund_later(order: Order, due_at: datetime) -> Change:
    """The gateway did not answer: the refund is tried again for as long as it takes."""
    return Change({"due_at": due_at, "attempts": order.attempts + 1})


def released(order: Order, at: datetime, title: str) -> Change:
    """Nothing is held for the order any more."""
    entry = TimelineEntry(at, TRANSITION, title)
    values = {"inventory_status": InventoryStatus.RELEASED} if _release_is_waited_for(order) else {}
    return Change(values, (entry,), closes=(ReviewReason.RELEASE_FAILED,))


def release_failed(order: Order, failure: Failure, error: str, attempts: int, at: datetime) -> Change:
    """The attempts to release are used up: a person decides. Source: seed 8.1, RELEASE_FAILED."""
    detail = f"Release failed after {attempts} attempts: {error}"
    entry = TimelineEntry(at, TRANSITION, detail, {"attempts": attempts})
    values = {"inventory_status": InventoryStatus.RELEASE_FAILED} if _release_is_waited_for(order) else {}
    found = failure.failure_class
    return Change(values, (entry,), opens=(ReviewRequest(ReviewReason.RELEASE_FAILED, detail, found, found),))


def _release_is_waited_for(order: Order) -> bool:
    return order.inventory_status in (InventoryStatus.RELEASE_PENDING, InventoryStatus.RELEASE_FAILED)


def return_lines(
    order: Order, lines: tuple[Line, ...], *, return_id: str, reason: str, restockable: bool, at: datetime
) -> Change:
    """The customer sends goods back; never more per line than was bought. Source: seed 2.2, order.returned."""
    if order.status not in RETURNABLE:
        raise InvalidState(
            f"Order {order.order_id} is {order.status}; only confirmed orders can be returned.",
            {"orderId": order.order_id, "status": order.status},
        )
    after = _returned_quantities(order, lines)
    complete = all(after[line.sku] == line.quantity for line in order.lines)
    values = {"inventory_status": InventoryStatus.RESTOCK_REQUESTED} if restockable else {}
    return _change(
        order,
        S.RETURNED if complete else S.PARTIALLY_RETURNED,
        at,
        "Returned" if complete else "Partially returned",
        values=values,
        details={"returnId": return_id, "items": [line.wire() for line in lines], "reason": reason},
        events=(events.order_returned(order, return_id, lines, reason, restockable, at),),
    )


def _returned_quantities(order: Order, lines: tuple[Line, ...]) -> dict[tuple[str, str], int]:
    after = {line.sku: line.returned for line in order.lines}
    bought = {line.sku: line.quantity for line in order.lines}
    excess = []
    for line in lines:
        returnable = bought.get(line.sku, 0) - after.get(line.sku, 0)
        if line.quantity > returnable:
            excess.append(line.wire() | {"returnableQuantity": returnable})
        after[line.sku] = after.get(line.sku, 0) + line.quantity
    if excess:
        raise InvalidState("More is returned than was bought.", {"orderId": order.order_id, "items": excess})
    return after


def reservation_lasts(order: Order, at: datetime, margin: timedelta) -> bool:
    """Whether the hold goes on for longer than ``margin``."""
    return order.reservation_expires_at is not None and order.reservation_expires_at - at > margin
