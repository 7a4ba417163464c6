"""A service that answers 429 above a number of requests a second: as much as possible is sold."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

import pytest

from services.base.settings import Settings
from services.clients.breaker import CLOSED, OPEN, AsyncBreaker
from services.clients.http.transport import AiohttpTransport, client_session
from services.clients.inventory.http import HTTPInventoryGateway
from services.clients.inventory.pacing import FORGET_SECONDS, Pacer
from services.clients.inventory.resilient import ResilientInventory, inventory_breakers
from services.clients.rolling_window import BreakerOptions
from services.domain.calls import Attempt
from services.domain.errors import ApiError, InventoryThrottled, InventoryUnavailable
from services.domain.orders.model import Line
from tests.support.attempts import noted
from tests.support.busy_service import BusyService, busy_service

LINES = (Line("p", "v", 1),)
LIMIT, SECONDS, ORDERS_A_SECOND = 20, 8, 30


def now() -> datetime:
    return datetime.now(UTC)


@asynccontextmanager
async def a_client(service: BusyService) -> AsyncIterator[ResilientInventory]:
    settings = Settings()
    transport = AiohttpTransport(client_session())
    gateway = HTTPInventoryGateway(transport, service.url, timeout_seconds=3, reservation_ttl_seconds=1800, clock=now)
    breakers = inventory_breakers(settings, clock=now)
    deadline = settings.call_deadline_seconds
    try:
        yield ResilientInventory(gateway, breakers, settings.immediate_retry, now, deadline_seconds=deadline)
    finally:
        await transport.aclose()


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize("says_when", [True, False])
async def test_most_of_what_a_limited_service_takes_is_sold_and_no_breaker_opens(says_when):
    """Three times as many calls as it takes; every order needs two."""
    outcomes: Counter[str] = Counter()
    async with busy_service(LIMIT, says_when=says_when) as service, a_client(service) as inventory:

        async def order(number: int) -> None:
            attempts: list[Attempt] = []
            try:
                await noted(inventory.check_availability(LINES), attempts)
                await noted(inventory.reserve(f"o-{number}", LINES, "u"), attempts)
                outcomes["sold"] += 1
            except ApiError as error:
                outcomes[error.code] += 1
            assert {attempt.outcome for attempt in attempts} <= {"success", "throttled"}

        began = time.monotonic()
        async with asyncio.TaskGroup() as orders:
            for number in range(ORDERS_A_SECOND * SECONDS):
                await asyncio.sleep(max(began + number / ORDERS_A_SECOND - time.monotonic(), 0))
                orders.create_task(order(number))
        possible = LIMIT * (time.monotonic() - began) / 2
        assert {breaker.effective_state for breaker in inventory.breakers} == {CLOSED}
    assert outcomes["sold"] > 0.7 * possible
    assert outcomes["sold"] + outcomes["INVENTORY_UNAVAILABLE"] == outcomes.total() == ORDERS_A_SECOND * SECONDS
    assert service.answered[429] < service.answered[200] / 4


async def test_a_call_within_its_patience_waits_for_retry_after_and_one_beyond_it_is_told_when_to_come_back():
    async with busy_service(1) as service, a_client(service) as inventory:
        attempts: list[Attempt] = []
        for _ in range(2):
            await noted(inventory.check_availability(LINES), attempts)
        assert inventory.pacer.is_throttled
        with pytest.raises(InventoryThrottled) as caught:
            await inventory.pacer.admit("check_availability", 0.0)
        assert caught.value.retry_after_seconds is not None
        assert (caught.value.was_sent, caught.value.may_have_run) == (False, False)
    assert [attempt.outcome for attempt in attempts if attempt.outcome != "throttled"] == ["success", "success"]


async def test_reservations_pass_before_checks_that_came_earlier():
    pacer, passed = Pacer(), []
    pacer.refused(pacer.monotonic(), 0.05)

    async def call(operation: str) -> None:
        await pacer.admit(operation, 30.0)
        passed.append(operation)

    waiting = [asyncio.create_task(call("check_availability"))]
    await asyncio.sleep(0)
    waiting.append(asyncio.create_task(call("reserve")))
    await asyncio.gather(*waiting)
    assert passed == ["reserve", "check_availability"]


async def test_a_call_that_gives_up_leaves_its_place_to_the_next():
    pacer = Pacer()
    pacer.refused(pacer.monotonic(), 0.05)
    first = asyncio.create_task(pacer.admit("reserve", 30.0))
    second = asyncio.create_task(pacer.admit("reserve", 30.0))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait_for(second, 10)
    assert first.cancelled()


class Time:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def breaker(clock: Time) -> AsyncBreaker:
    return AsyncBreaker("b", BreakerOptions(), clock=now, monotonic_ns=lambda: int(clock.now * 1e9))


async def throttled() -> None:
    raise InventoryThrottled("429", was_sent=True, retry_after_seconds=1)


async def answered() -> None:
    return None


async def failing() -> None:
    raise InventoryUnavailable("down")


async def shortage() -> None:
    raise InventoryUnavailable("no file", is_ours=True)


async def called(it: AsyncBreaker, *calls: Callable[[], Awaitable[None]]) -> str:
    for call in calls:
        with suppress(ApiError):
            await it.acall(call)
    return it.effective_state


async def test_too_many_requests_open_no_breaker_while_other_calls_succeed():
    it = breaker(Time())
    assert await called(it, answered, *[throttled] * 100) == CLOSED
    assert it.snapshot().calls == 1


async def test_nothing_but_too_many_requests_opens_it():
    assert await called(breaker(Time()), *[throttled] * 5) == OPEN


async def test_our_own_shortage_opens_nothing_and_leaves_the_trial_to_another_call():
    clock = Time()
    it = breaker(clock)
    assert await called(it, *[shortage] * 100) == CLOSED
    assert it.snapshot().calls == 0
    assert await called(it, *[failing] * 5) == OPEN
    clock.now += 31
    assert await called(it, shortage) == "half_open"
    assert await called(it, throttled) == "half_open"
    assert await called(it, answered) == CLOSED


async def test_a_rate_rises_while_no_429_comes_and_is_forgotten_after_a_while():
    clock = Time()
    pacer = Pacer(clock)
    pacer.refused(clock(), None)
    assert pacer.is_throttled
    clock.now += FORGET_SECONDS
    assert pacer.is_throttled
    clock.now += 2
    assert not pacer.is_throttled
