"""The order: its lines, its four independent columns of state, and its value.

Orders carry no price (requirements 3). A shop may put the total into the order's metadata:
``{"total": 129.9, "currency": "EUR"}`` or ``{"total": {"amount": "129.90", "currency": "EUR"}}``.
Source: contract 3.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Any

from services.domain.external import id_key


class OrderStatus(StrEnum):
    """Status of an order."""

    RECEIVED = "RECEIVED"
    RESERVING = "RESERVING"
    PENDING_INVENTORY = "PENDING_INVENTORY"
    PAYING = "PAYING"
    PLACED = "PLACED"
    CONFIRMED = "CONFIRMED"
    CONFIRMATION_FAILED = "CONFIRMATION_FAILED"
    CANCELLED = "CANCELLED"
    REJECTED = "REJECTED"
    PARTIALLY_RETURNED = "PARTIALLY_RETURNED"
    RETURNED = "RETURNED"


class InventoryStatus(StrEnum):
    """Status of the stock that is reserved or deducted for the order."""

    NONE = "NONE"
    RESERVED = "RESERVED"
    CONFIRM_REQUESTED = "CONFIRM_REQUESTED"
    INVENTORY_CONFIRMED = "INVENTORY_CONFIRMED"
    INVENTORY_FAILED = "INVENTORY_FAILED"
    RELEASE_PENDING = "RELEASE_PENDING"
    RELEASED = "RELEASED"
    RELEASE_FAILED = "RELEASE_FAILED"
    RESTOCK_REQUESTED = "RESTOCK_REQUESTED"


class PaymentStatus(StrEnum):
    """Status of the payment."""

    NONE = "NONE"
    UNKNOWN = "UNKNOWN"
    CAPTURED = "CAPTURED"
    REFUND_PENDING = "REFUND_PENDING"
    REFUNDED = "REFUNDED"
    FAILED = "FAILED"


class CustomerPriority(StrEnum):
    """Orders of high priority continue when the availability check fails. Source: requirements 7.3."""

    STANDARD = "standard"
    HIGH = "high"


class ReleaseState(StrEnum):
    """The state of a release job. The values are stored."""

    PENDING = "PENDING"
    FAILED = "FAILED"
    DONE = "DONE"


class ReviewReason(StrEnum):
    """Why a review case was opened."""

    AVAILABILITY_UNVERIFIED = "AVAILABILITY_UNVERIFIED"
    PENDING_INVENTORY = "PENDING_INVENTORY"
    INVENTORY_CONFIRMATION_FAILED = "INVENTORY_CONFIRMATION_FAILED"
    CONFIRMATION_TIMEOUT = "CONFIRMATION_TIMEOUT"
    RELEASE_FAILED = "RELEASE_FAILED"
    PAYMENT_UNKNOWN = "PAYMENT_UNKNOWN"
    STEP_FAILED = "STEP_FAILED"
    """Not in the contract: several consecutive steps of the order failed unexpectedly."""
    CONSERVATION_DIFFERENCE = "CONSERVATION_DIFFERENCE"
    """Not in the contract: the goods were sold without payment or deduction, which only an operator can correct."""


@dataclass(frozen=True, slots=True)
class Line:
    """A quantity of one variant of one product."""

    product_id: str
    variant_id: str
    quantity: int
    returned: int = 0

    @property
    def sku(self) -> tuple[str, str]:
        """Product and variant id in canonical form. The line itself keeps the ids as received."""
        return (id_key(self.product_id), id_key(self.variant_id))

    @property
    def ids(self) -> tuple[str, str]:
        return (self.product_id, self.variant_id)

    def wire(self) -> dict[str, Any]:
        """Return the line as JSON object for requests and events. Source: requirements 3.1."""
        return {"productId": self.product_id, "variantId": self.variant_id, "quantity": self.quantity}


def aggregated(lines: Iterable[Line]) -> tuple[Line, ...]:
    """Add up the quantities per product and variant. Order and form of the ids are those of the first occurrence."""
    totals: dict[tuple[str, str], Line] = {}
    for line in lines:
        known = totals.get(line.sku)
        quantity = line.quantity + (known.quantity if known else 0)
        totals[line.sku] = Line(*((known or line).ids), quantity)
    return tuple(totals.values())


@dataclass(frozen=True, slots=True)
class Order:
    """One stored order. It is immutable; the functions that decide about it return a Change."""

    order_id: str
    user_id: str
    customer_priority: str
    lines: tuple[Line, ...]
    created_at: datetime
    updated_at: datetime
    status: str = OrderStatus.RECEIVED
    inventory_status: str = InventoryStatus.NONE
    payment_status: str = PaymentStatus.NONE
    reservation_id: str | None = None
    reservation_expires_at: datetime | None = None
    confirmed_at: datetime | None = None
    cancel_reason: str | None = None
    """Set when a cancel was requested. In PAYING the cancel waits for the outcome of the payment."""
    failure: dict[str, Any] | None = None
    """``{code, message, details}`` of the error that ended the order."""
    metadata: dict[str, Any] | None = None
    due_at: datetime | None = None
    """When the sweeper runs the next step, unless the order changes first; None when no step is due."""
    attempts: int = 0
    """Attempts made in the present waiting phase (reservation, confirmation, payment, refund)."""
    step_failures: int = 0
    """Consecutive steps that failed unexpectedly; see services.domain.orders.lifecycle."""
    step_error: str | None = None
    """The error of the last step that failed unexpectedly."""
    traceparent: str | None = None
    """W3C traceparent of the request that placed the order; later steps continue its trace."""
    version: int = 1

    @property
    def is_high_priority(self) -> bool:
        return self.customer_priority == CustomerPriority.HIGH


LARGEST = Decimal(10) ** 12
MAX_CURRENCY = 8

USUAL_DECIMALS = 2
MOST_DECIMALS = 4
DECIMALS = {
    **dict.fromkeys(("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG"), 0),
    **dict.fromkeys(("RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF", "XPF"), 0),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
    **dict.fromkeys(("CLF", "UYW"), 4),
}
"""Number of decimals of the currencies that do not have two. Source: ISO 4217."""


@dataclass(frozen=True, slots=True)
class OrderValue:
    """Units of an order and, if known, its money."""

    units: int
    amount: Decimal | None = None
    currency: str | None = None

    @property
    def amount_text(self) -> str | None:
        """The amount with the decimals of its currency, or with up to four if the shop gave more decimals."""
        if self.amount is None:
            return None
        usual = DECIMALS.get((self.currency or "").upper(), USUAL_DECIMALS)
        whole, _, decimals = f"{abs(self.amount):,.{MOST_DECIMALS}f}".partition(".")
        shown = decimals.rstrip("0").ljust(usual, "0")
        return f"{whole}.{shown}" if shown else whole


def order_value(order: Order) -> OrderValue:
    """Return units and money of an order. Invalid, negative or implausible amounts are ignored."""
    units = sum(line.quantity for line in order.lines)
    given = order.metadata or {}
    total = given.get("total")
    holder: Mapping[str, Any] = total if isinstance(total, dict) else {"amount": total, **given}
    amount = _amount(holder.get("amount"))
    currency = holder.get("currency")
    is_known = amount is not None and isinstance(currency, str) and 0 < len(currency) <= MAX_CURRENCY
    return OrderValue(units, amount, currency if is_known else None)


def _amount(value: object) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        amount = Decimal(str(value))
    except (InvalidOperation, ValueError):
        # ValueError: Python does not convert an int of more than 4,300 digits to text.
        return None
    return amount if amount.is_finite() and 0 <= amount <= LARGEST else None
