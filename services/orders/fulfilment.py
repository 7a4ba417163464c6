"""Carrying an order from RECEIVED to rest: check, reserve, pay, place.

The request that placed the order, the sweeper after a crash, the delayed retries and an
operator's retry all run the same steps; only the attempts per call differ.

Source: seed 4.1 and 7.3; design 3.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import Connection

from services.clients.inventory.port import Availability, InventoryGateway, Reservation
from services.clients.payments.port import PaymentGateway, PaymentState
from services.domain.call_attempts import Attempt
from services.domain.errors import (
    BusinessError,
    DependencyError,
    InsufficientInventory,
    InventoryUnavailable,
    PaymentDeclined,
    PaymentOutcomeUnknown,
)
from services.domain.orders import events, lifecycle
from services.domain.orders.lifecycle import Change
from services.domain.orders.model import Order, OrderStatus, PaymentStatus
from services.domain.retry import RetryPolicy
from services.orders.context import OrdersContext
from services.unit_of_work import call_entries
from state import releases
from state.engine.column_types import Unreadable
from state.orders import StaleOrder

RESERVATION_MARGIN = timedelta(seconds=120)
"""A hold that ends sooner is taken anew before the customer is charged."""

SHORTEST_RESERVATION = timedelta(seconds=20)
"""A hold that could not be renewed must still last this long, or payment waits until it has ended."""


@dataclass(frozen=True, slots=True)
class FulfilmentPolicy:
    """How long a step may take before a sweeper looks, and when delayed retries come."""

    step_deadline: timedelta
    """Longest time the calls of one step take; afterwards whoever ran it is taken for dead."""
    confirmation_timeout: timedelta
    reservation_retry: RetryPolicy
    payment_retry: RetryPolicy
    payment_deadline: timedelta = timedelta(seconds=60)
    """The same for a step that only asks the payment gateway."""
    hold: timedelta = timedelta(minutes=30)
    """How long a hold is asked for."""


class OrderFulfilment:
    """Runs the steps of one order until it rests; every step's outcome is committed before the next begins."""

    def __init__(
        self, context: OrdersContext, inventory: InventoryGateway, payments: PaymentGateway, policy: FulfilmentPolicy
    ) -> None:
        self._context = context
        self._inventory = inventory
        self._payments = payments
        self._policy = policy

    async def place(self, order: Order) -> Order:
        """First run of a new order: check, then the rest."""
        return await self._until_it_rests(order, self._check)

    async def resume(self, order: Order, *, actor: str | None = None) -> Order:
        """Go on with an order of which an earlier run's outcome may be unknown.

        Nothing is assumed about calls whose answers were not recorded: the reservation is
        repeated under the same order id, the payment is asked for before it is tried again.
        """
        if order.status == OrderStatus.PAYING:
            return await self._until_it_rests(order, self._settle_payment)
        return await self._until_it_rests(order, lambda order: self._start_again(order, actor))

    async def _until_it_rests(self, order: Order, first: Callable[[Order], Awaitable[Order]]) -> Order:
        try:
            return await first(order)
        except StaleOrder:
            # Somebody else moved the order meanwhile: they go on with it, this run ends.
            return await self._context.get(order.order_id)

    # ------------------------------------------------------------------ check

    async def _check(self, order: Order) -> Order:
        trail: list[Attempt] = []
        try:
            availability = await self._inventory.check_availability(order.lines, trail)
        except DependencyError as error:
            return await self._check_failed(order, error, trail)
        except BusinessError as error:
            return await self._context.commit(order, lifecycle.reject(order, error, self._now()), trail=trail)
        if not availability.available:
            rejection = lifecycle.reject(order, _shortage(availability), self._now())
            return await self._context.commit(order, rejection, trail=trail)
        # The row says RECEIVED until the reservation's outcome is known: a crash in between is
        # swept like any other, and one commit less is paid for by every order.
        started = _after_calls(trail, lifecycle.start_reserving(order, self._now(), self._step_due()))
        return await self._reserve(order, started)

    async def _check_failed(self, order: Order, error: DependencyError, trail: list[Attempt]) -> Order:
        if not order.is_high_priority:
            return await self._context.commit(order, lifecycle.reject(order, error, self._now()), trail=trail)
        change = lifecycle.start_reserving(order, self._now(), self._step_due(), unverified=error)
        order = await self._context.commit(order, change, trail=trail)
        return await self._reserve(order)

    # ---------------------------------------------------------------- reserve

    async def _start_again(self, order: Order, actor: str | None) -> Order:
        if order.status == OrderStatus.RECEIVED:
            change = lifecycle.start_reserving(order, self._now(), self._step_due())
            order = await self._context.commit(order, change, actor=actor)
        elif order.status == OrderStatus.PENDING_INVENTORY:
            change = lifecycle.resume_reserving(order, self._now(), self._step_due())
            order = await self._context.commit(order, change, actor=actor)
        return await self._reserve_again(order)

    async def _reserve_again(self, order: Order) -> Order:
        return await self._reserve(order, repeated=True)

    async def _reserve(self, stored: Order, started: Change | None = None, *, repeated: bool = False) -> Order:
        """Ask for the hold and record the outcome, together with ``started`` if that is not recorded yet."""
        order = replace(stored, **started.values) if started else stored
        trail: list[Attempt] = []
        change = _after_calls(trail, await self._reservation_outcome(order, trail, repeated))
        try:
            order = await self._context.commit(stored, started.then(change) if started else change)
        except StaleOrder:
            await self.give_back_if_ended(stored.order_id)
            raise
        return await self._pay_if_reserved(order) if order.status == OrderStatus.PAYING else order

    async def _reservation_outcome(self, order: Order, trail: list[Attempt], repeated: bool) -> Change:
        try:
            held = await self._inventory.reserve(order.order_id, order.lines, order.user_id, trail)
        except InsufficientInventory as error:
            # An earlier attempt without an answer may have left a hold behind.
            uncertain = repeated or len(trail) > 1
            return lifecycle.reject(order, error, self._now(), release=uncertain)
        except BusinessError as error:
            return lifecycle.reject(order, error, self._now(), release=True)
        except DependencyError as error:
            return self._wait(order, error)
        if held.expires_at <= self._now():
            # Asked again at once it would say the same: the order waits like one that got no answer.
            return self._wait(order, _ended_before_it_began(held))
        due_at = self._now() + self._policy.payment_deadline
        return lifecycle.reserve_stock(order, held.reservation_id, held.expires_at, self._now(), due_at)

    def _wait(self, order: Order, error: DependencyError) -> Change:
        delay = self._policy.reservation_retry.delay_seconds(
            lifecycle.reservation_attempts(order, error),
            self._context.randomness,
            retry_after_seconds=error.retry_after_seconds,
        )
        due_at = None if delay is None else self._now() + timedelta(seconds=delay)
        return lifecycle.wait_for_inventory(order, error, self._now(), due_at)

    # -------------------------------------------------------------------- pay

    async def _pay_if_reserved(self, order: Order) -> Order:
        """Charge the customer, unless the hold is about to end and a new one cannot be had yet."""
        now = self._now()
        if not lifecycle.reservation_lasts(order, now, SHORTEST_RESERVATION):
            ended_at = (order.reservation_expires_at or now) + timedelta(seconds=1)
            return await self._context.commit(order, lifecycle.postpone(max(ended_at, now)))
        return await self._pay(order, [])

    async def _pay(self, order: Order, trail: list[Attempt]) -> Order:
        if isinstance(order.metadata, Unreadable):
            # The amount may stand in it: a person is asked rather than anything be charged.
            raise TypeError("The stored metadata of the order cannot be read.")
        try:
            state = await self._payments.capture(
                order.order_id, order.user_id, order.lines, order.metadata or {}, trail
            )
        except PaymentOutcomeUnknown as error:
            try:
                return await self._payment_unknown(order, error, trail)
            except StaleOrder:
                if error.may_have_run:
                    await self._give_money_back_if_ended(order.order_id, trail, seen=False)
                raise
        return await self._payment_known(order, state, trail)

    async def _settle_payment(self, order: Order) -> Order:
        """A payment may have been tried before: the gateway is asked first."""
        trail: list[Attempt] = []
        try:
            state = await self._payments.find(order.order_id, trail)
        except PaymentOutcomeUnknown as error:
            return await self._payment_unknown(order, error, trail)
        if state != PaymentState.ABSENT:
            return await self._payment_known(order, state, trail)
        if order.cancel_reason is not None:
            return await self._cancel(order, trail, money=None)
        if self._reservation_is_sure(order):
            return await self._pay(order, trail)
        renewed = lifecycle.reserve_before_payment(order, self._now(), self._step_due())
        return await self._reserve_again(await self._context.commit(order, renewed, trail=trail))

    def _reservation_is_sure(self, order: Order) -> bool:
        """Whether the hold lasts by our clock, and by that of a service whose clock runs ahead."""
        surely_ends_at = order.created_at + self._policy.hold
        now = self._now()
        return lifecycle.reservation_lasts(order, now, RESERVATION_MARGIN) and surely_ends_at - now > RESERVATION_MARGIN

    async def _payment_known(self, order: Order, state: PaymentState, trail: list[Attempt]) -> Order:
        now = self._now()
        if order.cancel_reason is not None:
            return await self._cancel(order, trail, money=state == PaymentState.CAPTURED)
        if state == PaymentState.CAPTURED:
            change = lifecycle.place(order, now, now + self._policy.confirmation_timeout)
        else:
            declined = PaymentDeclined("The payment was declined.", {"orderId": order.order_id, "state": state})
            change = lifecycle.reject(order, declined, now, release=True)
        return await self._commit_payment(order, change, trail)

    async def _payment_unknown(self, order: Order, error: PaymentOutcomeUnknown, trail: list[Attempt]) -> Order:
        delay = self._policy.payment_retry.delay_seconds(order.attempts + 1, self._context.randomness)
        due_at = None if delay is None else self._now() + timedelta(seconds=delay)
        change = lifecycle.payment_unknown(order, error.message, self._now(), due_at)
        return await self._context.commit(order, change, trail=trail)

    async def _commit_payment(self, order: Order, change: Change, trail: list[Attempt]) -> Order:
        try:
            return await self._context.commit(order, change, trail=trail)
        except StaleOrder:
            captured = change.values.get("payment_status") == PaymentStatus.CAPTURED
            current = await self._context.get(order.order_id)
            if current.status == OrderStatus.PAYING and current.cancel_reason is not None:
                # A cancel came while the gateway was working; it waits for exactly this outcome.
                return await self._cancel(current, trail, money=captured)
            if captured:
                await self._give_money_back_if_ended(order.order_id, trail, seen=True)
            raise

    async def _cancel(self, order: Order, trail: list[Attempt], *, money: bool | None) -> Order:
        reason = order.cancel_reason or "CUSTOMER_CANCELLED"
        change = lifecycle.cancel_while_paying(order, reason, self._now(), money=money)
        return await self._context.commit(order, change, trail=trail)

    async def _give_money_back_if_ended(self, order_id: str, trail: list[Attempt], *, seen: bool) -> None:
        """A capture may arrive after another run found no payment and the order has ended.

        A refund that is pending begins anew: it may just be told that there is nothing to give back.
        """

        def decide(_: Connection, order: Order) -> Change | None:
            settled = (PaymentStatus.CAPTURED, PaymentStatus.REFUNDED)
            if order.status not in lifecycle.ENDED or order.payment_status in settled:
                return None
            return lifecycle.refund_late_capture(self._now(), seen=seen)

        await self._context.decide(order_id, decide, trail=trail)

    # ----------------------------------------------------------------- shared

    async def give_back_if_ended(self, order_id: str) -> None:
        """A hold may have been taken after the order ended: its release starts again."""
        order = await self._context.get(order_id)
        if order.status in lifecycle.ENDED:
            at = self._now()
            await self._context.database.write(
                lambda connection: releases.start(connection, order_id, "hold taken after the order ended", at)
            )

    def _now(self) -> datetime:
        return self._context.clock()

    def _step_due(self) -> datetime:
        return self._now() + self._policy.step_deadline


def _after_calls(trail: list[Attempt], change: Change) -> Change:
    """The change with the calls that led to it before it on the timeline."""
    return Change({}, tuple(call_entries(trail))).then(change)


def _ended_before_it_began(held: Reservation) -> InventoryUnavailable:
    ended_at = events.timestamp(held.expires_at)
    return InventoryUnavailable(f"The hold had ended ({ended_at}) when it was given: the clocks may differ.")


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
