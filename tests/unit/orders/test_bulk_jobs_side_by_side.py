"""Operations beside others and runners beside others: no turn is missed, no lease is too short, no word overwritten."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from services.bulk.actions import item_actions
from services.bulk.runner import JOBS_PER_ROUND, BulkRunner, breaker_gate
from services.domain.errors import InventoryTimeout
from services.releases.jobs import ReleaseJobs
from services.runtime.clock_skew import ClockSkewRepair
from state import releases
from tests.support.bulk_jobs import begin, failed_release, job_items, look, run
from tests.support.fakes import CAPTURE, PaymentFault
from tests.support.orders_harness import POLICY, RELEASE_RETRY, OrdersHarness

RELEASE = "release"
LEASE = timedelta(seconds=300)


@pytest.fixture
async def failed(shop):
    return [(await failed_release(shop, f"order-{number}")).order_id for number in range(3)]


async def test_bulk_jobs_that_wait_for_a_breaker_do_not_starve_one_that_needs_none(sqlite_url):
    shop = OrdersHarness(sqlite_url, resilient=True)
    ids = []
    for number in range(JOBS_PER_ROUND + 1):
        shop.breakers.releaser.close()
        shop.payments.fail(CAPTURE, PaymentFault.DECLINE)
        order = await shop.place(order_id=f"order-{number}")

        def as_failed(connection, order_id=order.order_id):
            job = releases.get(connection, order_id)
            releases.settle(connection, job, shop.clock(), state="FAILED", attempts=8, next_attempt_at=None)

        await shop.real_database.write(as_failed)
        ids.append(order.order_id)
    for number, order_id in enumerate(ids[:-1]):
        await begin(shop, [order_id], job_id=f"op-{number}")
        shop.clock.advance(0.001)
    for hold in shop.inventory.reservations:
        hold.state = "RELEASED"
    await begin(shop, [ids[-1]], job_id="op-last", bulk_action="mark_released")
    shop.breakers.releaser.open()
    for _ in range(8):
        await shop.bulk_jobs.run_due()
        shop.clock.advance(0.25)
    assert (await look(shop, "op-0")).note == "Waits for the circuit breaker to close."
    assert (await look(shop, "op-last")).state == "DONE"
    shop.close()


def runner(shop, name, lease=LEASE):
    actions = item_actions(shop.releases, shop.proofs, shop.reviews, shop.dead_letters)
    return BulkRunner(
        shop.context, actions, breaker_gate(shop.breakers), POLICY.confirmation_timeout, name, lease=lease
    )


async def test_a_slow_step_is_not_repeated_by_another_runner_while_its_lease_lasts(shop, failed):
    first, second = runner(shop, "first"), runner(shop, "second")
    await begin(shop, failed)

    async def take_long():
        shop.clock.advance(LEASE.total_seconds() - 1)
        before = shop.inventory.count(RELEASE)
        await second.run_due()
        assert shop.inventory.count(RELEASE) == before

    shop.inventory.hooks.before(RELEASE, take_long)
    await first.run_due()
    assert (await look(shop)).tally["CONFIRMED"] == 1


async def test_the_result_of_a_runner_after_its_lease_has_gone_is_not_taken_for_an_answer(shop, failed):
    first, second = runner(shop, "first"), runner(shop, "second")
    await begin(shop, failed)
    sent, go_on = asyncio.Event(), asyncio.Event()

    async def hang():
        sent.set()
        await go_on.wait()
        raise InventoryTimeout("too late")

    shop.inventory.hooks.before(RELEASE, hang)
    late = asyncio.ensure_future(first.run_due())
    await sent.wait()
    shop.clock.advance(LEASE.total_seconds() + 1)
    held = asyncio.Event()

    async def let_the_first_one_speak():
        go_on.set()
        await late
        held.set()

    shop.inventory.hooks.before(RELEASE, let_the_first_one_speak)
    await second.run_due()
    assert held.is_set()
    assert (await job_items(shop))[failed[0]].state == "CONFIRMED"


async def test_an_attempt_that_may_take_long_is_not_made_twice_at_once(shop, failed):
    jobs = ReleaseJobs(shop.context, shop.inventory, RELEASE_RETRY, claim=timedelta(seconds=120))
    seen = await shop.release(failed[0])

    async def take_long():
        shop.clock.advance(119)
        assert await jobs.run_due() == 0

    shop.inventory.hooks.before(RELEASE, take_long)
    after, _ = await jobs.try_once(failed[0], seen.version, actor="ada", reason=None, action_id="a-1")
    assert after.state == "DONE"


async def test_what_is_done_to_an_item_is_found_under_its_bulk_job(shop, failed):
    await begin(shop, failed)
    await run(shop)
    entries = [entry for entry in await shop.audit() if entry.action == "RETRY_RELEASE"]
    assert {entry.correlation_id for entry in entries} == {"op-1"}
    assert len(entries) == len(failed)


async def test_timekeeping_does_not_take_a_lease_away_that_lasts_as_long_as_it_may(shop, failed):
    keeper = ClockSkewRepair(shop.context, timedelta(hours=1), LEASE)
    await begin(shop, failed)
    await runner(shop, "first").run_due()
    await keeper.run_round()
    assert (await look(shop)).claimed_until == shop.clock() + LEASE
    shop.clock.advance(-3600)
    await keeper.run_round()
    assert (await look(shop)).claimed_until <= shop.clock()
