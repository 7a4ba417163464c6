"""Pure decisions about an order from the request to the confirmation, and about steps that failed unexpectedly.

The functions read no clock, call no service and write no row.

A step is one run over an order: check, reserve, pay, request the confirmation, refund. Failed steps are counted and
retried. The outcome of a failed step is unknown, so the next run starts as after a crash and queries the other services
first. Source: docs/adr/0002; requirements 4, 6 and 7.3.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Any

from services.domain.calls import stated_code
from services.domain.errors import ApiError, CircuitOpen, DependencyError, InventoryThrottled
from services.domain.orders import events
from services.domain.orders.changes import Change, ReviewRequest, S, change_status, money_that_may_come, noted
from services.domain.orders.model import InventoryStatus, Order, OrderStatus, PaymentStatus, ReviewReason


def start_reserving(order: Order, at: datetime, due_at: datetime, *, unverified: ApiError | None = None) -> Change:
    """Begin the reservation after a check that succeeded or, with high priority only, failed technically.

    ``unverified``: the error of the failed check, which opens the case AVAILABILITY_UNVERIFIED.
    Source: requirements 7.3, availability check failures.
    """
    opens = (ReviewRequest.after(unverified, ReviewReason.AVAILABILITY_UNVERIFIED),) if unverified else ()
    title = "Availability unverified, going on" if unverified else "Reserving stock"
    return change_status(
        order, S.RESERVING, at, title, values={"due_at": due_at, "attempts": order.attempts}, opens=opens
    )


def reject(order: Order, error: ApiError, at: datetime, *, release: bool = False) -> Change:
    """End the order without goods. ``release``: whether a reservation exists or may exist."""
    values: dict[str, Any] = {"failure": _failure(error)}
    if release:
        values["inventory_status"] = InventoryStatus.RELEASE_PENDING
    if order.status == S.PAYING:
        values["payment_status"] = PaymentStatus.FAILED
    else:
        values |= money_that_may_come(order, at)
    return change_status(
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
    """Whether a repeated request tries the order again: a retryable failure of the check rejected it.

    An order that had a reservation or a payment is never tried again, because the Inventory Service may always refuse
    its id.
    """
    untouched = (InventoryStatus.NONE, PaymentStatus.NONE, None)
    return (
        order.status == S.REJECTED
        and bool((order.failure or {}).get("retryable"))
        and (order.inventory_status, order.payment_status, order.reservation_id) == untouched
    )


def try_again(order: Order, at: datetime, due_at: datetime) -> Change:
    """Start a rejected order again under the same id, for a repeated request."""
    values = {"failure": None, "due_at": due_at}
    return change_status(order, S.RECEIVED, at, "Requested again: a new try", values=values)


def _failure(error: ApiError) -> dict[str, Any]:
    details = error.details
    if isinstance(error, DependencyError) and error.retry_after_seconds is not None:
        details = details | {"retryAfterSeconds": math.ceil(error.retry_after_seconds)}
    return {"code": error.code, "message": error.message, "details": details, "retryable": error.retryable}


def reserve_stock(order: Order, reservation_id: str, expires_at: datetime, at: datetime, due_at: datetime) -> Change:
    """Record the reservation of every line and begin the payment."""
    return change_status(
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
        # Without a failed attempt no case was opened.
        closes=(ReviewReason.PENDING_INVENTORY,) if order.attempts else (),
    )


def wait_for_inventory(order: Order, error: ApiError, at: datetime, due_at: datetime | None) -> Change:
    """Retry later a reservation that failed or has an unknown outcome, and open a review case at once.

    ``due_at`` None: the automatic retries are used up, and an operator decides.
    Source: requirements 7.3, reservation failures.
    """
    attempts = reservation_attempts(order, error)
    title = "Waiting for inventory" if due_at else "Waiting for a person: automatic retries are used up"
    return change_status(
        order,
        S.PENDING_INVENTORY,
        at,
        title,
        values={"due_at": due_at, "attempts": attempts},
        details={"code": error.code, "message": error.message, "attempts": attempts},
        opens=(ReviewRequest.after(error, ReviewReason.PENDING_INVENTORY),),
    )


def reservation_attempts(order: Order, error: ApiError) -> int:
    """Return the number of attempts including this one; attempts that were not sent (breaker, 429) do not count."""
    was_not_sent = isinstance(error, CircuitOpen | InventoryThrottled) and not error.may_have_run
    return max(order.attempts, 1) if was_not_sent else order.attempts + 1


def postpone(due_at: datetime) -> Change:
    """Postpone a step that was not tried, for example because the breaker is open. No attempt is counted."""
    return Change({"due_at": due_at})


def resume_reserving(order: Order, at: datetime, due_at: datetime) -> Change:
    """Begin another attempt of the reservation, by a delayed retry, an operator or the sweeper."""
    values = {"due_at": due_at, "attempts": order.attempts}
    return change_status(order, S.RESERVING, at, "Trying to reserve again", values=values)


def reserve_before_payment(order: Order, at: datetime, due_at: datetime) -> Change:
    """Reserve again first when the reservation may expire before the payment is settled.

    A crashed run may have requested a payment that the gateway has not recorded yet. The payment status is therefore
    UNKNOWN, so that the order cannot end without a void or a refund. The count of payment attempts stays.
    """
    values = {"due_at": due_at, "payment_status": PaymentStatus.UNKNOWN, "attempts": order.attempts}
    return change_status(order, S.RESERVING, at, "The reservation is about to expire: reserving again", values=values)


def place(order: Order, at: datetime, confirmation_due_at: datetime) -> Change:
    """Place the order after the capture, and request the deduction. Source: requirements 4.1."""
    reservation_id = order.reservation_id or ""
    return change_status(
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
    """Record that the outcome of the capture is unknown, and query the gateway again at ``due_at``.

    ``due_at`` None: an operator decides.
    """
    attempts = order.attempts + 1
    opens = () if due_at else (ReviewRequest(ReviewReason.PAYMENT_UNKNOWN, message),)
    return change_status(
        order,
        S.PAYING,
        at,
        "Payment outcome unknown",
        values={"payment_status": PaymentStatus.UNKNOWN, "due_at": due_at, "attempts": attempts},
        details={"message": message, "attempts": attempts},
        opens=opens,
    )


def confirm(order: Order, confirmed_at: datetime, at: datetime) -> Change:
    """Record that the Inventory Service deducted the stock. Source: requirements 6."""
    return change_status(
        order,
        S.CONFIRMED,
        at,
        "Inventory confirmed",
        values={"inventory_status": InventoryStatus.INVENTORY_CONFIRMED, "confirmed_at": confirmed_at},
        closes=(ReviewReason.CONFIRMATION_TIMEOUT,) if order.attempts else (),
    )


def fail_confirmation(order: Order, reason: str, at: datetime) -> Change:
    """Open a case because the Inventory Service could not deduct the stock. Source: requirements 6."""
    title = f"Inventory confirmation failed: {reason}"
    case = ReviewRequest(ReviewReason.INVENTORY_CONFIRMATION_FAILED, title, stated_code(reason))
    return change_status(
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
    """Publish inventory.confirm_requested again under a new event id, because no answer came."""
    return change_status(
        order,
        S.PLACED,
        at,
        "No confirmation yet: asking again",
        values={"due_at": due_at, "attempts": order.attempts + 1},
        details={"requests": order.attempts + 2},
        events=(events.confirm_requested(order.order_id, order.reservation_id or ""),),
    )


def give_up_on_confirmation(order: Order, at: datetime) -> Change:
    """Open a case because the Inventory Service never answered the confirmation request."""
    requests = order.attempts + 1
    detail = f"No answer to {requests} requests for confirmation"
    return change_status(
        order,
        S.PLACED,
        at,
        detail,
        values={"attempts": order.attempts},
        opens=(ReviewRequest(ReviewReason.CONFIRMATION_TIMEOUT, detail),),
    )


def reconfirm(order: Order, reservation_id: str, expires_at: datetime, at: datetime, due_at: datetime) -> Change:
    """Request the deduction again after an operator reserved anew for a failed confirmation."""
    return change_status(
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


def reservation_lasts(order: Order, at: datetime, margin: timedelta) -> bool:
    """Whether the reservation lasts for longer than ``margin``."""
    return order.reservation_expires_at is not None and order.reservation_expires_at - at > margin


TRIES = 4
"""Consecutive steps that failed unexpectedly after which a review case opens and an operator decides."""

STEP_DELAY = timedelta(seconds=5)
LONGEST_STEP_DELAY = timedelta(minutes=15)

_MIDWAY = frozenset({OrderStatus.RECEIVED, OrderStatus.RESERVING, OrderStatus.PAYING})
"""Statuses in which the next step begins at once. Reaching such a status does not reset the count of failures."""


def step_delay(failures: int) -> timedelta:
    """Return the delay after this many consecutive failed steps, at most LONGEST_STEP_DELAY; each one triples it."""
    return min(timedelta(seconds=STEP_DELAY.total_seconds() * 3.0 ** min(failures - 1, 10)), LONGEST_STEP_DELAY)


def step_failed(order: Order, reason: str, at: datetime) -> Change:
    """Count one more failed step and retry it later; from TRIES failures on, also open a case."""
    failures = order.step_failures + 1
    values = {"step_failures": failures, "step_error": reason, "due_at": at + step_delay(failures)}
    if failures > TRIES:
        # Add no timeline entry, so that the timeline of an order that always fails stays bounded.
        return Change(values, opens=(_failed_steps_case(failures, reason),))
    opens = (_failed_steps_case(failures, reason),) if failures == TRIES else ()
    details = {"error": reason, "failures": failures}
    return noted(at, "A step failed unexpectedly", values, details, opens=opens)


def retry_step(at: datetime) -> Change:
    """Retry the step at once for an operator. One further failure opens a case again."""
    return Change({"due_at": at, "step_failures": TRIES - 1})


def with_success_noted(order: Order, change: Change) -> Change:
    """Return the change; if it completes a step after failed steps, it also resets the count and closes the case."""
    if not order.step_failures or "step_failures" in change.values:
        return change
    is_decision = "status" in change.values or "payment_status" in change.values
    if not is_decision or change.values.get("status", order.status) in _MIDWAY:
        return change
    return change.then(Change({"step_failures": 0, "step_error": None}, closes=(ReviewReason.STEP_FAILED,)))


def _failed_steps_case(failures: int, reason: str) -> ReviewRequest:
    return ReviewRequest(ReviewReason.STEP_FAILED, f"{failures} steps in a row failed unexpectedly. {reason}")
