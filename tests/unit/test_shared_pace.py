"""What the Inventory Service tells one replica with a 429, the others hear at the next heartbeat."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from services.base.settings import LONGEST_RETRY_AFTER_SECONDS, Settings
from services.clients.inventory.pacing import FORGET_SECONDS, Pace, Pacer
from services.clients.inventory.resilient import inventory_breakers
from services.domain.calls import InventoryCall
from services.domain.errors import InventoryThrottled
from services.metrics.recorder import Recorder
from services.metrics.registry import Metrics
from state.engine.database import Database, opened
from state.replicas import Replica
from tests.support.fakes import START, FrozenClock


class Worker:
    """What of a worker has to do with the pace."""

    def __init__(self, name: str, database: Database, clock: FrozenClock) -> None:
        def passed_seconds() -> float:
            return (clock() - START).total_seconds()

        self.pacer = Pacer(passed_seconds)
        breakers = inventory_breakers(Settings(), clock=clock)
        metrics = Metrics([breaker.label for breaker in breakers])
        self._recorder = Recorder(
            database, clock, name, breakers, metrics, self.pacer.fact, on_others=self.pacer.hear_others
        )
        self.beat = self._recorder.beat

    def refuse(self, retry_after_seconds: float) -> None:
        self.pacer.refused(self.pacer.monotonic(), retry_after_seconds)

    async def admits(self) -> bool:
        try:
            await self.pacer.admit(InventoryCall.RESERVE, 0.0)
        except InventoryThrottled:
            return False
        return True


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
def workers(sqlite_url: str, clock: FrozenClock) -> Iterator[tuple[Worker, Worker]]:
    with opened(sqlite_url) as database:
        yield Worker("one", database, clock), Worker("other", database, clock)


async def test_a_replica_that_was_never_refused_sends_nothing_while_another_has_to_wait(
    workers: tuple[Worker, Worker], clock: FrozenClock
) -> None:
    one, other = workers
    one.refuse(30)
    await one.beat()
    assert await other.admits()
    clock.advance(1)
    await other.beat()
    assert not await other.admits()
    with pytest.raises(InventoryThrottled) as refused:
        await other.pacer.admit(InventoryCall.RESERVE, 1.0)
    # A second of the thirty has passed when the heartbeat is read.
    assert 28 <= refused.value.retry_after_seconds <= 29.5
    clock.advance(29)
    assert other.pacer.is_throttled
    assert other.pacer._closed_until <= other.pacer.monotonic()


async def test_a_received_pace_is_not_forwarded(workers: tuple[Worker, Worker], clock: FrozenClock) -> None:
    one, other = workers
    one.refuse(30)
    await one.beat()
    await other.beat()
    assert other.pacer.told() is None
    # So an echo cannot keep the gate shut.
    for _ in range(40):
        clock.advance(1)
        await other.beat()
        await one.beat()
    assert one.pacer._closed_until == other.pacer._closed_until == 30


async def test_a_replica_that_is_gone_is_ignored(workers: tuple[Worker, Worker], clock: FrozenClock) -> None:
    one, other = workers
    one.refuse(300)
    await one.beat()
    clock.advance(10)
    await other.beat()
    assert await other.admits()


async def test_a_pace_is_reported_until_it_is_forgotten(workers: tuple[Worker, Worker], clock: FrozenClock) -> None:
    one, _ = workers
    assert one.pacer.told() is None
    one.refuse(5)
    assert one.pacer.told() == Pace(0.5, 5.0)
    clock.advance(6)
    assert one.pacer.told() == Pace(0.5, 0.0)
    clock.advance(FORGET_SECONDS)
    assert one.pacer.told() is None


def test_a_rate_is_taken_on_by_those_who_have_none_and_a_gate_is_never_opened_sooner() -> None:
    now = [100.0]
    pacer = Pacer(lambda: now[0])
    pacer.hear(Pace(8.0, 0.0))
    assert not pacer.is_throttled
    pacer.hear(Pace(8.0, 10.0))
    assert (pacer._rate, pacer._closed_until) == (8.0, 110.0)
    pacer.hear(Pace(2.0, 3.0))
    assert (pacer._rate, pacer._closed_until) == (8.0, 110.0)


def test_a_replica_that_is_answered_faster_keeps_its_own_rate() -> None:
    pacer = Pacer(lambda: 100.0)
    for _ in range(40):
        pacer.answered()
    pacer.hear(Pace(8.0, 10.0))
    assert pacer._rate == pytest.approx(38.0)


@pytest.mark.parametrize(
    ("said", "closed_until"),
    [
        ({"rate": 5, "closedMs": 4000}, 3.0),
        ({"rate": 5.5, "closedMs": 10**12}, LONGEST_RETRY_AFTER_SECONDS - 1.0),
        ({"rate": 5, "closedMs": 500}, None),
        ({"rate": 5, "closedMs": -5}, None),
        ({"rate": "5", "closedMs": 4000}, None),
        ({"rate": float("nan"), "closedMs": 4000}, None),
        ({"rate": 5, "closedMs": float("inf")}, None),
        ({"rate": 5}, None),
        ([], None),
        (None, None),
    ],
)
def test_the_pace_of_another_version_is_bounded_or_not_understood(said: Any, closed_until: float | None) -> None:
    pacer = Pacer(lambda: 0.0)
    other = Replica("other", START, START, [], {"pace": said})
    pacer.hear_others([other, Replica("silent", START, START, [], {})], START + timedelta(seconds=1))
    assert pacer.is_throttled == (closed_until is not None)
    if closed_until is not None:
        assert pacer._closed_until == pytest.approx(closed_until)


def test_a_clock_that_is_ahead_does_not_make_the_wait_longer() -> None:
    pacer = Pacer(lambda: 0.0)
    ahead = START + timedelta(seconds=20)
    pacer.hear_others([Replica("other", ahead, ahead, [], {"pace": {"rate": 5, "closedMs": 4000}})], START)
    assert pacer._closed_until == pytest.approx(4.0)
