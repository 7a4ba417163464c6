"""Real neighbours, shared by all tests of this folder; each test has proxies of its own before them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from services.clients.http.transport import AiohttpTransport, client_session
from tests.faults.processes import Service, inventory_service
from tests.faults.proxy import TcpProxy
from tests.support.nats_server import NatsServer
from tests.support.postgres_server import PostgresServer


@pytest.fixture(scope="session")
def nats_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One server for all tests; what a test leaves in it stays for the next."""
    server = NatsServer(tmp_path_factory.mktemp("nats"))
    with asyncio.Runner() as runner:
        runner.run(server.start())
    yield server.url
    server.close()


@pytest.fixture(scope="session")
def inventory(tmp_path_factory: pytest.TempPathFactory, nats_url: str) -> Iterator[Service]:
    """The reference Inventory Service, in a process of its own."""
    with inventory_service(tmp_path_factory.mktemp("inventory"), nats_url) as service:
        yield service


@pytest.fixture
def inventory_proxy(inventory: Service) -> Iterator[TcpProxy]:
    """The way to the Inventory Service."""
    with TcpProxy(inventory.port) as proxy:
        yield proxy


@pytest.fixture
async def transport() -> AsyncIterator[AiohttpTransport]:
    transport = AiohttpTransport(client_session())
    yield transport
    await transport.aclose()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.close()
