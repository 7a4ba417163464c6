"""Runs due orders: delayed retries, unanswered confirmations, refunds and orders whose process crashed.

Source: docs/adr/0002 (crash between reserve and record; no answer in CONFIRMATION_TIMEOUT), requirements 8.2.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection

from services.clients.payments import PaymentGateway, PaymentState
from services.domain.calls import Attempted, Attempts, RetryPolicy, attempts_of, carry
from services.domain.errors import PaymentOutcomeUnknown
from services.domain.orders import changes, ending, lifecycle
from services.domain.orders.changes import Change
from services.domain.orders.model import Order, OrderStatus, PaymentStatus
from services.orders.fulfilment import FulfilmentPolicy, OrderFulfilment
from services.unit_of_work import OrdersContext, note_failure, raise_first
from state import orders
from state.orders import StaleOrder

BATCH_SIZE = 8
"""Orders of one round. Small batches avoid a thundering herd after an outage."""

CONFIRMATION_REQUESTS = 3
"""Requests for confirmation before a review case is opened. Source: contract, CONFIRMATION_TIMEOUT."""


@dataclass(slots=True)
class OrderSweeper:
    """Claims due orders and runs their next step; no other replica works on a claimed order until the claim ends."""

    context: OrdersContext
    fulfilment: OrderFulfilment
    payments: PaymentGateway
    policy: FulfilmentPolicy
    refund_retry: RetryPolicy
    reserver_retry_in_seconds: Callable[[], float | None]
    """Returns how long the reservation breaker stays open, None if it is not open."""

    async def run_due(self) -> int:
        """Run one round; returns how many orders were due. BATCH_SIZE means that more orders may be due."""
        now = self.context.clock()
        until = now + self.policy.step_deadline
        due = await self.context.database.write(lambda c: orders.claim_due(c, now, until, BATCH_SIZE))
        # gather with return_exceptions: after one step failed, the results of the others are still awaited.
        ends = await asyncio.gather(*(self._move_on(order) for order in due), return_exceptions=True)
        raise_first(ends)
        return len(due)

    async def _move_on(self, order: Order) -> None:
        try:
            with self.context.step("move order on", order.order_id, order.traceparent):
                await self._next_step(order)
        except StaleOrder:
            # An event or an operator changed the order first.
            return
        except Exception as error:  # noqa: BLE001 - a boundary: one order must not stop the others
            self.context.failed("sweeper")
            await note_failure(self.context, order.order_id, error)

    async def _next_step(self, order: Order) -> None:
        if order.payment_status == PaymentStatus.REFUND_PENDING:
            await self._refund(order)
        elif order.status == OrderStatus.PLACED:
            await self._ask_again(order)
        elif order.status == OrderStatus.PENDING_INVENTORY and self.reserver_retry_in_seconds() is not None:
            await self._wait_for_breaker(order, self.reserver_retry_in_seconds() or 0.0)
        elif order.status in changes.BEFORE_PAYMENT or order.status == OrderStatus.PAYING:
            await self.fulfilment.resume(order)

    async def _wait_for_breaker(self, order: Order, seconds: float) -> None:
        # Orders that waited for the same breaker are spread over a few seconds after it closes.
        delay = timedelta(seconds=max(seconds, 1.0) + 5.0 * self.context.randomness())
        await self.context.commit(order, lifecycle.postpone(self.context.clock() + delay))

    async def _ask_again(self, order: Order) -> None:
        now = self.context.clock()
        if order.attempts + 1 >= CONFIRMATION_REQUESTS:
            await self.context.commit(order, lifecycle.give_up_on_confirmation(order, now))
        else:
            due_at = now + self.policy.confirmation_timeout
            await self.context.commit(order, lifecycle.ask_confirmation_again(order, now, due_at))

    async def _refund(self, order: Order) -> None:
        try:
            state, attempts = await self._give_back(order.order_id)
        except PaymentOutcomeUnknown as error:
            # Refunds are retried without limit: the money of a cancelled order is never kept.
            made = min(order.attempts + 1, self.refund_retry.attempts - 1)
            delay = self.refund_retry.delay_seconds(
                made, self.context.randomness, retry_after_seconds=error.retry_after_seconds
            )
            change = ending.refund_later(order, self.context.clock() + timedelta(seconds=delay or 0.0))
            await self._record_refund(order, change, attempts_of(error))
            return
        if state == PaymentState.REFUNDED:
            await self._record_refund(order, ending.refunded(self.context.clock(), was_charged=True), attempts)
        else:
            await self._record_nothing_to_refund(order, state, attempts)

    async def _give_back(self, order_id: str) -> Attempted[PaymentState]:
        """Refund the capture; without one, void the payment so that no capture can follow."""
        state, attempts = await self.payments.refund(order_id)
        try:
            if state == PaymentState.ABSENT:
                state, made = await self.payments.void(order_id)
                attempts += made
                if state == PaymentState.CAPTURED:
                    state, made = await self.payments.refund(order_id)
                    attempts += made
        except Exception as error:
            carry(error, attempts + attempts_of(error))
            raise
        return state, attempts

    async def _record_refund(self, order: Order, change: Change, attempts: Attempts) -> None:
        """Record on the current row, because the release of the reservation may have changed the order meanwhile."""

        def decide(_: Connection, current: Order) -> Change | None:
            return change if current.payment_status == PaymentStatus.REFUND_PENDING else None

        await self.context.decide(order.order_id, decide, attempts=attempts)

    async def _record_nothing_to_refund(self, order: Order, state: PaymentState, attempts: Attempts) -> None:
        def decide(connection: Connection, current: Order) -> Change | None:
            if current.payment_status != PaymentStatus.REFUND_PENDING:
                return None
            now = self.context.clock()
            if current.version != order.version:
                # A capture may have been made since the refund found none: the refund is tried again.
                return lifecycle.postpone(now)
            was_captured = orders.shows_capture(connection, order.order_id)
            is_final = state in (PaymentState.DECLINED, PaymentState.VOIDED)
            return ending.nothing_to_refund(current, now, is_final=is_final, was_captured=was_captured)

        await self.context.decide(order.order_id, decide, attempts=attempts)
