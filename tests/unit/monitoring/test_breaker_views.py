"""One breaker over all replicas, and its states over time."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from services.breakers.overview import Band, ReplicaBreaker, bands, by_name, interruptions, replica_breaker, severity
from state.breakers import BreakerTransition

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
CHECKER, RESERVER = "inventoryServiceChecker", "inventoryServiceReserver"


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


CLOSED = ReplicaBreaker("a", RESERVER, "closed", NOON, None, 40, 1, 50, 5, 0, ())


def test_a_report_is_read_with_the_wait_counted_from_the_heartbeat() -> None:
    reported = {
        "name": RESERVER, "state": "open", "since": "2026-11-22T12:00:00+00:00", "retryInMs": 18_000, "calls": 24,
        "failures": 17, "failureRate": 0.7, "thresholdPercentage": 50, "volumeThreshold": 5, "denied": 9,
        "buckets": [[3, 1], [4, 4]],
    }  # fmt: skip
    breaker = replica_breaker("a", reported, at(10))
    assert breaker.retry_at == at(28)
    assert breaker.since == NOON
    assert breaker.failure_rate == pytest.approx(17 / 24)
    assert breaker.buckets == ((3, 1), (4, 4))


def test_a_report_with_nulls_is_read_as_unknown() -> None:
    reported = {"name": RESERVER, "state": "closed", "since": None, "retryInMs": None, "failureRate": None}
    breaker = replica_breaker("a", reported, NOON)
    assert (breaker.since, breaker.retry_at, breaker.failure_rate, breaker.buckets) == (None, None, None, ())


def test_the_state_is_the_worst_over_the_replicas_and_counts_add_up() -> None:
    opened = replace(CLOSED, replica="b", state="open", since=at(5), retry_at=at(35), failures=9, calls=10, denied=3)
    (breaker,) = by_name([CLOSED, opened])
    assert breaker.state == "open"
    assert breaker.worst.replica == "b"
    assert (breaker.calls, breaker.failures, breaker.denied) == (50, 10, 3)
    assert breaker.failure_rate == pytest.approx(0.2)


def test_of_several_open_replicas_the_first_trial_counts() -> None:
    first = replace(CLOSED, replica="b", state="open", since=at(5), retry_at=at(35))
    later = replace(CLOSED, replica="c", state="open", since=None, retry_at=at(30))
    (breaker,) = by_name([first, later])
    assert breaker.worst.replica == "b"
    assert breaker.retry_at == at(30)


def test_breakers_come_in_the_order_of_an_order_s_life() -> None:
    shuffled = [replace(CLOSED, name=name) for name in ("zzz", RESERVER, CHECKER)]
    assert [breaker.name for breaker in by_name(shuffled)] == [CHECKER, RESERVER, "zzz"]


def test_forced_open_is_worst_and_an_unknown_state_counts_as_open() -> None:
    order = ["closed", "forced_closed", "half_open", "open", "forced_open"]
    assert sorted(order, key=severity) == order
    assert severity("melted") == severity("open")


OPENED = BreakerTransition("a", RESERVER, "closed", "open", at(100))
TRIED = BreakerTransition("a", RESERVER, "open", "half_open", at(130))
RECOVERED = BreakerTransition("a", RESERVER, "half_open", "closed", at(131))


def test_bands_run_from_the_start_through_every_transition_to_now() -> None:
    found = bands([RECOVERED, TRIED, OPENED], [(CLOSED, at(-60), at(200))], NOON)
    assert [(band.state, band.start, band.end) for band in found] == [
        ("closed", NOON, at(100)),
        ("open", at(100), at(130)),
        ("half_open", at(130), at(131)),
        ("closed", at(131), at(200)),
    ]


def test_a_breaker_without_transitions_is_one_band() -> None:
    assert bands([], [(CLOSED, at(-60), at(60))], NOON) == [Band("a", RESERVER, "closed", NOON, at(60))]


def test_nothing_is_known_of_a_breaker_before_its_replica_started() -> None:
    assert bands([], [(CLOSED, at(30), at(60))], NOON) == [Band("a", RESERVER, "closed", at(30), at(60))]


def test_a_replica_that_is_gone_is_known_up_to_its_last_transition() -> None:
    found = bands([OPENED, TRIED], [], NOON)
    assert found[-1] == Band("a", RESERVER, "open", at(100), at(130))


def test_transitions_before_the_start_only_tell_the_state_at_the_start() -> None:
    found = bands([OPENED, TRIED], [(replace(CLOSED, state="half_open"), at(-60), at(200))], at(120))
    assert [(band.state, band.start) for band in found] == [("open", at(120)), ("half_open", at(130))]


def test_interruptions_join_open_and_half_open_of_all_replicas() -> None:
    other = [
        BreakerTransition("b", RESERVER, "closed", "open", at(120)),
        BreakerTransition("b", RESERVER, "open", "closed", at(150)),
    ]
    history = bands([OPENED, TRIED, RECOVERED, *other], [(CLOSED, at(-60), at(200))], NOON)
    assert interruptions(history) == [(at(100), at(150))]
    assert interruptions(history, CHECKER) == []
