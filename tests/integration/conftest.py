"""Real servers for the integration tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from services.messaging.jetstream import Connection, ensure_streams
from state.engine.database import Database, opened
from tests.support.nats_connection import connect
from tests.support.nats_server import NatsServer
from tests.support.postgres_server import PostgresServer


@pytest.fixture
async def connection(nats_server: NatsServer) -> AsyncIterator[Connection]:
    """An open connection to the test's own server."""
    opened = await connect([nats_server.url], name="test")
    yield opened
    await opened.close()


@pytest.fixture
async def streams(connection: Connection) -> dict[str, str]:
    return await ensure_streams(connection.js)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A fresh, migrated database of each kind in turn."""
    url: str = request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url")
    return url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with opened(database_url) as database:
        yield database


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of each kind in turn that nobody has set up yet."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'empty.db'}"
    server: PostgresServer = request.getfixturevalue("postgres_server")
    return server.new_database(migrated=False)
