"""A process may die before or after any of its commits: what it left is settled by the next one."""

from __future__ import annotations

import pytest

from tests.support.fakes import CAPTURE, FIND_PAYMENT, REFUND, Fault, PaymentFault

CHECK, RESERVE, RELEASE = "check_availability", "reserve", "release"

MOMENTS = [(commit, after) for commit in (1, 2, 3, 4) for after in (False, True)]


async def nothing_was_begun(shop):
    """What died before the first commit has left no order, no hold and no payment behind."""
    assert await shop.all_orders() == []
    assert shop.inventory.reservations == []
    assert "CAPTURED" not in shop.payments.states.values()


async def come_back(shop):
    """The next process starts, and everything that was left waiting happens."""
    shop.clock.advance(61)
    await shop.quiesce()


async def every_promise_is_kept(shop, order_id):
    order = await shop.order(order_id)
    assert order.status in ("CONFIRMED", "CANCELLED", "REJECTED"), order
    assert shop.inventory.reserved(order_id) == []
    deducted = shop.inventory.deducted(order_id)
    captured = shop.payments.states.get(order_id) == "CAPTURED"
    assert (len(deducted), captured) == ((1, True) if order.status == "CONFIRMED" else (0, False))
    assert await shop.timeline(order_id)
    assert await shop.open_reasons(order_id) == []
    return order


@pytest.mark.parametrize(("commit", "after"), MOMENTS)
async def test_an_order_is_never_lost_and_ends_up_confirmed(shop, commit, after):
    died = await shop.crash(commit, lambda: shop.place(order_id="mine", idempotency_key="k"), after=after)
    assert died == (commit <= 3)
    if (commit, after) == (1, False):
        await nothing_was_begun(shop)
        return
    await come_back(shop)
    order = await every_promise_is_kept(shop, "mine")
    assert order.status == "CONFIRMED"
    assert shop.payments.states == {"mine": "CAPTURED"}
    assert len(shop.inventory.reservations) == 1
    again = await shop.place(order_id="mine", idempotency_key="k")
    assert again.order_id == "mine"


@pytest.mark.parametrize(("commit", "after"), MOMENTS)
async def test_a_high_priority_order_that_could_not_be_checked_is_never_lost(shop, commit, after):
    shop.inventory.fail(CHECK, Fault.UNAVAILABLE)
    assert await shop.crash(commit, lambda: shop.place_high(order_id="mine"), after=after)
    if (commit, after) == (1, False):
        await nothing_was_begun(shop)
        return
    await come_back(shop)
    assert (await shop.order("mine")).status == "CONFIRMED"
    assert shop.payments.states == {"mine": "CAPTURED"}


@pytest.mark.parametrize(("commit", "after"), MOMENTS)
async def test_a_declined_order_gives_its_stock_back(shop, commit, after):
    shop.payments.states["mine"] = "DECLINED"
    died = await shop.crash(commit, lambda: shop.place(order_id="mine"), after=after)
    assert died == (commit <= 3)
    if (commit, after) == (1, False):
        await nothing_was_begun(shop)
        return
    await come_back(shop)
    assert (await every_promise_is_kept(shop, "mine")).status == "REJECTED"


@pytest.mark.parametrize("fault", [Fault.TIMEOUT_AFTER, Fault.TIMEOUT_BEFORE, Fault.CONFLICT, Fault.PARTIAL])
@pytest.mark.parametrize(("commit", "after"), MOMENTS)
async def test_a_reservation_that_went_wrong_leaks_no_stock(shop, commit, after, fault):
    shop.inventory.fail(RESERVE, fault)
    died = await shop.crash(commit, lambda: shop.place(order_id="mine"), after=after)
    assert died == (commit <= 2)
    if (commit, after) == (1, False):
        await nothing_was_begun(shop)
        return
    await come_back(shop)
    await every_promise_is_kept(shop, "mine")


@pytest.mark.parametrize("fault", [PaymentFault.LOST_AFTER, PaymentFault.LOST_BEFORE])
@pytest.mark.parametrize(("commit", "after"), [(1, False), (1, True), (2, False), (2, True)])
async def test_a_worker_that_dies_while_settling_a_payment_charges_once(shop, commit, after, fault):
    shop.payments.fail(CAPTURE, fault)
    order = await shop.place()
    shop.clock.now = order.due_at
    assert await shop.crash(commit, shop.sweep, after=after)
    await come_back(shop)
    assert (await every_promise_is_kept(shop, order.order_id)).status == "CONFIRMED"


@pytest.mark.parametrize(("commit", "after"), MOMENTS)
async def test_a_cancelled_order_is_refunded_and_released_whenever_the_worker_dies(shop, commit, after):
    order = await shop.place()

    async def cancel_and_settle() -> None:
        await shop.cancel(order.order_id)
        await shop.releases.run_due()
        await shop.sweep()

    assert await shop.crash(commit, cancel_and_settle, after=after)
    await shop.cancel(order.order_id)
    await come_back(shop)
    assert (await every_promise_is_kept(shop, order.order_id)).payment_status == "REFUNDED"
    assert (await shop.sent_types()).count("order.cancelled") == 1


@pytest.mark.parametrize(("commit", "after"), [(1, False), (1, True), (2, False), (2, True), (3, False)])
async def test_a_waiting_order_survives_the_death_of_the_worker_that_retried_it(shop, commit, after):
    shop.inventory.fail(RESERVE, Fault.UNAVAILABLE)
    order = await shop.place()
    shop.clock.now = order.due_at
    assert await shop.crash(commit, shop.sweep, after=after)
    await come_back(shop)
    assert (await every_promise_is_kept(shop, order.order_id)).status == "CONFIRMED"


@pytest.mark.parametrize(("commit", "after"), [(1, False), (1, True)])
async def test_an_event_is_handled_once_whenever_the_consumer_dies(shop, commit, after):
    order = await shop.place()
    deliver = lambda: shop.deliver("inventory.confirmed", order, event_id="e-1")  # noqa: E731
    assert await shop.crash(commit, deliver, after=after)
    assert await deliver() == ("duplicate" if after else "handled")
    assert (await shop.order(order.order_id)).status == "CONFIRMED"
    assert (await shop.titles(order.order_id)).count("inventory.confirmed") == 1


async def dies_with_the_capture_under_way(shop, order_id):
    """The order is PAYING, the gateway denies the payment that is about to come, and the hold has to be renewed."""
    shop.payments.fail(CAPTURE, PaymentFault.LATE)
    assert await shop.crash(3, lambda: shop.place(order_id=order_id), after=False)
    assert ((await shop.order(order_id)).status, shop.payments.count(CAPTURE)) == ("PAYING", 1)
    shop.clock.advance(1790)


async def test_money_on_its_way_when_the_worker_died_is_given_back_when_the_reservation_cannot_be_renewed(shop):
    await dies_with_the_capture_under_way(shop, "mine")
    shop.inventory.fail(RESERVE, Fault.CONFLICT)
    await shop.sweep()
    assert (await shop.order("mine")).status == "REJECTED"
    shop.payments.arrive()
    await shop.quiesce()
    assert (await every_promise_is_kept(shop, "mine")).payment_status == "REFUNDED"


async def test_money_on_its_way_when_the_worker_died_is_given_back_when_the_order_is_cancelled_meanwhile(shop):
    await dies_with_the_capture_under_way(shop, "mine")
    shop.inventory.fail(RESERVE, Fault.UNAVAILABLE)
    await shop.sweep()
    assert (await shop.cancel("mine")).status == "CANCELLED"
    shop.payments.arrive()
    await shop.quiesce()
    assert (await every_promise_is_kept(shop, "mine")).payment_status == "REFUNDED"


async def test_a_worker_taken_for_dead_that_still_lives_does_no_harm(shop):
    async def another_replica_takes_over() -> None:
        shop.clock.advance(61)
        await shop.sweep()
        assert (await shop.order("mine")).status == "PLACED"

    shop.inventory.hooks.before(RESERVE, another_replica_takes_over)
    order = await shop.place(order_id="mine")
    assert order.status == "PLACED"
    await come_back(shop)
    assert (await every_promise_is_kept(shop, "mine")).status == "CONFIRMED"
    assert len(shop.inventory.reservations) == 1
    assert shop.payments.count(CAPTURE) == 1


async def test_a_slow_worker_whose_order_was_rejected_meanwhile_leaks_no_reservation(shop):
    async def another_replica_rejects() -> None:
        shop.clock.advance(61)
        shop.inventory.fail(RESERVE, Fault.CONFLICT)
        await shop.sweep()
        await shop.releases.run_due()
        shop.inventory.tombstones.clear()
        assert (await shop.order("mine")).status == "REJECTED"

    shop.inventory.hooks.before(RESERVE, another_replica_rejects)
    assert (await shop.place(order_id="mine")).status == "REJECTED"
    assert len(shop.inventory.reserved("mine")) == 1
    await come_back(shop)
    await every_promise_is_kept(shop, "mine")


async def test_refunds_and_finds_are_never_made_for_an_order_that_went_well(shop):
    await shop.place()
    await shop.quiesce()
    assert (shop.payments.count(REFUND), shop.payments.count(FIND_PAYMENT)) == (0, 0)
