"""Orders whose reservation had no answer: kept, retried, shown to a person. Source: requirements 7.3, docs/adr/0002."""

from __future__ import annotations

import pytest

from services.domain.orders.lifecycle import postpone
from tests.support.fakes import START, Fault

RESERVE, CAPTURE = "reserve", "capture"
UNANSWERED = [Fault.TIMEOUT_BEFORE, Fault.TIMEOUT_AFTER, Fault.UNAVAILABLE, Fault.UNAVAILABLE_AFTER, Fault.CIRCUIT_OPEN]


@pytest.mark.parametrize("fault", UNANSWERED)
async def test_an_unanswered_reservation_makes_the_order_wait_and_flags_it(shop, fault):
    shop.inventory.fail(RESERVE, fault)
    order = await shop.place()
    assert (order.status, order.payment_status, order.attempts) == ("PENDING_INVENTORY", "NONE", 1)
    case = await shop.open_case(order.order_id)
    assert (case.reason, case.version) == ("PENDING_INVENTORY", 1)
    assert case.detail.startswith("INVENTORY_")
    assert [recorded.opened for recorded in shop.recorded if recorded.opened] == [("PENDING_INVENTORY",)]
    assert shop.payments.calls == []
    assert await shop.sent() == []


@pytest.mark.parametrize("fault", UNANSWERED)
async def test_a_waiting_order_is_placed_when_a_retry_succeeds_and_its_case_settled(shop, fault):
    shop.inventory.fail(RESERVE, fault)
    order = await shop.place()
    order = await shop.sweep_when_due(order.order_id)
    assert order.status == "PLACED"
    (case,) = await shop.cases(order.order_id)
    assert (case.state, case.resolved_by, case.resolution) == ("RESOLVED", "system", "SETTLED")
    assert len(shop.inventory.reserved(order.order_id)) == 1


async def test_nothing_is_tried_before_it_is_due(shop):
    shop.inventory.fail(RESERVE, Fault.UNAVAILABLE)
    order = await shop.place()
    shop.clock.advance(22)
    assert await shop.sweep() == 0
    shop.clock.advance(1)
    assert await shop.sweep() == 1
    assert (await shop.order(order.order_id)).status == "PLACED"


async def test_retries_come_with_growing_delays_and_then_only_a_person_goes_on(shop):
    shop.inventory.fail(RESERVE, *[Fault.UNAVAILABLE] * 50)
    order = await shop.place()
    waits = []
    while order.due_at is not None:
        waits.append((order.due_at - shop.clock()).total_seconds())
        order = await shop.sweep_when_due(order.order_id)
    assert waits == pytest.approx([22.5, 45, 90, 180, 360, 675])
    assert shop.inventory.count(RESERVE) == 7
    assert (order.status, order.attempts) == ("PENDING_INVENTORY", 7)
    assert await shop.open_reasons(order.order_id) == ["PENDING_INVENTORY"]
    assert (await shop.titles(order.order_id))[-1] == "Waiting for a person: automatic retries are used up"


async def test_a_service_that_asks_for_a_longer_rest_gets_it(shop):
    shop.inventory.fail(RESERVE, Fault.BUSY)
    order = await shop.place()
    assert (order.due_at - shop.clock()).total_seconds() == 600


async def test_an_open_breaker_postpones_retries_without_counting_attempts(shop):
    shop.inventory.fail(RESERVE, Fault.UNAVAILABLE)
    order = await shop.place()
    shop.breaker_retry_in_seconds = 20.0
    for _ in range(20):
        order = await shop.sweep_when_due(order.order_id)
        assert (order.due_at - shop.clock()).total_seconds() == 22.5
    assert (order.status, order.attempts, shop.inventory.count(RESERVE)) == ("PENDING_INVENTORY", 1, 1)
    shop.breaker_retry_in_seconds = None
    assert (await shop.sweep_when_due(order.order_id)).status == "PLACED"


async def test_a_retry_that_a_breaker_short_circuits_is_not_counted_as_an_attempt(shop):
    shop.inventory.fail(RESERVE, Fault.UNAVAILABLE, *[Fault.CIRCUIT_OPEN] * 20)
    order = await shop.place()
    for _ in range(20):
        order = await shop.sweep_when_due(order.order_id)
        assert (order.status, order.attempts) == ("PENDING_INVENTORY", 1)
        assert order.due_at is not None
    assert (await shop.sweep_when_due(order.order_id)).status == "PLACED"


async def test_a_waiting_order_that_turns_out_short_is_rejected_and_what_may_be_reserved_given_back(shop):
    shop.inventory.fail(RESERVE, Fault.TIMEOUT_AFTER, Fault.CONFLICT)
    order = await shop.place()
    order = await shop.sweep_when_due(order.order_id)
    assert (order.status, order.inventory_status) == ("REJECTED", "RELEASE_PENDING")
    assert await shop.open_reasons(order.order_id) == []
    await shop.quiesce()
    assert shop.inventory.reserved(order.order_id) == []


async def test_one_round_takes_a_few_orders_so_that_a_service_just_back_is_not_trampled(shop):
    shop.inventory.fail(RESERVE, *[Fault.UNAVAILABLE] * 20)
    for _ in range(20):
        await shop.place()
    shop.inventory.heal()
    shop.clock.advance(60)
    assert [await shop.sweep() for _ in range(4)] == [8, 8, 4, 0]
    assert {order.status for order in await shop.all_orders()} == {"PLACED"}


async def test_postponing_keeps_the_timeline_short():
    assert (postpone(START).timeline, postpone(START).values) == ((), {"due_at": START})


async def test_one_order_that_fails_unexpectedly_does_not_keep_the_others_waiting(shop):
    shop.inventory.fail(RESERVE, *[Fault.UNAVAILABLE] * 3)
    placed = [await shop.place() for _ in range(3)]
    shop.clock.advance(60)

    async def fail() -> None:
        raise RuntimeError("a mistake in our own code")

    shop.inventory.hooks.before(RESERVE, fail)
    await shop.sweep()
    statuses = [(await shop.order(order.order_id)).status for order in placed]
    assert sorted(statuses) == ["PLACED", "PLACED", "RESERVING"]
    shop.clock.advance(61)
    await shop.sweep()
    assert {order.status for order in await shop.all_orders()} == {"PLACED"}


async def test_two_sweepers_never_take_the_same_order(shop):
    shop.inventory.fail(RESERVE, *[Fault.UNAVAILABLE] * 5)
    for _ in range(5):
        await shop.place()
    shop.inventory.heal()
    shop.clock.advance(60)
    import asyncio

    taken = await asyncio.gather(shop.sweep(), shop.sweep())
    assert sorted(taken) == [0, 5]
    assert shop.inventory.count(RESERVE) == 10
