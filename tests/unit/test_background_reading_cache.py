"""Readings that take long hold nobody up, are shared, and outlive a failure."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.console.cache import RETRY_AFTER_SECONDS, BackgroundReadingCache
from services.console.metric_span import MAX_POINTS, PRESETS, STEPS, Wanted, span_of
from state.engine.source import SourceUnavailable

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


class Time:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def readings(time: Time) -> Iterator[BackgroundReadingCache]:
    made = BackgroundReadingCache(lambda: NOON, time, patience_seconds=0.02)
    yield made
    made.close()


def test_a_read_does_not_wait_for_a_slow_source_and_gets_its_value_later(readings: BackgroundReadingCache) -> None:
    gate = threading.Event()
    first = readings.get("k", 5, lambda: gate.wait(10) and "slow")
    assert (first.value, first.problem) == (None, None)
    gate.set()
    patient = next(reading for _ in range(500) if (reading := readings.get("k", 5, lambda: "other")).value)
    assert patient.value == "slow"


def test_concurrent_reads_of_one_key_share_one_load(readings: BackgroundReadingCache) -> None:
    gate, loads = threading.Event(), []

    def load() -> int:
        loads.append(1)
        gate.wait(10)
        return 7

    for _ in range(5):
        readings.get("k", 5, load)
    gate.set()
    while readings.get("k", 5, load).value is None:
        pass
    assert len(loads) == 1


def test_old_data_is_shown_while_new_data_is_read(readings: BackgroundReadingCache, time: Time) -> None:
    while readings.get("k", 5, lambda: "old").value is None:
        pass
    time.seconds = 6
    gate = threading.Event()
    assert readings.get("k", 5, lambda: gate.wait(10) and "new").value == "old"
    gate.set()


def test_a_failure_keeps_the_last_value_and_shows_what_is_wrong(readings: BackgroundReadingCache, time: Time) -> None:
    def fail() -> str:
        raise SourceUnavailable("The database does not answer.")

    while readings.get("k", 5, lambda: "good").value is None:
        pass
    time.seconds = 6
    while (reading := readings.get("k", 5, fail)).problem is None:
        pass
    assert (reading.value, reading.as_of, reading.problem) == ("good", NOON, "The database does not answer.")


def test_a_failed_load_is_retried_before_a_long_ttl(readings: BackgroundReadingCache, time: Time) -> None:
    while readings.get("k", 60, lambda: 1 // 0).problem is None:
        pass
    time.seconds = RETRY_AFTER_SECONDS - 0.1
    assert readings.get("k", 60, lambda: "back").problem is not None
    time.seconds = RETRY_AFTER_SECONDS
    while (reading := readings.get("k", 60, lambda: "back")).problem:
        pass
    assert reading.value == "back"


def test_an_unexpected_error_of_a_load_becomes_a_problem(
    readings: BackgroundReadingCache,
) -> None:
    while (reading := readings.get("k", 5, lambda: 1 // 0)).problem is None:
        pass
    assert reading.problem == "It could not be read."


@given(st.timedeltas(timedelta(0), timedelta(days=500)), st.timedeltas(timedelta(0), timedelta(days=500)))
def test_every_span_has_a_bounded_number_of_points_and_ends_in_the_past(length: timedelta, ago: timedelta) -> None:
    end = NOON - ago
    span = span_of(Wanted("custom", end - length, end), NOON)
    assert span.step in STEPS
    assert 1 <= span.points <= MAX_POINTS + 1 or span.step == STEPS[-1]
    assert span.points < 11_000
    assert span.start < span.end <= NOON + timedelta(minutes=1)
    assert span.begins(span.points) >= span.end


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_ends_now_and_has_its_length(preset: str) -> None:
    span = span_of(Wanted(preset), NOON)
    assert span.end == NOON
    assert PRESETS[preset] <= span.length < PRESETS[preset] + span.step
