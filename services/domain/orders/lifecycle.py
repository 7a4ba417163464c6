"""The life of an order from the request to the confirmation, as pure decisions.

Nothing here reads a clock, calls a service or writes a row. Source: docs/adr/0002; requirements 4, 6 and 7.3.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Any

from services.domain.errors import ApiError, CircuitOpen, DependencyError, InventoryThrottled
from services.domain.failures import stated_code
from services.domain.orders import events
from services.domain.orders.changes import Change, ReviewRequest, S, change_status, money_that_may_come
from services.domain.orders.model import InventoryStatus, Order, PaymentStatus, ReviewReason


def start_reserving(order: Order, at: datetime, due_at: datetime, *, unverified: ApiError | None = None) -> Change:
    """The availability check succeeded, or (high priority only) failed technically.

    ``unverified`` is why the check failed; it opens the case AVAILABILITY_UNVERIFIED.
    Source: requirements 7.3, availability check failures.
    """
    opens = (ReviewRequest.after(unverified, ReviewReason.AVAILABILITY_UNVERIFIED),) if unverified else ()
    title = "Availability unverified, going on" if unverified else "Reserving stock"
    return change_status(
        order, S.RESERVING, at, title, values={"due_at": due_at, "attempts": order.attempts}, opens=opens
    )


def reject(order: Order, error: ApiError, at: datetime, *, release: bool = False) -> Change:
    """The order ends without goods; ``release`` when a reservation exists or may exist."""
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
    """Whether a repeated request tries the order again: it was rejected by a retryable failure of the check.

    An order that has touched stock or money is never tried again: the Inventory Service may refuse its id for good.
    """
    untouched = (InventoryStatus.NONE, PaymentStatus.NONE, None)
    return (
        order.status == S.REJECTED
        and bool((order.failure or {}).get("retryable"))
        and (order.inventory_status, order.payment_status, order.reservation_id) == untouched
    )


def try_again(order: Order, at: datetime, due_at: datetime) -> Change:
    """A repeated request starts a rejected order again under the same id."""
    values = {"failure": None, "due_at": due_at}
    return change_status(order, S.RECEIVED, at, "Requested again: a new try", values=values)


def _failure(error: ApiError) -> dict[str, Any]:
    details = error.details
    if isinstance(error, DependencyError) and error.retry_after_seconds is not None:
        details = details | {"retryAfterSeconds": math.ceil(error.retry_after_seconds)}
    return {"code": error.code, "message": error.message, "details": details, "retryable": error.retryable}


def reserve_stock(order: Order, reservation_id: str, expires_at: datetime, at: datetime, due_at: datetime) -> Change:
    """The Inventory Service reserved every line: payment may begin."""
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
        # Without a failed attempt there was no case to open.
        closes=(ReviewReason.PENDING_INVENTORY,) if order.attempts else (),
    )


def wait_for_inventory(order: Order, error: ApiError, at: datetime, due_at: datetime | None) -> Change:
    """The reservation failed or its outcome is unknown: it is retried later, and a review case opens at once.

    ``due_at`` None: the automatic retries are used up and an operator decides.
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
    """Attempts made, this one included; an attempt that was not sent (open breaker, rate limit) does not count."""
    was_not_sent = isinstance(error, CircuitOpen | InventoryThrottled) and not error.may_have_run
    return max(order.attempts, 1) if was_not_sent else order.attempts + 1


def postpone(due_at: datetime) -> Change:
    """Nothing was tried, for example because the breaker is open: due again at ``due_at``, no attempt counted."""
    return Change({"due_at": due_at})


def resume_reserving(order: Order, at: datetime, due_at: datetime) -> Change:
    """A delayed retry, an operator or the sweeper tries the reservation again."""
    values = {"due_at": due_at, "attempts": order.attempts}
    return change_status(order, S.RESERVING, at, "Trying to reserve again", values=values)


def reserve_before_payment(order: Order, at: datetime, due_at: datetime) -> Change:
    """The reservation may expire before the payment is settled: reserve again first.

    A crashed run may have requested a payment that the gateway does not know yet. The payment status is therefore
    UNKNOWN, so that the order cannot end without a void or a refund. Payment attempts stay counted.
    """
    values = {"due_at": due_at, "payment_status": PaymentStatus.UNKNOWN, "attempts": order.attempts}
    return change_status(order, S.RESERVING, at, "The reservation is about to expire: reserving again", values=values)


def place(order: Order, at: datetime, confirmation_due_at: datetime) -> Change:
    """The payment is captured: the order is placed and the deduction is requested. Source: requirements 4.1."""
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
    """The outcome of the capture is unknown: the gateway is asked again; ``due_at`` None: an operator decides."""
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
    """The Inventory Service deducted the stock. Source: requirements 6."""
    return change_status(
        order,
        S.CONFIRMED,
        at,
        "Inventory confirmed",
        values={"inventory_status": InventoryStatus.INVENTORY_CONFIRMED, "confirmed_at": confirmed_at},
        closes=(ReviewReason.CONFIRMATION_TIMEOUT,) if order.attempts else (),
    )


def fail_confirmation(order: Order, reason: str, at: datetime) -> Change:
    """The Inventory Service could not deduct: flagged for review. Source: requirements 6."""
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
    """No answer to inventory.confirm_requested: it is sent again under a new event id."""
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
    """The Inventory Service never answered: an operator decides."""
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
    """An operator reserved again after a failed confirmation: the deduction is requested again."""
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
