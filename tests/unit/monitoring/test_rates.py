"""Increments of counters, success rates and quantiles."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.metrics.math import Interval, Known, binned, increments, last_gauges, quantile_of, total
from services.metrics.sample import LATENCY_BUCKETS

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
STEP = timedelta(seconds=5)


def sample(success: int = 0, rejected: int = 0, timeout: int = 0, short: int = 0, **more: Any) -> dict[str, Any]:
    outcomes = {"success": success, "rejected": rejected, "timeout": timeout, "short_circuited": short}
    return {"requests": {"reserve": outcomes}, **more}


def rows(*samples: dict[str, Any], replica: str = "a") -> list[tuple[datetime, str, dict[str, Any]]]:
    return [(NOON + number * STEP, replica, values) for number, values in enumerate(samples)]


def test_the_first_sample_of_a_replica_counts_nothing_because_it_may_be_years_of_calls() -> None:
    assert increments(rows(sample(success=1_000_000))) == []


def test_increments_are_taken_per_replica_and_added_up() -> None:
    mixed = sorted(rows(sample(10), sample(14)) + rows(sample(100), sample(101), replica="b"), key=lambda row: row[0])
    assert total(increments(mixed), NOON).requests["reserve", "success"] == 5


def test_counts_are_whole_numbers_although_a_registry_keeps_floats() -> None:
    counts = increments([(NOON, "a", {"orders": {"PLACED": 3.0}}), (NOON + STEP, "a", {"orders": {"PLACED": 5.0}})])
    assert repr(counts[0][1].orders["PLACED"]) == "2"


def test_a_counter_that_fell_means_a_restart_and_everything_since_is_new() -> None:
    restarted = increments(rows(sample(success=50, timeout=3), sample(success=4, timeout=3)))
    assert restarted[0][1].requests == {
        ("reserve", "success"): 4,
        ("reserve", "rejected"): 0,
        ("reserve", "timeout"): 3,
        ("reserve", "short_circuited"): 0,
    }


def test_a_histogram_of_a_restarted_replica_is_new_as_well() -> None:
    def with_latency(success: int, *counts: int) -> dict[str, Any]:
        return sample(success, latency={"reserve": {"buckets": list(counts), "sum": 1.0, "count": counts[-1]}})

    grown = increments(rows(with_latency(5, 1, 5), with_latency(9, 2, 9)))
    restarted = increments(rows(with_latency(5, 1, 5), with_latency(2, 1, 2)))
    assert grown[0][1].buckets == {"reserve": [1, 4]}
    assert restarted[0][1].buckets == {"reserve": [1, 2]}


def test_a_refusal_is_an_answer_and_a_call_stopped_by_the_breaker_is_not() -> None:
    interval = increments(rows(sample(), sample(success=6, rejected=2, timeout=1, short=1)))[0][1]
    assert interval.technical_rate("reserve") == pytest.approx(0.8)
    assert interval.business_rate("reserve") == pytest.approx(0.75)
    assert interval.calls("reserve") == 10


def test_without_calls_there_is_no_rate() -> None:
    assert Interval().technical_rate("reserve") is None
    assert Interval().business_rate("reserve") is None
    assert Interval().latency_seconds("reserve", 0.95) is None


def cumulative(**counts: int) -> list[int]:
    """A histogram from counts per bound in milliseconds; ``beyond`` lies above the last bound."""
    found, seen = [], 0
    for bound in LATENCY_BUCKETS:
        seen += counts.get(f"ms{bound * 1000:g}", 0)
        found.append(seen)
    return [*found, seen + counts.get("beyond", 0)]


def test_a_quantile_is_interpolated_within_its_bucket() -> None:
    assert quantile_of(cumulative(ms100=10), 0.5) == pytest.approx(0.075)
    assert quantile_of(cumulative(ms100=90, ms500=10), 0.95) == pytest.approx(0.375)


def test_a_quantile_beyond_the_last_bound_is_the_last_bound() -> None:
    assert quantile_of(cumulative(ms100=1, beyond=9), 0.95) == LATENCY_BUCKETS[-1]


def test_an_empty_histogram_has_no_quantile() -> None:
    assert quantile_of(cumulative(), 0.5) is None
    assert quantile_of([], 0.5) is None


def test_every_step_falls_into_the_bin_of_its_time() -> None:
    steps = increments(rows(sample(0), sample(1), sample(3), sample(6)))
    found = binned(steps, NOON, 2, timedelta(seconds=10))
    assert [(at, interval.requests["reserve", "success"]) for at, interval in found] == [
        (NOON, 1),
        (NOON + timedelta(seconds=10), 5),
    ]


def test_steps_outside_the_bins_are_left_out() -> None:
    steps = increments(rows(sample(0), sample(1), sample(3)))
    assert binned(steps, NOON + timedelta(hours=1), 1, STEP)[0][1].requests == {}


def test_a_bin_without_a_sample_keeps_the_gauges_of_the_bin_before() -> None:
    gauges = last_gauges(rows(sample(queues={"release": 3}, outboxOldestAgeSeconds=1.5)), NOON - STEP, 4, STEP)
    assert gauges == [None, *[{"release": 3.0, "outboxAge": 1.5}] * 3]


def test_increments_that_are_known_are_neither_worked_out_again_nor_kept_beyond_their_samples() -> None:
    known = Known()
    seen = rows(sample(1), sample(4), sample(9))
    first = increments(seen, known=known)
    again = increments([*seen[1:], (NOON + 3 * STEP, "a", sample(11))], known=known)
    assert again[0][1] is first[1][1]
    assert [step.requests["reserve", "success"] for _, step in again] == [5, 2]
    assert [key[1:] for key in known.increments] == [(NOON + n * STEP, NOON + (n + 1) * STEP) for n in (1, 2)]


def test_adding_up_leaves_what_is_added_as_it_is() -> None:
    known = Known()
    seen = rows(
        sample(1, latency={"reserve": {"buckets": [1, 2]}}), sample(4, latency={"reserve": {"buckets": [2, 5]}})
    )
    for _ in range(2):
        summed = total(increments(seen, known=known), NOON)
        assert summed.requests["reserve", "success"] == 3
        assert summed.buckets == {"reserve": [1, 3]}


def test_a_bin_is_added_up_again_when_a_sample_has_come_to_it() -> None:
    known = Known()
    seen = rows(sample(1), sample(4), sample(9))
    first = binned(increments(seen, known=known), NOON, 2, 4 * STEP, known)
    more = [*seen, (NOON + 3 * STEP, "a", sample(11)), (NOON + 4 * STEP, "a", sample(12))]
    second = binned(increments(more, known=known), NOON, 2, 4 * STEP, known)
    third = binned(increments(more, known=known), NOON, 2, 4 * STEP, known)
    assert [interval.requests["reserve", "success"] for _, interval in (*first, *second)] == [8, 0, 10, 1]
    assert third[0][1] is second[0][1]
    assert list(known.bins) == [NOON, NOON + 4 * STEP]
