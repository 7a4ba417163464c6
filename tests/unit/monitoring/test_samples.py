"""Increments of counters, success rates and quantiles."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.metrics import trends
from services.metrics.catalogue import BUSINESS_RATE, CALLS, LATENCY, LATENCY_BUCKETS, SUCCESS_RATE
from services.metrics.expressions import quantile
from services.metrics.sample import BOUNDS, Bin, Counts, Known, MetricSample, SampleRow, increments, parse
from services.metrics.trends import BIN, BINS, Step, last_gauges, total

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
STEP = timedelta(seconds=5)


def sample(success: int = 0, rejected: int = 0, timeout: int = 0, short: int = 0, **more: Any) -> dict[str, Any]:
    outcomes = {"success": success, "rejected": rejected, "timeout": timeout, "short_circuited": short}
    return {"requests": {"reserve": outcomes}, **more}


def rows(*samples: dict[str, Any], replica: str = "a") -> list[tuple[datetime, str, dict[str, Any]]]:
    return [(NOON + number * STEP, replica, values) for number, values in enumerate(samples)]


def parsed(found: list[SampleRow]) -> list[MetricSample]:
    return [parse(row) for row in found]


def binned(steps: list[Step], start: datetime, known: Known | None = None) -> list[Bin]:
    return list(trends.binned(steps, start, known or Known()).values())


def of(counts: Counts, *key: str) -> int:
    return counts.counters[key]


REQUESTS, SUCCESS = "inventory_requests_total", ("inventory_requests_total", "reserve", "success")


def test_the_first_sample_of_a_replica_counts_nothing_because_it_may_be_years_of_calls() -> None:
    assert increments(parsed(rows(sample(success=1_000_000)))) == []


def test_increments_are_taken_per_replica_and_added_up() -> None:
    mixed = sorted(rows(sample(10), sample(14)) + rows(sample(100), sample(101), replica="b"), key=lambda row: row[0])
    assert of(total(increments(parsed(mixed)), NOON), *SUCCESS) == 5


def test_counts_are_whole_numbers_although_a_registry_keeps_floats() -> None:
    counts = increments(parsed(rows({"orders": {"PLACED": 3.0}}, {"orders": {"PLACED": 5.0}})))
    assert repr(of(counts[0][1], "orders_total", "PLACED")) == "2"


def test_a_counter_that_fell_means_a_restart_and_everything_since_is_new() -> None:
    restarted = increments(parsed(rows(sample(success=50, timeout=3), sample(success=4, timeout=3))))
    assert restarted[0][1].counters == {
        (REQUESTS, "reserve", "success"): 4,
        (REQUESTS, "reserve", "rejected"): 0,
        (REQUESTS, "reserve", "timeout"): 3,
        (REQUESTS, "reserve", "short_circuited"): 0,
    }


def test_a_histogram_of_a_restarted_replica_is_new_as_well() -> None:
    def with_latency(success: int, *counts: int) -> dict[str, Any]:
        return sample(success, latency={"reserve": {"buckets": list(counts), "sum": 1.0, "count": counts[-1]}})

    grown = increments(parsed(rows(with_latency(5, 1, 5), with_latency(9, 2, 9))))
    restarted = increments(parsed(rows(with_latency(5, 1, 5), with_latency(2, 1, 2))))
    assert grown[0][1].buckets == {"reserve": [1, 4]}
    assert restarted[0][1].buckets == {"reserve": [1, 2]}


def test_a_refusal_is_an_answer_and_a_call_stopped_by_the_breaker_is_not() -> None:
    counts = increments(parsed(rows(sample(), sample(success=6, rejected=2, timeout=1, short=1))))[0][1]
    assert SUCCESS_RATE.evaluate(counts)["reserve"] == pytest.approx(0.8)
    assert BUSINESS_RATE.evaluate(counts)["reserve"] == pytest.approx(0.75)
    assert CALLS.evaluate(counts)["reserve"] == 10


def test_without_calls_there_is_no_rate() -> None:
    assert SUCCESS_RATE.evaluate(Counts()) == {}
    assert BUSINESS_RATE.evaluate(Counts()) == {}
    assert LATENCY[0.95].evaluate(Counts()) == {}


def cumulative(**counts: int) -> list[int]:
    """A histogram from counts per bound in milliseconds; ``beyond`` lies above the last bound."""
    found, seen = [], 0
    for bound in LATENCY_BUCKETS:
        seen += counts.get(f"ms{bound * 1000:g}", 0)
        found.append(seen)
    return [*found, seen + counts.get("beyond", 0)]


def quantile_of(counts: list[int], share: float) -> float | None:
    return quantile(share, dict(zip(BOUNDS, counts, strict=False)))


def test_a_quantile_is_interpolated_within_its_bucket() -> None:
    assert quantile_of(cumulative(ms100=10), 0.5) == pytest.approx(0.075)
    assert quantile_of(cumulative(ms100=90, ms500=10), 0.95) == pytest.approx(0.375)


def test_a_quantile_beyond_the_last_bound_is_the_last_bound() -> None:
    assert quantile_of(cumulative(ms100=1, beyond=9), 0.95) == LATENCY_BUCKETS[-1]


def test_an_empty_histogram_has_no_quantile() -> None:
    assert quantile_of(cumulative(), 0.5) is None
    assert quantile_of([], 0.5) is None


def test_every_step_falls_into_the_bin_of_its_time() -> None:
    samples = rows(*(sample(number * (number + 1) // 2) for number in range(9)))
    found = binned(increments(parsed(samples)), NOON)
    assert [of(one.counts, *SUCCESS) for one in found[:3]] == [15, 21, 0]
    assert len(found) == BINS


def test_steps_outside_the_bins_are_left_out() -> None:
    steps = increments(parsed(rows(sample(0), sample(1), sample(3))))
    assert binned(steps, NOON + timedelta(hours=1))[0].counts.counters == {}


def test_a_bin_without_a_sample_keeps_the_gauges_of_the_bin_before() -> None:
    found = parsed(rows(sample(queues={"release": 3}, outboxOldestAgeSeconds=1.5)))
    gauges = last_gauges(found, NOON - BIN)
    assert gauges == [None, *[{"release": 3.0, "outboxAge": 1.5}] * (BINS - 1)]


def test_increments_that_are_known_are_neither_worked_out_again_nor_kept_beyond_their_samples() -> None:
    known = Known()
    seen = rows(sample(1), sample(4), sample(9))
    first = increments(parsed(seen), known=known)
    again = increments(parsed([*seen[1:], (NOON + 3 * STEP, "a", sample(11))]), known=known)
    assert again[0][1] is first[1][1]
    assert [of(counts, *SUCCESS) for _, counts in again] == [5, 2]
    assert [key[1:] for key in known.increments] == [(NOON + n * STEP, NOON + (n + 1) * STEP) for n in (1, 2)]


def test_samples_are_parsed_once() -> None:
    known = Known()
    seen = rows(sample(1), sample(4), sample(9))
    first, again = known.parsed(seen), known.parsed(seen[1:])
    assert again[0] is first[1]
    assert list(known.samples) == [(at, replica) for at, replica, _ in seen[1:]]


def test_a_sample_in_an_unknown_shape_adds_nothing_and_neither_does_the_next() -> None:
    steps = increments(parsed(rows(sample(1), {"requests": ["odd"]}, sample(4), sample(9))))
    assert [of(counts, *SUCCESS) for _, counts in steps] == [0, 0, 5]


def test_adding_up_leaves_what_is_added_as_it_is() -> None:
    known = Known()
    seen = rows(
        sample(1, latency={"reserve": {"buckets": [1, 2]}}), sample(4, latency={"reserve": {"buckets": [2, 5]}})
    )
    for _ in range(2):
        summed = total(increments(parsed(seen), known=known), NOON)
        assert of(summed, *SUCCESS) == 3
        assert summed.buckets == {"reserve": [1, 3]}


def test_a_bin_is_added_up_again_when_a_sample_has_come_to_it() -> None:
    known = Known()
    seen = rows(sample(1), sample(4), sample(9))
    first = binned(increments(parsed(seen), known=known), NOON, known)
    more = parsed([*seen, (NOON + 3 * STEP, "a", sample(11)), (NOON + BIN, "a", sample(12))])
    second = binned(increments(more, known=known), NOON, known)
    third = binned(increments(more, known=known), NOON, known)
    assert [of(one.counts, *SUCCESS) for one in (*first[:2], *second[:2])] == [8, 0, 10, 1]
    assert third[0] is second[0]
    assert list(known.bins)[:2] == [NOON, NOON + BIN]
