"""One broken row never breaks a list: rows with odd values in every column, read by the API and by the console."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import select

from services.base.settings import Settings
from services.console.facade import Console
from services.console.orders import OrderFilter
from state import tables
from state.audit import AuditFilter
from state.engine.database import Database, opened
from state.releases import ReleaseFilter
from state.review_queue import CaseFilter
from state.tables import metadata
from tests.support import seed_console
from tests.support.api import Api
from tests.support.fakes import Fault
from tests.support.odd_rows import corrupt
from tests.support.orders_harness import OrdersHarness, SqliteTemplate

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


TABLES = [table.name for table in metadata.sorted_tables]
GROUPS = [tuple(TABLES[number::6]) for number in range(6)]
"""Several tables are made odd at once; when that breaks something, one after another, to find which."""


@pytest.fixture(scope="module")
def seeded(sqlite_template: SqliteTemplate, tmp_path_factory: pytest.TempPathFactory) -> SqliteTemplate:
    path = tmp_path_factory.mktemp("seeded") / "template.db"
    sqlite_template.copy_to(path)
    return SqliteTemplate(path, lambda database: seed_console.seed(database, NOON))


@contextmanager
def console_over(url: str) -> Iterator[Console]:
    tick = count(step=60)
    made = Console(Settings.load(database_url=url), lambda: NOON, lambda: float(next(tick)), patience_seconds=60)
    yield made
    made.close()


@pytest.fixture
async def api(sqlite_url: str) -> AsyncIterator[Api]:
    async with api_over(sqlite_url) as made:
        yield made


@asynccontextmanager
async def api_over(url: str) -> AsyncIterator[Api]:
    shop = OrdersHarness(url)
    shop.clock.now = NOON
    made = Api(shop, [])
    yield made
    await made.client.aclose()
    shop.close()


def keys(database: Database, column: Any, limit: int = 400) -> list[Any]:
    return list(database.read_now(lambda c: c.scalars(select(column).limit(limit)).all()))


def look_everywhere(console: Console, database: Database) -> None:
    """Every reading of the console has a value and no problem."""
    readings = {
        "live": console.status.live(),
        "trends": console.status.trends(),
        "changes": console.status.changes(),
        "transitions": console.status.transitions(),
        "orders": console.orders.page(OrderFilter()),
        "conservation": console.conservation.page(),
        "queue": console.reviews.queue(CaseFilter()),
        "resolved": console.reviews.queue(CaseFilter(state="RESOLVED")),
        "releases": console.releases.page(ReleaseFilter()),
        "operations": console.bulk.shown(),
        "audit": console.audit.page(AuditFilter()),
        "people": console.audit.people_and_actions(),
        "stock": console.stock.page(),
        "outgoing": console.events.outgoing(),
        "incoming": console.events.incoming(),
        "letters": console.events.dead_letters_by_cause(),
        "delivery": console.events.delivery(),
        "drills": console.sandbox.page(),
        "handover": console.handover.page("ada"),
        "alerts": console.alerts.page(),
        "firing": console.alerts.firing(),
        "alert history": console.alerts.history(),
        "overrides": console.status.overrides(),
        "served": console.incidents.served(),
    }
    for name in keys(database, tables.orders.c.order_id):
        readings[f"order {name}"] = console.orders.order(name)
    for name in keys(database, tables.releases.c.order_id):
        readings[f"release {name}"] = console.releases.job(name)
    for name in keys(database, tables.reviews.c.review_id):
        readings[f"case {name}"] = console.reviews.case(name)
    for name in keys(database, tables.operations.c.operation_id):
        readings[f"operation {name}"] = console.bulk.items(name)
        console.bulk.csv(name)
    for name in keys(database, tables.drills.c.drill_id):
        readings[f"drill {name}"] = console.sandbox.drill(name)
    bad = {name: reading.problem for name, reading in readings.items() if reading.problem}
    assert not bad
    console.orders.csv(OrderFilter())
    console.audit.csv(AuditFilter())
    console.stock.csv()
    live = console.status.live().value
    assert live is not None
    console.status.health(live, console.status.trends().value)


def console_over_odd(seeded: SqliteTemplate, folder: Path, odd: Sequence[str]) -> None:
    url = seeded.copy_to(folder / f"{odd[0]}-{len(odd)}.db")
    with opened(url) as database, console_over(url) as console:
        assert corrupt(str(database.url.database), odd) > 0
        look_everywhere(console, database)


async def api_over_odd(seeded: SqliteTemplate, folder: Path, odd: Sequence[str]) -> None:
    async with api_over(seeded.copy_to(folder / f"{odd[0]}-{len(odd)}.db")) as api:
        assert corrupt(str(api.shop.real_database.url.database), odd) > 0
        await read_every_list(api)


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group[0])
def test_every_reading_of_the_console_goes_on_over_odd_rows(
    group: tuple[str, ...], seeded: SqliteTemplate, tmp_path: Path
) -> None:
    try:
        console_over_odd(seeded, tmp_path, group)
    except Exception:
        for table in group:
            console_over_odd(seeded, tmp_path, [table])
        raise


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


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group[0])
async def test_every_list_of_the_api_goes_on_over_odd_rows(
    group: tuple[str, ...], seeded: SqliteTemplate, tmp_path: Path
) -> None:
    try:
        await api_over_odd(seeded, tmp_path, group)
    except Exception:
        for table in group:
            await api_over_odd(seeded, tmp_path, [table])
        raise


async def read_every_list(api: Api) -> None:
    ids = keys(api.shop.real_database, tables.orders.c.order_id)
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
