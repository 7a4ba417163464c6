"""The value of an order: its units, and its money if the shop states the total.

Orders carry no price (requirements 3). A shop may put the total into the order's metadata:
``{"total": 129.9, "currency": "EUR"}`` or ``{"total": {"amount": "129.90", "currency": "EUR"}}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from services.domain.orders.model import Order

LARGEST = Decimal(10) ** 12
MAX_CURRENCY = 8

USUAL_DECIMALS = 2
MOST_DECIMALS = 4
DECIMALS = (
    dict.fromkeys(
        (
            "BIF",
            "CLP",
            "DJF",
            "GNF",
            "ISK",
            "JPY",
            "KMF",
            "KRW",
            "PYG",
            "RWF",
            "UGX",
            "UYI",
            "VND",
            "VUV",
            "XAF",
            "XOF",
            "XPF",
        ),
        0,
    )
    | dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3)
    | dict.fromkeys(("CLF", "UYW"), 4)
)
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
