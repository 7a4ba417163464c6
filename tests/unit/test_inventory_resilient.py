"""Immediate retries, each through the breaker, each counted."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from services.base.settings import Settings
from services.clients.breaker import FORCED_OPEN, OPEN
from services.clients.inventory.port import Availability, Reservation
from services.clients.inventory.resilient import ResilientInventory, inventory_breakers
from services.domain.calls import INVENTORY_CALLS, Attempt, Attempted, RetryPolicy, carry
from services.domain.errors import (
    CircuitOpen,
    InsufficientInventory,
    InventoryRefusesUs,
    InventoryTimeout,
    InventoryUnavailable,
    ReleaseFailed,
)
from services.domain.orders.model import Line
from tests.support.attempts import noted

NOW = datetime(2026, 3, 1, tzinfo=UTC)
LINES = (Line("p", "v", 1),)
RESERVED = Reservation("r", NOW)


class ScriptedGateway:
    """Answers by its script: raises what is an exception and returns the rest."""

    def __init__(self, *script: Any) -> None:
        self.script = list(script)
        self.calls: list[tuple[Any, ...]] = []

    def answer(self, operation: str, *arguments: Any) -> Any:
        self.calls.append((operation, *arguments))
        step = self.script.pop(0)
        failed = isinstance(step, Exception)
        attempts = (Attempt(NOW, operation, "unavailable" if failed else "success", 0.5),)
        if failed:
            carry(step, attempts)
            raise step
        return step, attempts

    async def check_availability(self, lines: tuple[Line, ...]) -> Attempted[Availability]:
        return self.answer("check_availability", lines)

    async def reserve(self, order_id: str, lines: tuple[Line, ...], user_id: str) -> Attempted[Reservation]:
        return self.answer("reserve", order_id, lines, user_id)

    async def release(self, order_id: str) -> Attempted[bool]:
        return self.answer("release", order_id)


class World:
    def __init__(self, *script: Any, attempts: int = 3, deadline_seconds: float | None = None) -> None:
        self.now = 0.0
        self.slept: list[float] = []
        self.reported: list[Attempt] = []
        self.attempts: list[Attempt] = []
        self.gateway = ScriptedGateway(*script)
        self.breakers = inventory_breakers(Settings(), clock=lambda: NOW, monotonic_ns=lambda: int(self.now * 1e9))
        self.inventory = ResilientInventory(
            self.gateway,
            self.breakers,
            RetryPolicy(attempts, 0.2, 5.0),
            clock=lambda: NOW,
            on_attempt=self.reported.append,
            deadline_seconds=deadline_seconds,
            sleep=self.sleep,
            randomness=lambda: 0.0,
            stopwatch=lambda: self.now,
        )

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    async def reserve(self) -> Reservation:
        return await noted(self.inventory.reserve("o", LINES, "u"), self.attempts)

    @property
    def outcomes(self) -> list[tuple[int, str]]:
        assert self.reported == self.attempts
        return [(attempt.number, attempt.outcome) for attempt in self.attempts]


def down(**options: Any) -> InventoryUnavailable:
    return InventoryUnavailable("down", **options)


async def test_an_answer_passes_through_untouched_and_is_reported_once():
    world = World(RESERVED)
    assert await world.reserve() is RESERVED
    assert world.gateway.calls == [("reserve", "o", LINES, "u")]
    assert world.attempts == world.reported == [Attempt(NOW, "reserve", "success", 0.5, 1)]


async def test_a_transient_failure_is_retried_with_the_same_order_id_after_a_growing_pause():
    world = World(down(), InventoryTimeout("slow"), RESERVED)
    assert await world.reserve() is RESERVED
    assert world.gateway.calls == [("reserve", "o", LINES, "u")] * 3
    assert world.slept == [0.1, 0.2]
    assert world.outcomes == [(1, "unavailable"), (2, "unavailable"), (3, "success")]


async def test_the_last_error_is_raised_when_the_attempts_are_used_up():
    last = InventoryTimeout("slow")
    world = World(down(), down(), last)
    with pytest.raises(InventoryTimeout) as caught:
        await world.reserve()
    assert caught.value is last
    assert len(world.slept) == 2


@pytest.mark.parametrize("answer", [InsufficientInventory("short"), ReleaseFailed("refused")])
async def test_an_answer_of_the_service_is_never_retried(answer):
    world = World(answer)
    with pytest.raises(type(answer)):
        await world.reserve()
    assert (world.slept, len(world.attempts)) == ([], 1)


async def test_a_refusal_of_the_caller_is_not_retried_at_once_and_counts_against_the_breaker():
    refusal = InventoryRefusesUs("401", {"status": 401})
    world = World(*[refusal] * 5)
    for _ in range(5):
        with pytest.raises(InventoryRefusesUs):
            await world.reserve()
    assert (world.slept, len(world.attempts)) == ([], 5)
    assert world.breakers.reserver.effective_state == OPEN


async def test_an_open_circuit_sends_nothing_waits_for_nothing_and_is_reported():
    world = World()
    world.breakers.reserver.start_override(FORCED_OPEN, "test", 60_000)
    with pytest.raises(CircuitOpen):
        await world.reserve()
    assert (world.gateway.calls, world.slept) == ([], [])
    assert world.outcomes == [(1, "short_circuited")]
    assert world.attempts[0].call == "reserve"


async def test_a_circuit_that_opens_between_attempts_ends_the_call_and_remembers_what_may_have_run():
    world = World(down(may_have_run=True), *[down()] * 4)
    for _ in range(4):
        with pytest.raises(InventoryUnavailable):
            await world.breakers.reserver.acall(world.gateway.reserve, "x", LINES, "u")
    world.gateway.script = [InventoryTimeout("slow")]
    with pytest.raises(CircuitOpen) as caught:
        await world.reserve()
    assert world.breakers.reserver.effective_state == OPEN
    assert world.outcomes == [(1, "unavailable"), (2, "short_circuited")]
    assert caught.value.may_have_run is True


async def test_a_call_that_was_surely_never_sent_reports_it():
    world = World(*[down(may_have_run=False) for _ in range(3)])
    with pytest.raises(InventoryUnavailable) as caught:
        await world.reserve()
    assert caught.value.may_have_run is False


async def test_a_later_refused_connection_does_not_hide_that_an_earlier_attempt_may_have_run():
    world = World(InventoryTimeout("slow"), down(may_have_run=False), down(may_have_run=False))
    with pytest.raises(InventoryUnavailable) as caught:
        await world.reserve()
    assert caught.value.may_have_run is True


async def test_a_short_retry_after_is_obeyed_and_a_long_one_ends_the_call():
    world = World(down(retry_after_seconds=2.0), down(retry_after_seconds=6.0))
    with pytest.raises(InventoryUnavailable) as caught:
        await world.reserve()
    assert (world.slept, caught.value.retry_after_seconds) == ([2.0], 6.0)


async def test_no_attempt_begins_after_the_deadline():
    world = World(down(), down(), deadline_seconds=0.25)
    with pytest.raises(InventoryUnavailable):
        await world.reserve()
    assert world.slept == [0.1]


async def test_a_caller_who_retries_in_his_own_time_makes_one_attempt_through_the_same_breakers():
    world = World(down())
    with pytest.raises(InventoryUnavailable):
        await noted(world.inventory.once().release("o"), world.attempts)
    assert (world.slept, world.outcomes) == ([], [(1, "unavailable")])
    assert world.breakers.releaser.snapshot().failures == 1


async def test_each_operation_has_its_own_breaker():
    world = World(Availability(available=True, lines=()), RESERVED, True)
    await noted(world.inventory.check_availability(LINES), world.attempts)
    await world.reserve()
    assert await noted(world.inventory.release("o"), world.attempts) is True
    assert [attempt.call for attempt in world.attempts] == list(INVENTORY_CALLS)
    assert [breaker.snapshot().calls for breaker in world.breakers] == [1, 1, 1]
