"""Two installations on one broker, and a consumer that somebody changes: whole processes, over HTTP."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from nats.js.api import StreamConfig
from nats.js.errors import BadRequestError, NotFoundError

from services.domain.orders.events import LOW_STOCK
from services.messaging.jetstream import Connection
from services.sandbox.traffic import plan_visit
from tests.faults.processes import Service, inventory_service, wait_until, worker
from tests.support.nats_connection import connect
from tests.support.nats_server import NatsServer, eventually

pytestmark = pytest.mark.slow

PATIENCE_SECONDS = 60.0
NAMES = ("east", "west")
ORDERS = 10


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[NatsServer]:
    """A server whose streams and consumers a test may change."""
    server = NatsServer(tmp_path / "broker")
    await server.start()
    yield server
    server.close()


@pytest.fixture
def installations(tmp_path: Path, broker: NatsServer) -> Iterator[list[Service]]:
    """Workers of two installations on one broker, each with a reference Inventory Service of its own."""
    with ExitStack() as stack:
        workers = []
        for name in NAMES:
            folder = tmp_path / name
            folder.mkdir()
            environment = {"NATS_URL": broker.url, "HOLDFAST_INSTALLATION": name}
            inventory = stack.enter_context(inventory_service(folder, **{"nats_url": broker.url, **environment}))
            environment["INVENTORY_SERVICE_URL"] = f"http://127.0.0.1:{inventory.port}"
            # Only the first answer may decide.
            workers.append(stack.enter_context(worker(folder, CONFIRMATION_TIMEOUT="600000", **environment)))
        yield workers


def test_orders_of_each_installation_are_confirmed_by_its_own_inventory_service(installations: list[Service]) -> None:
    draw = random.Random(1)
    placed: list[tuple[Service, str]] = []
    for service in installations * ORDERS:
        reply = service.client.post("/api/v1/orders", json=plan_visit(draw).body)
        if reply.status_code == 201:
            placed.append((service, reply.json()["data"]["orderId"]))
    assert len(placed) > ORDERS
    for service, order_id in placed:
        wait_until(lambda s=service, o=order_id: _status(s, o) != "PLACED", PATIENCE_SECONDS, service.log)
        assert _status(service, order_id) == "CONFIRMED", service.log()
    for service in installations:
        # What the neighbour was answered neither waits for an order nor comes to a person.
        assert service.client.get("/api/v1/dead-letters").json()["data"]["items"] == []
        assert "warning" not in service.client.get("/readyz").json()


def _status(service: Service, order_id: str) -> str:
    return str(service.client.get(f"/api/v1/orders/{order_id}").json()["data"]["status"])


async def _is_there(connection: Connection, stream: str, durable: str) -> bool:
    with suppress(NotFoundError):
        await connection.js.consumer_info(stream, durable)
        return True
    return False


async def _moves(connection: Connection, subject: str, stream: str) -> bool:
    """Gives a subject of ours to another stream; False when it was taken back in between."""
    ours = (await connection.js.stream_info("INVENTORY_EVENTS")).config
    rest = [other for other in ours.subjects or [] if other != subject]
    await connection.js.update_stream(ours.evolve(subjects=rest))
    try:
        await connection.js.add_stream(StreamConfig(name=stream, subjects=[subject]))
    except BadRequestError:
        return False
    return True


async def test_what_another_program_changes_at_the_broker_is_corrected_followed_and_reported(
    tmp_path: Path, broker: NatsServer
) -> None:
    environment = {
        "NATS_URL": broker.url,
        "INVENTORY_SERVICE_URL": "http://127.0.0.1:9",
        "HOLDFAST_INSTALLATION": "told",
    }
    durable = "order-service-told"
    with worker(tmp_path, **environment) as service:

        def readiness() -> dict[str, object]:
            return dict(service.client.get("/readyz").json())

        connection = await connect([broker.url], name="somebody")
        js = connection.js
        await eventually(lambda: _is_there(connection, "INVENTORY_EVENTS", durable))
        # A filter that hides our events is taken away again, and told to whoever looks.
        before = (await js.consumer_info("INVENTORY_EVENTS", durable)).config
        await js.add_consumer("INVENTORY_EVENTS", before.evolve(filter_subjects=[LOW_STOCK]))
        wait_until(lambda: "warning" in readiness(), PATIENCE_SECONDS, service.log)
        assert "given other filter subjects (inventory.low_stock)" in str(readiness()["warning"])
        assert service.client.get("/readyz").status_code == 200
        assert (await js.consumer_info("INVENTORY_EVENTS", durable)).config.filter_subjects == before.filter_subjects
        assert "consumer_changed_by_others" in (tmp_path / "worker.log").read_text()
        # Events that move to another stream are read there.
        await eventually(lambda: _moves(connection, LOW_STOCK, "THEIRS"))
        await eventually(lambda: _is_there(connection, "THEIRS", durable))
        assert "stream_changed_by_others" in (tmp_path / "worker.log").read_text()
        payload = {"productId": "chair", "variantId": "oak", "availableQuantity": 2}
        await js.publish(LOW_STOCK, json.dumps(payload).encode())

        def levels() -> list[str]:
            return [item["level"] for item in service.client.get("/api/v1/products").json()["data"]["items"]]

        wait_until(lambda: levels() == ["low"], PATIENCE_SECONDS, service.log)
        await connection.close()
