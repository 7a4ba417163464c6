"""PostgreSQL behind PgBouncer, with odd defaults, with few connections and few rights."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import insert, make_url, select, text

from services.base.addresses import free_port
from services.base.identity import new_id
from state.engine.database import SERVER_OPTIONS, Database
from state.schema import migrate
from state.tables import inbox
from tests.chaos.stack import ROOT
from tests.faults.processes import wait_until, worker
from tests.faults.shop import MUG
from tests.support.pgbouncer import pgbouncer
from tests.support.postgres_server import PostgresServer, conninfo_of

pytestmark = [pytest.mark.slow]

AT = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)
REST_SECONDS = 60.0


@pytest.fixture
def url(postgres_server: PostgresServer) -> str:
    return postgres_server.new_database()


def put(key):
    row = {"event_id": key, "type": "Größe", "received_at": AT}
    return lambda connection: connection.execute(insert(inbox), row)


def rows(connection):
    return sorted(tuple(row) for row in connection.execute(select(inbox.c.event_id, inbox.c.type, inbox.c.received_at)))


def session(connection):
    names = ("timezone", "datestyle", "intervalstyle", "client_encoding", "statement_timeout", "lock_timeout")
    return {name: connection.scalar(text(f"SHOW {name}")) for name in names}


PINNED = {
    "timezone": "UTC",
    "datestyle": "ISO, YMD",
    "intervalstyle": "postgres",
    "client_encoding": "UTF8",
    "statement_timeout": f"{SERVER_OPTIONS['statement_timeout'] // 1000}s",
    "lock_timeout": f"{SERVER_OPTIONS['lock_timeout'] // 1000}s",
}


def as_owner(url: str, *statements: str) -> None:
    with psycopg.connect(conninfo_of(url), autocommit=True) as owner:
        for statement in statements:
            owner.execute(statement)


ODD_DEFAULTS = {
    "TimeZone": "'Asia/Kolkata'",
    "DateStyle": "'German'",
    "IntervalStyle": "'sql_standard'",
    "client_encoding": "'LATIN1'",
    "standard_conforming_strings": "off",
    "default_transaction_isolation": "'serializable'",
    "bytea_output": "'escape'",
    "statement_timeout": "'300ms'",
}


@pytest.mark.parametrize("is_pooled", [False, True])
async def test_odd_defaults_of_the_database_change_nothing(url, is_pooled):
    name = make_url(url).database
    as_owner(url, *(f"ALTER DATABASE {name} SET {option} = {value}" for option, value in ODD_DEFAULTS.items()))
    with pgbouncer(url) as behind:
        database = Database(behind if is_pooled else url)
        try:
            await asyncio.gather(*(database.write(put(f"a'\\{n}")) for n in range(20)))
            assert await database.read(rows) == sorted((f"a'\\{n}", "Größe", AT) for n in range(20))
            assert await database.read(session) == PINNED
        finally:
            database.close()


@pytest.mark.parametrize("ignores_options", [False, True])
async def test_behind_a_pooler_every_transaction_has_its_rules_and_its_own_statements(url, ignores_options):
    with pgbouncer(url, pool_size=3, ignores_options=ignores_options) as behind:
        one, other = Database(behind), Database(behind)
        neighbour = psycopg.connect(behind.replace("+psycopg", ""), autocommit=True, prepare_threshold=None)
        try:
            for n in range(30):
                # A client of the same pooler that leaves its sessions in disorder.
                neighbour.execute("SET search_path = nowhere")
                neighbour.execute("SET TimeZone = 'Asia/Tokyo'")
                await asyncio.gather(
                    *(database.write(put(f"{n}-{k}-{id(database)}")) for database in (one, other) for k in range(4)),
                    one.read(rows),
                    other.read(rows),
                )
                assert await one.read(session) == PINNED
            assert len(await one.read(rows)) == 240
        finally:
            neighbour.close()
            one.close()
            other.close()


async def test_migrations_run_through_a_pooler_from_several_processes(postgres_server):
    fresh = postgres_server.new_database(migrated=False)
    with pgbouncer(fresh) as behind:
        databases = [Database(behind) for _ in range(3)]
        try:
            await asyncio.gather(*(asyncio.to_thread(migrate, database) for database in databases))
            await databases[0].write(put("a"))
        finally:
            for database in databases:
                database.close()


async def test_it_makes_do_with_the_connections_that_it_gets(url):
    role = "few" + uuid4().hex[:8]
    as_owner(url, f"CREATE ROLE {role} LOGIN SUPERUSER CONNECTION LIMIT 6", f"ALTER ROLE {role} NOSUPERUSER")
    as_owner(url, f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
    database = Database(make_url(url).set(username=role).render_as_string(hide_password=False))
    try:

        def slow(connection):
            connection.execute(text("SELECT pg_sleep(0.02)"))
            put(new_id())(connection)

        await asyncio.gather(*(database.write(slow) for _ in range(80)), *(database.read(rows) for _ in range(40)))
        assert len(await database.read(rows)) == 80
    finally:
        database.close()


async def test_no_more_connections_are_opened_than_are_allowed(url):
    database = Database(url, connections=3)
    try:
        await asyncio.gather(*(database.write(put(f"{n}")) for n in range(40)))
        count = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
        assert await database.read(lambda connection: connection.scalar(count)) <= 3
    finally:
        database.close()


def test_orders_are_placed_through_a_pooler(tmp_path, url, nats_url, inventory):
    with pgbouncer(url) as behind:
        inventory_url = f"http://127.0.0.1:{inventory.port}"
        with worker(tmp_path, DATABASE_URL=behind, NATS_URL=nats_url, INVENTORY_SERVICE_URL=inventory_url) as service:
            wait_until(lambda: service.client.get("/readyz").is_success, REST_SECONDS, service.log)
            for _ in range(20):
                body = {"orderId": new_id(), "userId": "user-1", "items": [MUG.wire() | {"quantity": 1}]}
                assert service.client.post("/api/v1/orders", json=body).status_code == 201


# ------------------------------------------------------------------------ the start


@pytest.fixture
def role(postgres_server: PostgresServer) -> str:
    name = "poor" + uuid4().hex[:8]
    as_owner(postgres_server.new_database(), f"CREATE ROLE {name} LOGIN")
    return name


def started(folder: Path, url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (sys.executable, "-m", "services", "worker"),
        cwd=ROOT,
        env={
            **os.environ,
            "DATA_DIR": str(folder),
            "API_PORT": str(free_port(folder / "api.port")),
            "DATABASE_URL": url,
            "NATS_URL": "nats://127.0.0.1:9",
            "INVENTORY_SERVICE_URL": "http://127.0.0.1:9",
        },
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )


def as_role(url: str, role: str) -> str:
    return make_url(url).set(username=role).render_as_string(hide_password=False)


def stopped_with(done: subprocess.CompletedProcess[str], *words: str) -> bool:
    lines = done.stderr.splitlines()
    return done.returncode == 2 and len(lines) == 1 and all(word in lines[0] for word in ("DATABASE_URL: ", *words))


def test_a_role_that_may_not_make_tables_is_reported_in_one_line(tmp_path, postgres_server, role):
    done = started(tmp_path, as_role(postgres_server.new_database(migrated=False), role))
    assert stopped_with(done, role, "GRANT"), done.stderr


def test_a_role_that_may_not_use_the_tables_is_reported_in_one_line(tmp_path, url, role):
    done = started(tmp_path, as_role(url, role))
    assert stopped_with(done, role, "GRANT"), done.stderr


def test_a_search_path_without_a_schema_is_reported_in_one_line(tmp_path, postgres_server, role):
    fresh = postgres_server.new_database(migrated=False)
    as_owner(fresh, f"ALTER ROLE {role} SET search_path = nowhere")
    done = started(tmp_path, as_role(fresh, role))
    assert stopped_with(done, "search_path"), done.stderr


def test_a_database_of_another_encoding_is_reported_in_one_line(tmp_path, postgres_server):
    fresh = postgres_server.new_database(migrated=False)
    name = "ascii_" + uuid4().hex[:8]
    as_owner(fresh, f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'")
    done = started(tmp_path, make_url(fresh).set(database=name).render_as_string(hide_password=False))
    assert stopped_with(done, "SQL_ASCII", "UTF8"), done.stderr
