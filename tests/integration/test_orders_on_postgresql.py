"""The order use cases on PostgreSQL, where transactions really run at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import psycopg
import pytest

from services.domain.errors import InvalidState, ReviewConflict
from services.domain.orders.model import Line
from services.messaging.consumer import Delivery
from tests.support import bulk_jobs
from tests.support.fakes import CAPTURE, REFUND, Fault, PaymentFault
from tests.support.orders_harness import OrdersHarness
from tests.support.postgres_server import conninfo_of

CHAIR = Line("chair", "oak", 1)


@pytest.fixture
def shop(postgres_url: str) -> Iterator[OrdersHarness]:
    harness = OrdersHarness(postgres_url)
    yield harness
    harness.close()


async def test_an_order_goes_its_whole_way(shop):
    order = await shop.place(metadata={"note": "a\x00b \u2603"})
    await shop.pump()
    order = await shop.order(order.order_id)
    assert (order.status, order.metadata) == ("CONFIRMED", {"note": "a\x00b \u2603"})
    await shop.take_back(order.order_id, CHAIR)
    await shop.quiesce()
    assert (await shop.order(order.order_id)).status == "PARTIALLY_RETURNED"
    assert (await shop.titles(order.order_id))[0] == "Order received"


async def test_a_cancelled_order_is_released_and_refunded(shop):
    order = await shop.place()
    await shop.cancel(order.order_id, by_person=True, actor="ada")
    await shop.quiesce()
    order = await shop.order(order.order_id)
    assert (order.status, order.inventory_status, order.payment_status) == ("CANCELLED", "RELEASED", "REFUNDED")
    assert len(await shop.audit()) == 1


async def test_many_requests_at_once_with_one_key_make_one_order(shop):
    answers = await asyncio.gather(*(shop.place(idempotency_key="k") for _ in range(20)))
    assert {order.status for order in answers} == {"PLACED"}
    assert shop.payments.count(CAPTURE) == 1


async def test_many_cancels_at_once_have_one_effect(shop):
    order = await shop.place()
    ends = await asyncio.gather(*(shop.cancel(order.order_id) for _ in range(12)))
    assert {end.status for end in ends} == {"CANCELLED"}
    assert (await shop.sent_types()).count("order.cancelled") == 1
    await shop.quiesce()
    assert shop.payments.count(REFUND) == 1


async def test_one_event_handled_by_many_at_once_takes_effect_once(shop):
    order = await shop.place()
    outcomes = await asyncio.gather(*(shop.deliver("inventory.confirmed", order, event_id="e-1") for _ in range(10)))
    assert sorted(outcomes) == ["duplicate"] * 9 + ["handled"]


async def test_a_cancel_and_a_confirmation_at_once_leave_one_consistent_order(shop):
    for n in range(10):
        order = await shop.place(order_id=f"o-{n}")
        answers = shop.publish(await shop.take_outbox())
        await asyncio.gather(
            shop.cancel(order.order_id), *(shop.deliver_raw(event_type, data) for event_type, data in answers)
        )
    await shop.quiesce()
    for order in await shop.all_orders():
        assert (order.status, order.payment_status) == ("CANCELLED", "REFUNDED")
        assert shop.inventory.deducted(order.order_id) == shop.inventory.reserved(order.order_id) == []


async def test_the_same_return_many_times_at_once_takes_effect_once(shop):
    order = await shop.place_confirmed()
    answers = await asyncio.gather(*(shop.take_back(order.order_id, CHAIR, return_id="r-1") for _ in range(10)))
    assert {end.lines[0].returned for end, _ in answers} == {1}
    assert (await shop.sent_types()).count("order.returned") == 1


async def test_concurrent_returns_never_exceed_what_was_bought(shop):
    order = await shop.place_confirmed()
    ends = await asyncio.gather(*(shop.take_back(order.order_id, CHAIR) for _ in range(8)), return_exceptions=True)
    assert sorted(type(end).__name__ for end in ends) == ["InvalidState"] * 6 + ["tuple"] * 2
    assert all(isinstance(end, InvalidState | tuple) for end in ends)
    assert (await shop.order(order.order_id)).lines[0].returned == 2


async def test_two_sweepers_share_the_work(shop):
    shop.inventory.fail("reserve", *[Fault.UNAVAILABLE] * 12)
    for _ in range(12):
        await shop.place()
    shop.clock.advance(60)
    taken = await asyncio.gather(*(shop.sweep() for _ in range(4)))
    assert sum(taken) == 12
    assert shop.inventory.count("reserve") == 24
    assert {order.status for order in await shop.all_orders()} == {"PLACED"}


async def test_two_workers_share_the_releases(shop):
    shop.payments.fail(CAPTURE, *[PaymentFault.DECLINE] * 12)
    for _ in range(12):
        await shop.place()
    assert sum(await asyncio.gather(*(shop.releases.run_due() for _ in range(4)))) == 12
    assert shop.inventory.count("release") == 12


async def test_of_two_operators_at_once_exactly_one_succeeds(shop):
    shop.inventory.fail("check_availability", Fault.UNAVAILABLE)
    order = await shop.place_high()
    review = await shop.open_case(order.order_id)
    ends = await asyncio.gather(
        *(shop.resolve(review, "APPROVE", actor=f"person-{n}") for n in range(6)), return_exceptions=True
    )
    assert sum(1 for end in ends if isinstance(end, ReviewConflict)) == 5
    assert len(await shop.audit()) == 1


async def test_a_command_is_executed_by_one_worker(shop):
    order = await shop.place()
    await shop.command("cancel_order", order.order_id, "c-1", reason="X")
    ran = await asyncio.gather(*(shop.commands.run_waiting() for _ in range(4)))
    assert any(ran)
    assert len(await shop.audit()) == 1


async def test_a_dead_letter_with_characters_that_the_database_refuses_is_kept(shop):
    await shop.dead_letters.keep(
        Delivery(
            stream="S",
            stream_seq=1,
            subject="inventory.confirmed",
            payload=b'{"orderId": "a\\u0000b", "reservationId": "r"}',
            headers={"Nats-Msg-Id": "m"},
        ),
        "UnknownOrder: order a\x00b is not known",
        attempts=8,
    )
    (dead_letter,) = (await shop.everything())["dead_letters"]
    assert (dead_letter.order_id, dead_letter.reason) == (None, "UnknownOrder: order a\ufffdb is not known")


@pytest.mark.parametrize(("commit", "after"), [(1, True), (2, False), (2, True), (3, False)])
async def test_an_order_is_never_lost_when_a_worker_dies(shop, commit, after):
    assert await shop.crash(commit, lambda: shop.place(order_id="mine"), after=after)
    shop.clock.advance(61)
    await shop.quiesce()
    assert (await shop.order("mine")).status == "CONFIRMED"
    assert len(shop.inventory.reservations) == 1


async def test_a_bulk_job_with_three_runners_at_once_sends_every_item_once(shop):
    failed = [(await bulk_jobs.failed_release(shop, f"order-{number:02}")).order_id for number in range(9)]
    await bulk_jobs.begin(shop, failed)
    before = shop.inventory.count("release")
    runners = [shop.bulk_runner(f"runner-{number}") for number in range(3)]
    for _ in range(10):
        await asyncio.gather(*(runner.run_due() for runner in runners))
    operation = await bulk_jobs.look(shop)
    assert (operation.state, operation.tally, operation.new_failures) == ("DONE", {"CONFIRMED": 9}, 0)
    assert shop.inventory.count("release") - before == 9
    assert len([entry for entry in await shop.audit() if entry.action == "RETRY_RELEASE"]) == 9


async def test_a_bulk_job_that_ends_while_it_is_cancelled_keeps_its_items_and_its_record(shop, postgres_url):
    jobs = [(await bulk_jobs.failed_release(shop, f"order-{number}")).order_id for number in range(2)]
    await bulk_jobs.begin(shop, jobs)
    with psycopg.connect(conninfo_of(postgres_url)) as runner, psycopg.connect(conninfo_of(postgres_url)) as watch:
        watch.autocommit = True
        runner.execute("UPDATE operations SET state = 'STOPPED' WHERE operation_id = 'op-1'")
        cancelling = asyncio.ensure_future(
            shop.bulk_control.apply_control("op-1", "cancel", actor="ada", action_id="a-1")
        )
        async with asyncio.timeout(20):
            while not watch.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone():
                await asyncio.wait([cancelling], timeout=0.02)
        runner.commit()
    with pytest.raises(InvalidState, match="STOPPED"):
        await cancelling
    assert set(await bulk_jobs.states(shop)) == {"ASKED"}
    assert [entry.action for entry in await shop.audit()].count("OPERATION_CANCEL") == 0
