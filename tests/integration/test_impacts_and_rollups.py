"""The incident impact and the rolled-up history over SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from services.domain.incident_impact import DENIED, FLAGGED, REFUSED, Impact
from services.domain.orders.events import timestamp
from services.metrics.catalogue import LATENCY_BUCKETS
from services.metrics.rollup import MetricRollups, Rollup, decoded
from state import incident_impacts, order_search, orders, samples, tables
from state.engine.database import Database
from state.incident_impacts import Window
from state.order_search import OrderQuery
from state.samples import HOUR, MINUTE
from tests.support.retention import prune
from tests.support.seed_console import order

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
RESERVED = ("inventory_requests_total", "reserve", "success")


def impacts_of(database: Database, order_id: str, at: datetime, *kinds: str, operation: str = "reserve") -> None:
    found = [Impact(at, kind, operation, "X") for kind in kinds]
    database.write_now(lambda c: incident_impacts.add(c, order_id, found))


def test_a_window_holds_what_happened_from_its_start_on_and_before_its_end(database: Database) -> None:
    for order_id, at in (
        ("before", NOON - SECOND),
        ("first", NOON),
        ("last", NOON + 9 * SECOND),
        ("after", NOON + 10 * SECOND),
    ):
        impacts_of(database, order_id, at, DENIED)
    window = Window(NOON, NOON + 10 * SECOND)
    found = database.read_now(lambda c: incident_impacts.page(c, window, limit=10))
    assert [row.order_id for row in found] == ["last", "first"]
    assert database.read_now(lambda c: incident_impacts.count_orders(c, window)) == 2


def test_an_order_hurt_in_several_ways_is_listed_once_and_counted_once(database: Database) -> None:
    impacts_of(database, "a", NOON, DENIED, FLAGGED)
    impacts_of(database, "a", NOON + SECOND, DENIED)
    impacts_of(database, "b", NOON, REFUSED, operation="check_availability")
    window = Window(NOON, NOON + HOUR)
    found = {row.order_id: row for row in database.read_now(lambda c: incident_impacts.page(c, window, limit=10))}
    assert [impact.kind for impact in found["a"].impacts] == [DENIED, FLAGGED, DENIED]
    assert found["a"].first_at == NOON
    assert database.read_now(lambda c: incident_impacts.counts(c, window)) == {
        (DENIED, "reserve"): 2,
        (FLAGGED, "reserve"): 1,
        (REFUSED, "check_availability"): 1,
    }
    assert database.read_now(lambda c: incident_impacts.count_orders(c, window)) == 2


def test_a_window_of_one_operation_and_kind_leaves_the_rest_out(database: Database) -> None:
    impacts_of(database, "a", NOON, DENIED)
    impacts_of(database, "b", NOON, DENIED, operation="release")
    impacts_of(database, "c", NOON, FLAGGED)
    window = Window(NOON, NOON + SECOND, ("reserve",), (DENIED,))
    assert [row.order_id for row in database.read_now(lambda c: incident_impacts.page(c, window, limit=10))] == ["a"]


def test_the_filter_of_orders_finds_the_orders_that_the_list_names(database: Database) -> None:
    for number in range(5):
        made = order(f"ORD-{number}", "REJECTED", NOON - timedelta(minutes=number))
        database.write_now(lambda c, made=made: orders.add(c, made, "h"))
    impacts_of(database, "ORD-1", NOON, DENIED, FLAGGED)
    impacts_of(database, "ORD-3", NOON + SECOND, DENIED)
    window = Window(NOON, NOON + 2 * SECOND)
    listed = {row.order_id for row in database.read_now(lambda c: incident_impacts.page(c, window, limit=10))}
    found = database.read_now(lambda c: order_search.find(c, OrderQuery(incident=window), limit=10)).orders
    assert {one.order_id for one in found} == listed == {"ORD-1", "ORD-3"}


def test_pages_of_a_window_neither_lose_nor_repeat_an_order(database: Database) -> None:
    for number in range(45):
        impacts_of(database, f"ORD-{number:02}", NOON + (number // 3) * SECOND, DENIED)
    window = Window(NOON, NOON + HOUR)

    def ids(page: int) -> list[str]:
        return [
            row.order_id
            for row in database.read_now(lambda c: incident_impacts.page(c, window, limit=20, offset=20 * page))
        ]

    pages = [ids(number) for number in range(3)]
    assert [len(page) for page in pages] == [20, 20, 5]
    assert len({order_id for page in pages for order_id in page}) == 45


# ------------------------------------------------------------------------------------ rolling up


class Worker:
    """A replica that answers so many reservations per second and samples every five."""

    def __init__(self, database: Database, replica: str, started: datetime, rate: int = 2) -> None:
        self._database, self.replica, self.started, self.rate = database, replica, started, rate

    def samples(self, start: datetime, end: datetime) -> None:
        at = start
        while at < end:
            self.sample(at)
            at += 5 * SECOND

    def sample(self, at: datetime) -> None:
        count = int((at - self.started) / SECOND) * self.rate
        taken = {
            "startedAt": timestamp(self.started),
            "requests": {"reserve": {"success": count}} if count else {"reserve": {}},
            "latency": {"reserve": {"buckets": [count] * (len(LATENCY_BUCKETS) + 1), "sum": 0.0, "count": count}},
            "orders": {"PLACED": count},
            "failures": {},
            "releases": {},
            "queues": {"reservation": at.second},
            "breakers": {"inventoryServiceReserver": "open" if at.minute == 3 and at.second < 20 else "closed"},
            "outboxOldestAgeSeconds": 0.0,
        }
        self._database.write_now(lambda c: samples.add(c, at, self.replica, taken))


def rolled(database: Database, step: timedelta = MINUTE) -> dict[tuple[datetime, str], Rollup]:
    found = database.read_now(lambda c: samples.rollups_between(c, step, NOON - 48 * HOUR, NOON + 48 * HOUR))
    return {(at, replica): decoded(counts) for at, replica, counts in found}


def reserved(database: Database, step: timedelta = MINUTE) -> int:
    return sum(rollup.counted.counters[RESERVED] for rollup in rolled(database, step).values())


async def roll_up(database: Database, now: datetime) -> None:
    keeper = MetricRollups(database, lambda: now)
    while await keeper.run():
        pass


async def test_a_minute_holds_what_was_counted_in_it_and_the_gauges_of_its_samples(database: Database) -> None:
    Worker(database, "a", NOON).samples(NOON, NOON + 5 * MINUTE)
    await roll_up(database, NOON + 5 * MINUTE + 20 * SECOND)
    found = rolled(database)
    assert sorted(at for at, _ in found) == [NOON + n * MINUTE for n in range(5)]
    # The sample at a full minute tells of the five seconds before it.
    assert [found[NOON + n * MINUTE, "a"].counted.counters[RESERVED] for n in range(5)] == [
        110,
        120,
        120,
        120,
        120,
    ]
    minute = found[NOON + 3 * MINUTE, "a"]
    assert (minute.last["reservation"], minute.highest["reservation"]) == (55, 55)
    assert minute.breakers == {"inventoryServiceReserver": "open"}
    assert found[NOON + 2 * MINUTE, "a"].breakers == {"inventoryServiceReserver": "closed"}
    assert minute.counted.buckets["reserve"][-1] == 120


async def test_a_minute_is_not_rolled_up_before_its_last_sample_is_there(database: Database) -> None:
    Worker(database, "a", NOON).samples(NOON, NOON + 2 * MINUTE)
    await roll_up(database, NOON + 2 * MINUTE + 5 * SECOND)
    assert sorted(at for at, _ in rolled(database)) == [NOON]


async def test_rolling_up_again_and_by_several_replicas_at_once_counts_nothing_twice(database: Database) -> None:
    for name in ("a", "b"):
        Worker(database, name, NOON).samples(NOON, NOON + 5 * MINUTE)
    now = NOON + 6 * MINUTE
    await asyncio.gather(*(roll_up(database, now) for _ in range(3)))
    once = rolled(database)
    await roll_up(database, now + 30 * SECOND)
    assert rolled(database) == once
    assert reserved(database) == 2 * 590


async def test_a_sample_that_came_late_is_counted_when_its_minute_is_rolled_up_once_more(database: Database) -> None:
    Worker(database, "a", NOON).samples(NOON, NOON + 3 * MINUTE)
    await roll_up(database, NOON + 3 * MINUTE + 10 * SECOND)
    late = Worker(database, "b", NOON - MINUTE)
    late.samples(NOON + 2 * MINUTE, NOON + 3 * MINUTE)
    await roll_up(database, NOON + 3 * MINUTE + 40 * SECOND)
    assert (NOON + 2 * MINUTE, "b") in rolled(database)


async def test_a_restart_loses_and_doubles_no_count_even_under_the_same_name(database: Database) -> None:
    Worker(database, "a", NOON).samples(NOON, NOON + 2 * MINUTE)
    # It counted faster before, so that no counter falls: only the time of its start tells.
    Worker(database, "a", NOON + 2 * MINUTE, rate=500).samples(NOON + 2 * MINUTE, NOON + 4 * MINUTE)
    await roll_up(database, NOON + 5 * MINUTE)
    assert reserved(database) == 2 * 115 + 500 * 115


async def test_a_pause_of_the_database_loses_no_count(database: Database) -> None:
    worker = Worker(database, "a", NOON)
    worker.samples(NOON, NOON + 2 * MINUTE)
    await roll_up(database, NOON + 2 * MINUTE + 30 * SECOND)
    worker.samples(NOON + 40 * MINUTE, NOON + 42 * MINUTE)
    await roll_up(database, NOON + 43 * MINUTE)
    assert reserved(database) == 2 * (42 * 60 - 5)


async def test_the_first_sample_of_a_replica_of_unknown_age_counts_nothing(database: Database) -> None:
    Worker(database, "a", NOON - 100 * HOUR).samples(NOON, NOON + MINUTE)
    await roll_up(database, NOON + 2 * MINUTE)
    assert reserved(database) == 110


async def test_minutes_become_hours_once_an_hour_is_over_and_add_up_to_the_same(database: Database) -> None:
    worker = Worker(database, "a", NOON)
    worker.samples(NOON, NOON + 125 * MINUTE)
    await roll_up(database, NOON + 126 * MINUTE)
    hours = rolled(database, HOUR)
    assert sorted(hours) == [(NOON, "a"), (NOON + HOUR, "a")]
    assert hours[NOON, "a"].counted.counters[RESERVED] == 2 * 3595
    assert hours[NOON + HOUR, "a"].counted.counters[RESERVED] == 2 * 3600
    assert hours[NOON, "a"].highest["reservation"] == 55


async def test_a_day_and_a_month_have_a_known_size(database: Database) -> None:
    """Per replica: 17 280 samples a day (under 30 MB), 1 440 minutes a day (under 2 MB; under 55 MB a month)."""
    full = Worker(database, "a", NOON)
    full.samples(NOON, NOON + 2 * MINUTE)
    await roll_up(database, NOON + 3 * MINUTE)
    sample = database.read_now(lambda c: samples.since(c, NOON))[-1][2]
    minute = database.read_now(lambda c: samples.rollups_between(c, MINUTE, NOON, NOON + HOUR))[0][2]
    assert len(orjson.dumps(_of_three_operations(sample))) < 1700
    assert len(orjson.dumps(_of_three_operations(minute))) < 1250


def _of_three_operations(row: dict[str, Any]) -> dict[str, Any]:
    """The same row with everything counted that can be counted, in large numbers."""
    operations = ("check_availability", "reserve", "release")
    outcomes = (
        "success",
        "rejected",
        "timeout",
        "unavailable",
        "invalid",
        "short_circuited",
        "refused_us",
        "throttled",
    )
    latency: Any = [1_000_000] * (len(LATENCY_BUCKETS) + 1)
    if "gauges" not in row:
        latency = {"buckets": latency, "sum": 123456.7891, "count": 1_000_000}
    return row | {
        "requests": {name: dict.fromkeys(outcomes, 100_000) for name in operations},
        "latency": dict.fromkeys(operations, latency),
    }


async def test_samples_are_kept_until_their_minute_is_rolled_up_but_not_for_ever(database: Database) -> None:
    Worker(database, "a", NOON).samples(NOON, NOON + MINUTE)

    def prune_at(now: datetime) -> int:
        return database.write_now(lambda c: prune(c, tables.metric_samples, now - 24 * HOUR, 500))

    assert prune_at(NOON + 25 * HOUR) == 0
    assert prune_at(NOON + 49 * HOUR) == 12


async def test_rolled_up_samples_go_after_a_day(database: Database) -> None:
    Worker(database, "a", NOON).samples(NOON, NOON + 2 * MINUTE)
    await roll_up(database, NOON + 3 * MINUTE)
    Worker(database, "a", NOON).samples(NOON + 25 * HOUR, NOON + 25 * HOUR + MINUTE)
    await roll_up(database, NOON + 25 * HOUR + 2 * MINUTE)
    assert database.write_now(lambda c: prune(c, tables.metric_samples, NOON + HOUR, 500)) == 24


@pytest.mark.parametrize(("number", "step", "other"), [(0, MINUTE, HOUR), (1, HOUR, MINUTE)])
async def test_old_rows_are_pruned_in_small_steps(
    database: Database, number: int, step: timedelta, other: timedelta
) -> None:
    rows = [(NOON + n * step, "a", {}) for n in range(10)]
    database.write_now(lambda c: samples.put_rollups(c, MINUTE, rows))
    database.write_now(lambda c: samples.put_rollups(c, HOUR, rows))
    assert database.write_now(lambda c: prune(c, tables.metric_rollups, NOON + 8 * step, 5, number)) == 5
    assert database.write_now(lambda c: prune(c, tables.metric_rollups, NOON + 8 * step, 5, number)) == 3
    assert len(database.read_now(lambda c: samples.rollups_between(c, other, NOON, NOON + 99 * HOUR))) == 10
