"""The life of orders under everything that can happen, in any order: what is promised holds all the time."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from services.domain.errors import ApiError
from services.domain.orders.changes import ENDED
from services.domain.orders.model import Line, Order, OrderStatus
from services.domain.reviews import allowed_actions
from services.orders.inventory_events import UnknownOrder
from tests.support.examples import examples
from tests.support.fakes import CAPTURE, FIND_PAYMENT, REFUND, VOID, Fault, PaymentFault
from tests.support.orders_harness import OrdersHarness, SqliteTemplate

T = TypeVar("T")

CHAIR = ("chair", "oak")
SHELF = 12
"""Chairs in all: few enough that orders compete for them."""

inventory_faults = st.sampled_from([fault for fault in Fault if fault != Fault.NONE])
payment_faults = st.sampled_from([fault for fault in PaymentFault if fault != PaymentFault.NONE])
operations = st.sampled_from(["check_availability", "reserve", "release"])
payment_operations = st.sampled_from([CAPTURE, FIND_PAYMENT, REFUND, VOID])
picks = st.integers(0, 1000)
moments = st.tuples(st.integers(1, 3), st.booleans())

AWAITED = {OrderStatus.CONFIRMED, OrderStatus.PARTIALLY_RETURNED}
"""At rest: only the customer goes on."""


class OrderLives(RuleBasedStateMachine):
    """Customers, operators, faults, crashes, time and the messages between two services."""

    template: SqliteTemplate

    @initialize()
    def open_the_shop(self) -> None:
        self.loop = asyncio.Runner()
        self.directory = Path(tempfile.mkdtemp(prefix="holdfast-machine-"))
        self.shop = OrdersHarness(self.template.copy_to(self.directory / "holdfast.db"))
        self.shop.inventory.on_hand[CHAIR] = SHELF
        self.orders: list[str] = []
        self.requests: dict[str, dict[str, Any]] = {}
        self.on_the_way: list[tuple[str, dict[str, Any], str]] = []
        self.delivered: list[tuple[str, dict[str, Any], str]] = []

    def teardown(self) -> None:
        try:
            if self.orders:
                self.let_everything_settle()
        finally:
            self.shop.close()
            self.loop.close()
            shutil.rmtree(self.directory)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T | None:
        """Run to the end; a refusal that callers are told of is one of the things that may happen."""
        try:
            return self.loop.run(coroutine)
        except (ApiError, UnknownOrder):
            return None

    def pick(self, number: int) -> str:
        return self.orders[number % len(self.orders)]

    # ------------------------------------------------------------- customers

    @rule(quantity=st.integers(1, 5), high=st.booleans(), crash=st.none() | moments)
    def place(self, quantity: int, high: bool, crash: tuple[int, bool] | None) -> None:
        order_id = f"o-{len(self.orders)}"
        self.requests[order_id] = {
            "order_id": order_id,
            "customer_priority": "high" if high else "standard",
            "lines": (Line(*CHAIR, quantity),),
            "idempotency_key": order_id,
        }
        self.ask(order_id, crash)
        if self.run(self.shop.order(order_id)) is not None:
            self.orders.append(order_id)

    @precondition(lambda self: self.orders)
    @rule(number=picks, crash=st.none() | moments)
    def ask_again(self, number: int, crash: tuple[int, bool] | None) -> None:
        """The same request under its key; what was refused for a passing reason begins anew."""
        self.ask(self.pick(number), crash)

    def ask(self, order_id: str, crash: tuple[int, bool] | None) -> None:
        placing = lambda: self.shop.place(**self.requests[order_id])  # noqa: E731
        if crash is None:
            self.run(placing())
        else:
            self.run(self.shop.crash(crash[0], placing, after=crash[1]))

    @precondition(lambda self: self.orders)
    @rule(number=picks)
    def cancel(self, number: int) -> None:
        self.run(self.shop.cancel(self.pick(number)))

    @precondition(lambda self: self.orders)
    @rule(number=picks, quantity=st.integers(1, 5), return_id=st.sampled_from(["r-1", "r-2", "r-3"]))
    def take_back(self, number: int, quantity: int, return_id: str) -> None:
        order_id = self.pick(number)
        self.run(self.shop.take_back(order_id, Line(*CHAIR, quantity), return_id=f"{order_id}:{return_id}"))

    @precondition(lambda self: self.orders)
    @rule(number=picks)
    def cancel_while_an_order_is_paid(self, number: int) -> None:
        order_id = self.pick(number)
        self.shop.payments.hooks.before(CAPTURE, lambda: _unless_refused(self.shop.cancel(order_id)))

    # ----------------------------------------------------------------- faults

    @rule(operation=operations, fault=inventory_faults)
    def the_inventory_service_fails(self, operation: str, fault: Fault) -> None:
        self.shop.inventory.fail(operation, fault)

    @rule(operation=payment_operations, fault=payment_faults)
    def the_payment_gateway_fails(self, operation: str, fault: PaymentFault) -> None:
        if fault == PaymentFault.LATE and operation != CAPTURE:
            fault = PaymentFault.LOST_BEFORE
        self.shop.payments.fail(operation, fault)

    @rule()
    def late_captures_arrive(self) -> None:
        self.shop.payments.arrive()

    # --------------------------------------------------------------- messages

    @rule()
    def publish_the_outbox(self) -> None:
        self.receive(self.loop.run(self.shop.take_outbox()))

    @rule(number=picks)
    def publish_the_outbox_out_of_order(self, number: int) -> None:
        sent = self.loop.run(self.shop.take_outbox())
        at = number % (len(sent) or 1)
        self.receive(sent[at:] + sent[:at])

    def receive(self, sent: list[Any]) -> None:
        for event_type, data in self.shop.publish(sent):
            self.on_the_way.append((event_type, data, self.shop.new_id()))

    @precondition(lambda self: self.on_the_way)
    @rule(number=picks)
    def deliver(self, number: int) -> None:
        event = self.on_the_way.pop(number % len(self.on_the_way))
        self.delivered.append(event)
        self.hand_over(event)

    @precondition(lambda self: self.delivered)
    @rule(number=picks)
    def deliver_again(self, number: int) -> None:
        self.hand_over(self.delivered[number % len(self.delivered)])

    @precondition(lambda self: self.orders)
    @rule(number=picks)
    def an_event_about_a_foreign_reservation(self, number: int) -> None:
        order = self.loop.run(self.shop.order(self.pick(number)))
        data = {"orderId": order.order_id, "reservationId": "foreign", "reason": "MISMATCH"}
        for event_type in ("inventory.confirmed", "inventory.confirmation_failed"):
            self.hand_over((event_type, data, self.shop.new_id()))
        assert self.loop.run(self.shop.order(order.order_id)) == order

    def hand_over(self, event: tuple[str, dict[str, Any], str]) -> None:
        event_type, data, event_id = event
        self.run(self.shop.deliver_raw(event_type, data, event_id=event_id))

    # ------------------------------------------------------- time and workers

    @rule(seconds=st.sampled_from([1, 20, 61, 400, 1750, 2000]))
    def time_passes(self, seconds: int) -> None:
        self.shop.clock.advance(seconds)

    @precondition(lambda self: self.orders)
    @rule()
    def what_is_due_next_is_done(self) -> None:
        due = [order.due_at for order in self.known_orders() if order.due_at is not None]
        if due:
            self.shop.clock.now = max(self.shop.clock.now, min(due))
            self.run(self.shop.sweep())

    @rule(crash=st.none() | moments)
    def sweep(self, crash: tuple[int, bool] | None) -> None:
        if crash is None:
            self.run(self.shop.sweep())
        else:
            self.run(self.shop.crash(crash[0], self.shop.sweep, after=crash[1]))

    @rule(crash=st.none() | moments)
    def release_what_is_due(self, crash: tuple[int, bool] | None) -> None:
        if crash is None:
            self.run(self.shop.releases.run_due())
        else:
            self.run(self.shop.crash(crash[0], self.shop.releases.run_due, after=crash[1]))

    # -------------------------------------------------------------- operators

    @rule(number=picks, choice=picks, stale=st.booleans())
    def an_operator_acts(self, number: int, choice: int, stale: bool) -> None:
        cases = [case for order_id in self.orders for case in self.loop.run(self.shop.cases(order_id))]
        cases = [case for case in cases if case.state == "OPEN"]
        if not cases:
            return
        case = cases[number % len(cases)]
        order = self.loop.run(self.shop.order(case.order_id))
        actions = [action for action in allowed_actions(case.reason, order.status) if self.is_true(action, case)]
        if actions:
            version = case.version - stale
            self.run(self.shop.resolve(case, actions[choice % len(actions)], version=version))

    def is_true(self, action: str, case: Any) -> bool:
        """People say only what they have seen: money captured, a hold given back."""
        if case.reason == "PAYMENT_UNKNOWN" and action == "APPROVE":
            return self.shop.payments.states.get(case.order_id) == "CAPTURED"
        if action == "MARK_RELEASED":
            return not self.shop.inventory.reserved(case.order_id)
        return True

    # ------------------------------------------------------------- invariants

    @invariant()
    def every_order_goes_on_by_itself_or_waits_for_somebody(self) -> None:
        for order in self.known_orders():
            waits = order.due_at is not None or bool(self.loop.run(self.shop.open_reasons(order.order_id)))
            assert order.status in ENDED | AWAITED or waits, order

    @invariant()
    def money_of_an_ended_order_is_on_its_way_back(self) -> None:
        for order in self.known_orders():
            if order.status in (OrderStatus.CANCELLED, OrderStatus.REJECTED):
                captured = self.shop.payments.states.get(order.order_id) == "CAPTURED"
                assert not captured or order.payment_status == "REFUND_PENDING", order

    @invariant()
    def every_step_is_on_the_timeline(self) -> None:
        for order in self.known_orders():
            timeline = self.loop.run(self.shop.timeline(order.order_id))
            assert timeline
            steps = [(e.details["from"], e.details["to"]) for e in timeline if "from" in e.details]
            assert (steps[-1][1] if steps else "RECEIVED") == order.status

    @invariant()
    def nothing_is_oversold(self) -> None:
        if hasattr(self, "shop"):
            assert self.shop.inventory.available(CHAIR) >= 0

    @invariant()
    def nothing_returns_that_was_not_bought(self) -> None:
        for order in self.known_orders():
            assert all(0 <= line.returned <= line.quantity for line in order.lines)

    def known_orders(self) -> list[Order]:
        return self.loop.run(self.shop.all_orders()) if getattr(self, "orders", None) else []

    # -------------------------------------------------------------- the end

    def let_everything_settle(self) -> None:
        """All faults are over, every message arrives, people do what is left to them."""
        self.shop.inventory.heal()
        self.shop.payments.heal()
        self.shop.payments.arrive()
        for event in self.on_the_way:
            self.hand_over(event)
        for _ in range(20):
            self.loop.run(self.shop.quiesce())
            if not self.people_do_their_part():
                break
        self.loop.run(self.shop.quiesce())
        for order in self.known_orders():
            self.promises_were_kept(order)
        assert len(set(self.shop.inventory.restocked)) == len(self.shop.inventory.restocked)
        deducted = sum(
            hold.quantities[CHAIR] - hold.returned.get(CHAIR, 0)
            for hold in self.shop.inventory.reservations
            if hold.state == "CONFIRMED"
        )
        assert self.shop.inventory.on_hand[CHAIR] == SHELF - deducted

    def people_do_their_part(self) -> bool:
        acted = False
        for order in self.known_orders():
            for case in self.loop.run(self.shop.cases(order.order_id)):
                current = self.loop.run(self.shop.order(order.order_id))
                possible = allowed_actions(case.reason, current.status) if case.state == "OPEN" else ()
                action = next((one for one in reversed(possible) if self.is_true(one, case)), None)
                if action is not None:
                    acted = self.run(self.shop.resolve(case, action)) is not None or acted
        return acted

    def promises_were_kept(self, order: Order) -> None:
        inventory, payments = self.shop.inventory, self.shop.payments
        money = payments.states.get(order.order_id)
        assert order.status in ENDED | AWAITED, order
        assert inventory.reserved(order.order_id) == [], order
        assert not inventory.leaked(order.order_id) or order.status not in ENDED - {OrderStatus.RETURNED}, order
        if order.status in (OrderStatus.CANCELLED, OrderStatus.REJECTED):
            assert money in (None, "REFUNDED", "DECLINED", "VOIDED"), order
            assert order.payment_status in ("NONE", "REFUNDED", "FAILED"), order
            assert inventory.deducted(order.order_id) == [], order
        else:
            assert (money, order.payment_status) == ("CAPTURED", "CAPTURED"), order
            assert len(inventory.deducted(order.order_id)) == 1, order
        assert self.loop.run(self.shop.open_reasons(order.order_id)) == []
        announced = self.loop.run(self.shop.sent_types(order.order_id))
        assert announced.count("order.created") <= 1
        assert announced.count("order.cancelled") <= 1


async def _unless_refused(cancelling: Coroutine[Any, Any, Any]) -> None:
    try:
        await cancelling
    except ApiError:
        return


def test_what_is_promised_holds_whatever_happens(sqlite_template):
    OrderLives.template = sqlite_template
    run_state_machine_as_test(OrderLives, settings=settings(max_examples=examples(60), stateful_step_count=30))
