"""What the Inventory Service's answers do to a placed order. Source: requirements 6; docs/adr/0002, races."""

from __future__ import annotations

from datetime import timedelta

import orjson
import pytest

from services.domain.orders.model import ReviewReason
from services.messaging.envelope import PoisonEvent, decode
from services.orders.inventory_events import UnknownOrder
from tests.support.fakes import START

CONFIRMED, FAILED = "inventory.confirmed", "inventory.confirmation_failed"


async def test_a_confirmed_order_keeps_the_time_of_the_event(shop):
    order = await shop.place()
    at = START + timedelta(seconds=3)
    assert await shop.deliver(CONFIRMED, order, at=at) == "handled"
    order = await shop.order(order.order_id)
    assert (order.status, order.inventory_status, order.confirmed_at) == ("CONFIRMED", "INVENTORY_CONFIRMED", at)
    assert (order.due_at, order.attempts) == (None, 0)


async def test_a_confirmation_without_a_time_counts_from_its_arrival(shop):
    order = await shop.place()
    await shop.deliver(CONFIRMED, order)
    assert (await shop.order(order.order_id)).confirmed_at == START


async def test_a_failed_confirmation_flags_the_order_with_its_reason(shop):
    order = await shop.place()
    assert await shop.deliver(FAILED, order, reason="RESERVATION_EXPIRED") == "handled"
    order = await shop.order(order.order_id)
    assert (order.status, order.inventory_status) == ("CONFIRMATION_FAILED", "INVENTORY_FAILED")
    case = await shop.open_case(order.order_id)
    assert (case.reason, case.detail) == (
        "INVENTORY_CONFIRMATION_FAILED",
        "Inventory confirmation failed: RESERVATION_EXPIRED",
    )
    assert shop.recorded[-1].opened == ("INVENTORY_CONFIRMATION_FAILED",)


async def test_an_event_is_on_the_timeline_before_what_it_did(shop):
    order = await shop.place()
    await shop.deliver(CONFIRMED, order, event_id="e-1")
    entries = (await shop.timeline(order.order_id))[-2:]
    assert [(entry.kind, entry.title) for entry in entries] == [
        ("event_in", CONFIRMED),
        ("transition", "Inventory confirmed"),
    ]
    assert entries[0].details["eventId"] == "e-1"


async def test_the_same_event_twice_has_one_effect(shop):
    order = await shop.place()
    await shop.deliver(CONFIRMED, order, event_id="e-1")
    before, told = await shop.everything(), len(shop.recorded)
    assert await shop.deliver(CONFIRMED, order, event_id="e-1") == "duplicate"
    after = await shop.everything()
    (received,) = after.pop("inbox")
    before.pop("inbox")
    assert (after, len(shop.recorded)) == (before, told)
    assert (received.outcome, received.repeats) == ("handled", 1)


@pytest.mark.parametrize(("first", "late"), [(CONFIRMED, FAILED), (FAILED, CONFIRMED), (CONFIRMED, CONFIRMED)])
async def test_the_first_answer_stands_and_a_later_one_is_only_recorded(shop, first, late):
    order = await shop.place()
    await shop.deliver(first, order, reason="X")
    settled, told = await shop.order(order.order_id), len(shop.recorded)
    assert await shop.deliver(late, order, reason="Y") == "ignored"
    assert await shop.order(order.order_id) == settled
    assert (await shop.titles(order.order_id))[-1] == f"{late} (changes nothing)"
    assert len(shop.recorded) == told


@pytest.mark.parametrize("event_type", [CONFIRMED, FAILED])
async def test_an_answer_about_another_reservation_changes_nothing(shop, event_type):
    order = await shop.place()
    assert await shop.deliver(event_type, order, reservationId="reservation-99", reason="X") == "ignored"
    assert await shop.order(order.order_id) == order
    assert await shop.cases(order.order_id) == []


async def test_the_failure_of_an_old_reservation_after_a_new_one_is_dropped(shop):
    order = await shop.place()
    await shop.deliver(FAILED, order, reason="RESERVATION_EXPIRED")
    shop.clock.advance(2000)
    case = await shop.open_case(order.order_id)
    await shop.resolve(case, "RECONFIRM")
    assert await shop.deliver(FAILED, order, reason="RESERVATION_EXPIRED") == "ignored"
    again = await shop.order(order.order_id)
    assert (again.status, again.reservation_id) == ("PLACED", "reservation-2")
    await shop.pump()
    assert (await shop.order(order.order_id)).status == "CONFIRMED"


@pytest.mark.parametrize("event_type", [CONFIRMED, FAILED])
async def test_an_answer_after_a_cancel_is_recorded_and_the_order_stays_cancelled(shop, event_type):
    order = await shop.place()
    cancelled = await shop.cancel(order.order_id)
    assert await shop.deliver(event_type, order, reason="RELEASED") == "ignored"
    assert await shop.order(order.order_id) == cancelled
    assert f"{event_type} (changes nothing)" in await shop.titles(order.order_id)


async def test_an_event_for_an_unknown_order_is_handed_back_and_leaves_no_trace(shop):
    before = await shop.everything()
    with pytest.raises(UnknownOrder):
        await shop.deliver_raw(CONFIRMED, {"orderId": "nobody", "reservationId": "r"}, event_id="e-1")
    assert await shop.everything() == before
    await shop.place(order_id="nobody")
    assert await shop.deliver_raw(CONFIRMED, {"orderId": "nobody", "reservationId": "r"}, event_id="e-1") == "ignored"


async def test_an_answer_that_comes_before_the_reservation_was_even_made_changes_nothing(shop):
    async def answer() -> None:
        (order,) = await shop.all_orders()
        assert await shop.deliver(CONFIRMED, order, reservationId="reservation-1") == "ignored"

    shop.inventory.hooks.before("reserve", answer)
    assert (await shop.place()).status == "PLACED"


# ------------------------------------------------------------------- timeouts


async def test_no_answer_asks_again_under_a_new_event_id_and_flags_after_the_third(shop):
    order = await shop.place()
    for requests in (2, 3):
        order = await shop.sweep_when_due(order.order_id)
        assert (await shop.sent_types()).count("inventory.confirm_requested") == requests
        assert (order.status, order.due_at) == ("PLACED", shop.clock() + timedelta(seconds=300))
        assert await shop.open_reasons(order.order_id) == []
    order = await shop.sweep_when_due(order.order_id)
    assert (order.status, order.due_at) == ("PLACED", None)
    case = await shop.open_case(order.order_id)
    assert (case.reason, case.detail) == ("CONFIRMATION_TIMEOUT", "No answer to 3 requests for confirmation")
    requests = [one for one in await shop.sent() if one.type == "inventory.confirm_requested"]
    assert len({one.event_id for one in requests}) == len(requests) == 3
    assert {one.data["reservationId"] for one in requests} == {"reservation-1"}


async def test_an_order_is_not_asked_for_before_the_timeout(shop):
    await shop.place()
    shop.clock.advance(299)
    assert await shop.sweep() == 0


@pytest.mark.parametrize("event_type", [CONFIRMED, FAILED])
async def test_a_late_answer_settles_the_timeout_case(shop, event_type):
    order = await shop.place()
    for _ in range(3):
        await shop.sweep_when_due(order.order_id)
    await shop.deliver(event_type, order, reason="X")
    assert ReviewReason.CONFIRMATION_TIMEOUT not in await shop.open_reasons(order.order_id)


async def test_repeated_requests_deduct_once_and_are_answered_each_time(shop):
    order = await shop.place()
    await shop.sweep_when_due(order.order_id)
    answers = await shop.pump()
    assert [event_type for event_type, _ in answers] == [CONFIRMED, CONFIRMED]
    assert shop.inventory.on_hand[("chair", "oak")] == 98
    assert (await shop.order(order.order_id)).status == "CONFIRMED"


async def test_an_answer_that_comes_while_the_sweeper_asks_again_stands(shop):
    order = await shop.place()
    shop.clock.now = order.due_at

    real, fired = shop.real_database.write, []

    async def answer_first(transaction):
        # Between the sweeper's claim and its own writing.
        result = await real(transaction)
        if not fired:
            fired.append(True)
            await shop.deliver(CONFIRMED, order)
        return result

    shop.real_database.write = answer_first
    await shop.sweep()
    assert (await shop.order(order.order_id)).status == "CONFIRMED"
    assert (await shop.sent_types()).count("inventory.confirm_requested") == 1


# ------------------------------------------------------------------- products


async def test_stock_events_fill_the_availability_cache(shop):
    from state import products

    async def page(**given):
        return await shop.real_database.read(lambda c: products.page(c, shop.clock(), **given))

    sku = {"productId": "chair", "variantId": "oak"}
    assert await shop.deliver_raw("inventory.out_of_stock", sku, event_id="e-1") == "handled"
    assert [(p.available, p.level, p.available_quantity) for p in await page()] == [(False, "out", 0)]
    assert await shop.deliver_raw("inventory.out_of_stock", sku, event_id="e-1") == "duplicate"
    shop.clock.advance(1)
    await shop.deliver_raw("inventory.low_stock", sku | {"availableQuantity": 3, "threshold": 5})
    (product,) = await page()
    assert (product.available, product.level, product.available_quantity, product.threshold) == (True, "low", 3, 5)
    shop.clock.advance(1)
    await shop.deliver_raw("inventory.back_in_stock", sku | {"availableQuantity": 50})
    assert [(p.available, p.level) for p in await page(available=True)] == [(True, "in_stock")]
    assert await page(available=False) == []


async def test_news_of_a_product_that_is_older_than_what_is_known_changes_nothing(shop):
    from state import products

    sku = {"productId": "chair", "variantId": "oak"}
    await shop.deliver_raw("inventory.out_of_stock", sku, at=START)
    late = START - timedelta(seconds=1)
    assert await shop.deliver_raw("inventory.back_in_stock", sku, at=late) == "ignored"
    (product,) = await shop.real_database.read(lambda c: products.page(c, shop.clock()))
    assert not product.available


async def test_a_product_marked_unavailable_counts_as_available_after_half_an_hour_without_news(shop):
    from state import products

    await shop.deliver_raw("inventory.out_of_stock", {"productId": "chair", "variantId": "oak"})
    shop.clock.advance(30 * 60)
    (product,) = await shop.real_database.read(lambda c: products.page(c, shop.clock(), available=True))
    assert (product.level, product.source, product.expires_at) == ("in_stock", "decay", None)


async def test_a_stock_event_is_handled_whatever_stands_in_a_field_that_is_none_of_ours(shop):
    data = {"productId": "chair", "variantId": "oak", "orderId": {"not": "ours"}}
    assert await shop.deliver_raw("inventory.out_of_stock", data) == "handled"


def raw(shop, order, **more):
    body = {"id": "42", "type": CONFIRMED, "data": {"orderId": order.order_id, "reservationId": order.reservation_id}}
    return decode(orjson.dumps(body | more), subject=CONFIRMED, headers=None, fallback_id="S::1")


async def test_two_sources_may_number_their_events_alike(shop):
    first, second = await shop.place(), await shop.place()
    assert await shop.inbound.handle(raw(shop, first, source="warehouse-1")) == "handled"
    assert await shop.inbound.handle(raw(shop, second, source="warehouse-2")) == "handled"
    assert await shop.inbound.handle(raw(shop, first, source="warehouse-1")) == "duplicate"
    assert [(await shop.order(one.order_id)).status for one in (first, second)] == ["CONFIRMED"] * 2


async def test_the_same_identity_with_another_content_is_no_duplicate(shop):
    first, second = await shop.place(), await shop.place()
    await shop.inbound.handle(raw(shop, first))
    before = await shop.everything()
    with pytest.raises(PoisonEvent, match="was used before"):
        await shop.inbound.handle(raw(shop, second))
    assert await shop.everything() == before


async def test_a_reservation_and_an_order_are_known_in_upper_case_too(shop):
    order = await shop.place(order_id="0b5fa06d-29a4-4c1a-9f0e-1ab27b0d4c11")
    data = {"orderId": order.order_id.upper(), "reservationId": order.reservation_id}
    assert await shop.inbound.handle(raw(shop, order, data=data)) == "handled"
    assert (await shop.order(order.order_id)).status == "CONFIRMED"
