"""The port to the payment gateway; every operation is keyed by the order id."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Protocol

from services.domain.call_attempts import Attempt
from services.domain.orders.model import Line


class PaymentState(StrEnum):
    """What the gateway says about the payment of one order."""

    CAPTURED = "CAPTURED"
    DECLINED = "DECLINED"
    REFUNDED = "REFUNDED"
    VOIDED = "VOIDED"
    """Nothing was captured, and the gateway refuses a capture under this key for good."""
    ABSENT = "ABSENT"
    """The gateway knows of no payment under this key."""


class PaymentGateway(Protocol):
    """Capture, ask, refund and fence. Each appends one Attempt per try to ``trail``.

    Error: PaymentOutcomeUnknown, with may_have_run False when nothing can have been sent.
    """

    async def capture(
        self, order_id: str, user_id: str, lines: tuple[Line, ...], metadata: dict[str, Any], trail: list[Attempt]
    ) -> PaymentState:
        """Take the money, once per order_id: CAPTURED, DECLINED or (repeated after a refund) REFUNDED."""

    async def find(self, order_id: str, trail: list[Attempt]) -> PaymentState:
        """What became of the payment of this order."""

    async def refund(self, order_id: str, trail: list[Attempt]) -> PaymentState:
        """Give the money back, once: REFUNDED, or ABSENT/DECLINED when there is nothing to refund."""

    async def void(self, order_id: str, trail: list[Attempt]) -> PaymentState:
        """Have every capture that is still to come refused: VOIDED, or what the payment is that was faster.

        ABSENT: this gateway cannot promise it, and a capture under way may still arrive.
        """
