"""Rules of the conservation audit: differences between an order, its stock and its money at the other services.

Pure. Each kind of difference has a compensation that settles it.
Source: docs/adr/0002 (races); requirements 11.2, 8.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from services.domain.errors import InvalidState
from services.domain.orders import changes, ending, events
from services.domain.orders.changes import CALLED_OFF, SOLD, Change, ReviewRequest, TimelineEntry
from services.domain.orders.model import InventoryStatus, Order, PaymentStatus, ReviewReason


class StockState(StrEnum):
    """The stock of one order at the Inventory Service. The values are stored."""

    RESERVED = "HELD"
    DEDUCTED = "DEDUCTED"
    FREE = "FREE"
    """Released, expired, restocked or never reserved."""


class MoneyState(StrEnum):
    """The money of one order at the payment gateway."""

    TAKEN = "TAKEN"
    NOT_TAKEN = "NOT_TAKEN"
    """Declined, refunded or never requested."""


class DifferenceKind(StrEnum):
    """The kinds of differences between the services. The values are stored."""

    RESERVATION_LEAKED = "HOLD_LEAKED"
    DEDUCTION_KEPT = "DEDUCTION_KEPT"
    NOT_DEDUCTED = "NOT_DEDUCTED"
    MONEY_KEPT = "MONEY_KEPT"
    NOT_PAID = "NOT_PAID"


STOCK_KINDS = frozenset({DifferenceKind.RESERVATION_LEAKED, DifferenceKind.DEDUCTION_KEPT, DifferenceKind.NOT_DEDUCTED})
MONEY_KINDS = frozenset({DifferenceKind.MONEY_KEPT, DifferenceKind.NOT_PAID})

FOR_A_PERSON = frozenset({DifferenceKind.NOT_DEDUCTED, DifferenceKind.NOT_PAID})
"""Kinds whose compensation opens a review case. Closing the case accepts the difference."""

COMPENSATIONS: dict[str, str] = {
    DifferenceKind.RESERVATION_LEAKED: "Release the reservation by a release job.",
    DifferenceKind.DEDUCTION_KEPT: "Publish order.cancelled again, so that the stock goes back.",
    DifferenceKind.NOT_DEDUCTED: "Flag the order: the goods may have left without being deducted.",
    DifferenceKind.MONEY_KEPT: "Refund the payment.",
    DifferenceKind.NOT_PAID: "Flag the order: the goods were sold, but no money was taken.",
}
"""The compensation of each kind of difference, as text."""

BEING_SETTLED = frozenset({InventoryStatus.RELEASE_PENDING, InventoryStatus.RELEASE_FAILED})
"""Inventory statuses with no difference reported yet, because a release job or an open case handles the stock."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference of one order."""

    kind: str
    detail: str


def differences(order: Order, stock: StockState | None, money: MoneyState | None) -> list[Difference]:
    """Return the differences of an order; an unfinished order has none. None stands for an unknown state."""
    found = []
    if stock is not None:
        found += _of_stock(order, stock)
    if money is not None:
        found += _of_money(order, money)
    return found


def judged(stock: StockState | None, money: MoneyState | None) -> frozenset[str]:
    """Return the kinds that can be decided from these states. Stored differences of other kinds stay unchanged."""
    nothing: frozenset[str] = frozenset()
    return (nothing if stock is None else STOCK_KINDS) | (nothing if money is None else MONEY_KINDS)


def _of_stock(order: Order, stock: StockState) -> list[Difference]:
    if order.status in CALLED_OFF and order.inventory_status not in BEING_SETTLED:
        if stock == StockState.RESERVED:
            return [
                Difference(
                    DifferenceKind.RESERVATION_LEAKED, f"The order is {order.status}, its stock is still reserved."
                )
            ]
        if stock == StockState.DEDUCTED:
            detail = f"The order is {order.status}, its stock is still deducted."
            return [Difference(DifferenceKind.DEDUCTION_KEPT, detail)]
    if order.status in SOLD and stock != StockState.DEDUCTED:
        return [Difference(DifferenceKind.NOT_DEDUCTED, f"The order is {order.status}, its stock is {stock}.")]
    return []


def _of_money(order: Order, money: MoneyState) -> list[Difference]:
    settling = order.payment_status == PaymentStatus.REFUND_PENDING
    if order.status in CALLED_OFF and money == MoneyState.TAKEN and not settling:
        detail = f"The order is {order.status}, the money is still taken."
        return [Difference(DifferenceKind.MONEY_KEPT, detail)]
    if order.status in SOLD and money == MoneyState.NOT_TAKEN:
        return [Difference(DifferenceKind.NOT_PAID, f"The order is {order.status}, but no money was taken.")]
    return []


def compensate(order: Order, kind: str, at: datetime) -> Change:
    """Return the change that settles a difference. Raises InvalidState when the order's status has changed.

    A leaked reservation is released, a deduction of an ended order is restocked by order.cancelled, and money of an
    ended order is refunded. For goods that were sold without deduction or payment a review case opens.
    """
    if kind in FOR_A_PERSON:
        if order.status not in SOLD:
            raise _moved_on(order, kind)
        entry = TimelineEntry(at, changes.TRANSITION, f"Does not add up: {kind}")
        case = ReviewRequest(ReviewReason.CONSERVATION_DIFFERENCE, f"Conservation audit: {kind}", kind)
        return Change({}, (entry,), opens=(case,))
    if order.status not in CALLED_OFF:
        raise _moved_on(order, kind)
    entry = TimelineEntry(at, changes.TRANSITION, f"Compensating: {kind}")
    if kind == DifferenceKind.RESERVATION_LEAKED:
        values = {"inventory_status": InventoryStatus.RELEASE_PENDING}
        return Change(values, (entry,), release_because="conservation audit: reservation leaked")
    if kind == DifferenceKind.MONEY_KEPT:
        return ending.request_refund(at, entry.title, seen=True)
    reason = order.cancel_reason or "CONSERVATION_AUDIT"
    return Change({}, (entry,), events=(events.order_cancelled(order, reason, at),))


def _moved_on(order: Order, kind: str) -> InvalidState:
    return InvalidState(
        f"Order {order.order_id} is {order.status}; there is nothing to compensate.",
        {"orderId": order.order_id, "status": order.status, "kind": kind},
    )
