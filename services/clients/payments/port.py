"""The port to the payment gateway; every call has the order id as its key."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Protocol

from services.domain.calls import Attempted
from services.domain.orders.model import Line


class PaymentState(StrEnum):
    """The state of one order's payment at the gateway."""

    CAPTURED = "CAPTURED"
    DECLINED = "DECLINED"
    REFUNDED = "REFUNDED"
    VOIDED = "VOIDED"
    """Nothing was captured, and the gateway refuses later captures under this key."""
    ABSENT = "ABSENT"
    """No payment exists under this key."""


class PaymentGateway(Protocol):
    """Port: capture, find, refund and void. Every method returns a state with one Attempt per try.

    An unknown outcome raises PaymentOutcomeUnknown, which carries the attempts; its may_have_run is False when nothing
    can have been sent.
    """

    async def capture(
        self, order_id: str, user_id: str, lines: tuple[Line, ...], metadata: dict[str, Any]
    ) -> Attempted[PaymentState]:
        """Charge the customer once per order_id; returns CAPTURED, DECLINED or, after a refund, REFUNDED."""

    async def find(self, order_id: str) -> Attempted[PaymentState]:
        """Return the state of the payment of this order."""

    async def refund(self, order_id: str) -> Attempted[PaymentState]:
        """Refund once; returns REFUNDED, or ABSENT or DECLINED when there is nothing to refund."""

    async def void(self, order_id: str) -> Attempted[PaymentState]:
        """Make the gateway refuse later captures; returns VOIDED, or the state of a payment captured before.

        ABSENT means that the gateway has no void operation, so a running capture may still arrive.
        """
