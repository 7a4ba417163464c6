"""Real servers for the integration tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from services.messaging.jetstream import Connection, connect
from tests.integration.nats_server import NatsServer


@pytest.fixture(scope="session")
def nats_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One server for the whole session; what a test leaves in it stays for the next."""
    server = NatsServer(tmp_path_factory.mktemp("nats"))
    with asyncio.Runner() as runner:
        runner.run(server.start())
    yield server.url
    server.close()


@pytest.fixture
async def nats_server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    """A server of the test's own, empty and running."""
    server = NatsServer(tmp_path)
    await server.start()
    yield server
    server.close()


@pytest.fixture
async def connection(nats_server: NatsServer) -> AsyncIterator[Connection]:
    """An open connection to the test's own server."""
    opened = await connect([nats_server.url], name="test")
    yield opened
    await opened.close()
