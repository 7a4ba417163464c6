"""What a scrape answers: every series from the start, and counters also while the database is away."""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from services.base.settings import Settings
from services.clients.inventory.resilient import InventoryBreakers, inventory_breakers
from services.domain.calls import INVENTORY_CALLS, OUTCOMES, Attempt
from services.domain.orders import events
from services.domain.orders.model import OrderStatus, ReviewReason
from services.metrics import recorder as recording
from services.metrics.catalogue import LATENCY_BUCKETS
from services.metrics.expressions import SeriesValue
from services.metrics.gauges import QUEUE_GAUGES, GaugeValues
from services.metrics.recorder import Recorder
from services.metrics.registry import BREAKER_STATES, CONSUME_OUTCOMES, PUBLISH_OUTCOMES, Metrics

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
BREAKERS = ("inventoryServiceChecker", "inventoryServiceReserver", "inventoryServiceReleaser")
WAITING: dict[str, list[SeriesValue]] = {gauge.name: [({}, 0.0)] for gauge in QUEUE_GAUGES if not gauge.label} | {
    "reservation_queue_depth": [({}, 7.0)],
    "manual_reviews_open": [({"reason": "PENDING_INVENTORY"}, 5.0)],
}


def series(metrics: Metrics) -> dict[tuple[str, tuple[str, ...]], float]:
    """``(name, label values)`` of everything exposed."""
    found = {}
    for family in text_string_to_metric_families(metrics.exposition().decode()):
        for sample in family.samples:
            found[sample.name, tuple(value for _, value in sorted(sample.labels.items()))] = sample.value
    return found


def test_every_label_set_of_the_contract_is_there_before_anything_has_happened() -> None:
    found = set(series(Metrics(BREAKERS)))
    expected: set[tuple[str, tuple[str, ...]]] = {
        (name, ())
        for name in (
            "reservation_queue_depth",
            "release_queue_depth",
            "outbox_pending",
            "outbox_undeliverable",
            "outbox_oldest_age_seconds",
            "dead_letters",
            "gauges_age_seconds",
        )
    }
    bounds = [str(float(bound)) for bound in LATENCY_BUCKETS] + ["+Inf"]
    expected |= {
        ("inventory_request_duration_seconds_bucket", (le, name)) for name, le in product(INVENTORY_CALLS, bounds)
    }
    expected |= {("inventory_requests_total", pair) for pair in product(INVENTORY_CALLS, OUTCOMES)}
    expected |= {("inventory_circuit_breaker_state", pair) for pair in product(BREAKERS, BREAKER_STATES)}
    expected |= {("inventory_circuit_breaker_transitions_total", pair) for pair in product(BREAKERS, BREAKER_STATES)}
    codes = (
        "INVENTORY_UNAVAILABLE",
        "INSUFFICIENT_INVENTORY",
        "INVENTORY_TIMEOUT",
        "RESERVATION_FAILED",
        "RELEASE_FAILED",
    )
    expected |= {("inventory_order_failures_total", (reason,)) for reason in {*codes, *ReviewReason}}
    expected |= {("orders_total", (status,)) for status in OrderStatus}
    expected |= {("manual_reviews_open", (reason,)) for reason in ReviewReason}
    expected |= {("inventory_releases_total", (outcome,)) for outcome in ("released", "retried", "failed")}
    expected |= {("events_published_total", (o, t)) for t, o in product(events.OUTGOING, PUBLISH_OUTCOMES)}
    expected |= {("events_consumed_total", (o, t)) for t, o in product(events.INCOMING, CONSUME_OUTCOMES)}
    assert expected <= found


def test_failures_of_background_work_are_counted_per_loop_and_every_loop_is_there_from_the_start() -> None:
    metrics = Metrics(BREAKERS)
    metrics.background(["relay", "sweeper"])
    metrics.background_failed("sweeper")
    found = series(metrics)
    assert found["background_failures_total", ("relay",)] == 0
    assert found["background_failures_total", ("sweeper",)] == 1


def test_the_buckets_have_bounds_at_the_alert_and_around_the_timeout() -> None:
    assert {1.0, 3.0} <= set(LATENCY_BUCKETS)
    assert min(bound for bound in LATENCY_BUCKETS if bound > 3.0) <= 3.5
    assert list(LATENCY_BUCKETS) == sorted(LATENCY_BUCKETS)


class _Database:
    """Answers what it is told to, after it is let."""

    def __init__(self) -> None:
        self.asked = 0
        self.problem: Exception | None = None
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def read(self, _: Any) -> GaugeValues:
        self.asked += 1
        await self.may_answer.wait()
        if self.problem:
            raise self.problem
        return WAITING


class Worker:
    def __init__(self) -> None:
        self.now = NOON
        self.database = _Database()
        self.metrics = Metrics(BREAKERS)
        self.breakers: InventoryBreakers = inventory_breakers(Settings.load(), clock=lambda: self.now)
        database: Any = self.database
        self.recorder = Recorder(database, lambda: self.now, "r-1", self.breakers, self.metrics, dict)

    async def scrape(self) -> dict[tuple[str, tuple[str, ...]], float]:
        await self.recorder.refresh_gauges()
        return series(self.metrics)


@pytest.fixture
async def worker() -> Worker:
    return Worker()


async def test_a_scrape_shows_the_queues_and_that_they_are_fresh(worker: Worker) -> None:
    worker.now += timedelta(hours=1)
    found = await worker.scrape()
    assert (found["reservation_queue_depth", ()], found["gauges_age_seconds", ()]) == (7, 0)


async def test_while_the_database_is_away_counters_and_the_last_gauges_are_served_with_their_age(
    worker: Worker,
) -> None:
    await worker.scrape()
    worker.database.problem = ConnectionError("away")
    worker.now += timedelta(seconds=90)
    worker.metrics.attempt(Attempt(worker.now, "reserve", "success", 0.1))
    worker.breakers.reserver.start_override("forced_open", "drill", 60_000)
    found = await worker.scrape()
    assert found["inventory_requests_total", ("reserve", "success")] == 1
    assert found["reservation_queue_depth", ()] == 7
    assert found["gauges_age_seconds", ()] == 90
    assert found["inventory_circuit_breaker_state", ("inventoryServiceReserver", "forced_open")] == 1


async def test_gauges_that_were_never_read_are_as_old_as_the_process(worker: Worker) -> None:
    worker.database.problem = ConnectionError("away")
    worker.now += timedelta(seconds=30)
    assert (await worker.scrape())["gauges_age_seconds", ()] == 30


async def test_a_database_that_hangs_keeps_no_scrape_waiting_and_is_asked_once(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "GAUGES_PATIENCE_SECONDS", 0.01)
    worker.database.may_answer.clear()
    worker.now += timedelta(seconds=30)
    for _ in range(3):
        assert (await worker.scrape())["gauges_age_seconds", ()] == 30
    assert worker.database.asked == 1
    worker.database.may_answer.set()
    found = await worker.scrape()
    assert (found["reservation_queue_depth", ()], found["gauges_age_seconds", ()]) == (7, 0)


def test_whether_the_database_can_be_written_is_not_known_before_the_first_look() -> None:
    metrics = Metrics(BREAKERS)
    assert math.isnan(series(metrics)["database_writable", ()])
    metrics.database_is(writable=False)
    assert series(metrics)["database_writable", ()] == 0.0
