"""Failures with the same cause form one group, whatever they name besides."""

from __future__ import annotations

import pytest

from services.domain.errors import CircuitOpen
from services.domain.release_causes import BREAKER_OPEN, MAX_LENGTH, NOT_TRIED, cause_of


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("no answer within 3000 ms", "no answer within 250 ms"),
        ("order ORD-1007 is unknown", "order ORD-2 is unknown"),
        ("hold 3fa85f64-5717-4562-b3fc-2c963f66afa6 is gone", "hold 7c9e6679-7425-40de-944b-e07fc1f90ae7 is gone"),
        ("stuck since 2026-03-01T12:00:00.123Z", "stuck since 2026-04-11 08:15"),
        ("cannot reach 10.0.0.7:8701", "cannot reach 10.0.0.12:8702"),
        ("cannot reach inventory:8701", "cannot reach inventory:9000"),
        ("request 1234567 refused", "request 99999 refused"),
        ("trace deadbeef01 lost", "trace 0011223344 lost"),
        ("answered 503.", "answered  503"),
    ],
)
def test_what_is_different_each_time_is_no_part_of_the_cause(one: str, other: str) -> None:
    assert cause_of(one) == cause_of(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("INVENTORY_UNAVAILABLE: answered 503", "INVENTORY_UNAVAILABLE: answered 502"),
        ("INVENTORY_TIMEOUT: too long", "INVENTORY_UNAVAILABLE: too long"),
        ("refused (422)", "refused (423)"),
        ("a-word-of-its-own", "another-word-of-its-own"),
    ],
)
def test_what_tells_causes_apart_stays(one: str, other: str) -> None:
    assert cause_of(one) != cause_of(other)


@pytest.mark.parametrize("nothing", [None, "", "  "])
def test_a_job_without_an_error_was_not_tried(nothing: str | None) -> None:
    assert cause_of(nothing) == NOT_TRIED


def test_every_breaker_is_the_same_cause() -> None:
    assert cause_of(CircuitOpen("inventoryServiceReleaser", 12.0).message) == BREAKER_OPEN


def test_a_cause_is_short_and_stays_itself() -> None:
    cause = cause_of("x " * 5000)
    assert len(cause) <= MAX_LENGTH
    assert cause_of(cause) == cause
