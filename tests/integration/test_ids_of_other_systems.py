"""Ids of other systems reach the reference services over real HTTP and come back as they are."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.clients.http.transport import AiohttpTransport, client_session
from services.clients.inventory.http import HTTPInventoryGateway, HTTPInventoryLookup
from services.clients.payments import HTTPPaymentGateway, PaymentState
from services.domain.calls import Attempt
from services.domain.conservation import StockState
from services.domain.orders.model import Line
from services.http_server.process import listen, serving
from services.sandbox import payment_gateway
from services.sandbox.inventory_service import tables
from services.sandbox.inventory_service.api import InventoryApi
from services.sandbox.inventory_service.catalogue import Product, put_on_shelves
from services.sandbox.inventory_service.faults import Faults, FaultSettings
from services.sandbox.payment_gateway import PaymentApi
from state.engine.database import Database, opened
from tests.support.attempts import noted

IDS = ["auth0|x", "gid://shop/Product/1", "ABC/12", "Größe-M", ".", "..", "a b", "%2F", "a/../b", "?q#f", "x" * 128]
TTL_SECONDS = 600


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with opened(f"sqlite:///{tmp_path}/sandbox.db") as database:
        database.write_now(tables.make)
        payment_gateway.metadata.create_all(database.engine)
        yield database


@pytest.fixture
async def transport() -> AsyncIterator[AiohttpTransport]:
    transport = AiohttpTransport(client_session())
    yield transport
    await transport.aclose()


@pytest.mark.parametrize("other_form", [False, True])
@pytest.mark.parametrize("name", IDS)
async def test_stock_is_reserved_found_and_released_under_any_id(
    database: Database, transport: AiohttpTransport, name: str, other_form: bool
) -> None:
    lines, attempts = (Line(name, name, 2),), list[Attempt]()
    shelf = Product("Thing", name, name, on_hand=5, low_stock_threshold=1, price=1.0)
    database.write_now(lambda connection: put_on_shelves(connection, (shelf,), now()))
    faults = Faults(lambda: 0.5)
    faults.settings = FaultSettings(otherForm=other_form)

    async def health() -> dict[str, object]:
        return {}

    api = InventoryApi(database, now, faults, health=health, on_commit=lambda: None)
    async with serving(api.application(), listen("127.0.0.1", 0)) as url:
        gateway = HTTPInventoryGateway(
            transport, url, timeout_seconds=5, reservation_ttl_seconds=TTL_SECONDS, clock=now
        )
        lookup = HTTPInventoryLookup(transport, url, timeout_seconds=5, clock=now)
        assert (await noted(gateway.check_availability(lines), attempts)).available
        await noted(gateway.reserve(name, lines, name), attempts)
        assert (await lookup.find(name)).stock is StockState.RESERVED
        assert await noted(gateway.release(name), attempts) is True
        assert (await lookup.find(name)).stock is StockState.FREE
    assert {attempt.outcome for attempt in attempts} == {"success"}


@pytest.mark.parametrize("name", IDS)
async def test_money_is_captured_found_and_given_back_under_any_id(
    database: Database, transport: AiohttpTransport, name: str
) -> None:
    attempts: list[Attempt] = []
    async with serving(PaymentApi(database, now).application(), listen("127.0.0.1", 0)) as url:
        gateway = HTTPPaymentGateway(transport, url, timeout_seconds=5, clock=now)
        assert await noted(gateway.find(name), attempts) is PaymentState.ABSENT
        assert await noted(gateway.capture(name, "u", (Line("p", "v", 1),), {}), attempts) is PaymentState.CAPTURED
        assert await noted(gateway.find(name), attempts) is PaymentState.CAPTURED
        assert await noted(gateway.refund(name), attempts) is PaymentState.REFUNDED
        assert await noted(gateway.void(name), attempts) is PaymentState.REFUNDED
