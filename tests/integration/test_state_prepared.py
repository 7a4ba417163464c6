"""Prepared statements do what Connection.execute does, with its types and its errors, on both databases."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy import JSON, Column, Integer, MetaData, String, Table, bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError, OperationalError, StatementError

from state.engine.database import UtcDateTime
from state.engine.statements import Prepared

AT = datetime(2026, 11, 22, 3, 4, 5, 678000, tzinfo=UTC)

things = Table(
    "things",
    MetaData(),
    Column("name", String(20), primary_key=True),
    Column("at", UtcDateTime),
    Column("facts", JSON(none_as_null=True)),
    Column("size", Integer, nullable=False, server_default="7"),
)

ADD = Prepared(insert(things), ("name", "at", "facts"))
GET = Prepared(
    select(things.c.name, things.c.at, things.c.facts, things.c.size)
    .where(things.c.name == bindparam("wanted"))
    .limit(5)
)
RESIZE = Prepared(
    update(things).where(things.c.name == bindparam("wanted")).values(size=bindparam("new"), at=None, facts={"a": 1})
)


@pytest.fixture
def connection(database):
    with database.engine.connect() as connection:
        things.drop(connection, checkfirst=True)
        things.create(connection)
        yield connection
        connection.rollback()


def test_values_come_back_as_they_went_in(connection):
    ADD.run(connection, {"name": "a", "at": AT, "facts": {"deep": [1, None, "ü"]}})
    ADD.run_many(connection, [{"name": "b", "at": None, "facts": None}, {"name": "c", "at": AT, "facts": {}}])
    assert [tuple(row) for row in GET.fetch(connection, {"wanted": "a"})] == [("a", AT, {"deep": [1, None, "ü"]}, 7)]
    assert [tuple(row) for row in GET.fetch(connection, {"wanted": "b"})] == [("b", None, None, 7)]
    assert GET.fetch(connection, {"wanted": "nobody"}) == []


def test_it_reads_what_execute_reads(connection):
    ADD.run(connection, {"name": "a", "at": AT, "facts": {"x": 1.5}})
    usual = connection.execute(select(things.c.name, things.c.at, things.c.facts, things.c.size)).all()
    assert [tuple(row) for row in GET.fetch(connection, {"wanted": "a"})] == [tuple(row) for row in usual]


def test_fixed_values_are_those_of_the_statement(connection):
    ADD.run(connection, {"name": "a", "at": AT, "facts": None})
    assert RESIZE.run(connection, {"wanted": "a", "new": 9}) == 1
    assert RESIZE.run(connection, {"wanted": "nobody", "new": 9}) == 0
    assert [tuple(row) for row in GET.fetch(connection, {"wanted": "a"})] == [("a", None, {"a": 1}, 9)]


def test_no_rows_are_no_statement(connection):
    ADD.run_many(connection, [])
    assert connection.execute(select(things)).all() == []


def test_errors_are_those_of_execute(connection):
    ADD.run(connection, {"name": "a", "at": AT, "facts": None})
    with pytest.raises(IntegrityError), connection.begin_nested():
        ADD.run(connection, {"name": "a", "at": AT, "facts": None})
    with pytest.raises(IntegrityError), connection.begin_nested():
        ADD.run_many(connection, [{"name": "x", "at": AT, "facts": None}] * 2)


def test_a_naive_time_is_refused(sqlite_url):
    from state.engine.database import opened

    with opened(sqlite_url) as database, database.engine.connect() as connection:
        things.create(connection)
        with pytest.raises((ValueError, StatementError), match="naive"):
            ADD.run(connection, {"name": "a", "at": AT.replace(tzinfo=None), "facts": None})


def test_a_missing_table_is_an_operational_error(sqlite_url):
    from state.engine.database import opened

    with (
        opened(sqlite_url) as database,
        database.engine.connect() as connection,
        pytest.raises(OperationalError, match="no such table"),
    ):
        GET.fetch(connection, {"wanted": "a"})
