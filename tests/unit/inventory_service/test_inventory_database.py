"""A database that an earlier version of the service made is brought up to date at its start."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import inspect, select

from services.sandbox.inventory_service import tables
from state.engine.database import opened
from tests.support.inventory_shop import Shop

LATER = ("traceparent", "undeliverable_at", "undeliverable_reason")
"""Columns that the first outbox did not have."""


def test_an_older_outbox_gets_the_columns_that_it_lacks_and_keeps_its_rows(tmp_path: Path) -> None:
    with opened(f"sqlite:///{tmp_path}/inventory.db") as database:
        database.write_now(tables.make)
        shop = Shop(database)
        shop.handle("inventory.confirm_requested", orderId="o-1", reservationId="r-none")
        for name in LATER:
            database.write_now(lambda c, name=name: c.exec_driver_sql(f"ALTER TABLE outbox DROP COLUMN {name}"))
        for _ in range(2):
            database.write_now(tables.make)
        columns = shop.read(lambda c: inspect(c).get_columns("outbox"))
        assert sorted(column["name"] for column in columns if column["name"] in LATER) == sorted(LATER)
        assert shop.published_types() == ["inventory.confirmation_failed"]
        shop.handle("inventory.confirm_requested", orderId="o-2", reservationId="r-none")
        assert shop.read(lambda c: list(c.scalars(select(tables.outbox.c.traceparent)))) == [None, None]


def test_an_older_inbox_keeps_its_events_and_gets_the_wider_key(tmp_path: Path) -> None:
    with opened(f"sqlite:///{tmp_path}/inventory.db") as database:
        database.write_now(tables.make)
        for statement in (
            "DROP TABLE inbox",
            "CREATE TABLE inbox (event_id VARCHAR(128) PRIMARY KEY, type VARCHAR(64), outcome, handled_at DATETIME)",
            "CREATE INDEX ix_inbox_handled_at ON inbox (handled_at)",
            "INSERT INTO inbox VALUES ('1', 'order.cancelled', 'none', '2026-03-01 12:00:00.000000')",
        ):
            database.write_now(lambda c, statement=statement: c.exec_driver_sql(statement))
        for _ in range(2):
            database.write_now(tables.make)
        shop = Shop(database)
        assert shop.handle("order.cancelled", "1", orderId="o-1") == "duplicate"
        assert shop.handle("order.cancelled", "1", source="another", orderId="o-1") != "duplicate"
        assert len(shop.read(lambda c: list(c.scalars(select(tables.inbox.c.event_id))))) == 2
