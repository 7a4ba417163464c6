"""Real neighbours, shared by all tests of this folder; each test has proxies of its own before them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from services.clients.http.transport import AiohttpTransport, client_session
from tests.faults.processes import Service, inventory_service
from tests.faults.proxy import TcpProxy


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
