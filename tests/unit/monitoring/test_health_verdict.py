"""The one sentence that says how the integration is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.breakers.overview import ReplicaBreaker, by_name
from services.metrics.health import Facts, Level, Thresholds, assess

THRESHOLDS = Thresholds(success_rate=0.95, queue_depth=100, latency_seconds=1.0)
CLOSED = ReplicaBreaker("a", "inventoryServiceReserver", "closed", None, None, 40, 1, 50, 5, 0, ())
WELL = Facts(
    workers=1,
    breakers=by_name([CLOSED]),
    queues={},
    outbox_age_seconds=0.2,
    reserve_rate=0.998,
    check_p95_seconds=0.08,
)


def test_all_well_is_shown_with_the_numbers_it_rests_on() -> None:
    verdict = assess(WELL, THRESHOLDS)
    assert verdict.level == Level.GOOD
    assert verdict.sentence == "1 breaker closed; 99.8 % of reservations answered; nothing waits for a person."
    assert verdict.findings == ()


def test_without_calls_nothing_is_claimed_about_rates() -> None:
    verdict = assess(replace(WELL, reserve_rate=None, check_p95_seconds=None), THRESHOLDS)
    assert verdict.sentence == "1 breaker closed; nothing waits for a person."


def test_the_worst_finding_comes_first_and_leads_to_its_page() -> None:
    facts = replace(WELL, breakers=by_name([replace(CLOSED, state="open")]), queues={"reviews": 2, "reservation": 14})
    verdict = assess(facts, THRESHOLDS)
    assert verdict.level == Level.BROKEN
    assert [finding.page for finding in verdict.findings] == ["breakers", "orders", "reviews"]
    assert verdict.sentence == (
        "The breaker of reservation is open. 14 orders wait for inventory. 2 cases wait for a person."
    )


def test_orders_that_wait_lead_to_exactly_those_orders() -> None:
    (finding,) = assess(replace(WELL, queues={"reservation": 1}), THRESHOLDS).findings
    assert finding.text == "1 order waits for inventory"
    assert finding.filters == (("status", "PENDING_INVENTORY"),)
    assert finding.level == Level.ATTENTION


@pytest.mark.parametrize(
    ("facts", "level", "text"),
    [
        (replace(WELL, workers=0, breakers=()), Level.BROKEN, "No worker is running"),
        (replace(WELL, nats_connected=False), Level.BROKEN, "The connection to NATS is lost"),
        (replace(WELL, reserve_rate=0.9), Level.BROKEN, "Only 90.0 % of reservations were answered"),
        (replace(WELL, check_p95_seconds=1.2), Level.ATTENTION, "Availability checks take 1,200 ms"),
        (replace(WELL, queues={"reservation": 101}), Level.BROKEN, "101 orders wait for inventory"),
        (replace(WELL, queues={"failed_releases": 1}), Level.ATTENTION, "1 release failed"),
        (replace(WELL, queues={"dead_letters": 2}), Level.ATTENTION, "2 dead letters"),
        (replace(WELL, queues={"differences": 1}), Level.ATTENTION, "1 difference between orders, stock and money."),
        (replace(WELL, outbox_age_seconds=61), Level.BROKEN, "The oldest event has waited 61 s"),
        (replace(WELL, breakers=by_name([replace(CLOSED, state="half_open")])), Level.ATTENTION, "half-open"),
        (replace(WELL, breakers=by_name([replace(CLOSED, state="forced_open")])), Level.BROKEN, "forced open"),
        (replace(WELL, breakers=by_name([replace(CLOSED, state="forced_closed")])), Level.ATTENTION, "forced closed"),
    ],
)
def test_each_trouble_has_its_words_and_its_weight(facts: Facts, level: Level, text: str) -> None:
    verdict = assess(facts, THRESHOLDS)
    assert verdict.level == level
    assert text in verdict.sentence


def test_a_threshold_is_not_trouble_until_it_is_passed() -> None:
    at_the_edge = replace(WELL, reserve_rate=0.95, check_p95_seconds=1.0, outbox_age_seconds=60)
    assert assess(at_the_edge, THRESHOLDS).level == Level.GOOD


def test_refused_orders_are_trouble_although_every_breaker_is_closed_and_no_rate_shows_them() -> None:
    verdict = assess(replace(WELL, reserve_rate=None, refused=32), THRESHOLDS)
    assert verdict.level == Level.BROKEN
    assert verdict.sentence == "32 orders were refused because inventory gave no answer."
    assert verdict.findings[0].filters == (("status", "REJECTED"),)
