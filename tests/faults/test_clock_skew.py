"""An Inventory Service whose clock differs from ours by an hour: nothing spins, nobody is charged without a hold.

The service ends holds by its own clock, and ``expiresAt`` is on that clock; ours judges it.
"""

from __future__ import annotations

from datetime import timedelta

import pytest

from services.domain.calls import InventoryCall
from tests.support.fakes import CAPTURE, START, Fault, PaymentFault, SkewedClock

HOUR = timedelta(hours=1)
RESERVATION_SECONDS = 1800


@pytest.fixture
def behind(shop):
    shop.inventory.clock = SkewedClock(shop.clock, -HOUR)
    return shop


@pytest.fixture
def ahead(shop):
    shop.inventory.clock = SkewedClock(shop.clock, HOUR)
    return shop


async def test_a_reservation_that_looks_ended_when_it_comes_makes_the_order_wait_with_the_reason(behind):
    order = await behind.place()
    assert (order.status, order.payment_status) == ("PENDING_INVENTORY", "NONE")
    assert order.due_at is not None
    assert order.due_at > START + timedelta(seconds=5)
    case = await behind.open_case(order.order_id, "PENDING_INVENTORY")
    assert "clock" in case.detail
    assert behind.payments.calls == []


async def test_it_is_requested_again_ever_more_rarely_and_then_left_to_a_person(behind):
    order = await behind.place()
    waits = []
    while order.due_at is not None:
        waits.append((order.due_at - behind.clock()).total_seconds())
        order = await behind.sweep_when_due(order.order_id)
        assert len(waits) < 20, "the order is tried for ever"
    assert waits == sorted(waits)
    assert len(waits) == 6
    assert (order.status, await behind.open_reasons(order.order_id)) == ("PENDING_INVENTORY", ["PENDING_INVENTORY"])
    assert behind.payments.calls == []
    # The person ends it, and nothing is left on hold.
    await behind.resolve(await behind.open_case(order.order_id), "CANCEL_ORDER")
    await behind.quiesce()
    order = await behind.order(order.order_id)
    assert (order.status, order.inventory_status) == ("CANCELLED", "RELEASED")
    assert behind.inventory.reserved(order.order_id) == []


async def test_the_order_goes_on_as_soon_as_the_clock_is_right(behind):
    order = await behind.place()
    behind.inventory.clock = behind.clock
    order = await behind.sweep_when_due(order.order_id)
    assert order.status == "PLACED"
    assert await behind.open_reasons(order.order_id) == []


@pytest.mark.parametrize("left_seconds", [-3600, -1, 0, 1, 10, 19, 20, 21, 119, 121, 1000])
async def test_whatever_the_skew_an_order_comes_to_rest_within_a_few_tries(shop, left_seconds):
    """``left_seconds``: how long a new hold seems to last by our clock."""
    shop.inventory.clock = SkewedClock(shop.clock, timedelta(seconds=left_seconds - RESERVATION_SECONDS))
    await shop.place()
    await shop.quiesce(rounds=30)
    (order,) = await shop.all_orders()
    assert shop.inventory.count(InventoryCall.RESERVE) <= 8
    if order.status == "CONFIRMED":
        assert shop.payments.count(CAPTURE) == 1
    else:
        assert (order.status, await shop.open_reasons(order.order_id)) == ("PENDING_INVENTORY", ["PENDING_INVENTORY"])
        assert shop.payments.count(CAPTURE) == 0


async def test_a_service_that_is_ahead_changes_nothing_for_an_order_that_goes_through(ahead):
    order = await ahead.place_confirmed()
    assert order.status == "CONFIRMED"
    assert order.reservation_expires_at == START + HOUR + timedelta(seconds=RESERVATION_SECONDS)


async def test_a_reservation_that_only_seems_to_last_is_taken_anew_before_a_late_payment(ahead):
    ahead.payments.fail(CAPTURE, PaymentFault.LOST_BEFORE)
    order = await ahead.place()
    assert order.payment_status == "UNKNOWN"
    # Over by the service's clock, with most of an hour left by what it said.
    ahead.clock.advance(RESERVATION_SECONDS + 60)
    order = await ahead.sweep_when_due(order.order_id)
    assert (order.status, order.reservation_id) == ("PLACED", "reservation-2")
    assert len(ahead.inventory.reserved(order.order_id)) == 1
    await ahead.pump()
    assert (await ahead.order(order.order_id)).status == "CONFIRMED"


async def test_nobody_is_charged_when_that_reservation_cannot_be_had_again(ahead):
    ahead.payments.fail(CAPTURE, PaymentFault.LOST_BEFORE)
    order = await ahead.place()
    ahead.clock.advance(RESERVATION_SECONDS + 60)
    ahead.inventory.fail(InventoryCall.RESERVE, Fault.CONFLICT)
    order = await ahead.sweep_when_due(order.order_id)
    assert order.status == "REJECTED"
    assert [state for state in ahead.payments.states.values() if state == "CAPTURED"] == []


async def test_a_young_reservation_is_not_taken_anew(ahead):
    ahead.payments.fail(CAPTURE, PaymentFault.LOST_BEFORE)
    order = await ahead.place()
    assert (await ahead.sweep_when_due(order.order_id)).status == "PLACED"
    assert [name for name, _ in ahead.inventory.calls] == [InventoryCall.CHECK_AVAILABILITY, InventoryCall.RESERVE]


async def test_a_confirmation_from_the_future_is_recorded_with_its_own_time(ahead):
    order = await ahead.place()
    await ahead.deliver("inventory.confirmed", order, at=ahead.inventory.clock())
    order = await ahead.order(order.order_id)
    assert (order.status, order.confirmed_at) == ("CONFIRMED", START + HOUR)


async def test_a_payment_that_never_comes_off_reaches_a_person_although_the_reservation_is_renewed_each_time(shop):
    shop.inventory.ttl_seconds = 100
    shop.payments.fail(CAPTURE, *[PaymentFault.LOST_BEFORE] * 20)
    order = await shop.place()
    for _ in range(12):
        if order.due_at is None:
            break
        order = await shop.sweep_when_due(order.order_id)
    assert (order.status, await shop.open_reasons(order.order_id)) == ("PAYING", ["PAYMENT_UNKNOWN"])
    assert shop.payments.count(CAPTURE) == 8
