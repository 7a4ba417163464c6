"""The Inventory Service as a whole: over real sockets, with a real NATS, and without one."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from nats.js.api import StreamConfig
from nats.js.errors import NotFoundError
from pydantic import SecretStr

from services.messaging.jetstream import Connection, ensure_streams
from services.sandbox.inventory_service.__main__ import serve
from services.sandbox.inventory_service.catalogue import CATALOGUE
from services.sandbox.settings import InventorySettings
from tests.support.nats_connection import connect
from tests.support.nats_server import NatsServer, eventually

NOWHERE = "nats://127.0.0.1:1"
PEN = CATALOGUE[1]
KEY = {"productId": PEN.product_id, "variantId": PEN.variant_id}


def settings(folder: Path, nats_url: str) -> InventorySettings:
    return InventorySettings(
        port=0, database_url=f"sqlite:///{folder}/inventory.db", nats_url=SecretStr(nats_url), sweep_interval=20
    )


@asynccontextmanager
async def running(folder: Path, nats_url: str, **more: Any) -> AsyncIterator[httpx.AsyncClient]:
    stop = asyncio.Event()
    listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    service = asyncio.create_task(serve(settings(folder, nats_url), stop, on_listening=listening.set_result, **more))
    await asyncio.wait({service, listening}, return_when=asyncio.FIRST_COMPLETED)
    if service.done():
        service.result()
    try:
        async with httpx.AsyncClient(base_url=listening.result(), trust_env=False) as client:
            yield client
    finally:
        stop.set()
        async with asyncio.timeout(5):
            await service


@pytest.fixture
async def inventory(tmp_path: Path, nats_url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with running(tmp_path, nats_url) as client:
        await eventually(connected(client))
        yield client


@asynccontextmanager
async def connected_bus(nats_url: str) -> AsyncIterator[Connection]:
    connection = await connect([nats_url], name="test")
    try:
        await ensure_streams(connection.js)
        yield connection
    finally:
        await connection.close()


@pytest.fixture
async def bus(nats_url: str) -> AsyncIterator[Connection]:
    async with connected_bus(nats_url) as connection:
        yield connection


def connected(client: httpx.AsyncClient) -> Callable[[], Awaitable[bool]]:
    async def is_connected() -> bool:
        return (await client.get("/healthz")).json()["data"]["nats"] == "connected"

    return is_connected


async def reserve(client: httpx.AsyncClient, order_id: str, quantity: int = 1) -> httpx.Response:
    body = {"orderId": order_id, "items": [KEY | {"quantity": quantity}], "expiresIn": 1800}
    return await client.post("/api/v1/inventory/reserve", json=body)


async def publish(bus: Connection, event_type: str, **data: Any) -> None:
    event_id = str(uuid.uuid4())
    payload = orjson.dumps({"id": event_id, "type": event_type, "source": "order-service", "data": data})
    await bus.js.publish(event_type, payload, headers={"Nats-Msg-Id": event_id})


async def answer_for(bus: Connection, subject: str, order_id: str) -> dict[str, Any]:
    """The first event on the subject that is about the order."""
    subscription = await bus.js.subscribe(subject, ordered_consumer=True)
    try:
        async with asyncio.timeout(15):
            while True:
                event = orjson.loads((await subscription.next_msg(timeout=15)).data)
                if event["correlationId"] == order_id:
                    return dict(event)
    finally:
        await subscription.unsubscribe()


async def stock_of(client: httpx.AsyncClient) -> tuple[int, int]:
    items = (await client.get("/api/v1/inventory/stock")).json()["data"]["items"]
    (item,) = [item for item in items if item["productId"] == PEN.product_id]
    return item["onHand"], item["reserved"]


def order_id() -> str:
    return str(uuid.uuid4())


async def test_a_reservation_is_confirmed_by_events(inventory: httpx.AsyncClient, bus: Connection) -> None:
    order = order_id()
    reservation = (await reserve(inventory, order, 2)).json()["data"]["reservationId"]
    await publish(bus, "inventory.confirm_requested", orderId=order, reservationId=reservation)
    event = await answer_for(bus, "inventory.confirmed", order)
    assert event["data"]["reservationId"] == reservation
    assert await stock_of(inventory) == (PEN.on_hand - 2, 0)


async def test_a_confirmation_that_cannot_be_given_states_the_reason(
    inventory: httpx.AsyncClient, bus: Connection
) -> None:
    order = order_id()
    await publish(bus, "inventory.confirm_requested", orderId=order, reservationId="r-none")
    event = await answer_for(bus, "inventory.confirmation_failed", order)
    assert event["data"] == {"orderId": order, "reservationId": "r-none", "reason": "UNKNOWN"}


async def test_cancelled_and_returned_orders_restock(inventory: httpx.AsyncClient, bus: Connection) -> None:
    orders = [order_id(), order_id()]
    for order in orders:
        reservation = (await reserve(inventory, order, 2)).json()["data"]["reservationId"]
        await publish(bus, "inventory.confirm_requested", orderId=order, reservationId=reservation)
        await answer_for(bus, "inventory.confirmed", order)
    await publish(bus, "order.cancelled", orderId=orders[0])
    returned = {"returnId": "ret-1", "items": [KEY | {"quantity": 1}], "restockable": True}
    await publish(bus, "order.returned", orderId=orders[1], **returned)

    async def restocked() -> bool:
        return await stock_of(inventory) == (PEN.on_hand - 1, 0)

    await eventually(restocked)


async def test_an_unreadable_event_is_set_aside_and_the_next_is_handled(
    inventory: httpx.AsyncClient, bus: Connection
) -> None:
    await bus.js.publish("order.cancelled", b"not json")
    await publish(bus, "order.returned", orderId="o-1")
    order = order_id()
    await publish(bus, "order.cancelled", orderId=order)

    async def both_known() -> bool:
        buried = (await inventory.get(f"/api/v1/inventory/reservations/{order}")).status_code == 200
        return buried and (await inventory.get("/healthz")).json()["data"]["deadLetters"] == 2

    await eventually(both_known)


async def test_http_works_without_nats_and_the_outbox_keeps_the_events(tmp_path: Path, nats_server: NatsServer) -> None:
    async with running(tmp_path, NOWHERE) as client:
        assert (await reserve(client, "o-1", PEN.on_hand)).status_code == 200
        health = (await client.get("/healthz")).json()["data"]
        assert (health["nats"], health["outboxPending"]) == ("disconnected", 1)
    async with running(tmp_path, nats_server.url) as client, connected_bus(nats_server.url) as bus:
        event = await answer_for(bus, "inventory.out_of_stock", f"{PEN.product_id}/{PEN.variant_id}")
        assert event["source"] == "inventory-service"

        async def nothing_waits() -> bool:
            return (await client.get("/healthz")).json()["data"]["outboxPending"] == 0

        await eventually(nothing_waits)


async def test_a_nats_server_that_was_killed_is_found_again(tmp_path: Path, nats_server: NatsServer) -> None:
    async with running(tmp_path, nats_server.url) as client:
        await eventually(connected(client))
        nats_server.kill()
        order = order_id()
        reservation = (await reserve(client, order)).json()["data"]["reservationId"]
        await nats_server.start()
        async with connected_bus(nats_server.url) as bus:
            await publish(bus, "inventory.confirm_requested", orderId=order, reservationId=reservation)
            assert (await answer_for(bus, "inventory.confirmed", order))["data"]["orderId"] == order


async def test_the_shelves_survive_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path, NOWHERE) as client:
        first = (await reserve(client, "o-1", 3)).json()["data"]
    async with running(tmp_path, NOWHERE) as client:
        assert (await reserve(client, "o-1", 3)).json()["data"] == first
        assert await stock_of(client) == (PEN.on_hand, 3)


async def test_a_crowd_gets_exactly_what_there_is(tmp_path: Path) -> None:
    async with running(tmp_path, NOWHERE) as client:
        await client.post("/api/v1/inventory/stock/adjust", json=KEY | {"delta": 50 - PEN.on_hand, "reason": "count"})
        replies = await asyncio.gather(*(reserve(client, f"o-{number}") for number in range(80)))
        assert sorted(reply.status_code for reply in replies) == [200] * 50 + [409] * 30
        assert await stock_of(client) == (50, 50)


async def test_a_taken_port_stops_the_start(tmp_path: Path) -> None:
    async with running(tmp_path, NOWHERE) as client:
        taken = settings(tmp_path, NOWHERE).model_copy(update={"port": client.base_url.port})
        with pytest.raises(OSError, match="in use"):
            await serve(taken, asyncio.Event())


SHORT_EVENTS = 480
"""``max_msg_size`` in bytes: enough for an event about an order with an id as usual, not for one of the longest."""


async def limited_stream(bus: Connection, most: int) -> None:
    """An operator's stream for what the service says."""
    subjects = [f"inventory.{name}" for name in ("confirmed", "confirmation_failed", "low_stock", "out_of_stock")]
    config = StreamConfig(name="SAID", subjects=[*subjects, "inventory.back_in_stock"], max_msg_size=most)
    try:
        await bus.js.update_stream(config)
    except NotFoundError:
        await bus.js.add_stream(config)


async def test_an_event_too_large_for_the_broker_stops_no_other_and_waits_for_a_person(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    long, usual = "o" * 128, order_id()
    bus = await connect([nats_server.url], name="test")
    try:
        await limited_stream(bus, SHORT_EVENTS)
        await ensure_streams(bus.js)
        async with running(tmp_path, nats_server.url) as client:
            await eventually(connected(client))
            for order in (long, usual):
                await publish(bus, "inventory.confirm_requested", orderId=order, reservationId="r-none")
            await answer_for(bus, "inventory.confirmation_failed", usual)

            async def is_found() -> bool:
                health = (await client.get("/healthz")).json()["data"]
                return (health["publishing"], health["outboxPending"], health["outboxUndeliverable"]) == (True, 0, 1)

            await eventually(is_found)
            (event,) = (await client.get("/api/v1/sandbox/outbox")).json()["data"]["items"]
            assert (event["orderId"], event["subject"], event["attempts"]) == (long, "inventory.confirmation_failed", 1)
            assert event["reason"]
            for unknown in ("0", "99999", "x"):
                assert (await client.post(f"/api/v1/sandbox/outbox/{unknown}/discard")).status_code == 404
            await limited_stream(bus, 10 * SHORT_EVENTS)
            assert (await client.post(f"/api/v1/sandbox/outbox/{event['id']}/retry")).status_code == 200
            answer = await answer_for(bus, "inventory.confirmation_failed", long)
            assert answer["data"]["orderId"] == long
            assert (await client.get("/api/v1/sandbox/outbox")).json()["data"]["items"] == []
    finally:
        await bus.close()
