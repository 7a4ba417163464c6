"""Placing an order: check, reserve, pay, place. Source: docs/adr/0002, requirements 4.1 and 7.3."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from services.domain.orders.model import Line
from tests.support.fakes import CAPTURE, FIND_PAYMENT, REFUND, START, Fault, PaymentFault
from tests.support.orders_harness import LINES, OrdersHarness

CHECK, RESERVE, RELEASE = "check_availability", "reserve", "release"
UNANSWERED = [Fault.TIMEOUT_BEFORE, Fault.TIMEOUT_AFTER, Fault.UNAVAILABLE, Fault.UNAVAILABLE_AFTER, Fault.CIRCUIT_OPEN]


async def test_an_order_is_checked_reserved_paid_and_placed(shop):
    order = await shop.place()
    assert (order.status, order.inventory_status, order.payment_status) == (
        "PLACED",
        "CONFIRM_REQUESTED",
        "CAPTURED",
    )
    assert shop.called == [CHECK, RESERVE, CAPTURE]
    assert (order.reservation_id, order.reservation_expires_at) == ("reservation-1", START + timedelta(seconds=1800))
    assert order.due_at == START + timedelta(seconds=300)
    assert await shop.open_reasons(order.order_id) == []


async def test_a_placed_order_asks_for_its_deduction_and_is_announced(shop):
    order = await shop.place()
    sent = await shop.sent()
    assert [one.type for one in sent] == ["inventory.confirm_requested", "order.created"]
    assert sent[0].data == {"orderId": order.order_id, "reservationId": "reservation-1"}
    assert len({one.event_id for one in sent}) == 2


async def test_the_timeline_tells_every_step_in_order(shop):
    order = await shop.place()
    timeline = await shop.timeline(order.order_id)
    assert [(entry.kind, entry.title) for entry in timeline] == [
        ("transition", "Order received"),
        ("call", "Check availability: success"),
        ("transition", "Reserving stock"),
        ("call", "Reserve inventory: success"),
        ("transition", "Stock reserved"),
        ("call", "Capture payment: success"),
        ("transition", "Payment captured, order placed"),
        ("event_out", "inventory.confirm_requested"),
        ("event_out", "order.created"),
    ]


async def test_the_metrics_are_told_of_a_received_and_a_placed_order(shop):
    await shop.place()
    assert shop.became[0] == "RECEIVED"
    assert shop.became[-1] == "PLACED"
    assert [recorded.failure_code for recorded in shop.recorded if recorded.failure_code] == []


async def test_lines_of_the_same_variant_are_added_up(shop):
    order = await shop.place(lines=(Line("chair", "oak", 1), Line("lamp", "brass", 1), Line("chair", "oak", 2)))
    assert order.lines == (Line("chair", "oak", 3), Line("lamp", "brass", 1))
    assert shop.inventory.reserved(order.order_id)[0].quantities == {("chair", "oak"): 3, ("lamp", "brass"): 1}


async def test_the_row_is_there_before_any_other_service_is_called(shop):
    seen = []

    async def look() -> None:
        seen.extend(await shop.all_orders())

    shop.inventory.hooks.before(CHECK, look)
    await shop.place()
    assert [(order.status, order.version) for order in seen] == [("RECEIVED", 1)]


async def test_the_reservation_is_recorded_before_the_customer_is_charged(shop):
    seen = []

    async def look() -> None:
        seen.extend(await shop.all_orders())

    shop.payments.hooks.before(CAPTURE, look)
    await shop.place()
    assert [(order.status, order.reservation_id) for order in seen] == [("PAYING", "reservation-1")]


# ---------------------------------------------------------------------- check


async def test_a_definite_shortage_rejects_the_order_with_every_short_line(shop):
    shop.inventory.on_hand |= {("chair", "oak"): 1, ("lamp", "brass"): 0}
    order = await shop.place()
    assert (order.status, order.inventory_status, order.payment_status) == ("REJECTED", "NONE", "NONE")
    assert order.failure["code"] == "INSUFFICIENT_INVENTORY"
    assert order.failure["details"] == {
        "items": [
            {"productId": "chair", "variantId": "oak", "requestedQuantity": 2, "availableQuantity": 1},
            {"productId": "lamp", "variantId": "brass", "requestedQuantity": 1, "availableQuantity": 0},
        ]
    }
    assert shop.called == [CHECK]
    assert await shop.sent() == []
    assert await shop.release(order.order_id) is None


@pytest.mark.parametrize("fault", UNANSWERED)
async def test_a_standard_order_is_rejected_when_stock_cannot_be_checked(shop, fault):
    shop.inventory.fail(CHECK, fault)
    order = await shop.place()
    expected = "INVENTORY_TIMEOUT" if "timeout" in fault else "INVENTORY_UNAVAILABLE"
    assert (order.status, order.failure["code"], order.failure["retryable"]) == ("REJECTED", expected, True)
    assert shop.inventory.count(RESERVE) == shop.payments.count(CAPTURE) == 0
    assert await shop.sent() == []
    assert await shop.release(order.order_id) is None
    assert await shop.cases(order.order_id) == []


async def test_an_open_breaker_states_when_to_come_back(shop):
    shop.inventory.fail(CHECK, Fault.CIRCUIT_OPEN)
    order = await shop.place()
    assert order.failure["details"]["retryAfterSeconds"] == 12


@pytest.mark.parametrize("fault", UNANSWERED)
async def test_a_high_priority_order_goes_on_unverified_and_is_flagged(shop, fault):
    shop.inventory.fail(CHECK, fault)
    order = await shop.place_high()
    assert order.status == "PLACED"
    case = await shop.open_case(order.order_id, "AVAILABILITY_UNVERIFIED")
    assert case.detail.startswith("INVENTORY_")
    assert [recorded.opened for recorded in shop.recorded if recorded.opened] == [("AVAILABILITY_UNVERIFIED",)]


async def test_an_unverified_order_is_flagged_before_it_reserves(shop):
    shop.inventory.fail(CHECK, Fault.UNAVAILABLE)
    seen = []

    async def look() -> None:
        (order,) = await shop.all_orders()
        seen.append((order.status, await shop.open_reasons(order.order_id)))

    shop.inventory.hooks.before(RESERVE, look)
    await shop.place_high()
    assert seen == [("RESERVING", ["AVAILABILITY_UNVERIFIED"])]


async def test_a_high_priority_order_is_still_rejected_when_there_is_not_enough(shop):
    shop.inventory.fail(CHECK, Fault.UNAVAILABLE)
    shop.inventory.fail(RESERVE, Fault.CONFLICT)
    order = await shop.place_high()
    assert (order.status, order.failure["code"]) == ("REJECTED", "INSUFFICIENT_INVENTORY")
    assert await shop.open_reasons(order.order_id) == []
    assert shop.payments.calls == []


async def test_a_refused_check_rejects_the_order(shop):
    shop.inventory.fail(CHECK, Fault.REFUSED)
    order = await shop.place_high()
    assert (order.status, order.failure["code"]) == ("REJECTED", "RESERVATION_FAILED")
    assert shop.inventory.count(RESERVE) == 0


# -------------------------------------------------------------------- reserve


async def test_too_little_stock_at_the_reservation_rejects_and_never_waits(shop):
    shop.inventory.fail(RESERVE, Fault.CONFLICT)
    order = await shop.place()
    assert (order.status, order.failure["code"]) == ("REJECTED", "INSUFFICIENT_INVENTORY")
    assert len(order.failure["details"]["items"]) == 2
    assert await shop.release(order.order_id) is None
    assert shop.payments.calls == []
    assert await shop.sent() == []


@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.PARTIAL])
async def test_a_refused_or_partial_reservation_rejects_and_is_given_back(shop, fault):
    shop.inventory.fail(RESERVE, fault)
    order = await shop.place()
    assert (order.status, order.failure["code"]) == ("REJECTED", "RESERVATION_FAILED")
    assert order.inventory_status == "RELEASE_PENDING"
    assert (await shop.release(order.order_id)).state == "PENDING"
    await shop.quiesce()
    assert shop.inventory.reserved(order.order_id) == []
    assert (await shop.order(order.order_id)).inventory_status == "RELEASED"
    assert shop.payments.calls == []


async def test_an_unanswered_reservation_is_repeated_at_once_under_the_same_order(sqlite_url):
    shop = OrdersHarness(sqlite_url, resilient=True)
    shop.inventory.fail(RESERVE, Fault.TIMEOUT_AFTER, Fault.UNAVAILABLE)
    order = await shop.place()
    assert order.status == "PLACED"
    assert [call for call in shop.inventory.calls if call[0] == RESERVE] == [(RESERVE, order.order_id)] * 3
    assert len(shop.inventory.reservations) == 1
    assert [e.title for e in await shop.timeline(order.order_id) if e.title.startswith("Reserve")] == [
        "Reserve inventory: timeout",
        "Reserve inventory: unavailable",
        "Reserve inventory: success",
    ]
    shop.close()


async def test_a_shortage_after_an_unanswered_attempt_gives_back_what_it_may_have_reserved(sqlite_url):
    shop = OrdersHarness(sqlite_url, resilient=True)
    shop.inventory.fail(RESERVE, Fault.TIMEOUT_AFTER, Fault.CONFLICT)
    order = await shop.place()
    assert (order.status, order.inventory_status) == ("REJECTED", "RELEASE_PENDING")
    await shop.quiesce()
    assert shop.inventory.reserved(order.order_id) == []
    shop.close()


# ------------------------------------------------------------------------ pay


async def test_a_declined_payment_rejects_the_order_and_gives_the_stock_back(shop):
    shop.payments.fail(CAPTURE, PaymentFault.DECLINE)
    order = await shop.place()
    assert (order.status, order.payment_status, order.failure["code"]) == ("REJECTED", "FAILED", "PAYMENT_DECLINED")
    assert await shop.sent() == []
    await shop.quiesce()
    assert shop.inventory.reserved(order.order_id) == []
    assert (await shop.order(order.order_id)).inventory_status == "RELEASED"
    assert shop.payments.count("refund") == 0


async def test_a_lost_capture_is_found_again_and_not_made_twice(shop):
    shop.payments.fail(CAPTURE, PaymentFault.LOST_AFTER)
    order = await shop.place()
    assert (order.status, order.payment_status) == ("PAYING", "UNKNOWN")
    assert await shop.sent() == []
    order = await shop.sweep_when_due(order.order_id)
    assert (order.status, order.payment_status) == ("PLACED", "CAPTURED")
    assert shop.payments.count(CAPTURE) == 1


async def test_a_capture_that_never_arrived_is_made_again(shop):
    shop.payments.fail(CAPTURE, PaymentFault.LOST_BEFORE)
    order = await shop.place()
    order = await shop.sweep_when_due(order.order_id)
    assert order.status == "PLACED"
    assert [name for name, _ in shop.payments.calls] == [CAPTURE, FIND_PAYMENT, CAPTURE]


async def test_asking_for_a_payment_is_on_the_timeline_also_when_there_was_none(shop):
    shop.payments.fail(CAPTURE, PaymentFault.LOST_BEFORE)
    order = await shop.place()
    await shop.sweep_when_due(order.order_id)
    payments = [entry.title for entry in await shop.timeline(order.order_id) if "ayment:" in entry.title]
    assert payments == ["Capture payment: timeout", "Ask for the payment: success", "Capture payment: success"]


async def test_a_payment_found_declined_rejects_the_order(shop):
    shop.payments.fail(CAPTURE, PaymentFault.LOST_BEFORE)
    order = await shop.place()
    shop.payments.states[order.order_id] = "DECLINED"
    order = await shop.sweep_when_due(order.order_id)
    assert (order.status, order.payment_status) == ("REJECTED", "FAILED")
    assert (await shop.release(order.order_id)).state == "PENDING"


async def test_the_gateway_is_asked_with_growing_delays_and_then_a_person(shop):
    shop.payments.fail(CAPTURE, PaymentFault.LOST_AFTER)
    shop.payments.fail(FIND_PAYMENT, *[PaymentFault.LOST_BEFORE] * 20)
    order = await shop.place()
    waits = []
    while order.due_at is not None:
        waits.append((order.due_at - shop.clock()).total_seconds())
        assert await shop.open_reasons(order.order_id) == []
        order = await shop.sweep_when_due(order.order_id)
    assert waits == pytest.approx([3.75, 7.5, 15, 30, 60, 120, 225])
    assert (order.status, order.payment_status) == ("PAYING", "UNKNOWN")
    assert await shop.open_reasons(order.order_id) == ["PAYMENT_UNKNOWN"]


async def test_a_reservation_about_to_end_is_taken_anew_before_the_payment_is_tried_again(shop):
    shop.payments.fail(CAPTURE, PaymentFault.LOST_BEFORE)
    order = await shop.place()
    shop.clock.advance(1800 - 100)
    order = await shop.sweep_when_due(order.order_id)
    assert order.status == "PLACED"
    assert [name for name, _ in shop.inventory.calls] == [CHECK, RESERVE, RESERVE]


async def test_a_captured_payment_places_the_order_even_when_the_reservation_has_ended(shop):
    shop.payments.fail(CAPTURE, PaymentFault.LOST_AFTER)
    order = await shop.place()
    shop.clock.advance(2000)
    order = await shop.sweep_when_due(order.order_id)
    assert order.status == "PLACED"
    await shop.pump()
    order = await shop.order(order.order_id)
    assert (order.status, await shop.open_reasons(order.order_id)) == (
        "CONFIRMATION_FAILED",
        ["INVENTORY_CONFIRMATION_FAILED"],
    )


async def test_nobody_is_charged_for_a_reservation_that_is_about_to_end(shop):
    shop.inventory.ttl_seconds = 15
    order = await shop.place()
    assert (order.status, order.payment_status) == ("PAYING", "NONE")
    assert order.due_at == START + timedelta(seconds=16)
    assert shop.payments.calls == []
    shop.inventory.ttl_seconds = 1800
    order = await shop.sweep_when_due(order.order_id)
    assert order.status == "PLACED"
    assert order.reservation_id == "reservation-2"


async def test_the_shortest_configurable_reservation_still_leads_to_a_placed_order(shop):
    shop.inventory.ttl_seconds = 60
    shop.payments.fail(CAPTURE, PaymentFault.LOST_BEFORE)
    order = await shop.place()
    order = await shop.sweep_when_due(order.order_id)
    assert order.status == "PLACED"


async def test_an_order_rejected_after_an_unknown_payment_gives_back_money_that_comes_late(shop):
    shop.payments.fail(CAPTURE, PaymentFault.LATE)
    order = await shop.place()
    shop.clock.advance(1790)
    shop.inventory.fail(RESERVE, Fault.CONFLICT)
    order = await shop.sweep_when_due(order.order_id)
    assert (order.status, order.payment_status) == ("REJECTED", "REFUND_PENDING")
    shop.payments.arrive()
    await shop.quiesce()
    assert shop.payments.states[order.order_id] == "REFUNDED"
    assert (await shop.order(order.order_id)).payment_status == "REFUNDED"


async def test_money_that_comes_after_the_order_has_ended_is_given_back(shop):
    shop.payments.can_void = False
    order_id = "order-1"

    async def end_it() -> None:
        # A worker that was taken for dead: another one settled the payment as never made.
        shop.clock.advance(61)
        await shop.cancel(order_id)
        await shop.sweep()
        assert (await shop.order(order_id)).status == "CANCELLED"
        await shop.quiesce()
        assert (await shop.order(order_id)).payment_status == "UNKNOWN"

    shop.payments.hooks.before(CAPTURE, end_it)
    await shop.place(order_id=order_id)
    assert shop.payments.states[order_id] == "CAPTURED"
    await shop.quiesce()
    assert shop.payments.states[order_id] == "REFUNDED"
    assert (await shop.order(order_id)).payment_status == "REFUNDED"


@pytest.mark.parametrize("fault", [PaymentFault.NONE, PaymentFault.LOST_AFTER, PaymentFault.LATE])
@pytest.mark.parametrize("can_void", [True, False])
async def test_a_very_slow_worker_takes_no_money_whether_or_not_it_hears_of_it(shop, fault, can_void):
    async def end_it() -> None:
        shop.clock.advance(61)
        await shop.cancel("mine")
        await shop.sweep()
        await shop.quiesce()
        assert (await shop.order("mine")).payment_status == ("FAILED" if can_void else "UNKNOWN")

    shop.payments.can_void = can_void
    shop.payments.hooks.before(CAPTURE, end_it)
    shop.payments.fail(CAPTURE, fault)
    await shop.place(order_id="mine")
    shop.payments.arrive()
    await shop.quiesce()
    # Refused by the fence, or refunded.
    assert shop.payments.states["mine"] == ("VOIDED" if can_void else "REFUNDED")
    assert (await shop.order("mine")).payment_status == ("FAILED" if can_void else "REFUNDED")
    assert await shop.open_reasons("mine") == []


async def test_a_charge_made_just_after_the_gateway_had_nothing_to_refund_is_given_back(shop):
    async def end_it() -> None:
        # A worker that was taken for dead: the refund is under way while it charges after all.
        shop.clock.advance(61)
        await shop.cancel("mine")
        await shop.sweep()
        refunding.append(asyncio.ensure_future(shop.sweep()))
        await answered.wait()

    async def keep_the_answer_back() -> None:
        answered.set()
        await placed.wait()

    refunding, answered, placed = [], asyncio.Event(), asyncio.Event()
    shop.payments.hooks.before(CAPTURE, end_it)
    shop.payments.hooks.after(REFUND, keep_the_answer_back)
    await shop.place(order_id="mine")
    placed.set()
    await refunding[0]
    await shop.quiesce()
    assert shop.payments.states["mine"] == "REFUNDED"
    assert (await shop.order("mine")).payment_status == "REFUNDED"


# --------------------------------------------------------------- repeated calls


async def test_the_same_key_and_body_repeat_the_answer_and_nothing_else(shop):
    first = await shop.place(idempotency_key="k")
    before = await shop.everything()
    again = await shop.place(idempotency_key="k")
    assert again == first
    assert await shop.everything() == before
    assert shop.called == [CHECK, RESERVE, CAPTURE]


async def test_the_same_key_with_lines_in_another_order_is_the_same_request(shop):
    first = await shop.place(idempotency_key="k")
    assert await shop.place(idempotency_key="k", lines=tuple(reversed(LINES))) == first


async def test_a_rejected_order_is_answered_the_same_when_repeated(shop):
    shop.inventory.fail(RESERVE, Fault.CONFLICT)
    first = await shop.place(idempotency_key="k")
    again = await shop.place(idempotency_key="k")
    assert (again, first.status) == (first, "REJECTED")
    assert shop.called == [CHECK, RESERVE]


async def test_every_status_on_the_way_is_counted_also_those_recorded_together(shop):
    await shop.place()
    assert shop.became == ["RECEIVED", "RESERVING", "PAYING", "PLACED"]
