"""ReadingCache: shared, kept over failures, bounded."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from threading import Event, Thread

import pytest

from services.console.cache import Reading, ReadingCache
from state.engine.source import SourceUnavailable

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


class Clock:
    """Both clocks of the console, moved by hand."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds


class Source:
    """Counts how often it is asked; answers or is away."""

    def __init__(self) -> None:
        self.asked = 0
        self.is_away = False

    def __call__(self) -> int:
        self.asked += 1
        if self.is_away:
            raise SourceUnavailable("away")
        return self.asked


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def readings(clock: Clock) -> ReadingCache:
    return ReadingCache(clock.now, clock.monotonic, capacity=3)


@pytest.fixture
def source() -> Source:
    return Source()


def test_all_reads_within_the_ttl_share_one_load(readings: ReadingCache, source: Source, clock: Clock) -> None:
    first = readings.get("orders", 1.0, source)
    clock.seconds = 0.9
    assert readings.get("orders", 1.0, source) is first
    assert source.asked == 1
    clock.seconds = 1.0
    assert readings.get("orders", 1.0, source) == Reading(2, NOON + timedelta(seconds=1))


def test_a_failed_load_keeps_the_last_good_value(readings: ReadingCache, source: Source, clock: Clock) -> None:
    readings.get("orders", 1.0, source)
    source.is_away, clock.seconds = True, 5
    assert readings.get("orders", 1.0, source) == Reading(1, NOON, "away")


def test_a_source_that_never_answered_leaves_no_value_but_a_reason(readings: ReadingCache, source: Source) -> None:
    source.is_away = True
    assert readings.get("orders", 1.0, source) == Reading(None, None, "away")


def test_a_source_that_is_down_is_read_once_per_ttl(readings: ReadingCache, source: Source, clock: Clock) -> None:
    source.is_away = True
    for tenth in range(20):
        clock.seconds = tenth / 10
        readings.get("orders", 1.0, source)
    assert source.asked == 2


def test_a_source_that_is_back_clears_the_problem(readings: ReadingCache, source: Source, clock: Clock) -> None:
    source.is_away = True
    readings.get("orders", 1.0, source)
    source.is_away, clock.seconds = False, 1
    assert readings.get("orders", 1.0, source).problem is None


def test_expired_readings_are_loaded_again_at_the_next_use(readings: ReadingCache, source: Source) -> None:
    readings.get("orders", 60.0, source)
    readings.expire()
    assert readings.get("orders", 60.0, source).value == 2


def test_the_least_recently_used_reading_is_evicted(readings: ReadingCache, source: Source) -> None:
    for key in ("a", "b", "c", "a", "d"):
        readings.get(key, 60.0, source)
    readings.get("a", 60.0, source)
    assert source.asked == 4
    readings.get("b", 60.0, source)
    assert source.asked == 5


def test_an_unexpected_error_is_raised(readings: ReadingCache) -> None:
    with pytest.raises(ZeroDivisionError):
        readings.get("orders", 1.0, lambda: 1 // 0)


def test_during_a_load_other_threads_get_the_previous_reading(readings: ReadingCache, clock: Clock) -> None:
    readings.get("orders", 1.0, lambda: "old")
    clock.seconds = 2
    entered, go_on = Event(), Event()

    def slow() -> str:
        entered.set()
        go_on.wait(10)
        return "new"

    loader = Thread(target=readings.get, args=("orders", 1.0, slow))
    loader.start()
    entered.wait(10)
    assert readings.get("orders", 1.0, slow).value == "old"
    go_on.set()
    loader.join(10)
    assert readings.get("orders", 1.0, slow).value == "new"
