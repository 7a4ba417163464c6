"""Pure decisions about the end of an order: cancellation, refund, release of its reservation, and return.

Source: docs/adr/0002; requirements 2.2, 4.2 and 8.1.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from services.domain.calls import Failure
from services.domain.errors import InvalidState
from services.domain.orders import events
from services.domain.orders.changes import (
    AFTER_PAYMENT,
    BEFORE_PAYMENT,
    CAPTURE_SEEN,
    RETURNABLE,
    Change,
    ReviewRequest,
    S,
    TimelineEntry,
    change_status,
    money_that_may_come,
    noted,
)
from services.domain.orders.model import InventoryStatus, Line, Order, PaymentStatus, ReviewReason

LATE_CAPTURE = timedelta(seconds=60)
"""How long to wait for a late capture when the gateway has no void operation. See docs/adr/0008."""


def cancel(order: Order, reason: str, at: datetime) -> Change:
    """Cancel an order. The effect depends on its status.

    Before payment the reservation is released, even if no reservation was confirmed. While PAYING the cancel waits for
    the outcome of the payment. After payment the money is refunded and order.cancelled is published.
    Source: requirements 4.2; docs/adr/0002.
    """
    if order.status in BEFORE_PAYMENT:
        return _cancel_unpaid(order, reason, at)
    if order.status == S.PAYING:
        # An order without a due time waits for an operator. The new due time queries the gateway once more.
        values = {"cancel_reason": reason, "due_at": order.due_at or at, "attempts": order.attempts}
        return change_status(
            order, S.PAYING, at, "Cancel requested while paying", values=values, details={"reason": reason}
        )
    if order.status not in AFTER_PAYMENT:
        raise InvalidState(
            f"Order {order.order_id} is {order.status} and cannot be cancelled.",
            {"orderId": order.order_id, "status": order.status},
        )
    return _cancel_placed(order, reason, at)


def _cancel_unpaid(order: Order, reason: str, at: datetime) -> Change:
    closes = (ReviewReason.PENDING_INVENTORY, ReviewReason.AVAILABILITY_UNVERIFIED)
    values = money_that_may_come(order, at)
    return _cancelled(order, reason, at, "Cancelled before payment", values, closes=closes)


def _cancel_placed(order: Order, reason: str, at: datetime) -> Change:
    deducted = order.status == S.CONFIRMED
    values = {"payment_status": PaymentStatus.REFUND_PENDING, "due_at": at}
    if deducted:
        values["inventory_status"] = InventoryStatus.RESTOCK_REQUESTED
    return _cancelled(
        order,
        reason,
        at,
        "Cancelled, refund and " + ("restock" if deducted else "release") + " requested",
        values,
        events=(events.order_cancelled(order, reason, at),),
        closes=(
            ReviewReason.AVAILABILITY_UNVERIFIED,
            ReviewReason.INVENTORY_CONFIRMATION_FAILED,
            ReviewReason.CONFIRMATION_TIMEOUT,
            ReviewReason.PAYMENT_UNKNOWN,
        ),
    )


def cancel_while_paying(order: Order, reason: str, at: datetime, *, money: bool | None) -> Change:
    """Carry out a cancel that waited for the outcome of the payment: money and stock are given back.

    ``money``: True after a capture, False after a decline, which leaves nothing to refund. None: the outcome is
    unknown, so the payment is voided or refunded.
    """
    to_refund = money is not False
    values = {
        "payment_status": PaymentStatus.REFUND_PENDING if to_refund else PaymentStatus.FAILED,
        "due_at": at if to_refund else None,
    }
    title = "Cancelled, " + ("refund requested" if to_refund else "nothing was charged")
    closes = (ReviewReason.PAYMENT_UNKNOWN, ReviewReason.AVAILABILITY_UNVERIFIED)
    return _cancelled(order, reason, at, title, values, CAPTURE_SEEN if money else {}, closes=closes)


def _cancelled(
    order: Order,
    reason: str,
    at: datetime,
    title: str,
    values: dict[str, Any],
    details: dict[str, Any] | None = None,
    **more: Any,
) -> Change:
    """Cancel the order and release its reservation, unless ``values`` have another inventory status."""
    values = {"cancel_reason": reason, "inventory_status": InventoryStatus.RELEASE_PENDING} | values
    if values["inventory_status"] == InventoryStatus.RELEASE_PENDING:
        more["release_because"] = f"order cancelled: {reason}"
    details = {"reason": reason} | (details or {})
    return change_status(order, S.CANCELLED, at, title, values=values, details=details, **more)


def refund_late_capture(at: datetime, *, seen: bool) -> Change:
    """Refund a late capture of an order that ended unpaid. ``seen`` False: the capture may still arrive."""
    what = "captured" if seen else "may be captured"
    return request_refund(at, f"Payment {what} after the order had ended, refund requested", seen=seen)


def request_refund(at: datetime, title: str, *, seen: bool) -> Change:
    """Make the sweeper refund an order that was charged and ended without goods."""
    values = {"payment_status": PaymentStatus.REFUND_PENDING, "due_at": at, "attempts": 0}
    return noted(at, title, values, dict(CAPTURE_SEEN) if seen else {}, closes=(ReviewReason.PAYMENT_UNKNOWN,))


def refunded(at: datetime, *, was_charged: bool) -> Change:
    """Record that the gateway refunded the payment or, with ``was_charged`` False, that it captured nothing."""
    title = "Payment refunded" if was_charged else "Nothing was charged"
    status = PaymentStatus.REFUNDED if was_charged else PaymentStatus.FAILED
    return noted(at, title, {"payment_status": status, "due_at": None, "attempts": 0})


def nothing_to_refund(order: Order, at: datetime, *, is_final: bool, was_captured: bool) -> Change:
    """Record that the gateway has no payment to refund.

    ``is_final``: the payment was declined or voided, so no capture can follow. ``was_captured``: a capture is on
    record, so the gateway's answer contradicts it and an operator decides.
    """
    if was_captured:
        return _money_in_doubt(at, "The capture was recorded, but the gateway has no money to give back")
    if is_final:
        return refunded(at, was_charged=False)
    if order.attempts == 0:
        return refund_later(order, at + LATE_CAPTURE)
    return _money_in_doubt(at, "The gateway knows of no payment and cannot be told to refuse one that is under way")


def _money_in_doubt(at: datetime, detail: str) -> Change:
    values = {"payment_status": PaymentStatus.UNKNOWN, "due_at": None, "attempts": 0}
    opens = (ReviewRequest(ReviewReason.PAYMENT_UNKNOWN, detail),)
    return noted(at, "Refund in doubt: a person has to look", values, {"detail": detail}, opens=opens)


def money_settled_by_hand(at: datetime) -> Change:
    """Record an operator's confirmation that the customer of an ended order has all the money."""
    values = {"payment_status": PaymentStatus.FAILED, "due_at": None}
    return noted(at, "Seen by a person: the customer has all the money", values)


def shows_capture(entry: TimelineEntry) -> bool:
    """Whether a timeline entry records a capture."""
    return entry.details.get("to") == S.PLACED or entry.details.items() >= CAPTURE_SEEN.items()


def refund_later(order: Order, due_at: datetime) -> Change:
    """Postpone a refund that the gateway did not answer. The number of retries is unlimited."""
    return Change({"due_at": due_at, "attempts": order.attempts + 1})


def released(order: Order, at: datetime, title: str) -> Change:
    """Record that no reservation is left for the order."""
    values = {"inventory_status": InventoryStatus.RELEASED} if _release_is_waited_for(order) else {}
    return noted(at, title, values, closes=(ReviewReason.RELEASE_FAILED,))


def release_failed(order: Order, failure: Failure, error: str, attempts: int, at: datetime) -> Change:
    """Open a case when the release attempts are used up. Source: requirements 8.1, RELEASE_FAILED."""
    detail = f"Release failed after {attempts} attempts: {error}"
    values = {"inventory_status": InventoryStatus.RELEASE_FAILED} if _release_is_waited_for(order) else {}
    found = failure.failure_class
    opens = (ReviewRequest(ReviewReason.RELEASE_FAILED, detail, found, found),)
    return noted(at, detail, values, {"attempts": attempts}, opens=opens)


def _release_is_waited_for(order: Order) -> bool:
    return order.inventory_status in (InventoryStatus.RELEASE_PENDING, InventoryStatus.RELEASE_FAILED)


def return_lines(
    order: Order, lines: tuple[Line, ...], *, return_id: str, reason: str, restockable: bool, at: datetime
) -> Change:
    """Record a return. Raises InvalidState for more units than were bought. Source: requirements 2.2."""
    if order.status not in RETURNABLE:
        raise InvalidState(
            f"Order {order.order_id} is {order.status}; only confirmed orders can be returned.",
            {"orderId": order.order_id, "status": order.status},
        )
    after = _returned_quantities(order, lines)
    complete = all(after[line.sku] == line.quantity for line in order.lines)
    values = {"inventory_status": InventoryStatus.RESTOCK_REQUESTED} if restockable else {}
    return change_status(
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
