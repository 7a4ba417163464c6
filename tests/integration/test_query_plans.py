"""No list of the console reads a big table from end to end, and none sorts one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import text

from benchmarks.lists import cases, fill, whole_reads
from state.database import Database, opened

ORDERS = 3000


@pytest.fixture(scope="module")
def filled(sqlite_template, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A small database with the statistics of a large one: a plan depends on nothing else."""
    with opened(sqlite_template.copy_to(tmp_path_factory.mktemp("plans") / "filled.db")) as database:
        fill(database, ORDERS)
        with database.engine.connect() as connection:
            connection.execute(text("UPDATE sqlite_stat1 SET stat = replace(stat, '3000 ', '1000000 ')"))
            connection.commit()
        # Statistics are read when a connection is opened.
        database.engine.dispose()
        yield database


def test_every_list_of_the_pages_is_served_by_an_index(filled: Database) -> None:
    with filled.engine.connect() as connection:
        found = {name: whole_reads(connection, run) for name, run in cases(connection).items()}
    assert {name: plans for name, plans in found.items() if plans} == {}


def test_a_list_without_its_index_is_found_out(filled: Database) -> None:
    def by_reservation(connection):
        connection.execute(text("SELECT order_id FROM orders WHERE reservation_id = 'x' LIMIT 20"))

    def sorted_by_change(connection):
        wanted = "SELECT order_id FROM orders WHERE status = 'CONFIRMED' ORDER BY updated_at DESC LIMIT 20"
        connection.execute(text(wanted))

    with filled.engine.connect() as connection:
        assert whole_reads(connection, by_reservation)
        assert whole_reads(connection, sorted_by_change)
