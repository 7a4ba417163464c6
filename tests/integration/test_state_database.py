"""The database facade over SQLite and PostgreSQL: transactions, their isolation, and bringing up the schema."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import insert, inspect, select, text
from sqlalchemy.exc import IntegrityError, OperationalError

from services.domain.orders.model import Line
from state import commands, dead_letters, deduplication, orders, outbox, releases, reviews, schema, tables
from state.engine.database import Database, opened
from state.engine.transactions import DatabaseClosed
from state.schema import migrate
from tests.support.children import MORTAL
from tests.support.fakes import START

ROOT = Path(__file__).parents[2]


def put(key, at=START):
    """A transaction that remembers an event."""
    row = {"event_id": key, "type": "t", "received_at": at}
    return lambda connection: connection.execute(insert(tables.inbox), row)


def keys(connection):
    return sorted(connection.scalars(select(tables.inbox.c.event_id)))


async def fail_after(database, key):
    def transaction(connection):
        put(key)(connection)
        raise RuntimeError(key)

    await database.write(transaction)


# -------------------------------------------------------------------- schema


def test_the_migrations_lead_to_the_tables_in_code(database):
    assert database.read_now(schema.differences) == []


def test_migrating_twice_changes_nothing(database):
    migrate(database)
    assert database.read_now(schema.differences) == []


def test_an_empty_database_is_set_up(empty_url):
    with opened(empty_url) as database:
        migrate(database)
        assert database.read_now(schema.differences) == []


def test_several_threads_may_migrate_at_once(empty_url):
    def start() -> list:
        with opened(empty_url) as database:
            migrate(database)
            return database.read_now(schema.differences)

    with ThreadPoolExecutor(4) as threads:
        assert [future.result() for future in [threads.submit(start) for _ in range(4)]] == [[]] * 4


ROWS_OF_0_1_0 = (
    """INSERT INTO orders (order_id, user_id, customer_priority, status, inventory_status, payment_status, request_hash,
    created_at, updated_at, version) VALUES ('o-1', 'u', 'standard', 'PLACED', 'NONE', 'NONE', 'h', :at, :at, 1)""",
    "INSERT INTO order_items (order_id, product_id, variant_id, line, quantity) VALUES ('o-1', 'p', 'v', 0, 2)",
    "INSERT INTO idempotency_keys (key, order_id, request_hash, created_at) VALUES ('k', 'o-1', 'h', :at)",
    """INSERT INTO returns (return_id, order_id, request_hash, items, reason, restockable, created_at)
    VALUES ('r-1', 'o-1', 'h', '[]', 'x', TRUE, :at)""",
    "INSERT INTO inbox (event_id, type, order_id, received_at) VALUES ('e-1', 't', 'o-1', :at)",
    """INSERT INTO dead_letters (id, stream, stream_seq, subject, payload, headers, reason, attempts, state, created_at)
    VALUES ('d-1', 'S', 1, 's', :bytes, '{}', 'r', 1, 'OPEN', :at)""",
    """INSERT INTO releases (order_id, reason, state, attempts, last_error, created_at, updated_at, version)
    VALUES ('o-1', 'r', 'FAILED', 8, 'INVENTORY_UNAVAILABLE: answered 503', :at, :at, 1)""",
    """INSERT INTO reviews (review_id, order_id, reason, state, detail, opened_at, version) VALUES
    ('c-1', 'o-1', 'PENDING_INVENTORY', 'OPEN', 'X: Circuit breaker b is open; nothing was sent.', :at, 1)""",
    """INSERT INTO commands (command_id, kind, target_id, arguments, actor, state, created_at)
    VALUES ('w-1', 'cancel_order', 'o-1', '{}', 'ada', 'STORED', :at)""",
    "INSERT INTO outbox (event_id, subject, order_id, payload, created_at) VALUES ('x-1', 's', 'o-1', :bytes, :at)",
)


@pytest.fixture
def database_of_0_1_0(empty_url):
    """A database with the schema of the first release and a row in each table that the next one changes."""
    from alembic import command

    with opened(empty_url) as database:
        with database.engine.begin() as connection:
            if database.is_sqlite:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            command.upgrade(schema.alembic_config(connection), "0001")
            for statement in ROWS_OF_0_1_0:
                given = {"at": "2026-01-01 00:00:00.000000", "bytes": b"{"}
                values = {name: value for name, value in given.items() if f":{name}" in statement}
                connection.execute(text(statement), values)
        yield database


def test_a_database_of_0_1_0_keeps_its_rows_and_gets_the_present_tables(database_of_0_1_0):
    database = database_of_0_1_0
    migrate(database)
    assert database.read_now(schema.differences) == []
    assert database.read_now(lambda c: orders.get(c, "o-1")).lines == (Line("p", "v", 2),)
    assert database.read_now(lambda c: orders.find_key(c, "k", "ada")) == ("o-1", "h")
    assert database.read_now(lambda c: orders.find_return(c, "o-1", "r-1")) == "h"
    assert database.read_now(lambda c: dead_letters.get(c, "d-1")).incarnation == ""
    assert database.read_now(lambda c: commands.get(c, "w-1")).role == "operator"
    assert database.read_now(outbox.pending)[0] == 1
    assert database.write_now(lambda c: deduplication.add(c, "e-1", "t", "o-1", START, digest="d")) is False


def test_rows_of_0_1_0_get_their_failure_classes(database_of_0_1_0):
    database = database_of_0_1_0
    migrate(database)
    job = database.read_now(lambda c: releases.get(c, "o-1"))
    case = database.read_now(lambda c: reviews.get(c, "c-1"))
    assert (job.failure_class, job.cause) == ("INVENTORY_UNAVAILABLE", "INVENTORY_UNAVAILABLE")
    assert (case.failure_class, case.cause, case.last_attempt_sent) == ("BREAKER_OPEN", "BREAKER_OPEN", False)


def layout(database):
    """Every table with its columns, constraints, indexes and options, whatever the sequence of its columns."""
    parts = ("columns", "foreign_keys", "unique_constraints", "check_constraints", "indexes")

    def read(connection):
        inspector = inspect(connection)
        return {
            name: [
                inspector.get_table_options(name),
                inspector.get_pk_constraint(name),
                *(sorted(map(spelled, getattr(inspector, f"get_{part}")(name))) for part in parts),
            ]
            for name in inspector.get_table_names()
            if name != "alembic_version"
        }

    return database.read_now(read)


def spelled(found):
    """A reflected value as text; the condition of a partial index is an object without equality."""
    return str({name: spelled(found[name]) for name in sorted(found)}) if isinstance(found, dict) else str(found)


def test_the_migrations_write_what_the_tables_in_code_write(database_of_0_1_0, empty_url, request):
    """A database of 0.1.0, after its migration, is the same as one that the tables in code create."""
    migrate(database_of_0_1_0)
    with opened(another_empty_url(request, empty_url)) as created:
        with created.engine.begin() as connection:
            tables.metadata.create_all(connection)
        assert layout(database_of_0_1_0) == layout(created)


def another_empty_url(request, url):
    if url.startswith("sqlite"):
        return url.replace("empty.db", "created.db")
    return request.getfixturevalue("postgres_server").new_database(migrated=False)


@pytest.mark.parametrize("revision", ["0002", "0006", "0008"])
def test_a_database_at_a_revision_without_a_migration_is_refused(empty_url, revision):
    with opened(empty_url) as database:
        migrate(database)
        at = text("UPDATE alembic_version SET version_num = :revision")
        database.write_now(lambda c: c.execute(at, {"revision": revision}))
        with pytest.raises(schema.DatabaseUnsuitable) as refused:
            migrate(database)
        assert all(word in str(refused.value) for word in (revision, "0001", "0007"))
        known = database.read_now(lambda c: c.scalar(text("SELECT version_num FROM alembic_version")))
        assert known == revision


MIGRATE = """
import sys
from state.engine.database import opened
from state.schema import migrate
with opened(sys.argv[1]) as database:
    migrate(database)
"""


def test_several_processes_may_migrate_at_once(empty_url):
    processes = [subprocess.Popen((*MORTAL, sys.executable, "-c", MIGRATE, empty_url), cwd=ROOT) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    with opened(empty_url) as database:
        assert database.read_now(schema.differences) == []


# --------------------------------------------------------------- transactions


async def test_what_was_written_is_there_for_every_reader(database):
    assert await database.write(lambda c: c.execute(select(1)).scalar()) == 1
    await database.write(put("a"))
    assert await database.read(keys) == ["a"]
    assert database.read_now(keys) == ["a"]
    database.write_now(put("b"))
    assert await database.read(keys) == ["a", "b"]


async def test_one_failing_transaction_does_not_hurt_the_others_it_commits_with(database):
    ends = await asyncio.gather(
        *(database.write(put(f"good-{n}")) if n % 3 else fail_after(database, f"bad-{n}") for n in range(60)),
        return_exceptions=True,
    )
    failed = [n for n, end in enumerate(ends) if isinstance(end, RuntimeError)]
    assert failed == list(range(0, 60, 3))
    assert await database.read(keys) == sorted(f"good-{n}" for n in range(60) if n % 3)


async def test_a_refused_row_undoes_its_own_transaction_only(database):
    await database.write(put("a"))

    def twice(connection):
        put("b")(connection)
        put("a")(connection)

    ends = await asyncio.gather(database.write(twice), database.write(put("c")), return_exceptions=True)
    assert isinstance(ends[0], IntegrityError)
    assert await database.read(keys) == ["a", "c"]


async def test_every_caller_gets_the_result_of_its_own_function(database):
    results = await asyncio.gather(*(database.write(lambda c, n=n: (put(f"k-{n}")(c), n)[1]) for n in range(300)))
    assert results == list(range(300))
    assert len(await database.read(keys)) == 300


async def test_a_caller_that_gives_up_does_not_disturb_the_others(database):
    tasks = [asyncio.create_task(database.write(put(f"k-{n}"))) for n in range(20)]
    await asyncio.sleep(0)
    tasks[3].cancel()
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(ends[3], asyncio.CancelledError)
    assert {f"k-{n}" for n in range(20) if n != 3} <= set(await database.read(keys))


async def test_readers_do_not_wait_for_a_writer(database):
    entered, go_on = threading.Event(), threading.Event()

    def slow(connection):
        put("slow")(connection)
        entered.set()
        assert go_on.wait(10)

    writing = asyncio.create_task(database.write(slow))
    await asyncio.to_thread(entered.wait, 10)
    async with asyncio.timeout(5):
        assert await database.read(keys) == []
    go_on.set()
    await writing
    assert await database.read(keys) == ["slow"]


async def test_threads_and_loops_may_write_at_the_same_time(database):
    def from_a_thread(n):
        database.write_now(put(f"thread-{n}"))

    await asyncio.gather(
        *(database.write(put(f"loop-{n}")) for n in range(20)),
        *(asyncio.to_thread(from_a_thread, n) for n in range(20)),
    )
    assert len(await database.read(keys)) == 40


def test_a_closed_database_finishes_what_it_was_given_and_refuses_more(database_url):
    database = Database(database_url)
    database.write_now(put("a"))
    database.close()
    with pytest.raises(DatabaseClosed):
        database.write_now(put("b"))
    with opened(database_url) as again:
        assert again.read_now(keys) == ["a"]


@pytest.mark.parametrize("url", ["sqlite:////usr", "postgresql+psycopg://nobody@127.0.0.1:1/nothing"])
async def test_a_database_that_cannot_be_opened_fails_alike_at_each_call(url):
    with opened(url) as database:
        for _ in range(2):
            async with asyncio.timeout(10):
                with pytest.raises(OperationalError):
                    await database.write(keys)


async def test_a_database_that_comes_back_is_used_again(tmp_path, sqlite_template):
    path = tmp_path / "late" / "holdfast.db"
    with opened(f"sqlite:///{path}") as database:
        path.mkdir()
        with pytest.raises(OperationalError):
            await database.write(put("a"))
        path.rmdir()
        sqlite_template.copy_to(path)
        await database.write(put("b"))
        assert await database.read(keys) == ["b"]


def test_a_reader_cannot_write_on_sqlite(sqlite_url):
    with opened(sqlite_url) as database, pytest.raises(OperationalError, match="readonly"):
        database.read_now(put("a"))


def test_a_commit_on_sqlite_is_on_the_disk(sqlite_url):
    with opened(sqlite_url) as database:
        pragmas = [
            database.write_now(lambda c, name=name: c.exec_driver_sql(f"PRAGMA {name}").scalar())
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    assert pragmas == ["wal", 2, 1]


# ----------------------------------------------------------------------- times


@pytest.mark.parametrize(
    "at",
    [
        datetime(2026, 3, 1, 12, 0, 0, 123000, tzinfo=UTC),
        datetime(2026, 3, 1, 12, 0, tzinfo=UTC),
        datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=timezone(timedelta(hours=-7))),
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    ],
    ids=str,
)
def test_a_time_comes_back_aware_and_the_same(database, at):
    database.write_now(put("a", at))
    found = database.read_now(lambda c: c.scalar(select(tables.inbox.c.received_at)))
    assert found == at
    assert found.utcoffset() == timedelta(0)


def test_times_sort_by_time_whatever_zone_they_came_in(database):
    zones = [timezone(timedelta(hours=hours)) for hours in (-11, 0, 9)]
    for n in range(6):
        database.write_now(put(f"k-{n}", (START + timedelta(milliseconds=n)).astimezone(zones[n % 3])))
    in_order = select(tables.inbox.c.event_id).order_by(tables.inbox.c.received_at)
    assert database.read_now(lambda c: list(c.scalars(in_order))) == [f"k-{n}" for n in range(6)]
    after = select(tables.inbox.c.event_id).where(tables.inbox.c.received_at > START + timedelta(milliseconds=3))
    assert sorted(database.read_now(lambda c: list(c.scalars(after)))) == ["k-4", "k-5"]


def test_a_naive_time_is_refused_on_sqlite(sqlite_url):
    with opened(sqlite_url) as database, pytest.raises(Exception, match="naive"):
        database.write_now(put("a", datetime(2026, 3, 1)))  # noqa: DTZ001 - what is refused


def test_sessions_of_postgresql_are_bounded_in_time(postgres_url):
    with opened(postgres_url) as database:
        shown = [
            database.read_now(lambda c, name=name: c.execute(text(f"SHOW {name}")).scalar())
            for name in ("timezone", "statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
        ]
    assert shown == ["UTC", "5s", "3s", "15s"]
