"""What a worker says and does when its broker has no JetStream, or has lost everything. The whole stack, over HTTP."""

from __future__ import annotations

import asyncio
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from services.base.addresses import free_port
from services.domain.orders.events import CONFIRMED
from services.messaging.embedded import find_binary
from services.sandbox.traffic import plan_visit
from tests.chaos.faults import misbehaving
from tests.chaos.resources import wipe_broker
from tests.chaos.stack import HEADLESS, LiveStack, live_stack, until
from tests.faults.processes import inventory_service, wait_until, worker
from tests.support.children import MORTAL, end
from tests.support.nats_connection import connect
from tests.support.nats_server import NatsServer

pytestmark = pytest.mark.slow

PATIENCE_SECONDS = 60.0


@pytest.fixture
def plain_nats(tmp_path: Path) -> Iterator[str]:
    """A server that runs without JetStream."""
    port = free_port(tmp_path / "nats.port")
    process = subprocess.Popen(
        [*MORTAL, str(find_binary()), "-a", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield f"nats://127.0.0.1:{port}"
    finally:
        end(process)


def test_a_broker_without_jetstream_is_not_ready(tmp_path: Path, plain_nats: str) -> None:
    environment = {"NATS_URL": plain_nats, "INVENTORY_SERVICE_URL": "http://127.0.0.1:9"}
    with worker(tmp_path, **environment) as service:
        wait_until(lambda: service.client.get("/readyz").json().get("nats") is True, PATIENCE_SECONDS, service.log)
        wait_until(lambda: "cannot be ensured" in service.client.get("/readyz").text, PATIENCE_SECONDS, service.log)
        answer = service.client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["streams"] is False
        assert answer.json()["reason"]


@pytest.fixture
def own_nats(tmp_path: Path) -> Iterator[NatsServer]:
    """A server whose streams a test may take away."""
    server = NatsServer(tmp_path / "nats")
    with asyncio.Runner() as runner:
        runner.run(server.start())
    yield server
    server.close()


async def test_orders_are_confirmed_and_poison_is_kept_although_streams_and_consumers_were_deleted(
    tmp_path: Path, own_nats: NatsServer
) -> None:
    draw = random.Random(2)
    with inventory_service(tmp_path, own_nats.url) as inventory:
        # So long that nothing but the answer to an order's own request confirms it.
        environment = {"NATS_URL": own_nats.url, "CONFIRMATION_TIMEOUT": "600000"}
        with worker(tmp_path, INVENTORY_SERVICE_URL=f"http://127.0.0.1:{inventory.port}", **environment) as service:
            connection = await connect([own_nats.url], name="somebody")

            def is_confirmed(order_id: str) -> bool:
                return bool(service.client.get(f"/api/v1/orders/{order_id}").json()["data"]["status"] == "CONFIRMED")

            def dead_letters() -> int:
                return len(service.client.get("/api/v1/dead-letters").json()["data"]["items"])

            def order_is_confirmed() -> None:
                reply = service.client.post("/api/v1/orders", json=plan_visit(draw).body)
                assert reply.status_code == 201, reply.text
                order_id = reply.json()["data"]["orderId"]
                wait_until(lambda: is_confirmed(order_id), PATIENCE_SECONDS, service.log)

            order_is_confirmed()
            await connection.js.publish(CONFIRMED, b"no JSON")
            wait_until(lambda: dead_letters() == 1, PATIENCE_SECONDS, service.log)
            for consumer in await connection.js.consumers_info("INVENTORY_EVENTS"):
                await connection.js.delete_consumer("INVENTORY_EVENTS", consumer.name)
            order_is_confirmed()
            for stream in ("ORDER_EVENTS", "INVENTORY_EVENTS"):
                await connection.js.delete_stream(stream)
            order_is_confirmed()
            # Its sequence number is one that an earlier stream has used.
            await connection.js.publish(CONFIRMED, b"no JSON either")
            wait_until(lambda: dead_letters() == 2, PATIENCE_SECONDS, service.log)
            wait_until(lambda: service.client.get("/readyz").is_success, PATIENCE_SECONDS, service.log)
            await connection.close()


async def test_a_placed_order_is_confirmed_after_the_broker_has_lost_everything(tmp_path: Path) -> None:
    # So long that only the loss itself can have the confirmation asked for again.
    async with (
        live_stack(tmp_path, HEADLESS, CONFIRMATION_TIMEOUT="600000") as stack,
        httpx.AsyncClient(base_url=stack.api_url, trust_env=False, timeout=20.0) as client,
    ):
        async with misbehaving(stack, silentConfirmations=True):
            order_id = await _place(stack, client)
            await wipe_broker(stack, random.Random(0), 0.0)

        async def is_confirmed() -> bool:
            reply = await client.get(f"/api/v1/orders/{order_id}")
            return bool(reply.json()["data"]["status"] == "CONFIRMED")

        await until(is_confirmed, PATIENCE_SECONDS, stack.logs)


async def _place(stack: LiveStack, client: httpx.AsyncClient) -> str:
    """An order whose stock is deducted without an answer: its id."""
    reply = await client.post("/api/v1/orders", json=plan_visit(random.Random(1)).body)
    assert reply.status_code == 201, reply.text
    order_id = str(reply.json()["data"]["orderId"])

    async def is_deducted() -> bool:
        async with httpx.AsyncClient(base_url=stack.inventory_url(), trust_env=False) as inventory:
            found = await inventory.get(f"/api/v1/inventory/reservations/{order_id}")
        return found.is_success and found.json()["data"]["state"] == "CONFIRMED"

    await until(is_deducted, PATIENCE_SECONDS, stack.logs)
    return order_id
