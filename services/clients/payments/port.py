"""The port to the payment gateway; every call has the order id as its key."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Protocol

from services.domain.call_attempts import Attempt
from services.domain.orders.model import Line


class PaymentState(StrEnum):
    """The state of one order's payment at the gateway."""

    CAPTURED = "CAPTURED"
    DECLINED = "DECLINED"
    REFUNDED = "REFUNDED"
    VOIDED = "VOIDED"
    """Nothing was captured, and the gateway refuses every later capture under this key."""
    ABSENT = "ABSENT"
    """No payment exists under this key."""


class PaymentGateway(Protocol):
    """Capture, find, refund and void. Each appends one Attempt per try to ``trail``.

    Error: PaymentOutcomeUnknown, with may_have_run False when nothing can have been sent.
    """

    async def capture(
        self, order_id: str, user_id: str, lines: tuple[Line, ...], metadata: dict[str, Any], trail: list[Attempt]
    ) -> PaymentState:
        """Take the money, once per order_id: CAPTURED, DECLINED or (repeated after a refund) REFUNDED."""

    async def find(self, order_id: str, trail: list[Attempt]) -> PaymentState:
        """The state of the payment of this order."""

    async def refund(self, order_id: str, trail: list[Attempt]) -> PaymentState:
        """Refund once: REFUNDED, or ABSENT or DECLINED when there is nothing to refund."""

    async def void(self, order_id: str, trail: list[Attempt]) -> PaymentState:
        """Refuse every later capture: VOIDED, or the state of a payment that was captured before.

        ABSENT: the gateway has no void operation, and a capture that is running may still arrive.
        """
