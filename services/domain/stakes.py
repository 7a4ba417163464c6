"""What is at stake with an order: its units, and its money where the shop has said how much that is.

Orders carry no price (seed 3). A shop that wants money shown puts the total into the order's metadata:
``{"total": 129.9, "currency": "EUR"}`` or ``{"total": {"amount": "129.90", "currency": "EUR"}}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from services.domain.order import Order

LARGEST = Decimal(10) ** 12
MAX_CURRENCY = 8


@dataclass(frozen=True, slots=True)
class Stake:
    """Units of an order and, if known, its money."""

    units: int
    amount: Decimal | None = None
    currency: str | None = None


def stake(order: Order) -> Stake:
    """What is at stake; an amount that is no number, negative or absurd is none."""
    units = sum(line.quantity for line in order.lines)
    given = order.metadata or {}
    total = given.get("total")
    holder: Mapping[str, Any] = total if isinstance(total, dict) else {"amount": total, **given}
    amount = _amount(holder.get("amount"))
    currency = holder.get("currency")
    is_known = amount is not None and isinstance(currency, str) and 0 < len(currency) <= MAX_CURRENCY
    return Stake(units, amount, currency if is_known else None)


def _amount(value: object) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        return None
    return amount if amount.is_finite() and 0 <= amount <= LARGEST else None
