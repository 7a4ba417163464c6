"""When a circuit opens, who may try it, and what late, lost and cancelled calls do: nothing."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from services.base.settings import Settings
from services.clients.breaker import CLOSED, FORCED_CLOSED, FORCED_OPEN, HALF_OPEN, OPEN, AsyncBreaker
from services.clients.inventory.resilient import inventory_breakers
from services.clients.rolling_window import BreakerOptions
from services.domain.errors import CircuitOpen, InsufficientInventory, InventoryUnavailable, NotFound, ReleaseFailed

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class Time:
    """A wall clock and a monotonic clock that move together, by hand."""

    def __init__(self) -> None:
        self.now_ms = 0

    def clock(self) -> datetime:
        return START + timedelta(milliseconds=self.now_ms)

    def monotonic_ns(self) -> int:
        return self.now_ms * 1_000_000


class World:
    def __init__(self, **options: object) -> None:
        self.time = Time()
        self.transitions: list[tuple[str, str, datetime]] = []
        self.breaker = AsyncBreaker(
            "inventoryServiceReserver",
            BreakerOptions(**options),
            clock=self.time.clock,
            monotonic_ns=self.time.monotonic_ns,
            listeners=[lambda _, before, after, at: self.transitions.append((before, after, at))],
        )

    @property
    def state(self) -> str:
        return self.breaker.effective_state

    @property
    def moves(self) -> list[tuple[str, str]]:
        return [(before, after) for before, after, _ in self.transitions]

    async def ok(self, times: int = 1) -> None:
        for _ in range(times):
            await self.breaker.acall(answer)

    async def fail(self, times: int = 1, error: type[Exception] = InventoryUnavailable) -> None:
        for _ in range(times):
            with pytest.raises(error):
                await self.breaker.acall(broken, error)

    async def denied(self) -> CircuitOpen:
        with pytest.raises(CircuitOpen) as caught:
            await self.breaker.acall(unreachable)
        return caught.value

    def start(self) -> Call:
        return Call(self.breaker)


class Call:
    """A call in flight, to be ended by hand."""

    def __init__(self, breaker: AsyncBreaker) -> None:
        self.result: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.task = asyncio.create_task(breaker.acall(self.wait))

    async def wait(self) -> str:
        return await self.result

    async def begun(self) -> Call:
        await asyncio.sleep(0)
        return self

    async def succeeds(self) -> None:
        self.result.set_result("late")
        assert await self.task == "late"

    async def fails(self) -> None:
        self.result.set_exception(InventoryUnavailable("late"))
        with pytest.raises(InventoryUnavailable):
            await self.task

    async def is_cancelled(self) -> None:
        self.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await self.task


async def answer() -> str:
    return "yes"


async def broken(error: type[Exception]) -> None:
    raise error("no")


async def unreachable() -> None:
    raise AssertionError("an open circuit let a call through")


async def opened(**options: object) -> World:
    world = World(**options)
    await world.fail(5)
    assert world.state == OPEN
    return world


async def half_opened(**options: object) -> World:
    world = await opened(**options)
    world.time.now_ms += 30_000
    return world


async def test_the_result_of_the_function_is_passed_on_with_its_arguments():
    async def add(a: int, b: int) -> int:
        return a + b

    assert await World().breaker.acall(add, 1, 2) == 3


async def test_half_of_the_calls_failing_opens_the_circuit_and_less_does_not():
    world = World()
    await world.ok(51)
    await world.fail(50)
    assert world.state == CLOSED
    await world.fail()
    assert world.state == OPEN


async def test_fewer_calls_than_the_volume_threshold_open_nothing():
    world = World(volume_threshold=10)
    await world.fail(9)
    assert world.state == CLOSED
    await world.fail()
    assert world.state == OPEN


async def test_failures_leave_the_window_after_ten_seconds():
    world = World()
    await world.fail(4)
    world.time.now_ms += 10_000
    await world.fail(4)
    assert (world.state, world.breaker.snapshot().calls) == (CLOSED, 4)


@pytest.mark.parametrize("error", [InsufficientInventory, ReleaseFailed])
async def test_answers_of_the_service_are_successes_however_unwelcome(error):
    world = World()
    await world.fail(200, error)
    snapshot = world.breaker.snapshot()
    assert (snapshot.state, snapshot.calls, snapshot.failures) == (CLOSED, 200, 0)


async def test_an_answer_closes_a_half_open_circuit():
    world = await half_opened()
    await world.fail(1, InsufficientInventory)
    assert world.state == CLOSED


async def test_an_open_circuit_sends_nothing_and_states_when_to_come_back():
    world = await opened()
    world.time.now_ms += 12_000
    error = await world.denied()
    assert (error.retry_after_seconds, error.may_have_run) == (18.0, False)
    assert error.details == {"breaker": "inventoryServiceReserver"}


async def test_the_circuit_stays_open_for_thirty_seconds_to_the_millisecond():
    world = await opened()
    world.time.now_ms += 29_999
    await world.denied()
    world.time.now_ms += 1
    await world.ok()
    assert world.state == CLOSED


async def test_one_of_a_hundred_callers_tries_a_half_open_circuit():
    world = await half_opened()
    trial = await world.start().begun()
    for _ in range(99):
        assert (await world.denied()).retry_after_seconds == 1.0
    await trial.succeeds()
    assert world.moves == [(CLOSED, OPEN), (OPEN, HALF_OPEN), (HALF_OPEN, CLOSED)]


async def test_a_failed_trial_opens_the_circuit_for_another_full_period():
    world = await half_opened()
    await world.fail()
    world.time.now_ms += 29_999
    assert world.state == OPEN
    world.time.now_ms += 1
    assert world.state == HALF_OPEN


async def test_closing_forgets_the_failures_that_opened_the_circuit():
    world = await half_opened(window_ms=120_000)
    await world.ok()
    await world.fail(4)
    assert (world.state, world.breaker.snapshot().calls) == (CLOSED, 4)


async def test_a_cancelled_call_is_neither_failure_nor_success():
    world = World()
    for _ in range(10):
        await (await world.start().begun()).is_cancelled()
    assert (world.state, world.breaker.snapshot().calls) == (CLOSED, 0)


async def test_a_cancelled_trial_gives_its_place_back():
    world = await half_opened()
    await (await world.start().begun()).is_cancelled()
    assert world.state == HALF_OPEN
    await world.ok()
    assert world.state == CLOSED


async def test_a_trial_that_never_comes_back_is_replaced_after_its_bound_and_then_counts_for_nothing():
    world = await half_opened(trial_timeout_ms=6_000)
    lost = await world.start().begun()
    world.time.now_ms += 5_999
    await world.denied()
    world.time.now_ms += 1
    second = await world.start().begun()
    await lost.succeeds()
    assert world.state == HALF_OPEN
    await second.fails()
    assert world.state == OPEN


async def test_a_late_success_does_not_close_the_circuit():
    world = World()
    late = await world.start().begun()
    await world.fail(5)
    world.time.now_ms += 30_000
    await late.succeeds()
    assert world.state == HALF_OPEN


async def test_a_late_failure_neither_reopens_the_circuit_nor_extends_its_opening():
    world = World()
    late = [await world.start().begun() for _ in range(3)]
    await world.fail(5)
    world.time.now_ms += 20_000
    await late[0].fails()
    world.time.now_ms += 10_000
    await late[1].fails()
    assert world.state == HALF_OPEN
    await world.ok()
    await late[2].fails()
    assert (world.state, world.breaker.snapshot().failures) == (CLOSED, 0)


async def test_calls_run_side_by_side():
    world = World()
    calls = [await world.start().begun() for _ in range(50)]
    for call in reversed(calls):
        await call.succeeds()
    assert world.breaker.snapshot().calls == 50


async def test_the_snapshot_reports_the_content_of_a_tile():
    world = World()
    await world.ok(2)
    world.time.now_ms += 1_000
    await world.fail(3)
    world.time.now_ms += 500
    await world.denied()
    snapshot = world.breaker.snapshot()
    assert snapshot.name == "inventoryServiceReserver"
    assert (snapshot.state, snapshot.since) == (OPEN, START + timedelta(seconds=1))
    assert snapshot.retry_in_ms == 29_500
    assert (snapshot.calls, snapshot.failures, snapshot.failure_rate) == (5, 3, 60.0)
    assert (snapshot.threshold_percentage, snapshot.volume_threshold, snapshot.denied) == (50, 5, 1)
    assert snapshot.buckets == (*[(0, 0)] * 8, (2, 0), (3, 3))


async def test_listeners_receive_each_transition_once_and_at_its_own_time():
    world = await half_opened()
    world.time.now_ms += 7_000
    world.breaker.snapshot()
    await world.ok()
    assert world.transitions == [
        (CLOSED, OPEN, START),
        (OPEN, HALF_OPEN, START + timedelta(seconds=30)),
        (HALF_OPEN, CLOSED, START + timedelta(seconds=37)),
    ]


async def test_a_listener_may_look_at_the_breaker():
    world = World()
    seen = []
    world.breaker.on_transition(lambda breaker, *_: seen.append(breaker.snapshot().state))
    await world.fail(5)
    world.breaker.close()
    assert seen == [OPEN, CLOSED]


async def test_a_breaker_forced_open_denies_until_the_override_ends_and_then_goes_on_as_before():
    world = World()
    await world.ok()
    world.breaker.start_override(FORCED_OPEN, "maintenance", 60_000)
    error = await world.denied()
    assert (error.retry_after_seconds, world.breaker.snapshot().retry_in_ms) == (60.0, 60_000)
    assert world.breaker.snapshot().override.reason == "maintenance"
    assert world.breaker.snapshot().override.expires_at == START + timedelta(seconds=60)
    world.time.now_ms += 60_000
    await world.ok()
    assert world.transitions == [
        (CLOSED, FORCED_OPEN, START),
        (FORCED_OPEN, CLOSED, START + timedelta(seconds=60)),
    ]


async def test_a_breaker_forced_closed_lets_calls_through_counts_them_and_never_opens():
    world = await opened()
    world.breaker.start_override(FORCED_CLOSED, "they say it works", 60_000)
    await world.fail(20)
    snapshot = world.breaker.snapshot()
    assert (snapshot.state, snapshot.failures, snapshot.retry_in_ms) == (FORCED_CLOSED, 25, 0)


async def test_failures_under_a_forced_closing_leave_the_automatic_state_alone():
    world = World()
    world.breaker.start_override(FORCED_CLOSED, "test", 5_000)
    await world.fail(20)
    world.time.now_ms += 5_000
    assert world.state == CLOSED
    await world.fail()
    assert world.state == OPEN


async def test_the_reset_timer_runs_on_beneath_an_override_without_a_log_entry():
    world = await opened()
    world.breaker.start_override(FORCED_CLOSED, "test", 60_000)
    world.time.now_ms += 59_999
    await world.ok()
    world.time.now_ms += 1
    assert world.state == HALF_OPEN
    assert world.moves == [(CLOSED, OPEN), (OPEN, FORCED_CLOSED), (FORCED_CLOSED, HALF_OPEN)]


async def test_an_override_can_be_given_back_early_and_a_second_time_without_effect():
    world = World()
    world.breaker.start_override(FORCED_OPEN, "test", 60_000)
    world.breaker.end_override()
    world.breaker.end_override()
    assert world.moves == [(CLOSED, FORCED_OPEN), (FORCED_OPEN, CLOSED)]
    assert world.breaker.snapshot().override is None


async def test_a_new_override_replaces_the_present_one():
    world = World()
    world.breaker.start_override(FORCED_OPEN, "first", 60_000)
    world.breaker.start_override(FORCED_CLOSED, "second", 1_000)
    world.time.now_ms += 1_000
    assert world.state == CLOSED
    assert world.moves == [(CLOSED, FORCED_OPEN), (FORCED_OPEN, FORCED_CLOSED), (FORCED_CLOSED, CLOSED)]


async def test_a_call_admitted_before_an_override_counts_for_nothing_after_it():
    world = World()
    early = await world.start().begun()
    world.breaker.start_override(FORCED_CLOSED, "test", 60_000)
    await early.fails()
    assert world.breaker.snapshot().failures == 0


async def test_the_manual_states_of_pybreaker_work_and_opening_twice_extends_nothing():
    world = World()
    world.breaker.open()
    world.time.now_ms += 10_000
    world.breaker.open()
    assert world.breaker.snapshot().retry_in_ms == 20_000
    world.breaker.half_open()
    world.breaker.close()
    assert world.moves == [(CLOSED, OPEN), (OPEN, HALF_OPEN), (HALF_OPEN, CLOSED)]


async def test_the_blocking_ways_into_pybreaker_are_refused():
    breaker = World().breaker
    with pytest.raises(TypeError, match="acall"):
        breaker.call(len, "")
    with pytest.raises(TypeError, match="acall"), breaker.calling():
        pass
    with pytest.raises(TypeError, match="acall"):
        breaker(len)("")


def test_the_three_breakers_are_built_from_the_settings():
    settings = Settings(
        breaker_error_threshold_percentage=40,
        breaker_rolling_count_timeout=6_000,
        breaker_rolling_count_buckets=6,
        breaker_reset_timeout=2_000,
        breaker_volume_threshold=7,
        inventory_service_timeout=3_000,
    )
    breakers = inventory_breakers(settings, clock=Time().clock)
    assert [breaker.name for breaker in breakers] == [
        "inventoryServiceChecker",
        "inventoryServiceReserver",
        "inventoryServiceReleaser",
    ]
    assert breakers.reserver.options == BreakerOptions(
        threshold_percentage=40,
        window_ms=6_000,
        buckets=6,
        reset_timeout_ms=2_000,
        volume_threshold=7,
        trial_timeout_ms=6_000,
    )
    assert breakers.named("inventoryServiceChecker") is breakers.checker
    with pytest.raises(NotFound):
        breakers.named("inventoryServiceGuesser")


async def test_a_wall_clock_that_goes_back_an_hour_changes_nothing_but_the_times_shown():
    world = World()
    skew = timedelta(hours=1)
    world.breaker._clock = lambda: world.time.clock() - skew
    await world.fail(5)
    assert world.state == OPEN
    world.time.now_ms += 29_999
    assert world.state == OPEN
    world.time.now_ms += 1
    assert world.state == "half_open"
    await world.ok()
    assert world.state == CLOSED
