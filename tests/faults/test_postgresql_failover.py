"""PostgreSQL that becomes read-only, ends sessions or fails over: the worker says so and is back within seconds."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError

from services.base.identity import new_id
from state.engine.database import Database
from state.tables import inbox
from tests.alerting.receiver import Pager, pager
from tests.faults.processes import wait_until, worker
from tests.faults.shop import place, readiness
from tests.support.inbox_rows import keys, put
from tests.support.postgres_server import PostgresServer, conninfo_of, started_postgres

pytestmark = [pytest.mark.slow, pytest.mark.alone]

REST_SECONDS = 20.0
SOON_SECONDS = 6.0


@pytest.fixture(scope="module")
def own_server() -> Iterator[PostgresServer]:
    """A server whose whole configuration may be changed."""
    with started_postgres() as server:
        yield server


@pytest.fixture
def url(own_server: PostgresServer) -> Iterator[str]:
    url = own_server.new_database()
    yield url
    make_writable(url)


def as_operator(url: str, *statements: str) -> None:
    with psycopg.connect(conninfo_of(url), autocommit=True, options="-c default_transaction_read_only=off") as operator:
        for statement in statements:
            operator.execute(statement)


END_ALL = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend'"
    " AND pid <> pg_backend_pid() AND datname = current_database()"
)


def make_read_only(url: str) -> None:
    """As sessions see it that stay on a server which has become the standby."""
    as_operator(url, "ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
    wait_until(lambda: is_read_only(url), REST_SECONDS)


def make_writable(url: str) -> None:
    as_operator(url, "ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()")
    wait_until(lambda: not is_read_only(url), REST_SECONDS)


def is_read_only(url: str) -> bool:
    """What a new session sees. The server reloads its settings some time after the function has returned."""
    with psycopg.connect(conninfo_of(url)) as session:
        return session.execute("SHOW default_transaction_read_only").fetchone() == ("on",)


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    database = Database(url, readers=2, writers=2)
    yield database
    database.close()


async def written_soon(database: Database, key: str) -> None:
    deadline = time.monotonic() + SOON_SECONDS
    while True:
        try:
            await database.write(put(key))
        except DBAPIError:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        else:
            return


async def test_sessions_on_a_read_only_server_are_given_up_and_a_writable_one_is_used_at_once(database, url):
    await asyncio.gather(*(database.write(put(f"a{n}")) for n in range(4)))
    make_read_only(url)
    with pytest.raises(DBAPIError):
        await database.write(put("b"))
    make_writable(url)
    await written_soon(database, "c")
    assert await database.read(keys) == ["a0", "a1", "a2", "a3", "c"]


async def test_a_session_that_alone_is_read_only_is_replaced_without_an_error(database):
    """The server is writable again before anybody has noticed: nothing was done, so the same is done anew."""

    def make_this_session_read_only(connection):
        connection.execute(text("SET SESSION default_transaction_read_only = on"))

    await asyncio.gather(*(database.write(make_this_session_read_only) for _ in range(4)))
    await asyncio.gather(*(database.write(put(f"a{n}")) for n in range(4)))
    assert await database.read(keys) == ["a0", "a1", "a2", "a3"]


async def test_ended_sessions_are_replaced(database, url):
    await asyncio.gather(*(database.write(put(f"a{n}")) for n in range(4)), database.read(keys))
    as_operator(url, END_ALL)
    await asyncio.gather(*(database.write(put(f"b{n}")) for n in range(4)), database.read(keys))


async def test_two_transactions_that_wait_for_each_other_both_end_well(database):
    for key in ("x", "y"):
        await database.write(put(key))
    both = threading.Barrier(2, timeout=10)
    tries: list[str] = []

    def swap(first: str, second: str):
        def transaction(connection):
            tries.append(first)
            for index, key in enumerate((first, second)):
                connection.execute(inbox.update().where(inbox.c.event_id == key).values(type=first))
                if index == 0 and len(tries) <= 2:
                    both.wait()

        return transaction

    await asyncio.gather(database.write(swap("x", "y")), database.write(swap("y", "x")))
    assert len(tries) == 3


async def test_a_transaction_that_cannot_be_serialised_is_repeated_once(database):
    tries = []

    def fails_at_first(connection):
        tries.append(1)
        put(f"try-{len(tries)}")(connection)
        if len(tries) == 1:
            connection.execute(text("DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '40001'; END $$"))

    await database.write(fails_at_first)
    assert await database.read(keys) == ["try-2"]


# ------------------------------------------------------------------------ the worker


def test_a_read_only_database_is_reported_everywhere_and_left_within_seconds(tmp_path, url, nats_url, inventory):
    with pager() as receiver:
        addresses = {
            "DATABASE_URL": url,
            "NATS_URL": nats_url,
            "INVENTORY_SERVICE_URL": f"http://127.0.0.1:{inventory.port}",
            "ALERT_WEBHOOK_URL": receiver.url,
        }
        with worker(tmp_path, **addresses) as service:
            wait_until(lambda: readiness(service) == (200, True), REST_SECONDS, service.log)
            assert place(service, new_id()).status_code == 201
            make_read_only(url)
            refused = place(service, new_id())
            error = refused.json()["error"]
            assert (refused.status_code, error["code"], error["retryable"]) == (503, "SERVICE_UNAVAILABLE", True)
            assert int(refused.headers["Retry-After"]) >= 1
            assert readiness(service) == (503, False)
            assert service.client.get("/readyz").json()["reason"].startswith("The database ")
            assert "database_writable 0.0" in service.client.get("/metrics").text
            wait_until(lambda: told(receiver) == ["firing"], REST_SECONDS, service.log)
            make_writable(url)
            began = time.monotonic()
            wait_until(lambda: readiness(service) == (200, True), REST_SECONDS, service.log)
            assert place(service, new_id()).status_code == 201
            assert time.monotonic() - began < SOON_SECONDS
            wait_until(lambda: told(receiver) == ["firing", "resolved"], REST_SECONDS, service.log)
            assert "database_not_writable" in service.log() + (tmp_path / "worker.log").read_text()


def told(receiver: Pager) -> list[str]:
    return [message["status"] for message in receiver.of("DatabaseNotWritable")]


# --------------------------------------------------------------------- a real standby


def test_a_standby_that_is_promoted_takes_over(tmp_path):
    """Two servers in one address: the one that can write is found, before and after the fail-over."""
    primary = PostgresServer()
    primary.start()
    standby = None
    try:
        url = primary.new_database()
        standby = primary.standby()
        both = make_url(url).update_query_dict({"host": [f"{standby.directory}:5432", f"{primary.directory}:5432"]})
        database = Database(both.render_as_string(hide_password=False), readers=1, writers=2)
        try:
            database.write_now(put("before"))
            at_standby = conninfo_of(url).replace(str(primary.directory), str(standby.directory))
            with psycopg.connect(at_standby, autocommit=True) as copy:
                wait_until(lambda: copy.execute("SELECT event_id FROM inbox").fetchall() == [("before",)], REST_SECONDS)
            primary.stop()
            standby.promote()

            def written() -> bool:
                try:
                    database.write_now(put("after"))
                except DBAPIError:
                    return False
                return True

            wait_until(written, SOON_SECONDS)
            assert database.read_now(keys) == ["after", "before"]
        finally:
            database.close()
    finally:
        if standby is not None:
            standby.close()
        primary.close()
