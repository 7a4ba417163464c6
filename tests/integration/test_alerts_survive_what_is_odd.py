"""Odd times, texts, rows and rules cost one alert at most: all others are judged, stored and sent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import update

from services.alerting.evaluator import AlertEvaluator, AlertingPolicy
from services.alerting.prometheus import rule_file
from services.alerting.receiver import AlertNotStored, AlertReceiver, Received
from services.alerting.rules import rules
from services.alerting.threshold_rule import Rule
from services.base.settings import Settings
from services.domain.orders.model import OrderStatus
from services.metrics.expressions import MetricData, Vector
from state import alerts, notifications, order_search, orders, replicas, samples
from state.alerts import FIRING, LEASE, RESOLVED
from state.engine.database import Database, opened
from state.tables import orders as orders_table
from tests.support.seed_console import order

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
SETTINGS = Settings(alert_window=60_000, alert_webhook_url="http://pager.test/hook")
WEST, EAST = timezone(timedelta(hours=-5)), timezone(timedelta(hours=1))
DEAD_LETTERS = "DeadLettersPresent"


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with opened(database_url) as made:
        yield made


def posted(name: str, **times: datetime | None) -> Received:
    return Received({"alertname": name}, {"value": "1"}, "", times.get("starts_at"), times.get("ends_at"))


class World:
    """An evaluator and a receiver with their own clock, and the parts that they reported as failed."""

    def __init__(self, database: Database, definitions: tuple[Rule, ...] | None = None) -> None:
        self.now = NOON
        self.failed: list[str] = []
        definitions = rules(SETTINGS) if definitions is None else definitions
        self.evaluator = AlertEvaluator(
            database, self.clock, "a", definitions, AlertingPolicy.of(SETTINGS), on_failure=self.failed.append
        )
        self.receiver = AlertReceiver(database, self.clock, on_failure=self.failed.append)
        self._database = database

    def clock(self) -> datetime:
        return self.now

    async def standing(self) -> dict[str, str]:
        await self.evaluator.evaluate()
        return {alert.name: alert.state for alert in await self._database.read(alerts.standing)}


@pytest.mark.parametrize(
    "odd",
    [
        datetime(9999, 12, 31, 23, 59, 59, tzinfo=WEST),
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(1, 1, 1, tzinfo=EAST),
        datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),
    ],
    ids=str,
)
async def test_an_odd_time_is_none_and_judging_goes_on(database: Database, odd: datetime) -> None:
    world = World(database)
    await world.receiver.receive([posted("Odd", starts_at=odd, ends_at=odd), posted("Plain")])
    assert await world.standing() == {"Odd": FIRING, "Plain": FIRING}
    (stored,) = [alert for alert in await database.read(alerts.standing) if alert.name == "Odd"]
    assert NOON - timedelta(days=1) < stored.active_at <= NOON
    assert NOON < (stored.ends_at or NOON) <= NOON + timedelta(days=366)


async def test_a_time_that_an_earlier_version_stored_does_not_end_the_judging(database: Database) -> None:
    world = World(database)
    await world.receiver.receive([posted("Plain")])
    far = "10000-01-01 04:59:59+00" if not database.is_sqlite else "9999-12-31 23:59:59.000000"
    await database.write(lambda c: c.exec_driver_sql(f"UPDATE alerts SET ends_at = '{far}'"))
    assert await world.standing() == {}
    assert [alert.state for alert in await database.read(lambda c: alerts.resolved(c, NOON))] == [RESOLVED]


@pytest.mark.parametrize("value", ["nan", "inf", "-Infinity", "1e400", "many"])
async def test_a_value_that_is_no_number_is_none(database: Database, value: str) -> None:
    world = World(database)
    await world.receiver.receive([replace(posted("Odd"), annotations={"value": value})])
    (stored,) = await database.read(alerts.standing)
    assert stored.value is None


async def test_one_posted_alert_that_cannot_be_stored_costs_no_other(database: Database) -> None:
    world = World(database)
    broken = Received({"alertname": "Broken"}, {"summary": "s"}, None, None, None)  # type: ignore[arg-type]
    with pytest.raises(AlertNotStored):
        await world.receiver.receive([posted("First"), broken, posted("Last")])
    assert await world.standing() == {"First": FIRING, "Last": FIRING}
    assert world.failed == ["received"]


class Unforeseen:
    """An expression that raises, or answers what cannot be stored."""

    by = ()

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def promql(self, window: str) -> str:
        return "vector(1)"

    def evaluate(self, data: MetricData) -> Vector:
        if isinstance(self._answer, Exception):
            raise self._answer
        return {(): self._answer}


def among_ours(name: str, value: Any) -> tuple[Rule, ...]:
    """Our rules with one of these in their midst."""
    first, *rest = rules(SETTINGS)
    return (first, replace(first, name=name, value=value, comparison=">", threshold=0), *rest)


async def test_a_rule_that_raises_keeps_no_other_from_being_judged(database: Database) -> None:
    world = World(database, among_ours("Broken", Unforeseen(RuntimeError("unforeseen"))))
    await database.write(_dead_letter)
    assert await world.standing() == {DEAD_LETTERS: FIRING}
    assert world.failed == ["rule"]
    noted = (await database.read(lambda c: replicas.get_lease(c, LEASE))).noted
    assert noted["failures"] == ["rule Broken: RuntimeError: unforeseen"]
    assert noted["rules"]["Broken"]["value"] is None


async def test_the_alert_of_a_rule_that_raises_does_not_end_as_if_it_were_over(database: Database) -> None:
    world = World(database, among_ours("Broken", Unforeseen(1.0)))
    assert await world.standing() == {"Broken": FIRING}
    later = World(database, among_ours("Broken", Unforeseen(KeyError("unforeseen"))))
    later.now = NOON + timedelta(seconds=30)
    assert await later.standing() == {"Broken": FIRING}


async def test_an_alert_that_cannot_be_stored_costs_no_other(database: Database) -> None:
    world = World(database, among_ours("Broken\x00" if not database.is_sqlite else "Broken\ud800", Unforeseen(1.0)))
    await database.write(_dead_letter)
    assert await world.standing() == {DEAD_LETTERS: FIRING}
    assert set(world.failed) <= {"store", "rule"}
    assert world.failed
    sent = await database.read(lambda c: notifications.latest(c, 10))
    assert {message.name for message in sent} == {DEAD_LETTERS, "Watchdog"}


async def test_a_sample_in_another_form_is_passed_over(database: Database) -> None:
    world = World(database)
    await database.write(_dead_letter)
    for odd in ({"requests": [1]}, {"latency": {"reserve": None}}, {"releases": {"failed": "many"}}):
        await database.write(lambda c, odd=odd: samples.add(c, world.now, "b", odd))
        world.now += timedelta(seconds=1)
        assert await world.standing() == {DEAD_LETTERS: FIRING}


def _dead_letter(connection: Any) -> None:
    from state import dead_letters
    from state.dead_letters import DeadLetter

    dead_letters.add(connection, DeadLetter("DL-1", "S", 1, "x", None, b"{", {}, "not JSON", 1, "OPEN", NOON))


# ---------------------------------------------------------------- refused orders


def add_orders(database: Database, *made: tuple[OrderStatus, str | None]) -> None:
    """Orders, the oldest first, with the code of their failure."""

    def write(connection: Any) -> None:
        for number, (status, code) in enumerate(made):
            failure = {"code": code, "message": "m", "details": {}, "retryable": True} if code else None
            added = order(f"ORD-{number:03}", status, NOON + timedelta(seconds=number), failure=failure)
            orders.add(connection, added, "h")
            values = {"failure": failure}
            connection.execute(update(orders_table).where(orders_table.c.order_id == added.order_id).values(values))

    database.write_now(write)


UNAVAILABLE, TIMED_OUT = (OrderStatus.REJECTED, "INVENTORY_UNAVAILABLE"), (OrderStatus.REJECTED, "INVENTORY_TIMEOUT")
SOLD_OUT, PLACED = (OrderStatus.REJECTED, "INSUFFICIENT_INVENTORY"), (OrderStatus.PLACED, None)
WAITING, RUNNING = (OrderStatus.PENDING_INVENTORY, None), (OrderStatus.RESERVING, None)


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        ([], 0),
        ([PLACED, UNAVAILABLE, TIMED_OUT, WAITING], 3),
        ([UNAVAILABLE, UNAVAILABLE, UNAVAILABLE, PLACED], 0),
        ([UNAVAILABLE, SOLD_OUT, UNAVAILABLE], 1),
        ([PLACED, UNAVAILABLE, UNAVAILABLE, UNAVAILABLE, RUNNING, RUNNING], 3),
    ],
)
def test_refused_orders_in_a_row_are_counted_from_the_newest(database: Database, made: Any, expected: int) -> None:
    add_orders(database, *made)
    assert database.read_now(order_search.count_refused_in_a_row) == expected


async def test_three_orders_refused_in_a_row_alarm_at_any_traffic_and_an_answer_ends_it(database: Database) -> None:
    add_orders(database, PLACED, UNAVAILABLE, UNAVAILABLE)
    world = World(database)
    assert await world.standing() == {}
    await database.write(lambda c: c.exec_driver_sql("UPDATE orders SET status = 'PENDING_INVENTORY'"))
    assert await world.standing() == {"OrdersRefusedForInventory": FIRING}
    world.now += timedelta(days=3)
    assert await world.standing() == {"OrdersRefusedForInventory": FIRING}
    await database.write(lambda c: c.exec_driver_sql("UPDATE orders SET status = 'PLACED'"))
    await world.standing()
    world.now += timedelta(seconds=61)
    assert await world.standing() == {}


async def counted(database: Database, world: World, **sample: Any) -> dict[str, str]:
    await database.write(lambda c: samples.add(c, world.now, "a", sample))
    found = await world.standing()
    world.now += timedelta(seconds=1)
    return found


async def test_the_first_failures_of_a_new_start_count_too(database: Database) -> None:
    """Counters that are nothing are not written down; their first increase must not be lost."""
    world = World(database)
    await counted(database, world)
    found = await counted(database, world, failures={"INVENTORY_UNAVAILABLE": 3})
    assert found == {"OrdersRefusedForInventory": FIRING}


async def test_half_of_the_orders_in_the_window_alarm(database: Database) -> None:
    world = World(database)
    for number in range(8):
        found = await counted(
            database, world, failures={"INVENTORY_TIMEOUT": number // 2}, orders={"PAYING": (number + 1) // 2}
        )
    assert found == {"OrdersRefusedForInventory": FIRING}


async def test_refusals_of_this_service_name_the_status_and_the_operation(database: Database) -> None:
    world = World(database)
    await counted(database, world, requests={"check_availability": {"success": 10}})
    await counted(
        database,
        world,
        requests={"check_availability": {"success": 10, "refused_us": 2}},
        refusals={"check_availability": {"401": 2}},
    )
    (alert,) = await database.read(alerts.standing)
    assert (alert.labels["status"], alert.labels["operation"]) == ("401", "check_availability")
    assert alert.annotations["summary"].endswith("status 401 to check_availability.")
    assert alert.value == 1.0


async def test_reservations_that_a_failed_check_kept_from_being_asked_for_lower_the_success_rate(
    database: Database,
) -> None:
    world = World(database)
    for number in range(20):
        failures = {"INVENTORY_UNAVAILABLE": number}
        found = await counted(
            database,
            world,
            requests={"reserve": {"success": 3 * number}},
            failures=failures,
            orders={"PAYING": 3 * number},
        )
    assert found == {"InventoryReservationSuccessLow": FIRING}


def test_the_rule_file_tells_of_the_absence_of_every_replica() -> None:
    text = rule_file(rules(SETTINGS), timedelta(seconds=60), timedelta(seconds=1))
    assert "alert: HoldfastDown" in text
    assert "absent(inventory_circuit_breaker_state)" in text
    assert "status {{ $labels.status }} to {{ $labels.operation }}" in text
