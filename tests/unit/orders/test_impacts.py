"""Which orders an incident hurt: recorded with the order's own change, and nothing for an order that went well."""

from __future__ import annotations

from datetime import timedelta

import pytest

from services.domain.incident_impact import CONFIRM, DENIED, FALLBACK, FLAGGED, REFUSED, TIMED_OUT
from state import incident_impacts
from state.incident_impacts import Window
from tests.support.fakes import START, Fault
from tests.support.orders_harness import OrdersHarness

CHECK, RESERVE, RELEASE = "check_availability", "reserve", "release"
EVER = Window(START - timedelta(days=1), START + timedelta(days=400))


@pytest.fixture
def resilient(sqlite_url):
    """A shop with real breakers and immediate retries before its Inventory Service."""
    harness = OrdersHarness(sqlite_url, resilient=True)
    yield harness
    harness.close()


async def impacts_of(shop, order_id):
    """``{(kind, operation)}`` of one order."""
    found = await shop.real_database.read(lambda c: incident_impacts.page(c, EVER, limit=100))
    return {(i.kind, i.call) for order in found if order.order_id == order_id for i in order.impacts}


async def rows(shop):
    return (await shop.everything())["order_impacts"]


async def test_an_order_that_goes_well_leaves_no_impact_from_its_placing_to_its_return(shop):
    order = await shop.place_confirmed()
    await shop.take_back(order.order_id)
    other = await shop.place_confirmed()
    await shop.cancel(other.order_id)
    await shop.releases.run_due()
    assert await rows(shop) == []


async def test_a_shortage_is_an_honest_answer_and_no_impact(shop):
    shop.inventory.fail(RESERVE, Fault.CONFLICT)
    assert (await shop.place()).status == "REJECTED"
    assert await rows(shop) == []


async def test_a_standard_order_refused_because_the_check_timed_out_is_affected(shop):
    shop.inventory.fail(CHECK, Fault.TIMEOUT_BEFORE)
    order = await shop.place()
    assert order.status == "REJECTED"
    assert await impacts_of(shop, order.order_id) == {(TIMED_OUT, CHECK), (REFUSED, CHECK)}


async def test_an_important_order_that_goes_on_unverified_was_served_the_fallback_and_is_flagged(shop):
    shop.inventory.fail(CHECK, Fault.UNAVAILABLE)
    order = await shop.place_high()
    assert order.status == "PLACED"
    assert await impacts_of(shop, order.order_id) == {(FALLBACK, CHECK), (FLAGGED, CHECK)}


async def test_an_order_that_waits_for_inventory_was_served_the_fallback_and_is_flagged(shop):
    shop.inventory.fail(RESERVE, Fault.UNAVAILABLE)
    order = await shop.place()
    assert await impacts_of(shop, order.order_id) == {(FALLBACK, RESERVE), (FLAGGED, RESERVE)}


async def test_calls_that_an_open_breaker_denies_are_recorded_at_the_time_of_the_denial(resilient):
    shop = resilient
    shop.breakers.reserver.start_override("forced_open", "drill", 60_000)
    order = await shop.place()
    assert order.status == "PENDING_INVENTORY"
    assert await impacts_of(shop, order.order_id) == {(DENIED, RESERVE), (FALLBACK, RESERVE), (FLAGGED, RESERVE)}
    assert {row.at for row in await rows(shop)} == {START}


async def test_a_release_that_an_open_breaker_denies_is_recorded_although_the_order_does_not_change(resilient):
    shop = resilient
    order = await shop.place()
    await shop.cancel(order.order_id)
    before = await shop.order(order.order_id)
    shop.breakers.releaser.start_override("forced_open", "drill", 60_000)
    await shop.releases.run_due()
    assert await impacts_of(shop, order.order_id) == {(DENIED, RELEASE)}
    assert await shop.order(order.order_id) == before


async def test_an_order_whose_deduction_was_refused_is_flagged(shop):
    order = await shop.place()
    await shop.deliver("inventory.confirmation_failed", order, reason="RESERVATION_EXPIRED")
    assert await impacts_of(shop, order.order_id) == {(FLAGGED, CONFIRM)}


async def test_three_attempts_that_time_out_are_one_impact_of_each_kind(resilient):
    shop = resilient
    shop.inventory.fail(RESERVE, *[Fault.TIMEOUT_BEFORE] * 3)
    order = await shop.place()
    assert len(shop.inventory.calls) == 4
    assert sorted((row.kind, row.operation) for row in await rows(shop)) == [
        (FALLBACK, RESERVE),
        (FLAGGED, RESERVE),
        (TIMED_OUT, RESERVE),
    ]
    assert await impacts_of(shop, order.order_id)


async def test_an_impact_that_is_not_committed_with_its_order_does_not_exist(shop):
    shop.inventory.fail(RESERVE, Fault.UNAVAILABLE)
    await shop.crash(2, shop.place, after=False)
    assert await rows(shop) == []
