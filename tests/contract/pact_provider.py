"""Providers under verification: the reference Inventory Service on a socket, and the verifier itself."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
from pact import Verifier
from pact.types import Message
from sqlalchemy import Connection

from services.domain.orders.model import Line
from services.http_server.process import listen, serving
from services.sandbox.inventory_service import queries, stock, tables
from services.sandbox.inventory_service.api import InventoryApi
from services.sandbox.inventory_service.catalogue import CATALOGUE, put_on_shelves
from services.sandbox.inventory_service.faults import Faults
from state.engine.database import Database
from tests.contract.pact_examples import DEDUCTED, HAS_STOCK, HOLDS, NOW

HOST = "127.0.0.1"


@contextmanager
def served(database: Database) -> Iterator[str]:
    """The reference service's HTTP side in a thread of its own: the base URL."""
    addresses: Queue[str] = Queue()
    stop = threading.Event()

    async def health() -> dict[str, Any]:
        return {}

    async def serve() -> None:
        api = InventoryApi(database, lambda: NOW, Faults(random.random), health=health, on_commit=lambda: None)
        async with serving(api.application(), listen(HOST, 0)) as url:
            addresses.put(url)
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="reference-inventory-service")
    thread.start()
    try:
        yield addresses.get(timeout=10)
    finally:
        stop.set()
        thread.join(timeout=10)


class ProviderStates:
    """Brings the reference service into the states that the contract names; each interaction starts afresh."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._clear()

    def handlers(self) -> dict[str, Callable[[str, dict[str, Any]], None]]:
        states = {HAS_STOCK: self._stocked, HOLDS: self._held, DEDUCTED: self._deducted}
        return {name: self._handler(bring_about) for name, bring_about in states.items()}

    def _handler(
        self, bring_about: Callable[[Connection, dict[str, Any]], None]
    ) -> Callable[[str, dict[str, Any]], None]:
        # The names of the arguments are the pact library's.
        def handle(action: str, parameters: dict[str, Any]) -> None:
            if action == "setup":
                self._database.write_now(lambda connection: bring_about(connection, parameters))
            else:
                self._clear()

        return handle

    def _clear(self) -> None:
        # The ledger refuses to be emptied, so the tables are made anew.
        def transaction(connection: Connection) -> None:
            tables.metadata.drop_all(connection)
            tables.metadata.create_all(connection)
            put_on_shelves(connection, CATALOGUE[:2], NOW)

        self._database.write_now(transaction)

    @staticmethod
    def _stocked(connection: Connection, parameters: dict[str, Any]) -> None:
        sku = (parameters["productId"], parameters["variantId"])
        item = queries.stock_item(connection, *sku, NOW)
        assert item is not None, f"no such product in the catalogue: {sku}"
        delta = parameters["quantity"] - item["available"]
        stock.adjust(connection, product_id=sku[0], variant_id=sku[1], delta=delta, reason="contract", now=NOW)

    @staticmethod
    def _held(connection: Connection, parameters: dict[str, Any]) -> stock.Reservation:
        return stock.reserve(
            connection,
            order_id=parameters["orderId"],
            lines=[Line(item["productId"], item["variantId"], item["quantity"]) for item in parameters["items"]],
            user_id=None,
            expires_in=timedelta(minutes=30),
            now=NOW,
        )

    def _deducted(self, connection: Connection, parameters: dict[str, Any]) -> None:
        reservation_id = self._held(connection, parameters).reservation_id
        at = stock.confirm(connection, order_id=parameters["orderId"], reservation_id=reservation_id, now=NOW)
        assert at == NOW


def verify_rest(provider: str, contract: Path, url: str, states: ProviderStates) -> None:
    """Send every request of the contract to the service at ``url`` and compare the answers."""
    verifier = Verifier(provider, host=HOST).add_transport(url=url).add_source(contract)
    _verify(verifier.state_handler(states.handlers(), teardown=True))


def verify_events(provider: str, contract: Path, sent: Mapping[str, Message]) -> None:
    """Compare what was sent, by subject, with every event of the contract."""
    _verify(Verifier(provider, host=HOST).add_source(contract).message_handler(dict(sent)))


def _verify(verifier: Verifier) -> None:
    try:
        verifier.verify()
    except RuntimeError:
        # The exception says only that something failed; the library's own kind of text breaks pytest's reports.
        pytest.fail(str(verifier.output(strip_ansi=True)), pytrace=False)
    finally:
        _close_sockets(verifier)


def _close_sockets(verifier: Verifier) -> None:
    # The library stops its own little servers without closing their sockets.
    for part in (verifier._message_producer, verifier._state_handler):
        server = getattr(part, "_server", None)
        if server is not None:
            server.server_close()
