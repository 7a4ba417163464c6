"""What waited for an open breaker: one trial goes first, the rest follows a few at a time, and no two waves meet.

Each rule is shown twice: with it the queue drains as promised, without it the same drain breaks the promise.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

import pytest
from sqlalchemy import select, update

from services.base.settings import Settings
from services.clients.inventory.resilient import ResilientInventory, inventory_breakers
from services.domain.calls import InventoryCall, RetryPolicy
from services.orders import sweeper as sweeping
from services.orders.fulfilment import OrderFulfilment
from services.orders.sweeper import OrderSweeper
from services.releases import jobs as release_jobs
from services.releases.jobs import ReleaseJobs
from services.unit_of_work import OrdersContext
from state import releases
from state.tables import orders
from state.tables import releases as jobs
from tests.support.fakes import Fault, InMemoryInventory
from tests.support.orders_harness import POLICY, REFUND_RETRY, RELEASE_RETRY, OrdersHarness

WAITING = 500
FEW = 100
"""Enough for a stampede."""

AT_ONCE = 8
RESET_SECONDS = 30.0

Rule = Callable[[pytest.MonkeyPatch], None]


@dataclass
class Traffic:
    """What the Inventory Service saw."""

    under_way: int = 0
    most_at_once: int = 0
    before_the_first_answer: int = 0
    answered: int = 0
    per_second: Counter[int] = field(default_factory=Counter)

    def arrives(self) -> None:
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        if not self.answered:
            self.before_the_first_answer += 1

    def leaves(self) -> None:
        self.under_way -= 1
        self.answered += 1


class Watched:
    """An Inventory Service whose answers take a few turns of the loop, so that calls can meet."""

    def __init__(self, inventory: InMemoryInventory) -> None:
        self._inventory = inventory
        self.traffic = Traffic()

    def __getattr__(self, name):
        async def call(*arguments):
            self.traffic.arrives()
            try:
                for _ in range(5):
                    await asyncio.sleep(0)
                return await getattr(self._inventory, name)(*arguments)
            finally:
                self.traffic.leaves()

        return call


class Shop(OrdersHarness):
    """The delayed queues before real breakers, whose clock is the test's."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.randomness = iter([(n * 0.618034) % 1 for n in range(1, 100_000)])
        self.context = OrdersContext(self.database, self.clock, self.new_id, lambda: next(self.randomness))
        self.watched = Watched(self.inventory)
        self.start_anew()

    def start_anew(self) -> None:
        """A new process: its breakers know nothing."""
        self.breakers = inventory_breakers(Settings(), clock=self.clock, monotonic_ns=self._nanoseconds)
        policy = RetryPolicy(attempts=1, base_delay_seconds=0.2, max_delay_seconds=5)
        gateway = ResilientInventory(self.watched, self.breakers, policy, self.clock)
        progress = OrderFulfilment(self.context, gateway, self.payments, POLICY)
        self.sweeper = OrderSweeper(self.context, progress, self.payments, POLICY, REFUND_RETRY, self._retry_in_seconds)
        self.releases = ReleaseJobs(self.context, gateway, RELEASE_RETRY)

    def _nanoseconds(self) -> int:
        return int(self.clock().timestamp() * 1e9)

    def _retry_in_seconds(self) -> float | None:
        snapshot = self.breakers.reserver.snapshot()
        return snapshot.retry_in_ms / 1000 if snapshot.state == "open" else None

    async def trip(self, operation: str) -> None:
        """Open the operation's breaker as a service that is away does."""
        self.inventory.fail(operation, *[Fault.UNAVAILABLE] * 100)
        breaker = self.breakers.reserver if operation == InventoryCall.RESERVE else self.breakers.releaser
        while breaker.snapshot().state == "closed":
            with pytest.raises(Exception, match="503"):
                await breaker.acall(getattr(self.watched, operation), *ARGUMENTS[operation])
        self.inventory.heal()
        self.inventory.calls.clear()
        self.watched.traffic = Traffic()

    async def due_times(self, column, condition) -> list[datetime]:
        return list(await self.real_database.read(lambda c: c.scalars(select(column).where(condition)).all()))


ARGUMENTS = {InventoryCall.RESERVE: ("x", (), "u"), InventoryCall.RELEASE: ("x",)}


@pytest.fixture
def shop(sqlite_url: str) -> Iterator[Shop]:
    harness = Shop(sqlite_url)
    yield harness
    harness.close()


async def placed_orders(shop: Shop) -> None:
    shop.inventory.on_hand.default_factory = lambda: 10**6
    await asyncio.gather(*(shop.place(order_id=f"order-{n}") for n in range(WAITING)))


async def waiting_orders(shop: Shop) -> None:
    """So many orders in PENDING_INVENTORY, all due at this moment, and the breaker just opened."""
    await placed_orders(shop)
    now = shop.clock()
    values = {"status": "PENDING_INVENTORY", "due_at": now, "attempts": 1, "payment_status": "NONE"}
    await shop.real_database.write(lambda c: c.execute(update(orders).values(**values)))
    shop.inventory.reservations.clear()
    shop.payments.states.clear()
    await shop.trip(InventoryCall.RESERVE)


async def waiting_releases(shop: Shop) -> None:
    await placed_orders(shop)

    def start(connection) -> None:
        connection.execute(update(orders).values(due_at=None))
        for n in range(WAITING):
            releases.start(connection, f"order-{n}", "test", shop.clock())

    await shop.real_database.write(start)
    await shop.trip(InventoryCall.RELEASE)


async def drain(shop: Shop, run_due, column, condition) -> Traffic:
    """Rounds, as the worker makes them, until nothing waits; time passes when nothing is due.

    Nobody looked while the breaker was open, so that all are due at once when it lets the first one through.
    """
    shop.clock.advance(RESET_SECONDS + 1)
    traffic = shop.watched.traffic
    for _ in range(5000):
        before = traffic.answered
        await run_due()
        traffic.per_second[int(shop.clock().timestamp())] += traffic.answered - before
        due = await shop.due_times(column, condition)
        if not due:
            return traffic
        # A round takes time: the answers of the service do not come at once.
        shop.clock.advance(0.02)
        shop.clock.now = max(shop.clock.now, min(due))
    raise AssertionError("the queue never drained")


async def drain_orders(shop: Shop) -> Traffic:
    await waiting_orders(shop)
    return await drain(shop, shop.sweeper.run_due, orders.c.due_at, orders.c.status == "PENDING_INVENTORY")


async def drain_releases(shop: Shop) -> Traffic:
    await waiting_releases(shop)
    return await drain(shop, shop.releases.run_due, jobs.c.next_attempt_at, jobs.c.state == "PENDING")


QUEUES = {"orders": drain_orders, "releases": drain_releases}


def stampedes(traffic: Traffic) -> list[str]:
    """How the drain broke its promises."""
    found = []
    if traffic.before_the_first_answer > 1:
        found.append("more than one call before the trial's answer")
    if traffic.most_at_once > AT_ONCE:
        found.append("more calls under way than the bound")
    return found


@pytest.mark.parametrize("queue", QUEUES)
async def test_a_queue_that_waited_for_a_breaker_drains_by_one_trial_and_then_a_few_at_a_time(shop, queue):
    traffic = await QUEUES[queue](shop)
    assert stampedes(traffic) == []
    # Nothing was sent in vain, and nothing twice.
    assert traffic.answered == WAITING
    assert len(shop.inventory.calls) == len(set(shop.inventory.calls)) == WAITING
    if queue == "orders":
        assert {order.status for order in await shop.all_orders()} == {"PLACED"}
        assert shop.payments.count("capture") == 2 * WAITING


@pytest.mark.parametrize("queue", QUEUES)
async def test_a_worker_that_was_started_anew_and_knows_of_no_outage_goes_on_a_few_at_a_time(shop, monkeypatch, queue):
    real = {"orders": waiting_orders, "releases": waiting_releases}[queue]

    async def waiting_for_a_new_process(shop):
        await real(shop)
        shop.start_anew()

    monkeypatch.setitem(globals(), real.__name__, waiting_for_a_new_process)
    traffic = await QUEUES[queue](shop)
    assert (traffic.most_at_once, traffic.answered) == (AT_ONCE, WAITING)


@pytest.mark.parametrize("queue", QUEUES)
async def test_while_the_breaker_is_open_nothing_is_sent_and_the_due_times_spread(shop, queue):
    if queue == "orders":
        await waiting_orders(shop)
        run_due, column, condition = shop.sweeper.run_due, orders.c.due_at, orders.c.status == "PENDING_INVENTORY"
    else:
        await waiting_releases(shop)
        run_due, column, condition = shop.releases.run_due, jobs.c.next_attempt_at, jobs.c.state == "PENDING"
    while await run_due():
        pass
    assert shop.watched.traffic.answered == 0
    due = await shop.due_times(column, condition)
    opens_at = shop.clock().timestamp() + RESET_SECONDS
    assert len(due) == WAITING
    assert min(due).timestamp() >= opens_at
    assert spread_in_seconds(due) >= 2
    assert most_within_a_tenth(due) < WAITING / 10


def spread_in_seconds(due: list[datetime]) -> float:
    return (max(due) - min(due)).total_seconds()


def most_within_a_tenth(due: list[datetime]) -> int:
    return max(Counter(int(at.timestamp() * 10) for at in due).values())


def _no_bound(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sweeping, "BATCH_SIZE", WAITING)
    patch.setattr(release_jobs, "BATCH_SIZE", WAITING)


def _no_half_open_budget(patch: pytest.MonkeyPatch) -> None:
    """Whoever comes after the reset time is let through."""
    patch.setattr("services.clients.breaker.AsyncBreaker.acall", lambda self, work, *given: work(*given))


RULES: dict[str, tuple[Rule, str]] = {
    "a few at once": (_no_bound, "more calls under way than the bound"),
    "one trial": (_no_half_open_budget, "more than one call before the trial's answer"),
}


@pytest.mark.parametrize("queue", QUEUES)
@pytest.mark.parametrize("rule", RULES)
async def test_without_the_rule_there_is_a_stampede(shop, monkeypatch, rule, queue):
    monkeypatch.setitem(globals(), "WAITING", FEW)
    remove, stampede = RULES[rule]
    real = {"orders": waiting_orders, "releases": waiting_releases}[queue]

    async def waiting_then_without(shop):
        await real(shop)
        if rule == "a few at once":
            shop.start_anew()
        remove(monkeypatch)

    monkeypatch.setitem(globals(), real.__name__, waiting_then_without)
    assert stampede in stampedes(await QUEUES[queue](shop))


@pytest.mark.parametrize("queue", QUEUES)
async def test_without_chance_all_come_back_at_the_same_moment(shop, queue):
    shop.randomness = iter(lambda: 0.0, None)
    waiting, run_due, column, condition = {
        "orders": (waiting_orders, shop.sweeper.run_due, orders.c.due_at, orders.c.status == "PENDING_INVENTORY"),
        "releases": (waiting_releases, shop.releases.run_due, jobs.c.next_attempt_at, jobs.c.state == "PENDING"),
    }[queue]
    await waiting(shop)
    while await run_due():
        pass
    due = await shop.due_times(column, condition)
    assert spread_in_seconds(due) < 1
