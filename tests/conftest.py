"""What holds for every test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from state.schema import migrate
from tests.support.environment import forget_settings, write_into_memory
from tests.support.examples import load_profile
from tests.support.nats_server import NatsServer
from tests.support.orders_harness import OrdersHarness, SqliteTemplate
from tests.support.postgres_server import PostgresServer, started_postgres

# Before anything reads a setting or starts a process.
forget_settings()
write_into_memory()

load_profile()


SLOW_SECONDS = 600


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give slow tests more time, and check the marks by which ``make test`` runs every test once."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_SECONDS))
        if item.get_closest_marker("alone") and not item.get_closest_marker("slow"):
            raise pytest.UsageError(f"{item.nodeid}: what is marked alone has to be marked slow as well")


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> SqliteTemplate:
    """A migrated SQLite database to copy."""
    return SqliteTemplate(tmp_path_factory.mktemp("template") / "template.db", migrate)


@pytest.fixture
def sqlite_url(sqlite_template: SqliteTemplate, tmp_path: Path) -> str:
    """A fresh, migrated SQLite database of the test's own."""
    return sqlite_template.copy_to(tmp_path / "holdfast.db")


@pytest.fixture(scope="session")
def nats_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A NATS server for the whole session; what a test leaves in it stays for the next."""
    server = NatsServer(tmp_path_factory.mktemp("nats"))
    with asyncio.Runner() as runner:
        runner.run(server.start())
    yield server.url
    server.close()


@pytest.fixture
async def nats_server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    """A NATS server of the test's own, empty and running."""
    server = NatsServer(tmp_path)
    await server.start()
    yield server
    server.close()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server for the whole session; every test gets databases of its own from it."""
    with started_postgres() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> str:
    """A fresh, migrated PostgreSQL database of the test's own."""
    return postgres_server.new_database()


@pytest.fixture
def shop(sqlite_url: str) -> Iterator[OrdersHarness]:
    """The order use cases over a fresh database."""
    harness = OrdersHarness(sqlite_url)
    yield harness
    harness.close()
