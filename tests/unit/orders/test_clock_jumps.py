"""A clock that jumps by hours, forwards or back, or differs between replicas: no storm, and nothing waits for ever."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select

from services.alerting import webhook
from services.alerting.evaluator import AlertingPolicy
from services.base.settings import LONGEST_RETRY_AFTER_SECONDS, Settings
from services.bulk.runner import LEASE as OPERATION_LEASE
from services.clients.http.exchange import MAX_RETRY_AFTER_SECONDS
from services.domain.commands import CommandState
from services.domain.errors import ClaimedByOther
from services.orders.fulfilment import OrderFulfilment
from services.orders.inventory_events import InventoryEvents
from services.orders.placement import OrderPlacement, PlaceOrder
from services.orders.sweeper import OrderSweeper
from services.releases.jobs import ReleaseJobs
from services.runtime.clock_skew import SLACK, ClockSkewRepair
from services.unit_of_work import OrdersContext
from state import bulk_jobs, notifications, outbox, replicas
from state.commands import Command
from state.tables import commands, orders, releases
from tests.support.bulk_jobs import begin as begin_job
from tests.support.bulk_jobs import failed_release, look
from tests.support.fakes import CAPTURE, Fault, SkewedClock
from tests.support.orders_harness import LINES, POLICY, REFUND_RETRY, RELEASE_RETRY, Crash

RESERVE, RELEASE = "reserve", "release"
HOURS = 6
LONGEST = timedelta(seconds=Settings().longest_wait_seconds)
AT_ONCE = 8


@pytest.fixture
def clock_skew(shop):
    return ClockSkewRepair(shop.context, LONGEST)


def jump(shop, hours):
    shop.clock.advance(3600 * hours)


async def column(shop, found, *conditions):
    return list(await shop.real_database.read(lambda c: c.scalars(select(found).where(*conditions)).all()))


async def dies_in(shop, operation, run):
    """The process dies while the call is under way."""

    async def die() -> None:
        raise Crash

    shop.inventory.hooks.before(operation, die)
    with pytest.raises(Crash):
        await run()
    shop.start()


# -------------------------------------------- what waits, and how it is seen to have gone on


async def delayed_order(shop):
    shop.inventory.fail(RESERVE, Fault.UNAVAILABLE)
    await shop.place(order_id="mine")


async def claimed_order(shop):
    await delayed_order(shop)
    shop.clock.now = (await shop.order("mine")).due_at
    await dies_in(shop, RESERVE, shop.sweep)


async def order_is_placed(shop):
    await shop.sweep()
    return (await shop.order("mine")).status == "PLACED"


async def delayed_release(shop):
    await shop.place(order_id="mine")
    await shop.cancel("mine")
    shop.inventory.fail(RELEASE, *[Fault.UNAVAILABLE] * 4)
    for _ in range(4):
        (due,) = await column(shop, releases.c.next_attempt_at)
        shop.clock.now = max(shop.clock.now, due)
        await shop.releases.run_due()


async def claimed_release(shop):
    await shop.place(order_id="mine")
    await shop.cancel("mine")
    await dies_in(shop, RELEASE, shop.releases.run_due)


async def stock_is_released(shop):
    await shop.releases.run_due()
    return shop.inventory.reserved("mine") == []


async def claimed_events(shop):
    await shop.place(order_id="mine")
    now = shop.clock()
    await shop.real_database.write(lambda c: outbox.settle_and_claim(c, [], [], 100, now))


async def events_are_sent(shop):
    return len(await shop.take_outbox()) == 2


async def claimed_command(shop):
    await shop.place(order_id="mine")
    await shop.command("cancel_order", "mine", reason="WRONG")
    # Claimed, and not executed before the process died.
    shop.database.die_at(2, after=False)
    with pytest.raises(Crash):
        await shop.commands.run_waiting()
    shop.start()


async def command_is_done(shop):
    await shop.commands.run_waiting()
    return await column(shop, commands.c.state) == ["DONE"]


async def held_command(shop):
    await shop.place(order_id="mine")
    until = shop.clock() + timedelta(seconds=10)
    held = Command(
        "c-1", "cancel_order", "mine", {"reason": "WRONG"}, "ada", CommandState.STORED, shop.clock(), undo_until=until
    )
    await shop.store(held)


async def taken_lease(shop):
    await shop.place(order_id="mine")
    now, until = shop.clock(), shop.clock() + replicas.LONGEST_LEASE
    await shop.real_database.write(lambda c: replicas.take_lease(c, "alerts", "died", now, until))


async def lease_is_taken_over(shop):
    now, until = shop.clock(), shop.clock() + replicas.LONGEST_LEASE
    return await shop.real_database.write(lambda c: replicas.take_lease(c, "alerts", "lives", now, until))


async def claimed_job(shop):
    await failed_release(shop, "mine")
    await begin_job(shop, ["mine"])
    now = shop.clock()
    await shop.real_database.write(lambda c: bulk_jobs.claim(c, "op-1", "died", now, now + OPERATION_LEASE))


async def job_is_done(shop):
    for _ in range(2):
        await shop.bulk_jobs.run_due()
    return (await look(shop)).state == "DONE"


async def queued_notification(shop):
    await shop.place(order_id="mine")
    at = shop.clock() + notifications.LONGEST_DELAY
    said = {"alert_id": "a-1", "name": "DeadLettersPresent", "status": "firing", "payload": {}}
    await shop.real_database.write(lambda c: notifications.add(c, **said, at=at))


async def notification_is_due(shop):
    now = shop.clock()
    return await shop.real_database.read(lambda c: notifications.next_due(c, now)) is not None


async def claimed_case(shop):
    shop.inventory.fail("check_availability", Fault.UNAVAILABLE)
    await shop.place_high(order_id="mine")
    case = await shop.open_case("mine")
    await shop.claims.claim(case.review_id, actor="ada")


async def somebody_else_can_have_it(shop):
    case = await shop.open_case("mine")
    try:
        await shop.claims.claim(case.review_id, actor="bob")
    except ClaimedByOther:
        return False
    return True


WAITING = {
    "order, delayed": (delayed_order, order_is_placed),
    "order, claimed": (claimed_order, order_is_placed),
    "release, delayed": (delayed_release, stock_is_released),
    "release, claimed": (claimed_release, stock_is_released),
    "events, claimed": (claimed_events, events_are_sent),
    "command, claimed": (claimed_command, command_is_done),
    "command, held": (held_command, command_is_done),
    "lease": (taken_lease, lease_is_taken_over),
    "operation, claimed": (claimed_job, job_is_done),
    "notification": (queued_notification, notification_is_due),
    "case, claimed": (claimed_case, somebody_else_can_have_it),
}


@pytest.mark.parametrize("waiting", WAITING)
async def test_a_clock_that_is_set_back_by_hours_keeps_nothing_waiting(shop, clock_skew, waiting):
    begin, has_gone_on = WAITING[waiting]
    await begin(shop)
    jump(shop, -HOURS)
    # Without the repair it would wait for six hours: it does even after one.
    jump(shop, 1)
    assert not await has_gone_on(shop)
    await clock_skew.run_round()
    assert await has_gone_on(shop)


@pytest.mark.parametrize("waiting", WAITING)
async def test_a_clock_that_is_set_forward_makes_it_due_and_no_more_than_once(shop, clock_skew, waiting):
    begin, has_gone_on = WAITING[waiting]
    await begin(shop)
    jump(shop, HOURS)
    await clock_skew.run_round()
    assert await has_gone_on(shop)
    assert shop.payments.count(CAPTURE) == 1
    # What follows from it.
    await shop.releases.run_due()
    calls = list(shop.inventory.calls)
    assert calls.count((RESERVE, "mine")) <= 3
    # What has gone on is not begun again.
    await shop.sweep()
    await shop.releases.run_due()
    assert shop.inventory.calls == calls


@pytest.mark.parametrize("waiting", WAITING)
async def test_the_clock_skew_repair_leaves_alone_what_waits_as_it_should(shop, clock_skew, waiting):
    begin, _ = WAITING[waiting]
    await begin(shop)
    before = await shop.everything()
    assert not await clock_skew.run_round()
    # Replicas' clocks may differ a little.
    shop.clock.now -= SLACK / 2
    assert not await clock_skew.run_round()
    assert await shop.everything() == before


@pytest.mark.parametrize("hours", [HOURS, -HOURS])
async def test_a_jump_makes_no_storm(shop, clock_skew, hours):
    shop.inventory.fail(RESERVE, *[Fault.UNAVAILABLE] * 60)
    for n in range(30):
        await shop.place(order_id=f"order-{n}")
    shop.inventory.calls.clear()
    jump(shop, hours)
    await clock_skew.run_round()
    sent = []
    while await shop.sweep():
        sent.append(shop.inventory.count(RESERVE) - sum(sent))
    assert sent == [AT_ONCE, AT_ONCE, AT_ONCE, 30 - 3 * AT_ONCE]
    # Each was tried once, and waits again for as long as its next delay, by the new clock.
    due = [order.due_at - shop.clock() for order in await shop.all_orders()]
    assert min(due) > timedelta(seconds=30)
    assert max(due) < timedelta(seconds=61)
    assert {order.attempts for order in await shop.all_orders()} == {2}


async def test_the_clock_skew_repair_takes_small_steps(shop, clock_skew):
    shop.inventory.on_hand.default_factory = lambda: 1000
    for n in range(130):
        await shop.place(order_id=f"order-{n}")
    jump(shop, -HOURS)
    assert await clock_skew.run_round()
    assert len(await column(shop, orders.c.due_at, orders.c.due_at <= shop.clock())) == 100
    assert not await clock_skew.run_round()
    assert len(await column(shop, orders.c.due_at, orders.c.due_at <= shop.clock())) == 130


# ------------------------------------------------------------------------ between replicas


class Replica:
    """Another worker on the same database, whose clock differs."""

    def __init__(self, shop, hours):
        clock = SkewedClock(shop.clock, timedelta(hours=hours))
        self.context = OrdersContext(shop.database, clock, shop.new_id, lambda: 0.5)
        fulfilment = OrderFulfilment(self.context, shop.inventory, shop.payments, POLICY)
        self.placement = OrderPlacement(self.context, fulfilment, POLICY.step_deadline)
        self.sweeper = OrderSweeper(self.context, fulfilment, shop.payments, POLICY, REFUND_RETRY, lambda: None)
        self.releases = ReleaseJobs(self.context, shop.inventory, RELEASE_RETRY)
        self.inbound = InventoryEvents(self.context)
        self.clock_skew = ClockSkewRepair(self.context, LONGEST)

    async def work(self):
        await self.clock_skew.run_round()
        await self.sweeper.run_due()
        await self.releases.run_due()


@pytest.mark.parametrize("hours", [HOURS, -HOURS])
@pytest.mark.parametrize("fault", [Fault.UNAVAILABLE, Fault.TIMEOUT_AFTER])
async def test_replicas_whose_clocks_differ_by_hours_finish_each_others_orders_once(shop, clock_skew, hours, fault):
    other = Replica(shop, hours)
    for n in range(10):
        shop.inventory.fail(RESERVE, fault)
        await shop.place(order_id=f"order-{n}")
    tried = shop.inventory.count(RESERVE)
    rounds = 0
    while {order.status for order in await shop.all_orders()} != {"CONFIRMED"}:
        rounds += 1
        assert rounds < 40, "the orders wait for ever"
        await other.work()
        await clock_skew.run_round()
        await shop.sweep()
        await shop.pump()
        shop.clock.advance(30)
    # A replica whose clock is ahead takes fresh holds for ended ones, and leaves the order to others.
    assert shop.inventory.count(RESERVE) <= 3 * tried
    assert shop.payments.count(CAPTURE) == 10
    assert len(shop.inventory.reservations) == 10


@pytest.mark.parametrize("hours", [HOURS, -HOURS])
async def test_what_a_replica_left_that_died_with_a_wrong_clock_is_taken_up(shop, clock_skew, hours):
    other = Replica(shop, hours)

    async def die() -> None:
        raise Crash

    shop.inventory.hooks.before(RESERVE, die)
    with pytest.raises(Crash):
        await other.placement.place(PlaceOrder("user-1", LINES, order_id="mine"))
    for _ in range(4):
        await clock_skew.run_round()
        await shop.sweep()
        shop.clock.advance(30)
    assert (await shop.order("mine")).status == "PLACED"
    assert shop.payments.count(CAPTURE) == 1


async def test_the_longest_wait_is_longer_than_any_that_the_rules_can_set():
    settings = Settings()
    waits = [settings.reservation_retry, settings.release_retry]
    assert all(policy.max_delay_seconds < settings.longest_wait_seconds for policy in waits)
    assert settings.confirmation_timeout_seconds < settings.longest_wait_seconds
    assert settings.breaker_reset_timeout / 1000 + 5 < settings.longest_wait_seconds
    assert max(LONGEST_RETRY_AFTER_SECONDS, MAX_RETRY_AFTER_SECONDS) < settings.longest_wait_seconds
    assert LONGEST_RETRY_AFTER_SECONDS == MAX_RETRY_AFTER_SECONDS
    assert webhook.RETRY.max_delay_seconds <= notifications.LONGEST_DELAY.total_seconds()
    assert max(webhook.LEASE_TIME, AlertingPolicy.of(Settings(alert_window=86_400_000)).lease) <= replicas.LONGEST_LEASE
    assert replicas.LONGEST_LEASE.total_seconds() <= settings.operation_lease_seconds
