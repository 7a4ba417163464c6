"""No list of the console reads a big table from end to end, and none sorts one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import text

from benchmarks import million
from benchmarks.lists import END, cases, whole_reads
from benchmarks.work_lists import work_list_cases
from state.engine.database import Database, opened

ORDERS, TIMES, FEW = 3000, 300, 4
LARGER = text("UPDATE sqlite_stat1 SET stat = :stat WHERE tbl = :table AND idx IS :index")


def larger(stat: str) -> str:
    """The statistics of an index with so many times the rows: what is one order's stays a few rows."""
    return " ".join(str(int(word) * TIMES) if word.isdecimal() and int(word) > FEW else word for word in stat.split())


@pytest.fixture(scope="module")
def filled(sqlite_template, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A small database with the statistics of a large one: a plan depends on nothing else."""
    with opened(sqlite_template.copy_to(tmp_path_factory.mktemp("plans") / "filled.db")) as database:
        million.seed(database, ORDERS, END)
        with database.engine.connect() as connection:
            for table, index, stat in connection.execute(text("SELECT tbl, idx, stat FROM sqlite_stat1")).all():
                connection.execute(LARGER, {"table": table, "index": index, "stat": larger(stat)})
            connection.commit()
        # Statistics are read when a connection is opened.
        database.engine.dispose()
        yield database


def test_every_list_of_the_pages_is_served_by_an_index(filled: Database) -> None:
    with filled.engine.connect() as connection:
        every = {**cases(connection), **work_list_cases(connection, END)}
        found = {name: whole_reads(connection, run) for name, run in every.items()}
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


def test_a_question_that_is_asked_past_the_watch_is_found_out_and_so_is_none_at_all(filled: Database) -> None:
    def past(connection):
        connection.connection.driver_connection.execute("SELECT count(*) FROM orders")

    with filled.engine.connect() as connection:
        with pytest.raises(AssertionError, match="reached SQLite"):
            whole_reads(connection, lambda c: (past(c), c.execute(text("SELECT 1"))))
        with pytest.raises(AssertionError, match="nothing was asked"):
            whole_reads(connection, lambda _: None)
