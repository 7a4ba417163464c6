"""Cancelling, at every point of an order's life. Source: requirements 4.2; docs/adr/0002."""

from __future__ import annotations

import asyncio

import pytest

from services.clients.payments import PaymentState
from services.domain.errors import InvalidState, NotFound
from services.domain.orders.ending import LATE_CAPTURE
from tests.support.fakes import CAPTURE, FIND_PAYMENT, REFUND, VOID, Fault, PaymentFault

CHECK, RESERVE, RELEASE = "check_availability", "reserve", "release"


async def ended_without_stock_or_money(shop, order_id, *, payment):
    """Whatever happened before: cancelled, nothing held, nothing kept."""
    await shop.quiesce()
    order = await shop.order(order_id)
    assert (order.status, order.payment_status, order.due_at) == ("CANCELLED", payment, None)
    assert shop.inventory.reserved(order_id) == shop.inventory.deducted(order_id) == []
    assert shop.payments.states.get(order_id) != "CAPTURED"
    assert await shop.open_reasons(order_id) == []
    return order


@pytest.mark.parametrize("operation", [CHECK, RESERVE])
@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_cancel_while_the_inventory_service_works_ends_the_order_and_frees_the_stock(shop, operation, moment):
    async def cancel() -> None:
        order = await shop.cancel("mine")
        assert (order.status, order.inventory_status) == ("CANCELLED", "RELEASE_PENDING")

    getattr(shop.inventory.hooks, moment)(operation, cancel)
    assert (await shop.place(order_id="mine")).status == "CANCELLED"
    assert shop.payments.calls == []
    await ended_without_stock_or_money(shop, "mine", payment="NONE")
    assert await shop.sent() == []


async def test_a_reservation_taken_after_the_release_of_a_cancelled_order_is_released_again(shop):
    async def cancel_and_release() -> None:
        await shop.cancel("mine")
        await shop.releases.run_due()
        assert (await shop.release("mine")).state == "DONE"
        # A service without tombstones lets the late reservation through.
        shop.inventory.tombstones.clear()

    shop.inventory.hooks.before(RESERVE, cancel_and_release)
    await shop.place(order_id="mine")
    assert len(shop.inventory.reserved("mine")) == 1
    assert (await shop.release("mine")).state == "PENDING"
    await ended_without_stock_or_money(shop, "mine", payment="NONE")


async def test_a_late_reservation_hits_the_tombstone_of_the_release(shop):
    async def cancel_and_release() -> None:
        await shop.cancel("mine")
        await shop.releases.run_due()

    shop.inventory.hooks.before(RESERVE, cancel_and_release)
    await shop.place(order_id="mine")
    assert shop.inventory.reservations == []
    await ended_without_stock_or_money(shop, "mine", payment="NONE")


async def test_a_waiting_order_is_cancelled_and_released_although_no_reservation_was_ever_seen(shop):
    shop.inventory.fail(RESERVE, Fault.TIMEOUT_AFTER)
    order = await shop.place()
    assert len(shop.inventory.reserved(order.order_id)) == 1
    order = await shop.cancel(order.order_id)
    assert (order.status, order.inventory_status, order.cancel_reason) == (
        "CANCELLED",
        "RELEASE_PENDING",
        "CUSTOMER_CANCELLED",
    )
    order = await ended_without_stock_or_money(shop, order.order_id, payment="NONE")
    assert order.inventory_status == "RELEASED"


@pytest.mark.parametrize(
    ("fault", "refunds", "payment"),
    [
        (PaymentFault.NONE, 1, "REFUNDED"),
        (PaymentFault.LOST_AFTER, 1, "REFUNDED"),
        (PaymentFault.LOST_BEFORE, 1, "FAILED"),
        (PaymentFault.DECLINE, 0, "FAILED"),
    ],
)
async def test_a_cancel_while_paying_waits_for_the_outcome_and_keeps_no_money(shop, fault, refunds, payment):
    async def cancel() -> None:
        order = await shop.cancel("mine")
        assert (order.status, order.cancel_reason) == ("PAYING", "CUSTOMER_CANCELLED")

    shop.payments.fail(CAPTURE, fault)
    shop.payments.hooks.before(CAPTURE, cancel)
    await shop.place(order_id="mine")
    await ended_without_stock_or_money(shop, "mine", payment=payment)
    assert shop.payments.count(REFUND) == refunds
    assert await shop.sent() == []


async def test_a_cancel_asked_for_twice_while_paying_is_recorded_once(shop):
    async def cancel() -> None:
        first = await shop.cancel("mine")
        assert await shop.cancel("mine", "AGAIN") == first

    shop.payments.hooks.before(CAPTURE, cancel)
    await shop.place(order_id="mine")
    assert (await shop.titles("mine")).count("Cancel order") == 1


async def cancelled_with_a_capture_under_way(shop):
    async def cancel() -> None:
        await shop.cancel("mine")

    shop.payments.hooks.before(CAPTURE, cancel)
    shop.payments.fail(CAPTURE, PaymentFault.LATE)
    await shop.place(order_id="mine")
    order = await shop.sweep_when_due("mine")
    assert (order.status, order.payment_status) == ("CANCELLED", "REFUND_PENDING")


async def test_a_capture_that_arrives_after_the_cancel_found_none_is_refunded(shop):
    await cancelled_with_a_capture_under_way(shop)
    shop.payments.arrive()
    await ended_without_stock_or_money(shop, "mine", payment="REFUNDED")


async def test_a_capture_that_arrives_after_the_refund_found_none_is_refused(shop):
    await cancelled_with_a_capture_under_way(shop)
    await shop.quiesce()
    assert [name for name, _ in shop.payments.calls][-2:] == [REFUND, VOID]
    shop.payments.arrive()
    assert shop.payments.states["mine"] == "VOIDED"
    order = await shop.order("mine")
    assert (order.payment_status, order.due_at, await shop.open_reasons("mine")) == ("FAILED", None, [])


async def test_a_capture_that_arrives_between_refund_and_fence_is_refunded(shop):
    async def arrive() -> None:
        shop.payments.arrive()

    await cancelled_with_a_capture_under_way(shop)
    shop.payments.hooks.before(VOID, arrive)
    await ended_without_stock_or_money(shop, "mine", payment="REFUNDED")
    assert [name for name, _ in shop.payments.calls][-3:] == [REFUND, VOID, REFUND]


async def test_an_unanswered_fence_is_tried_again(shop):
    await cancelled_with_a_capture_under_way(shop)
    shop.payments.fail(VOID, PaymentFault.LOST_BEFORE, PaymentFault.LOST_AFTER)
    await shop.quiesce()
    assert (shop.payments.count(VOID), shop.payments.states["mine"]) == (2, "VOIDED")
    assert (await shop.order("mine")).payment_status == "FAILED"


async def test_without_a_fence_a_late_capture_is_waited_for_and_refunded(shop):
    shop.payments.can_void = False
    await cancelled_with_a_capture_under_way(shop)
    await shop.sweep()
    order = await shop.order("mine")
    assert (order.payment_status, order.due_at) == ("REFUND_PENDING", shop.clock() + LATE_CAPTURE)
    shop.payments.arrive()
    await ended_without_stock_or_money(shop, "mine", payment="REFUNDED")


async def test_without_a_fence_a_person_looks_when_no_capture_came(shop):
    shop.payments.can_void = False
    await cancelled_with_a_capture_under_way(shop)
    await shop.quiesce()
    order = await shop.order("mine")
    assert (order.status, order.payment_status, order.due_at) == ("CANCELLED", "UNKNOWN", None)
    case = await shop.open_case("mine", "PAYMENT_UNKNOWN")
    assert "cannot be told to refuse" in case.detail
    await shop.resolve(case, "APPROVE")
    assert ((await shop.order("mine")).payment_status, await shop.open_reasons("mine")) == ("FAILED", [])


FORGOTTEN = [("ABSENT", None), ("DECLINED", "DECLINED"), ("VOIDED", "VOIDED")]


@pytest.mark.parametrize(("_said", "state"), FORGOTTEN, ids=[said for said, _ in FORGOTTEN])
async def test_money_that_was_recorded_as_captured_and_that_the_gateway_denies_is_a_persons(shop, _said, state):
    order = await shop.place_confirmed()
    shop.payments.states.pop(order.order_id)
    if state:
        shop.payments.states[order.order_id] = PaymentState(state)
    await shop.cancel(order.order_id)
    await shop.quiesce()
    order = await shop.order(order.order_id)
    assert (order.status, order.payment_status, order.due_at) == ("CANCELLED", "UNKNOWN", None)
    case = await shop.open_case(order.order_id, "PAYMENT_UNKNOWN")
    assert "capture was recorded" in case.detail
    await shop.resolve(case, "APPROVE", note="paid back by bank transfer")
    assert (await shop.order(order.order_id)).payment_status == "FAILED"


async def test_money_seen_captured_while_a_cancel_waited_and_denied_later_is_a_persons(shop):
    async def cancel() -> None:
        await shop.cancel("mine")

    shop.payments.hooks.before(CAPTURE, cancel)
    order = await shop.place(order_id="mine")
    assert (order.status, order.payment_status) == ("CANCELLED", "REFUND_PENDING")
    shop.payments.states.clear()
    await shop.quiesce()
    assert await shop.open_reasons("mine") == ["PAYMENT_UNKNOWN"]


async def test_money_that_turns_up_after_all_can_be_given_back_by_the_audit_which_settles_the_case(shop):
    order = await shop.place_confirmed()
    shop.payments.states.pop(order.order_id)
    await shop.cancel(order.order_id)
    await shop.quiesce()
    shop.payments.states[order.order_id] = PaymentState.CAPTURED
    shop.clock.advance(61)
    while await shop.conservation.compare_next():
        pass
    await shop.conservation.compensate(order.order_id, "MONEY_KEPT", actor="ada", reason="restored from backup")
    await shop.quiesce()
    assert (await shop.order(order.order_id)).payment_status == "REFUNDED"
    assert await shop.open_reasons(order.order_id) == []


async def test_an_order_whose_payment_only_a_person_was_to_settle_is_looked_at_again_when_cancelled(shop):
    shop.payments.fail(CAPTURE, PaymentFault.LOST_AFTER)
    shop.payments.fail(FIND_PAYMENT, *[PaymentFault.LOST_BEFORE] * 7)
    order = await shop.place()
    while order.due_at is not None:
        order = await shop.sweep_when_due(order.order_id)
    assert await shop.open_reasons(order.order_id) == ["PAYMENT_UNKNOWN"]
    await shop.cancel(order.order_id)
    await ended_without_stock_or_money(shop, order.order_id, payment="REFUNDED")


async def test_an_order_that_reserves_again_after_an_unknown_payment_is_refunded_when_cancelled(shop):
    shop.payments.fail(CAPTURE, PaymentFault.LATE)
    order = await shop.place()
    shop.clock.advance(1790)
    shop.inventory.fail(RESERVE, Fault.UNAVAILABLE)
    order = await shop.sweep_when_due(order.order_id)
    assert (order.status, order.payment_status) == ("PENDING_INVENTORY", "UNKNOWN")
    order = await shop.cancel(order.order_id)
    assert (order.status, order.payment_status) == ("CANCELLED", "REFUND_PENDING")
    shop.payments.arrive()
    await ended_without_stock_or_money(shop, order.order_id, payment="REFUNDED")


async def test_a_placed_order_is_refunded_announced_and_released(shop):
    order = await shop.place()
    order = await shop.cancel(order.order_id, "CHANGED_MIND")
    assert (order.status, order.inventory_status, order.payment_status) == (
        "CANCELLED",
        "RELEASE_PENDING",
        "REFUND_PENDING",
    )
    sent = (await shop.sent(order.order_id))[-1]
    assert (sent.type, sent.data["reason"]) == ("order.cancelled", "CHANGED_MIND")
    await ended_without_stock_or_money(shop, order.order_id, payment="REFUNDED")
    assert shop.inventory.on_hand[("chair", "oak")] == 100


async def test_a_confirmed_order_is_refunded_and_restocked_once_without_a_release(shop):
    order = await shop.place_confirmed()
    assert shop.inventory.on_hand[("chair", "oak")] == 98
    order = await shop.cancel(order.order_id)
    assert (order.status, order.inventory_status) == ("CANCELLED", "RESTOCK_REQUESTED")
    assert await shop.release(order.order_id) is None
    await ended_without_stock_or_money(shop, order.order_id, payment="REFUNDED")
    assert shop.inventory.on_hand[("chair", "oak")] == 100
    assert shop.inventory.restocked == [(order.order_id, "cancel")]


async def test_an_order_whose_confirmation_is_on_its_way_is_restocked_when_cancelled(shop):
    order = await shop.place()
    answers = shop.publish(await shop.take_outbox())
    await shop.cancel(order.order_id)
    for event_type, data in answers:
        assert await shop.deliver_raw(event_type, data) == "ignored"
    await ended_without_stock_or_money(shop, order.order_id, payment="REFUNDED")
    assert shop.inventory.on_hand[("chair", "oak")] == 100


async def test_a_request_to_confirm_that_overtakes_nothing_after_a_cancel_deducts_nothing(shop):
    order = await shop.place()
    await shop.cancel(order.order_id)
    await shop.releases.run_due()
    sent = await shop.take_outbox()
    for event_type, data in shop.publish(list(reversed(sent))):
        await shop.deliver_raw(event_type, data)
    await ended_without_stock_or_money(shop, order.order_id, payment="REFUNDED")
    assert shop.inventory.on_hand[("chair", "oak")] == 100


async def test_an_order_that_could_not_be_confirmed_is_refunded_and_its_case_settled(shop):
    order = await shop.place()
    await shop.deliver("inventory.confirmation_failed", order, reason="MISMATCH")
    await shop.cancel(order.order_id)
    await ended_without_stock_or_money(shop, order.order_id, payment="REFUNDED")


async def test_a_second_cancel_does_nothing_twice(shop):
    order = await shop.place()
    await shop.cancel(order.order_id)
    before, told = await shop.everything(), len(shop.recorded)
    again = await shop.cancel(order.order_id, "AGAIN")
    assert (again.status, again.cancel_reason) == ("CANCELLED", "CUSTOMER_CANCELLED")
    assert (await shop.everything(), len(shop.recorded)) == (before, told)


async def test_many_cancels_at_once_have_one_effect(shop):
    order = await shop.place()
    await asyncio.gather(*(shop.cancel(order.order_id) for _ in range(10)))
    assert (await shop.sent_types()).count("order.cancelled") == 1
    await shop.quiesce()
    assert shop.payments.count(REFUND) == 1


async def test_a_rejected_order_cannot_be_cancelled_and_nothing_is_written(shop):
    shop.inventory.fail(RESERVE, Fault.CONFLICT)
    order = await shop.place()
    before = await shop.everything()
    with pytest.raises(InvalidState) as caught:
        await shop.cancel(order.order_id)
    assert caught.value.details == {"orderId": order.order_id, "status": "REJECTED"}
    assert await shop.everything() == before


async def test_goods_that_are_on_their_way_back_cannot_be_cancelled(shop):
    order = await shop.place_confirmed()
    await shop.take_back(order.order_id, order.lines[1])
    with pytest.raises(InvalidState):
        await shop.cancel(order.order_id)


async def test_an_unknown_order_cannot_be_cancelled(shop):
    with pytest.raises(NotFound) as caught:
        await shop.cancel("nobody")
    assert caught.value.code == "ORDER_NOT_FOUND"


# -------------------------------------------------------------------- refunds


async def test_a_refund_is_tried_again_for_as_long_as_it_takes(shop):
    shop.payments.fail(REFUND, *[PaymentFault.LOST_BEFORE] * 40)
    order = await shop.place()
    order = await shop.cancel(order.order_id)
    waits = []
    for _ in range(40):
        order = await shop.sweep_when_due(order.order_id)
        waits.append((order.due_at - shop.clock()).total_seconds())
    assert waits[:4] == pytest.approx([1.5, 3, 6, 12])
    assert set(waits[8:]) == {225}
    assert order.payment_status == "REFUND_PENDING"
    order = await shop.sweep_when_due(order.order_id)
    assert (order.payment_status, order.due_at, order.attempts) == ("REFUNDED", None, 0)


async def test_a_lost_refund_answer_is_requested_again_and_paid_once(shop):
    shop.payments.fail(REFUND, PaymentFault.LOST_AFTER)
    order = await shop.place()
    await shop.cancel(order.order_id)
    await ended_without_stock_or_money(shop, order.order_id, payment="REFUNDED")


async def test_a_release_that_ends_while_the_refund_is_under_way_does_not_delay_the_refund(shop):
    order = await shop.place()
    await shop.cancel(order.order_id)
    shop.payments.hooks.after(REFUND, shop.releases.run_due)
    await shop.sweep()
    order = await shop.order(order.order_id)
    assert (order.inventory_status, order.payment_status, order.due_at) == ("RELEASED", "REFUNDED", None)


# ------------------------------------------------------------------ by people


async def test_a_persons_cancel_is_in_the_audit_log_and_a_customers_is_not(shop):
    first, second = await shop.place(), await shop.place()
    await shop.cancel(first.order_id)
    assert await shop.audit() == []
    await shop.cancel(second.order_id, "FRAUD", actor="ada", by_person=True)
    (entry,) = await shop.audit()
    assert (entry.actor, entry.action, entry.target, entry.reason, entry.result) == (
        "ada",
        "CANCEL_ORDER",
        f"order:{second.order_id}",
        "FRAUD",
        "done",
    )
    assert entry.before == {"status": "PLACED", "inventory_status": "CONFIRM_REQUESTED", "payment_status": "CAPTURED"}
    assert entry.after == {
        "status": "CANCELLED",
        "inventory_status": "RELEASE_PENDING",
        "payment_status": "REFUND_PENDING",
    }


async def test_the_timeline_names_who_cancelled_and_why(shop):
    order = await shop.place()
    await shop.cancel(order.order_id, "FRAUD", actor="ada")
    (entry,) = [entry for entry in await shop.timeline(order.order_id) if entry.kind == "action"]
    assert (entry.title, entry.actor, entry.details) == ("Cancel order", "ada", {"note": "FRAUD"})
