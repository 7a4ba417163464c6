"""The port to the payment gateway, its adapter over HTTP, and a null gateway for installations without one.

Every call has the order id as its key.
"""

from __future__ import annotations

from collections.abc import Container
from enum import StrEnum
from functools import partial
from typing import Any, Protocol, Unpack

from services.clients.http.exchange import (
    Clock,
    Exchange,
    ExchangeOptions,
    Failed,
    NoReply,
    Reply,
    Transport,
    path_segment,
)
from services.clients.inventory.models import UnbelievableReply, has_error_code, parsed
from services.domain.calls import (
    INVALID,
    REFUSED_US,
    REJECTED,
    SUCCESS,
    THROTTLED,
    TIMEOUT,
    UNAVAILABLE,
    Attempt,
    Attempted,
)
from services.domain.errors import PaymentOutcomeUnknown
from services.domain.external import is_same_id
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


CAPTURE = "capture"
FIND_PAYMENT = "find_payment"
REFUND = "refund"
VOID = "void"

SURELY_REFUSED = frozenset({400, 401, 403, 404, 405, 415, 422, 429})
"""HTTP statuses that show that no payment was made."""

ABOUT_THE_PAYMENT = frozenset({402, 409, 410, 422})
"""Statuses 4xx that concern the payment. A 400 with an error code of the gateway also concerns the payment."""

_SETTLED = (PaymentState.CAPTURED, PaymentState.DECLINED, PaymentState.REFUNDED, PaymentState.VOIDED)

CANNOT_VOID = dict.fromkeys((404, 405, 501), PaymentState.ABSENT)
"""States by HTTP status of a gateway that has no void operation."""


class HTTPPaymentGateway:
    """PaymentGateway over HTTP. Each call makes one attempt; the order id is its key, so it may be repeated."""

    def __init__(self, transport: Transport, base_url: str, **options: Unpack[ExchangeOptions]) -> None:
        self._exchange = Exchange(transport, f"{base_url}/api/v1/payments", no_reply=_no_reply, **options)
        self._capture_url = self._exchange.url("/capture")

    async def capture(
        self, order_id: str, user_id: str, lines: tuple[Line, ...], metadata: dict[str, Any]
    ) -> Attempted[PaymentState]:
        body = {
            "orderId": order_id,
            "userId": user_id,
            "items": [line.wire() for line in lines],
            "metadata": metadata,
        }
        request = self._exchange.post(self._capture_url, body, idempotency_key=path_segment(order_id))
        read = partial(_state, order_id, _SETTLED, {402: PaymentState.DECLINED, 410: PaymentState.VOIDED})
        return await self._exchange.attempt(CAPTURE, request, read)

    async def find(self, order_id: str) -> Attempted[PaymentState]:
        request = self._exchange.get(self._exchange.url(f"/{path_segment(order_id)}"))
        read = partial(_state_or_absent, order_id, _SETTLED, {})
        return await self._exchange.attempt(FIND_PAYMENT, request, read)

    async def refund(self, order_id: str) -> Attempted[PaymentState]:
        request = self._exchange.post(self._exchange.url(f"/{path_segment(order_id)}/refund"), {})
        read = partial(_state_or_absent, order_id, (PaymentState.REFUNDED,), {409: PaymentState.DECLINED})
        return await self._exchange.attempt(REFUND, request, read)

    async def void(self, order_id: str) -> Attempted[PaymentState]:
        request = self._exchange.post(self._exchange.url(f"/{path_segment(order_id)}/void"), {})
        return await self._exchange.attempt(VOID, request, partial(_state, order_id, _SETTLED, CANNOT_VOID))


class NullPaymentGateway:
    """Approves every payment without charging, and marks each attempt with ``{"gateway": "null"}``.

    It stores nothing, so ``find`` always returns CAPTURED. ABSENT would reject an order whose approval was lost in a
    crash.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def capture(
        self, order_id: str, user_id: str, lines: tuple[Line, ...], metadata: dict[str, Any]
    ) -> Attempted[PaymentState]:
        return self._approved(CAPTURE, PaymentState.CAPTURED)

    async def find(self, order_id: str) -> Attempted[PaymentState]:
        return self._approved(FIND_PAYMENT, PaymentState.CAPTURED)

    async def refund(self, order_id: str) -> Attempted[PaymentState]:
        return self._approved(REFUND, PaymentState.REFUNDED)

    async def void(self, order_id: str) -> Attempted[PaymentState]:
        return self._approved(VOID, PaymentState.VOIDED)

    def _approved(self, call: str, state: PaymentState) -> Attempted[PaymentState]:
        return state, (Attempt(self._clock(), call, SUCCESS, 0.0, details={"gateway": "null"}),)


def _state(
    order_id: str, expected: Container[PaymentState], answers: dict[int, PaymentState], reply: Reply
) -> PaymentState:
    """Return the state from ``answers`` by HTTP status, else the state in the body."""
    if reply.status in answers:
        return answers[reply.status]
    if not reply.is_success:
        raise Failed(*_refusal(reply))
    state = _stated(order_id, reply.content)
    if state is None or state not in expected:
        raise Failed(INVALID, _unknown("its answer cannot be used", {"status": reply.status}))
    return state


def _state_or_absent(
    order_id: str, expected: Container[PaymentState], answers: dict[int, PaymentState], reply: Reply
) -> PaymentState:
    """Return ABSENT for a 404 with an error code of the gateway, else the result of _state().

    A proxy answers 404 without an error code.
    """
    if reply.status == 404 and has_error_code(reply.content):
        return PaymentState.ABSENT
    return _state(order_id, expected, answers, reply)


def _stated(order_id: str, content: bytes) -> PaymentState | None:
    try:
        body = parsed(content)
        ours = body.get("success", True) is True and is_same_id(body["data"]["orderId"], order_id)
        return PaymentState(body["data"]["state"]) if ours else None
    except (UnbelievableReply, ValueError, KeyError, TypeError, AttributeError):
        return None


def _refusal(reply: Reply) -> tuple[str, PaymentOutcomeUnknown]:
    error = _unknown(
        f"it answered {reply.status}",
        {"status": reply.status},
        may_have_run=reply.status not in SURELY_REFUSED,
        retry_after_seconds=reply.retry_after_seconds,
    )
    return _outcome(reply), error


def _outcome(reply: Reply) -> str:
    status = reply.status
    if status == 429:
        return THROTTLED
    if status in ABOUT_THE_PAYMENT or (status == 400 and has_error_code(reply.content)):
        return REJECTED
    return REFUSED_US if 400 <= status < 500 and status != 408 else UNAVAILABLE


def _no_reply(why: NoReply) -> PaymentOutcomeUnknown:
    reason = "it took too long to answer" if why.outcome == TIMEOUT else "it cannot be reached"
    return _unknown(reason, may_have_run=why.may_have_run, is_ours=why.is_ours)


def _unknown(
    why: str,
    details: dict[str, Any] | None = None,
    *,
    may_have_run: bool = True,
    retry_after_seconds: float | None = None,
    is_ours: bool = False,
) -> PaymentOutcomeUnknown:
    return PaymentOutcomeUnknown(
        f"The payment gateway did not settle the payment: {why}.",
        details,
        may_have_run=may_have_run,
        retry_after_seconds=retry_after_seconds,
        is_ours=is_ours,
    )
