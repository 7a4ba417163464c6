"""The last half hour as the console draws it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.metrics.trends import BIN, BINS, CHECK, RESERVE, trends

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
WINDOW = timedelta(minutes=5)


def sample(placed: int, success: int, timeout: int, waiting: int) -> dict[str, Any]:
    return {
        "requests": {RESERVE: {"success": success, "timeout": timeout}},
        "latency": {},
        "orders": {"PLACED": placed},
        "failures": {},
        "queues": {"reservation": waiting},
        "outboxOldestAgeSeconds": 0.5,
    }


def steady(minutes: int, *, failing_from: int = 10_000) -> list[tuple[datetime, str, dict[str, Any]]]:
    """One order and one call a second, sampled every five; calls fail from a minute on."""
    found = []
    success = timeout = 0
    for step in range(minutes * 12 + 1):
        if step >= failing_from * 12:
            timeout += 5
        else:
            success += 5
        found.append((NOON - timedelta(minutes=minutes) + step * timedelta(seconds=5), "a", (step, success, timeout)))
    return [(at, name, sample(5 * step, ok, bad, step)) for at, name, (step, ok, bad) in found]


def test_orders_are_counted_per_minute() -> None:
    per_minute = trends(steady(20), (), NOON, WINDOW).orders_per_minute
    assert per_minute[5][1]["PLACED"] == pytest.approx(60)
    assert len(per_minute) == 40


def test_time_before_the_first_sample_is_unknown_and_not_zero() -> None:
    assert trends([], (), NOON, WINDOW).orders_per_minute == ()
    assert trends(steady(10), (), NOON, WINDOW).orders_per_minute[0][0] == NOON - timedelta(minutes=10)


def test_a_rate_stands_beside_the_one_of_the_window_before() -> None:
    reserve = trends(steady(20, failing_from=15), (), NOON, WINDOW).operations[RESERVE]
    assert reserve.technical.now == 0.0
    assert reserve.technical.before == pytest.approx(1.0, abs=0.02)
    assert reserve.technical.change == pytest.approx(-1.0, abs=0.02)
    assert reserve.calls == 300


def test_an_operation_without_calls_has_no_rate() -> None:
    check = trends(steady(5), (), NOON, WINDOW).operations[CHECK]
    assert (check.calls, check.technical.now, check.technical.change, check.p95.now) == (0, None, None, None)


def test_queues_have_a_course_that_ends_with_the_newest_sample() -> None:
    found = trends(steady(40), (), NOON, WINDOW)
    assert len(found.queues["reservation"]) == BINS
    assert found.queues["reservation"][-1] >= 40 * 12 - BIN / timedelta(seconds=5)
    assert found.sampled_at == NOON
