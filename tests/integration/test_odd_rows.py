"""One broken row never breaks a list: rows with odd values in every column, read by the API and by the console."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from itertools import count
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import select

from services.console import Console, OrderFilter
from services.console.audit import AuditFilter
from services.console.review_desk import CaseFilter
from services.settings import Settings
from state import tables
from state.database import Database, opened
from state.releases import ReleaseFilter
from state.tables import metadata
from tests.fakes import Fault
from tests.odd_rows import corrupt
from tests.orders_harness import OrdersHarness
from tests.ui import seed_console
from tests.unit.api.conftest import Api

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture
def database(sqlite_url: str) -> Iterator[Database]:
    with opened(sqlite_url) as made:
        seed_console.seed(made, NOON)
        yield made


@pytest.fixture
def console(sqlite_url: str) -> Iterator[Console]:
    tick = count(step=60)
    made = Console(Settings.load(database_url=sqlite_url), lambda: NOON, lambda: float(next(tick)), patience_seconds=60)
    yield made
    made.close()


@pytest.fixture
async def api(shop: OrdersHarness) -> AsyncIterator[Api]:
    made = Api(shop, [])
    yield made
    await made.client.aclose()


def keys(database: Database, column: Any, limit: int = 400) -> list[Any]:
    return list(database.read_now(lambda c: c.scalars(select(column).limit(limit)).all()))


def look_everywhere(console: Console, database: Database) -> None:
    """Every reading of the console has a value and no problem."""
    readings = {
        "live": console.live(),
        "trends": console.trends(),
        "changes": console.changes(),
        "transitions": console.transitions(),
        "orders": console.orders(OrderFilter()),
        "conservation": console.conservation(),
        "queue": console.desk.queue(CaseFilter()),
        "resolved": console.desk.queue(CaseFilter(state="RESOLVED")),
        "releases": console.releases.page(ReleaseFilter()),
        "operations": console.operations.shown(),
        "audit": console.audit.page(AuditFilter()),
        "people": console.audit.people_and_actions(),
        "stock": console.stock.page(),
        "outgoing": console.events.outgoing(),
        "incoming": console.events.incoming(),
        "letters": console.events.letters(),
        "delivery": console.events.delivery(),
        "drills": console.drills.page(),
        "handover": console.handover.page("ada"),
        "alerts": console.alerts.page(),
        "firing": console.alerts.firing(),
        "alert history": console.alerts.history(),
        "loans": console.loans.running(),
        "served": console.incidents.served(),
    }
    for name in keys(database, tables.orders.c.order_id):
        readings[f"order {name}"] = console.order(name)
    for name in keys(database, tables.releases.c.order_id):
        readings[f"release {name}"] = console.releases.job(name)
    for name in keys(database, tables.reviews.c.review_id):
        readings[f"case {name}"] = console.desk.case(name)
    for name in keys(database, tables.operations.c.operation_id):
        readings[f"operation {name}"] = console.operations.ledger(name)
        console.operations.csv(name)
    for name in keys(database, tables.drills.c.drill_id):
        readings[f"drill {name}"] = console.drills.drill(name)
    bad = {name: reading.problem for name, reading in readings.items() if reading.problem}
    assert not bad
    console.orders_csv(OrderFilter())
    console.audit.csv(AuditFilter())
    console.stock.csv()
    live = console.live().value
    assert live is not None
    console.health(live, console.trends().value)


@pytest.mark.parametrize("table", [table.name for table in metadata.sorted_tables])
def test_every_reading_of_the_console_goes_on_over_odd_rows(table: str, database: Database, console: Console) -> None:
    assert corrupt(str(database.url.database), [table]) > 0
    look_everywhere(console, database)


LISTS = (
    "orders",
    "orders?limit=200",
    "orders?status=CONFIRMED",
    "orders?reviewOpen=true",
    "reviews",
    "reviews?state=RESOLVED",
    "releases",
    "breakers",
    "alerts",
    "dead-letters",
    "dead-letters?state=REPLAYED",
    "dead-letters?grouped=true",
    "products",
    "audit",
    "bulk-jobs",
    "operations",
    "differences",
    "silences",
)


@pytest.mark.parametrize("table", [table.name for table in metadata.sorted_tables])
async def test_every_list_of_the_api_goes_on_over_odd_rows(table: str, api: Api) -> None:
    database = api.shop.real_database
    await database.write(lambda connection: seed_console.fill(connection, api.shop.clock(), 40))
    assert corrupt(str(database.url.database), [table]) > 0
    ids = keys(database, tables.orders.c.order_id)
    paths = [*LISTS, *(f"orders/{quote(one, safe='')}" for one in ids if one.isprintable() and 0 < len(one) <= 128)]
    paths += [f"{path}/timeline" for path in paths if path.startswith("orders/")]
    for path in paths:
        answer = await api.client.get(f"/api/v1/{path}", follow_redirects=True)
        assert answer.status_code in (200, 400, 404), (path, answer.text)
    for path in ("/metrics", "/api/v2/alerts"):
        assert (await api.client.get(path)).status_code in (200, 404, 405), path


async def test_a_repeated_request_is_answered_whatever_stands_in_the_stored_failure(api: Api) -> None:
    order = {"orderId": "mine", "userId": "ada", "items": [{"productId": "a", "variantId": "b", "quantity": 1}]}
    api.shop.inventory.fail("check_availability", Fault.REFUSED)
    first = await api.post("/api/v1/orders", order)
    assert first.status_code == 422
    for odd in ('"text"', "[]", "{}", '{"code": 5, "details": [], "message": null}', "broken"):
        with sqlite3.connect(str(api.shop.real_database.url.database)) as connection:
            connection.execute("UPDATE orders SET failure = ?", [odd])
        assert (await api.post("/api/v1/orders", order)).status_code == 422
