"""The steps of an order from RECEIVED until no step is due: check, reserve, pay, place.

The request that placed the order, the sweeper after a crash, delayed retries and an operator's retry run the same
steps; only the attempts per call differ.

Source: requirements 4.1 and 7.3; docs/adr/0002.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import Connection

from services.clients.inventory.port import Availability, InventoryGateway, Reservation
from services.clients.payments import PaymentGateway, PaymentState
from services.domain.calls import Attempts, RetryPolicy, attempts_of, carry
from services.domain.errors import (
    BusinessError,
    DependencyError,
    InsufficientInventory,
    InventoryUnavailable,
    PaymentDeclined,
    PaymentOutcomeUnknown,
)
from services.domain.orders import changes, ending, events, lifecycle
from services.domain.orders.changes import Change
from services.domain.orders.model import Order, OrderStatus, PaymentStatus
from services.unit_of_work import OrdersContext, after_calls
from state import releases
from state.engine.column_types import Unreadable
from state.orders import StaleOrder

RESERVATION_MARGIN = timedelta(seconds=120)
"""A reservation that expires sooner is renewed before the customer is charged."""

SHORTEST_RESERVATION = timedelta(seconds=20)
"""If a reservation cannot be renewed and lasts for less than this, payment waits until it has expired."""


@dataclass(frozen=True, slots=True)
class FulfilmentPolicy:
    """Deadlines of the steps and delays of retries; after a deadline the sweeper resumes the order."""

    step_deadline: timedelta
    """Maximum duration of the calls of one step; afterwards its process counts as crashed."""
    confirmation_timeout: timedelta
    reservation_retry: RetryPolicy
    payment_retry: RetryPolicy
    payment_deadline: timedelta = timedelta(seconds=60)
    """Maximum duration of a step that only calls the payment gateway."""
    reservation_ttl: timedelta = timedelta(minutes=30)
    """Requested lifetime of a reservation."""


class OrderFulfilment:
    """Runs the steps of one order until none is due; each outcome is committed before the next step begins."""

    def __init__(
        self, context: OrdersContext, inventory: InventoryGateway, payments: PaymentGateway, policy: FulfilmentPolicy
    ) -> None:
        self._context = context
        self._inventory = inventory
        self._payments = payments
        self._policy = policy

    async def place(self, order: Order) -> Order:
        """Run a new order for the first time, from the availability check."""
        try:
            return await self._check(order)
        except StaleOrder:
            # Another run changed the order meanwhile and continues it.
            return await self._context.get(order.order_id)

    async def resume(self, order: Order, *, actor: str | None = None) -> Order:
        """Continue an order; the outcome of an earlier run may be unknown.

        Calls without a recorded answer may have succeeded. So the reservation is repeated under the same order id, and
        the payment is looked up before another capture.
        """
        try:
            if order.status == OrderStatus.PAYING:
                return await self._settle_payment(order)
            return await self._start_again(order, actor)
        except StaleOrder:
            return await self._context.get(order.order_id)

    # ------------------------------------------------------------------ check

    async def _check(self, order: Order) -> Order:
        try:
            availability, attempts = await self._inventory.check_availability(order.lines)
        except (BusinessError, DependencyError) as error:
            return await self._check_failed(order, error)
        if not availability.available:
            rejection = lifecycle.reject(order, _shortage(availability), self._now())
            return await self._context.commit(order, rejection, attempts=attempts)
        # Committed together with the outcome of the reservation, which saves one commit per order. After a crash in
        # between, the sweeper finds a RECEIVED order.
        started = after_calls(attempts, lifecycle.start_reserving(order, self._now(), self._step_due()))
        return await self._reserve(order, started)

    async def _check_failed(self, order: Order, error: BusinessError | DependencyError) -> Order:
        attempts = attempts_of(error)
        if isinstance(error, BusinessError) or not order.is_high_priority:
            return await self._context.commit(order, lifecycle.reject(order, error, self._now()), attempts=attempts)
        change = lifecycle.start_reserving(order, self._now(), self._step_due(), unverified=error)
        return await self._reserve(await self._context.commit(order, change, attempts=attempts))

    # ---------------------------------------------------------------- reserve

    async def _start_again(self, order: Order, actor: str | None) -> Order:
        if order.status == OrderStatus.RECEIVED:
            change = lifecycle.start_reserving(order, self._now(), self._step_due())
            order = await self._context.commit(order, change, actor=actor)
        elif order.status == OrderStatus.PENDING_INVENTORY:
            change = lifecycle.resume_reserving(order, self._now(), self._step_due())
            order = await self._context.commit(order, change, actor=actor)
        return await self._reserve(order, repeated=True)

    async def _reserve(self, stored: Order, started: Change | None = None, *, repeated: bool = False) -> Order:
        """Request the reservation and record its outcome, together with ``started`` when that is not recorded yet."""
        order = replace(stored, **started.values) if started else stored
        change = await self._reservation_outcome(order, repeated)
        try:
            order = await self._context.commit(stored, started.then(change) if started else change)
        except StaleOrder:
            await self.give_back_if_ended(stored.order_id)
            raise
        return await self._pay(order, ()) if order.status == OrderStatus.PAYING else order

    async def _reservation_outcome(self, order: Order, repeated: bool) -> Change:
        try:
            held, attempts = await self._inventory.reserve(order.order_id, order.lines, order.user_id)
        except BusinessError as error:
            attempts = attempts_of(error)
            # A refusal for lack of stock is certain, unless an earlier attempt without an answer made a reservation.
            is_certain = isinstance(error, InsufficientInventory) and not repeated and len(attempts) <= 1
            return after_calls(attempts, lifecycle.reject(order, error, self._now(), release=not is_certain))
        except DependencyError as error:
            return after_calls(attempts_of(error), self._wait(order, error))
        if held.expires_at <= self._now():
            # An immediate retry would return the same reservation, so the order waits as without an answer.
            return after_calls(attempts, self._wait(order, _ended_before_it_began(held)))
        due_at = self._now() + self._policy.payment_deadline
        reserved = lifecycle.reserve_stock(order, held.reservation_id, held.expires_at, self._now(), due_at)
        return after_calls(attempts, reserved)

    def _wait(self, order: Order, error: DependencyError) -> Change:
        delay = self._policy.reservation_retry.delay_seconds(
            lifecycle.reservation_attempts(order, error),
            self._context.randomness,
            retry_after_seconds=error.retry_after_seconds,
        )
        due_at = None if delay is None else self._now() + timedelta(seconds=delay)
        return lifecycle.wait_for_inventory(order, error, self._now(), due_at)

    # -------------------------------------------------------------------- pay

    async def _pay(self, order: Order, earlier: Attempts) -> Order:
        """Charge the customer. If the reservation expires soon, wait instead until it has expired.

        ``earlier``: attempts that are not recorded yet.
        """
        now = self._now()
        if not lifecycle.reservation_lasts(order, now, SHORTEST_RESERVATION):
            ended_at = (order.reservation_expires_at or now) + timedelta(seconds=1)
            return await self._context.commit(order, lifecycle.postpone(max(ended_at, now)), attempts=earlier)
        try:
            if isinstance(order.metadata, Unreadable):
                # The metadata may contain the amount, so nothing is charged.
                raise TypeError("The stored metadata of the order cannot be read.")
            state, made = await self._payments.capture(order.order_id, order.user_id, order.lines, order.metadata or {})
        except Exception as error:
            carry(error, earlier + attempts_of(error))
            if not isinstance(error, PaymentOutcomeUnknown):
                raise
            try:
                return await self._payment_unknown(order, error)
            except StaleOrder:
                if error.may_have_run:
                    await self._give_money_back_if_ended(order.order_id, attempts_of(error), seen=False)
                raise
        return await self._payment_known(order, state, earlier + made)

    async def _settle_payment(self, order: Order) -> Order:
        """Look the payment up before another capture, because an earlier run may have requested one."""
        try:
            state, attempts = await self._payments.find(order.order_id)
        except PaymentOutcomeUnknown as error:
            return await self._payment_unknown(order, error)
        if state != PaymentState.ABSENT:
            return await self._payment_known(order, state, attempts)
        if order.cancel_reason is not None:
            return await self._cancel(order, attempts, money=None)
        if self._reservation_is_sure(order):
            return await self._pay(order, attempts)
        renewed = lifecycle.reserve_before_payment(order, self._now(), self._step_due())
        return await self._reserve(await self._context.commit(order, renewed, attempts=attempts), repeated=True)

    def _reservation_is_sure(self, order: Order) -> bool:
        """Whether the reservation lasts, also by an Inventory Service clock that runs ahead of this clock."""
        surely_ends_at = order.created_at + self._policy.reservation_ttl
        now = self._now()
        return lifecycle.reservation_lasts(order, now, RESERVATION_MARGIN) and surely_ends_at - now > RESERVATION_MARGIN

    async def _payment_known(self, order: Order, state: PaymentState, attempts: Attempts) -> Order:
        now = self._now()
        if order.cancel_reason is not None:
            return await self._cancel(order, attempts, money=state == PaymentState.CAPTURED)
        if state == PaymentState.CAPTURED:
            change = lifecycle.place(order, now, now + self._policy.confirmation_timeout)
        else:
            declined = PaymentDeclined("The payment was declined.", {"orderId": order.order_id, "state": state})
            change = lifecycle.reject(order, declined, now, release=True)
        try:
            return await self._context.commit(order, change, attempts=attempts)
        except StaleOrder:
            captured = change.values.get("payment_status") == PaymentStatus.CAPTURED
            current = await self._context.get(order.order_id)
            if current.status == OrderStatus.PAYING and current.cancel_reason is not None:
                # A cancel that was requested during the capture waits for this outcome.
                return await self._cancel(current, attempts, money=captured)
            if captured:
                await self._give_money_back_if_ended(order.order_id, attempts, seen=True)
            raise

    async def _payment_unknown(self, order: Order, error: PaymentOutcomeUnknown) -> Order:
        delay = self._policy.payment_retry.delay_seconds(order.attempts + 1, self._context.randomness)
        due_at = None if delay is None else self._now() + timedelta(seconds=delay)
        change = lifecycle.payment_unknown(order, error.message, self._now(), due_at)
        return await self._context.commit(order, change, attempts=attempts_of(error))

    async def _cancel(self, order: Order, attempts: Attempts, *, money: bool | None) -> Order:
        reason = order.cancel_reason or "CUSTOMER_CANCELLED"
        change = ending.cancel_while_paying(order, reason, self._now(), money=money)
        return await self._context.commit(order, change, attempts=attempts)

    async def _give_money_back_if_ended(self, order_id: str, attempts: Attempts, *, seen: bool) -> None:
        """Refund a capture that another run did not find before it ended the order.

        A pending refund starts again, since the gateway may have answered just before that there is nothing to refund.
        """

        def decide(_: Connection, order: Order) -> Change | None:
            settled = (PaymentStatus.CAPTURED, PaymentStatus.REFUNDED)
            if order.status not in changes.ENDED or order.payment_status in settled:
                return None
            return ending.refund_late_capture(self._now(), seen=seen)

        await self._context.decide(order_id, decide, attempts=attempts)

    # ----------------------------------------------------------------- shared

    async def give_back_if_ended(self, order_id: str) -> None:
        """Start the release again if a reservation may have been made after the order ended."""
        order = await self._context.get(order_id)
        if order.status in changes.ENDED:
            at = self._now()
            await self._context.database.write(
                lambda connection: releases.start(connection, order_id, "hold taken after the order ended", at)
            )

    def _now(self) -> datetime:
        return self._context.clock()

    def _step_due(self) -> datetime:
        return self._now() + self._policy.step_deadline


def _ended_before_it_began(held: Reservation) -> InventoryUnavailable:
    ended_at = events.timestamp(held.expires_at)
    return InventoryUnavailable(f"The reservation had expired ({ended_at}) when it was made: the clocks may differ.")


def _shortage(availability: Availability) -> InsufficientInventory:
    short = [
        {
            "productId": line.product_id,
            "variantId": line.variant_id,
            "requestedQuantity": line.requested_quantity,
            "availableQuantity": line.available_quantity,
        }
        for line in availability.lines
        if not line.available
    ]
    return InsufficientInventory("One or more products don't have enough inventory.", {"items": short})
